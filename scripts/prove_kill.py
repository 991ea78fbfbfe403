"""Kill every command that writes at random moments (SIGKILL), repeat it, and require the same files, byte for byte.

    python scripts/prove_kill.py [--kills 200] [--seed 0] [--only compare,search]    (make prove-kill)

Each command runs undisturbed once. Then it runs in a new folder (with a copy of a finished study where it needs one) and is
killed at a moment drawn uniformly over that time; every other kill of a training waits for such a moment and then until a
file is half-written. It is repeated until it finishes, or has been killed four times and is then left alone. A search runs in three processes at once,
of which one or all are killed. Compared are all files of the folder except the times in them. Foreign files are planted in the
outputs: hidden files and folders of somebody else, and links to a folder outside. Exits 1 on a difference, if a foreign file
was touched, or if anything temporary is left. Commands are forked from a process that has imported what they need, so that
kills fall into the work, not into imports. Two folders are worked on at a time. Needs POSIX.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # before numpy and torch are imported
    os.environ[_name] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

MOST_KILLS = 4  # of one folder
AT_A_TIME = 2
_LOCKS = {".lock", ".evaluation.lock", ".trials.journal.lock", ".test_set_looks.jsonl.lock"}
LOCKS = _LOCKS | {f"{name}.json" for name in _LOCKS}
PLANTED = {
    ".mine": "a hidden file of somebody else",
    ".secret/key": "in a hidden folder",
    ".mine.tmp": "another",
}

IMPORTED = (
    "matplotlib.backends.backend_svg", "optuna", "pandas", "pyarrow.parquet", "scipy.stats", "sklearn.model_selection",
    "tametail.cli.app", "tametail.models.timm_backbones", "tametail.recommend.recommend", "tametail.search.search",
    "tametail.study.study", "tametail.training.execute",
)  # fmt: skip
TINY = [
    "--backbone",
    "test_efficientnet",
    "--weights",
    "none",
    "--image-size",
    "32",
    "--folds",
    "3",
    "--repeats",
    "1",
]
HEAD = [*TINY, "--set", "l2=0.1"]
STEPS = [*TINY, "--set", "optimizer.kind=adamw", "--set", "min_steps=null", "--epochs", "12"]
QUICK = [*TINY, "--recipe", "quick", "--epochs", "3", "--batch-size", "16", "--set", "ema_decay=0.9"]


@dataclass(frozen=True)
class Job:
    """A command whose outputs are below the current folder; {data} in it is the folder of the images, {other} one of other images.

    Attributes:
        command: of tametail.
        kills: of every 200.
        study: whether it needs a finished study, in the folder ``study``.
        processes: that work at the same time.
        trains: whether it saves checkpoints.
    """

    command: list[str]
    kills: int
    study: bool = False
    processes: int = 1
    trains: bool = False


TABLE = "{data}/labels.csv"
JOBS = {
    "compare": Job(["compare", TABLE, *HEAD, "--methods", "ce,alpa,asl,ldam+drw,ce+la", "-o", "out"], 24),
    "compare step by step": Job(
        ["compare", TABLE, *STEPS, "--methods", "ce,alpa,ce+la", "-o", "out"], 24, trains=True
    ),
    "compare by fine-tuning": Job(
        ["compare", TABLE, *QUICK, "--methods", "ce,alpa", "-o", "out"], 24, trains=True
    ),
    "search": Job(["search", TABLE, *HEAD, "--loss", "alpa", "--trials", "4", "-o", "out"], 28, processes=3),
    "recommend": Job(["recommend", TABLE, *HEAD, "-o", "out"], 20),
    "test-set": Job(["test-set", "study"], 16, study=True),
    "report": Job(["report", "study", "--figures", "svg"], 16, study=True),
    "predict": Job(["predict", "study", "{other}/images", "-o", "out/predictions.csv"], 16, study=True),
    "evaluate": Job(["evaluate", "study", "--data", "{other}/labels.csv", "-o", "out"], 16, study=True),
    "inspect": Job(["inspect", TABLE, "-o", "out/inspected.html"], 16),
}


def import_all() -> None:
    """Import what the commands need, without any computation: threads do not survive a fork."""
    for module in IMPORTED:
        import_module(module)


def start(job: Job, folder: Path, data: Path) -> int:
    """Start the command in a folder, in a process group of its own; its number."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setsid()
        os.chdir(folder)
        log = os.open(folder / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ |= {"TAMETAIL_CACHE": str(folder / "cache"), "TAMETAIL_CHECKPOINT_SECONDS": "0"}
        sys.argv = [
            "tametail",
            *(word.format(data=data, other=data.with_name("other")) for word in job.command),
        ]
        from tametail.cli.app import main

        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def ended(process: int) -> int | None:
    """The exit code of a process, negative after a signal; None while it runs."""
    number, status = os.waitpid(process, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if number else None


def run(job: Job, folder: Path, data: Path) -> tuple[float, int]:
    """Run the command to its end, in one process; seconds and exit code."""
    began = time.monotonic()
    code = os.waitstatus_to_exitcode(os.waitpid(start(job, folder, data), 0)[1])
    return time.monotonic() - began, code


def killed(
    job: Job, folder: Path, data: Path, after: float, moments: random.Random, saving: bool
) -> tuple[int, int | None]:
    """Run the command and kill it after some seconds, or when it writes after them.

    Returns:
        How many running processes were killed, and the exit code of the last that ended by itself, if any.
    """
    running = {start(job, folder, data) for _ in range(job.processes)}
    victims = set(running if moments.random() < 0.5 else [moments.choice(sorted(running))])
    kill_at, kills, own = time.monotonic() + after, 0, None
    give_up = kill_at + after + 1  # it may not write again
    while running:
        now = time.monotonic()
        if victims and now >= kill_at and (not saving or now >= give_up or writes(folder)):
            for process in victims:
                with suppress(ProcessLookupError):
                    os.killpg(process, signal.SIGKILL)
            victims = set()
        for process in sorted(running):
            code = ended(process)
            if code is not None:
                running.discard(process)
                victims.discard(process)
                if code == -signal.SIGKILL:
                    kills += 1
                else:
                    own = code
        time.sleep(0.0005)
    return kills, own


def writes(folder: Path) -> bool:
    """Whether a file of the folder is half-written."""
    return any(path.name not in PLANTED for path in folder.rglob("*.tmp"))


def prepare(job: Job, folder: Path, study: Path) -> None:
    """Make the folder of a command, with foreign files in the place of its outputs."""
    folder.mkdir(parents=True)
    if job.study:
        shutil.copytree(study, folder / "study")
    for path, text in planted(job, folder).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    plant_links(folder)


def planted(job: Job, folder: Path) -> dict[Path, str]:
    """Foreign files and what is in them."""
    places = (folder / "home", folder / ("study" if job.study else "out"))
    return {place / name: text for place in places for name, text in PLANTED.items()}


def plant_links(folder: Path) -> None:
    """Link to a folder outside from wherever runs may be."""
    for place in (folder / "out", folder / "study", folder / "out/runs", folder / "study/runs"):
        if place.is_dir() and not (place / ".elsewhere").is_symlink():
            (place / ".elsewhere").symlink_to(folder / "home", target_is_directory=True)


def touched(job: Job, folder: Path) -> list[str]:
    """Foreign files that are not as they were."""
    return [
        f"foreign file touched: {path.relative_to(folder)}"
        for path, text in planted(job, folder).items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]


def outcome(folder: Path) -> dict[str, bytes]:
    """What must be the same, by its name: all files of the outputs, without times and foreign files."""
    found = {}
    for place in ("out", "study"):
        for path in sorted((folder / place).rglob("*")):
            name = path.relative_to(folder / place)
            hidden = any(part.startswith(".") for part in name.parts)
            if hidden or not path.is_file() or path.suffix == ".journal" or path.name == "timing.csv":
                continue
            found[f"{place}/{name}"] = without_times(path)
    return found


def without_times(path: Path) -> bytes:
    """The content of a file without the times at which, and how long, something was done."""
    data = path.read_bytes()
    if path.suffix in {".json", ".jsonl"}:
        data = re.sub(rb'"(seconds|time)": ("[^"]*"|[0-9.e+-]+)', rb'"\1": 0', data)
    if path.suffix == ".html":
        data = re.sub(rb"[\d.,]+ (s|min|h)(, total of all runs| in all)", rb"0 s\2", data)
    return data


def left(folder: Path) -> list[str]:
    """Anything temporary, and hidden files that nobody planted."""
    found = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        ours = not any(part in {".mine", ".mine.tmp", ".secret", ".elsewhere", "home"} for part in name.parts)
        link = path.is_symlink()
        hidden = path.name.startswith(".") and path.name not in LOCKS and name.parts[0] != "cache"
        if ours and not link and (hidden or ".tmp" in path.name or "unfinished" in path.name):
            found.append(f"left: {name}")
    return found


@dataclass(frozen=True)
class Outcome:
    """Kills of one folder, those inside writing, and what is wrong with it."""

    kills: int
    inside: int
    wrong: list[str]


def kill_often(
    name: str, number: int, work: Path, seconds: float, code: int, expected: dict[str, bytes], seed: int
) -> Outcome:
    """Kill a command again and again in a new folder, let it finish, and compare its outputs with the undisturbed ones."""
    job, moments = JOBS[name], random.Random(f"{seed} {name} {number}")
    folder = work / f"{name} {number}"
    prepare(job, folder, work / "study")
    kills, inside, ended_with = 0, 0, None
    while kills < MOST_KILLS and ended_with is None:
        saving = job.trains and moments.random() < 0.5
        found, ended_with = killed(job, folder, work / "data", moments.uniform(0, seconds), moments, saving)
        kills += found
        inside += bool(found) and writes(folder)
        plant_links(folder)
    if ended_with is None:  # to run a finished command again is another evaluation of the test set
        _, ended_with = run(job, folder, work / "data")
    found_now = outcome(folder)
    wrong = sorted(
        file for file in found_now.keys() | expected.keys() if found_now.get(file) != expected.get(file)
    )
    wrong += touched(job, folder) + left(folder)
    if ended_with != code:
        wrong.append(f"exit code {ended_with}, not {code}: {(folder / 'said').read_text()[-2000:]}")
    print(f"{name} {number}: {kills} kills, {f'DIFFERENT {wrong}' if wrong else 'identical'}", flush=True)
    if not wrong:
        shutil.rmtree(folder)
    return Outcome(kills, inside, wrong)


def undisturbed(name: str, work: Path) -> tuple[float, int, dict[str, bytes]]:
    """Seconds, exit code and outputs of a command that nobody disturbs."""
    folder = work / f"{name} undisturbed"
    job = JOBS[name]
    prepare(job, folder, work / "study")
    seconds, code = run(job, folder, work / "data")
    wrong = touched(job, folder) + left(folder)
    if wrong or code != (3 if name == "inspect" else 0):  # inspect: the set is too small for five folds
        raise RuntimeError(f"{name} ended with {code}: {wrong}\n{(folder / 'said').read_text()}")
    return seconds, code, outcome(folder)


def prove(
    names: list[str], kills: int, seed: int, work: Path, submit: Callable[..., object]
) -> dict[str, list[Outcome]]:
    """Kill each command until its share of the kills is reached."""
    from fixtures.tiny_study import write_images

    write_images(work / "data")
    write_images(work / "other", seed=1)
    whole = Job(["compare", TABLE, *HEAD, "--methods", "ce,alpa,ce+la", "-o", "study"], 0)
    if run(whole, work, work / "data")[1]:
        raise RuntimeError((work / "said").read_text())
    total = sum(JOBS[name].kills for name in names)
    outcomes: dict[str, list[Outcome]] = {}
    for name in names:
        seconds, code, expected = submit(undisturbed, name, work).result()  # type: ignore[attr-defined]
        print(f"{name}: {seconds:.1f} s undisturbed, {len(expected)} files to compare", flush=True)
        outcomes[name] = []
        while sum(one.kills for one in outcomes[name]) < round(kills * JOBS[name].kills / total):
            numbers = range(len(outcomes[name]), len(outcomes[name]) + AT_A_TIME)
            begun = [
                submit(kill_often, name, number, work, seconds, code, expected, seed) for number in numbers
            ]
            outcomes[name] += [one.result() for one in begun]  # type: ignore[attr-defined]
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join(JOBS))
    parser.add_argument("--keep", action="store_true", help="keep the folders, and say where they are")
    options = parser.parse_args()
    names = options.only.split(",")
    import_all()
    began = time.monotonic()
    work = Path(tempfile.mkdtemp())
    try:
        with ProcessPoolExecutor(AT_A_TIME, mp_context=get_context("fork")) as pool:
            outcomes = prove(names, options.kills, options.seed, work, pool.submit)
    finally:
        if options.keep:
            print(work)
        else:
            shutil.rmtree(work)
    for name, found in outcomes.items():
        same = sum(not one.wrong for one in found)
        print(
            f"{name}: {sum(one.kills for one in found)} kills, {sum(one.inside for one in found)} of them with a file "
            f"half-written; {same} of {len(found)} folders identical"
        )
    everything = [one for found in outcomes.values() for one in found]
    print(
        f"{sum(one.kills for one in everything)} kills in {(time.monotonic() - began) / 60:.0f} min; "
        f"{sum(not one.wrong for one in everything)} of {len(everything)} folders identical"
    )
    sys.exit(any(one.wrong for one in everything))


if __name__ == "__main__":
    main()

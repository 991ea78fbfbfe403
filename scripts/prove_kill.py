"""Kill ``tametail compare`` at random moments (SIGKILL), repeat it, and require the same weights and results, byte for byte.

    python scripts/prove_kill.py [--recipe quick] [--kills 50] [--seed 0]

The study trains heads together on frozen features (``--recipe head``), or fine-tunes a small network with batch normalisation
and averaged weights, and saves at every step. It starts with an empty cache and output folder, and is killed and restarted
until it finishes (or has been killed six times and is then left alone). Two studies run at a time, until the given number of
kills is reached. Every other kill comes at a time drawn uniformly over the duration of an undisturbed run; the others wait for
such a time in its training and then until a checkpoint is half-written. Only kills that hit a running process count. Needs
POSIX. Exits 1 on any difference, and if a finished study contains a checkpoint or anything half-written.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

COMPARE = ["compare", "demo", "--backbone", "test_efficientnet", "--weights", "none", "--image-size", "32"]
COMPARE += ["--folds", "2", "--batch-size", "64", "--set", "ema_decay=0.9"]
OWN = {
    "quick": ["--recipe", "quick", "--methods", "ce,alpa,ce+la", "--epochs", "2"],
    "head": ["--recipe", "head", "--methods", "ce,alpa,asl,seql,ldam+drw,ce+la", "--epochs", "60"],
}
MOST_KILLS = 6  # of one study
AT_A_TIME = 2
COMPARED = ("results.csv", "runs/*/*/*.safetensors", "runs/*/*/history.csv")
LEFT = "runs/**/.*"  # nothing hidden may be left: no checkpoint, nothing half-written
CHECKPOINTS, HALF_WRITTEN = "runs/*/.*.checkpoint", "runs/*/.*.checkpoint/.checkpoint-*"


def start(folder: Path, recipe: str) -> subprocess.Popen[bytes]:
    """Begin the study of a folder, in a process group of its own."""
    environment = {"TAMETAIL_CACHE": str(folder / "cache"), "TAMETAIL_CHECKPOINT_SECONDS": "0"}
    # Layers this small are not worth sharing among cores; heads are trained in parallel, one batch of heads on each.
    environment["OMP_NUM_THREADS"] = "2" if recipe == "head" else "1"
    entry = [sys.executable, "-c", "from tametail.cli.app import main; main()"]
    return subprocess.Popen(
        [*entry, *COMPARE, *OWN[recipe], "-o", str(folder / "study")],
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def finish(folder: Path, recipe: str) -> tuple[float, float]:
    """Run the study to its end; seconds until the first checkpoint, and in all."""
    began, training = time.monotonic(), None
    process = start(folder, recipe)
    while process.poll() is None:
        if training is None and any((folder / "study").glob(CHECKPOINTS)):
            training = time.monotonic()
        time.sleep(0.01)
    _, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(f"compare ended with {process.returncode}:\n{errors.decode()}")
    return (training or began) - began, time.monotonic() - began


def killed(folder: Path, recipe: str, seconds: float, saving: bool) -> bool:
    """Run the study and kill it after some seconds, or while it saves after them; False if it finished before."""
    process = start(folder, recipe)
    kill_at = time.monotonic() + seconds
    while process.poll() is None:
        if time.monotonic() >= kill_at and not (saving and not any((folder / "study").glob(HALF_WRITTEN))):
            os.killpg(process.pid, signal.SIGKILL)
            break
        time.sleep(0.0005)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def outcome(folder: Path) -> dict[str, bytes]:
    """What must be the same, by its name."""
    study = folder / "study"
    return {str(p.relative_to(study)): p.read_bytes() for pattern in COMPARED for p in study.glob(pattern)}


@dataclass(frozen=True)
class Outcome:
    """How often a study was killed, how often of those inside saving, and which files are not as they should be or should not be."""

    kills: int
    inside_saving: int
    wrong: list[str]


def kill_study(
    folder: Path, recipe: str, moments: random.Random, undisturbed: Path, training: float, duration: float
) -> Outcome:
    """Kill a study again and again, let it finish, and compare it with the undisturbed one."""
    kills, inside_saving = 0, 0
    saving = moments.random() < 0.5
    while kills < MOST_KILLS and killed(
        folder, recipe, moments.uniform(training if saving else 0, duration), saving
    ):
        kills += 1
        half = any((folder / "study").glob(HALF_WRITTEN))
        inside_saving += half
        done = len(list((folder / "study").glob("runs/*/seed*/run.json")))
        print(f"{folder.name}: killed{' inside saving' if half else ''}, {done} runs done", flush=True)
        saving = not saving
    finish(folder, recipe)
    found, expected = outcome(folder), outcome(undisturbed)
    wrong = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
    wrong += sorted(f"left: {path.relative_to(folder)}" for path in (folder / "study").glob(LEFT))
    print(f"{folder.name}: {f'DIFFERENT {wrong}' if wrong else 'identical'}", flush=True)
    return Outcome(kills, inside_saving, wrong)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", choices=list(OWN), default="quick")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(AT_A_TIME) as pool:
        undisturbed = Path(temporary) / "undisturbed"
        training, duration = finish(undisturbed, options.recipe)
        print(f"undisturbed: {duration:.1f} s, {len(outcome(undisturbed))} files to compare", flush=True)
        while sum(one.kills for one in outcomes) < options.kills:
            numbers = range(len(outcomes), len(outcomes) + AT_A_TIME)
            begun = [
                pool.submit(
                    kill_study,
                    Path(temporary) / f"study {number}",
                    options.recipe,
                    random.Random(f"{options.seed} {number}"),
                    undisturbed,
                    training,
                    duration,
                )
                for number in numbers
            ]
            outcomes += [one.result() for one in begun]
    kills, inside = sum(one.kills for one in outcomes), sum(one.inside_saving for one in outcomes)
    same = sum(not one.wrong for one in outcomes)
    print(f"{kills} kills, {inside} of them inside saving; {same} of {len(outcomes)} studies identical")
    sys.exit(same < len(outcomes))


if __name__ == "__main__":
    main()

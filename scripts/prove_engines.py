"""Train the same studies by every engine, undisturbed and with everything killed, and require the same files, byte for byte.

    python scripts/prove_engines.py [--kills 50] [--seed 0] [--only local,slurm,ray,time-limit]    (make prove-engines)

Two studies of 5 methods × 2 folds × 2 seeds: heads on frozen features, and fine-tuning at 32 pixels. Each is trained in one
process; by three local workers; by jobs of a two-node Slurm, and by tasks of a two-node Ray, both started here on loopback and
ended afterwards; so are their test sets evaluated. Then workers and coordinators are killed (SIGKILL) at random moments, a node
of Slurm is set down, a job is requeued, one reaches its time limit. Features of 5,000 images are computed by three workers that
are killed after a block, and by one process that is. All outputs but the times in them must be those of the one process, and so
must the file of features. An engine that cannot be started here is skipped with a message. Needs POSIX;
`sh scripts/setup_engines.sh` installs Slurm and Ray.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "scripts")]

from clusters import RAY_ADDRESS, RAY_PYTHON, NotAvailable, in_ray_namespace, slurm_cluster, start_ray  # noqa: E402
from prove_kill import without_times  # noqa: E402

from fixtures.tiny_study import write_images  # noqa: E402

TINY = [
    "--backbone",
    "test_efficientnet",
    "--weights",
    "none",
    "--image-size",
    "32",
    "--folds",
    "2",
    "--repeats",
    "2",
]
METHODS = ["--methods", "ce,alpa,ldam,ce+la,ce+crt", "--threads", "1"]
STUDIES = {
    "heads": [*TINY, *METHODS, "--set", "l2=0.1"],
    "fine-tuning": [*TINY, *METHODS, "--recipe", "quick", "--epochs", "6", "--batch-size", "16"],
}
LONG = [
    *TINY[:-2],
    "--methods",
    "ce",
    "--threads",
    "1",
    "--recipe",
    "quick",
    "--batch-size",
    "8",
    "--repeats",
    "1",
    "--only-folds",
    "0",
    "--epochs",
    "1500",
]
MANY = 5000  # images: several blocks of features
OF_MANY = [
    "--backbone",
    "efficientnet_lite0",
    "--weights",
    "none",
    "--image-size",
    "64",
    "--folds",
    "2",
    "--repeats",
    "1",
    "--methods",
    "ce,ce+la",
    "--set",
    "l2=0.1",
]
SECONDS = 3600.0  # of one command, on a machine that is shared with other work


@dataclass
class Trial:
    """A folder in which a study is made.

    Attributes:
        folder: with the study in ``out``.
        data: the folder of images.
        options: of compare.
        engine: options of the engine.
        python: the interpreter with the engine's packages.
        evaluates: whether the command evaluates the test set of the finished study, and does not train.
        kills: what was killed.
    """

    folder: Path
    data: Path
    options: Sequence[str]
    engine: Sequence[str] = ()
    python: Path = Path(sys.executable)
    evaluates: bool = False
    kills: list[str] = field(default_factory=list)

    @property
    def study(self) -> Path:
        return self.folder / "out"

    def start(self) -> subprocess.Popen[bytes]:
        """Start the command in a session of its own."""
        self.folder.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {
            "TAMETAIL_CACHE": str(self.folder / "cache"),
            "TAMETAIL_CHECKPOINT_SECONDS": "0",
            "OMP_NUM_THREADS": "1",
        }
        compare = ["compare", str(self.data / "labels.csv"), *self.options, "-o", "out"]
        words = ["test-set", "out"] if self.evaluates else compare
        with (self.folder / "said").open("ab") as log:
            return subprocess.Popen(
                [str(self.python), "-m", "tametail", *words, *self.engine],
                cwd=self.folder,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def run(self) -> float:
        """Run the command to its end; its seconds."""
        began = time.monotonic()
        process = self.start()
        code = process.wait(SECONDS)
        if code:
            raise SystemExit(f"{self.folder.name} ended with {code}: {self.said()}")
        return time.monotonic() - began

    def said(self) -> str:
        return (self.folder / "said").read_text(encoding="utf-8", errors="replace")[-2000:]

    def blocks(self) -> int:
        """Number of blocks of features that are finished."""
        folders = (self.study / ".work", self.folder / "cache" / "features")
        return sum(len(list(folder.glob("*.safetensors"))) for folder in folders)

    def features(self) -> dict[str, bytes]:
        """The files of features in the cache."""
        return {path.name: path.read_bytes() for path in self.folder.glob("cache/features/*.npy")}

    def workers(self) -> list[psutil.Process]:
        """All processes that train units of this study."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                line = " ".join(process.cmdline())
                local = "spawn_main" in line and process.cwd() == str(self.folder)
                job = "tametail work" in line and str(self.study) in line
                task = line.startswith("ray::_do")
                if local or job or task:
                    found.append(process)
        return found


def outcome(study: Path) -> dict[str, bytes]:
    """What must be the same: all visible files of a study, without times."""
    return {
        str(path.relative_to(study)): without_times(path)
        for path in sorted(study.rglob("*"))
        if path.is_file()
        and path.name != "timing.csv"
        and not any(p.startswith(".") for p in path.relative_to(study).parts)
    }


def differences(trial: Trial, expected: dict[str, bytes]) -> list[str]:
    found = outcome(trial.study)
    wrong = [name for name in sorted(found.keys() | expected.keys()) if found.get(name) != expected.get(name)]
    left = [
        str(path) for path in trial.study.rglob("*") if path.name.endswith(".tmp") or path.name in (".work",)
    ]
    return [*wrong, *left]


def report(
    title: str,
    trial: Trial,
    expected: dict[str, bytes],
    seconds: float,
    features: dict[str, bytes] | None = None,
) -> bool:
    wrong = differences(trial, expected)
    if features is not None and trial.features() != features:
        wrong.append("the features")
    verdict = f"{len(expected)} files identical" if not wrong else f"DIFFERENT: {', '.join(wrong[:5])}"
    killed = f", {len(trial.kills)} kills ({', '.join(trial.kills)})" if trial.kills else ""
    print(f"{title}: {verdict}, {seconds:.0f} s{killed}", flush=True)
    return not wrong


def kill_often(trial: Trial, moments: random.Random, kills: int) -> float:
    """Run the command again and again, killing a random worker or the coordinator, until it finishes; its seconds."""
    began = time.monotonic()
    process = trial.start()
    while time.monotonic() - began < SECONDS:
        if len(trial.kills) < kills:
            time.sleep(moments.uniform(0.5, 6.0))
            workers = trial.workers()
            if process.poll() is None and moments.random() < (0.3 if workers else 0.1):
                process.kill()
                process.wait()
                trial.kills.append("coordinator")
            elif workers and process.poll() is None:
                victim = moments.choice(workers)
                with suppress(psutil.Error):
                    victim.kill()
                    trial.kills.append("worker")
        else:
            process.wait(SECONDS)
        if process.poll() is not None:
            if process.returncode == 0:
                return time.monotonic() - began
            process = trial.start()
    raise SystemExit(f"{trial.folder.name} did not finish: {trial.said()}")


def kill_after_blocks(trial: Trial, moments: random.Random, kills: int) -> float:
    """Run the command, and kill a random worker, or the coordinator, whenever another block of features is finished; its seconds."""
    began, seen = time.monotonic(), 0
    process = trial.start()
    while time.monotonic() - began < SECONDS:
        time.sleep(0.05)
        if process.poll() == 0:
            return time.monotonic() - began
        if len(trial.kills) < kills and trial.blocks() > seen:
            workers, seen = trial.workers() if trial.engine else [], trial.blocks()
            if not workers or len(trial.kills) % 3 == 2:
                process.kill()
                trial.kills.append(f"coordinator at {seen} blocks")
            else:
                with suppress(psutil.Error):
                    moments.choice(workers).kill()
                    trial.kills.append(f"worker at {seen} blocks")
        if process.poll() is not None:
            process.wait()
            process = trial.start()
    raise SystemExit(f"{trial.folder.name} did not finish: {trial.said()}")


@dataclass
class Proof:
    """Trials by engines against the outcomes of one process.

    Attributes:
        work: folder of all trials.
        expected: outcomes by the name of the study.
        evaluated: outcomes after the evaluation of the test set.
        moments: when something is killed.
    """

    work: Path
    expected: dict[str, dict[str, bytes]]
    evaluated: dict[str, dict[str, bytes]]
    moments: random.Random

    @property
    def data(self) -> Path:
        return self.work / "data"

    def undisturbed(self, engine: str, options: Sequence[str], python: Path = Path(sys.executable)) -> bool:
        fine = True
        for name, own in STUDIES.items():
            trial = Trial(self.work / f"{engine}-{name}", self.data, own, options, python)
            fine &= report(f"{name}: {engine}", trial, self.expected[name], trial.run())
            trial.evaluates = True
            fine &= report(f"{name}: {engine}, test set", trial, self.evaluated[name], trial.run())
        return fine

    def features(self, engine: str, options: Sequence[str], kills: int) -> bool:
        """Features of many images by one process that is killed, and by workers, of which some are killed."""
        many = self.work / "many"
        if not many.exists():
            write_many(many)
        alone = Trial(self.work / f"{engine}-one-many", many, OF_MANY)
        seconds = alone.run()
        expected, features = outcome(alone.study), alone.features()
        print(f"features of {MANY:,} images: one process, {len(features)} file, {seconds:.0f} s", flush=True)
        fine = True
        for name, own, killed in (
            ("one process, killed", (), 2),
            (engine, options, 0),
            (f"{engine}, killed", options, kills),
        ):
            trial = Trial(self.work / f"{name.replace(', ', '-')}-many", many, OF_MANY, own)
            seconds = kill_after_blocks(trial, self.moments, killed)
            fine &= report(f"features of {MANY:,} images: {name}", trial, expected, seconds, features)
            if len(trial.kills) < killed:
                print(f"expected {killed} kills before all blocks were finished; take more images")
                fine = False
        return fine

    def killed(
        self, engine: str, options: Sequence[str], kills: int, each: int, python: Path = Path(sys.executable)
    ) -> bool:
        fine, done, number = True, 0, 0
        while done < kills:
            name = list(STUDIES)[number % len(STUDIES)]
            trial = Trial(self.work / f"{engine}-killed-{number}", self.data, STUDIES[name], options, python)
            seconds = kill_often(trial, self.moments, min(each, kills - done))
            fine &= report(f"{name}: {engine}, killed", trial, self.expected[name], seconds)
            done, number = done + len(trial.kills), number + 1
            trial.kills, trial.evaluates = [], True
            seconds = kill_often(trial, self.moments, 2)
            fine &= report(f"{name}: {engine}, test set, killed", trial, self.evaluated[name], seconds)
        return fine

    def lost_node(self, options: Sequence[str]) -> bool:
        """Set a node of Slurm down while it works, and requeue a job of the other one."""
        trial = Trial(self.work / "slurm-lost-node", self.data, STUDIES["fine-tuning"], options)
        began, process = time.monotonic(), trial.start()
        happened = []
        while len(happened) < 2 and process.poll() is None:
            jobs = [line.split() for line in slurm("squeue", "-h", "-t", "R", "-o", "%i %N").splitlines()]
            if not happened and any(node == "n1" for _, node in jobs) and trial.workers():
                slurm("scontrol", "update", "NodeName=n1", "State=DOWN", "Reason=proof")
                happened.append("node down")
            elif happened and (on_other := [job for job, node in jobs if node == "n2"]) and trial.workers():
                slurm("scontrol", "requeue", on_other[0])
                slurm("scontrol", "update", "NodeName=n1", "State=RESUME")
                happened.append("job requeued")
            time.sleep(1.0)
        code = process.wait(SECONDS)
        trial.kills += happened
        if code or len(happened) < 2:
            print(f"slurm, lost node: ended with {code} after {happened}: {trial.said()}")
            return False
        return report(
            "fine-tuning: slurm, lost node", trial, self.expected["fine-tuning"], time.monotonic() - began
        )

    def time_limit(self, options: Sequence[str]) -> bool:
        """A run of several minutes in jobs of one minute."""
        alone = Trial(self.work / "long-one", self.data, LONG)
        seconds = alone.run()
        limited = [*options, "--engine-set", "time=1", "--engine-set", "notice=15"]
        trial = Trial(self.work / "long-slurm", self.data, LONG, limited)
        took = trial.run()
        again = trial.said().count("is started again")
        trial.kills += ["time limit"] * again
        fine = report(
            f"a run of {seconds:.0f} s: slurm, in jobs of a minute", trial, outcome(alone.study), took
        )
        if not again:
            print("no job has reached its time limit; choose a longer run")
        return fine and again > 0


def write_many(folder: Path) -> None:
    """Small images of three colours, with labels.csv."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    folder.mkdir()
    lines = ["image,label"]
    for number in range(MANY):
        label = number % 3
        pixels = rng.integers(0, 160, (24, 24, 3), dtype=np.uint8)
        pixels[..., label] += 60
        Image.fromarray(pixels).save(folder / f"{number:05d}.png")
        lines.append(f"{number:05d}.png,{'abc'[label]}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def slurm(*words: str) -> str:
    """The output of a command of Slurm."""
    return subprocess.run(words, capture_output=True, text=True, timeout=60).stdout


def outcomes_of_one(work: Path) -> tuple[dict[str, dict[str, bytes]], dict[str, dict[str, bytes]]]:
    """The outcomes of one process before and after the evaluation of the test set."""
    before, after = (
        {name: outcome(work / f"one-{name}" / part) for name in STUDIES} for part in ("before", "out")
    )
    return before, after


def inside_ray(work: Path, kills: int, seed: int) -> bool:
    """What is run in the namespace of Ray."""
    start_ray(work / "r")
    proof = Proof(work, *outcomes_of_one(work), random.Random(seed))
    options = ["--engine", "ray", "--engine-set", f"address={RAY_ADDRESS}"]
    return proof.undisturbed("ray", options, RAY_PYTHON) and proof.killed(
        "ray", options, kills, 3, RAY_PYTHON
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--only",
        default="local,slurm,ray",
        help="engines, or time-limit for the last case of slurm alone",
    )
    parser.add_argument("--inside-ray", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside_ray:
        sys.exit(not inside_ray(given.inside_ray, given.kills, given.seed))
    engines, good, began = given.only.split(","), True, time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tt-") as temporary:  # short: the sockets of Ray are in it
        work = Path(temporary)
        write_images(work / "data")
        for name, options in STUDIES.items():
            trial = Trial(work / f"one-{name}", work / "data", options)
            seconds = trial.run()
            shutil.copytree(trial.study, trial.folder / "before")
            trial.evaluates = True
            trial.run()
            print(f"{name}: one process, {len(outcome(trial.study))} files, {seconds:.0f} s", flush=True)
        proof = Proof(work, *outcomes_of_one(work), random.Random(given.seed))
        by_local, by_ray = given.kills // 2, given.kills // 10
        if "local" in engines:
            local = ["--engine", "local", "--jobs", "3"]
            good &= proof.undisturbed("local", local)
            good &= proof.features("local", local, 4)
            good &= proof.killed("local", local, by_local, 6)
        try:
            if {"slurm", "time-limit"} & set(engines):
                with slurm_cluster(work / "slurm"):
                    options = ["--engine", "slurm", "--engine-set", "poll=1"]
                    if "slurm" in engines:
                        good &= proof.undisturbed("slurm", options)
                        good &= proof.killed("slurm", options, given.kills - by_local - by_ray, 5)
                        good &= proof.lost_node(options)
                    good &= proof.time_limit(options)
        except NotAvailable as error:
            print(f"slurm: skipped, {error}", flush=True)
        try:
            if "ray" in engines:
                words = [
                    __file__,
                    "--inside-ray",
                    str(work),
                    "--kills",
                    str(by_ray),
                    "--seed",
                    str(given.seed),
                ]
                good &= in_ray_namespace(words) == 0
        except NotAvailable as error:
            print(f"ray: skipped, {error}", flush=True)
    verdict = "All outputs are identical" if good else "NOT all outputs are identical"
    print(f"{verdict}; {(time.monotonic() - began) / 60:.0f} min")
    sys.exit(not good)


if __name__ == "__main__":
    main()

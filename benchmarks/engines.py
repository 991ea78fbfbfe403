"""Two local workers, two independent processes, and one: how long do they take for the same units of work?

    python benchmarks/engines.py [--repeats 3] [-o engines.md]

Units fine-tune a small network with one thread each. The rival of two workers of --engine local is two processes of
`tametail work`, each with half of the units by number: nothing coordinates them, so that they are the limit of two cores. All
three ways are timed in turn, from the start of the processes to the last finished unit. The overhead of a unit is the time that
a warm worker spends on it outside training: locks, progress, saving, digests.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from fixtures.tiny_study import write_images
from tametail.engines.engine import run_units
from tametail.engines.local import LocalEngine
from tametail.study.units import read_units
from tametail.study.worker import WorkerSettings, describe_work
from tametail.training.hardware import Hardware

STUDY = [
    *(
        "--backbone",
        "test_efficientnet",
        "--weights",
        "none",
        "--image-size",
        "32",
        "--folds",
        "4",
        "--repeats",
        "2",
    ),
    *("--methods", "ce", "--threads", "1", "--recipe", "quick", "--batch-size", "16", "--epochs", "120"),
]


def by_engine(study: Path, jobs: int) -> float:
    """Seconds of workers of the local engine."""
    units = read_units(study)
    engine = LocalEngine(describe_work(study, WorkerSettings(Hardware("cpu")), 1, gpu=False), [None] * jobs)
    began = time.perf_counter()
    lost = run_units(
        engine,
        range(len(units)),
        is_done=lambda number: units[number].is_ended(study),
        saved=lambda _: 0,
        on_done=lambda _: None,
        on_wait=lambda: None,
        warn=print,
        stop_requested=lambda: False,
    )
    assert not lost
    return time.perf_counter() - began


def by_processes(study: Path, processes: int) -> float:
    """Seconds of independent processes, each with its share of the units."""
    numbers = range(len(read_units(study)))
    began = time.perf_counter()
    words = [sys.executable, "-m", "tametail", "work", str(study), "--device", "cpu", "--quiet", "--unit"]
    started = [
        subprocess.Popen([*words, ",".join(map(str, numbers[at::processes]))], stdout=subprocess.DEVNULL)
        for at in range(processes)
    ]
    assert not any(process.wait() for process in started)
    return time.perf_counter() - began


def trained(study: Path) -> float:
    """Seconds that the runs of a study were trained and predicted."""
    return sum(json.loads(path.read_text())["seconds"] for path in study.glob("runs/*/*/run.json"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("-o", "--out", type=Path)
    given = parser.parse_args()
    ways = {
        "one process": lambda study: by_processes(study, 1),
        "two independent processes": lambda study: by_processes(study, 2),
        "two workers of --engine local": lambda study: by_engine(study, 2),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    overheads = []
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        os.environ["TAMETAIL_CACHE"] = str(work / "cache")
        write_images(work / "data")
        plan = [sys.executable, "-m", "tametail", "compare", str(work / "data" / "labels.csv"), *STUDY]
        subprocess.run([*plan, "--engine", "plan", "-o", str(work / "plan"), "--quiet"], check=True)
        units = len(read_units(work / "plan"))
        for repeat in range(given.repeats):
            for way, run in ways.items():
                study = work / f"{repeat}-{len(seconds[way])}-{way.replace(' ', '-')}"
                shutil.copytree(work / "plan", study)
                seconds[way].append(run(study))
                if way == "one process":  # after its start, which the first unit takes part in
                    overheads.append((seconds[way][-1] - trained(study)) / units)
    median = {way: statistics.median(values) for way, values in seconds.items()}
    alone, independent, engine = median.values()
    lines = [
        f"# Workers of the local engine\n\n{units} units of fine-tuning, one thread each, on {os.cpu_count()} cores; "
        f"medians of {given.repeats} interleaved runs (`python benchmarks/engines.py`).\n",
        "| | seconds | times as fast as one process |",
        "|---|---:|---:|",
        *(f"| {way} | {value:.1f} | {alone / value:.2f} |" for way, value in median.items()),
        f"\nTwo workers reach {independent / engine:.2f} of what two independent processes do. Per unit a warm worker spends at "
        f"most {statistics.median(overheads):.2f} s outside training, the start of its process included.",
    ]
    text = "\n".join(lines)
    print(text)
    if given.out:
        given.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Kill ``tametail compare`` at random moments (SIGKILL), repeat it, and demand the same results.csv, byte for byte.

    python scripts/prove_kill.py [--kills 20] [--studies 5] [--seed 0]

Every study starts with an empty cache and an empty output folder, is killed ``kills / studies`` times at moments drawn
uniformly over the time an undisturbed run takes, and is then left to finish. Needs POSIX. Exits 1 on any difference.
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
from pathlib import Path

COMPARE = ["compare", "demo", "--losses", "alpa,ce", "--folds", "3", "--epochs", "20", "--image-size", "96"]


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Begin the study of a folder, in a process group of its own."""
    environment = os.environ | {"TAMETAIL_CACHE": str(folder / "cache")}
    command = [
        sys.executable,
        "-c",
        "from tametail.cli import main; main()",
        *COMPARE,
        "-o",
        str(folder / "study"),
    ]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )


def finish(folder: Path) -> float:
    """Run the study to its end; seconds taken."""
    began = time.monotonic()
    process = start(folder)
    _, errors = process.communicate()
    if process.returncode:
        sys.exit(f"compare ended with {process.returncode}:\n{errors.decode()}")
    return time.monotonic() - began


def kill_after(folder: Path, seconds: float) -> str:
    """Run the study, kill it after some seconds, and say how far it was."""
    process = start(folder)
    try:
        process.communicate(timeout=seconds)
        return "had finished"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    runs = len(list((folder / "study").glob("runs/*/seed*/run.json")))
    cached = sorted(
        path.parent.name for path in (folder / "cache").glob("*/*") if not path.name.startswith(".")
    )
    return f"{runs} of 6 runs, cache: {', '.join(sorted(set(cached))) or 'empty'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--studies", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    moments = random.Random(options.seed)
    different = 0
    with tempfile.TemporaryDirectory() as temporary:
        undisturbed = Path(temporary) / "undisturbed"
        duration = finish(undisturbed)
        expected = (undisturbed / "study" / "results.csv").read_bytes()
        print(f"undisturbed: {duration:.1f} s, results.csv of {len(expected)} bytes", flush=True)
        for number in range(options.studies):
            folder = Path(temporary) / f"study{number}"
            folder.mkdir()
            for _ in range(options.kills // options.studies):
                moment = moments.uniform(0, duration)
                print(
                    f"study {number}: killed after {moment:5.1f} s: {kill_after(folder, moment)}", flush=True
                )
            seconds = finish(folder)
            same = (folder / "study" / "results.csv").read_bytes() == expected
            different += not same
            print(
                f"study {number}: finished in {seconds:.1f} s, results {'identical' if same else 'DIFFER'}",
                flush=True,
            )
    kills = options.studies * (options.kills // options.studies)
    print(f"{kills} kills, {options.studies - different} of {options.studies} studies identical")
    sys.exit(bool(different))


if __name__ == "__main__":
    main()

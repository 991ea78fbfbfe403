"""Kill ``tametail compare`` at random moments (SIGKILL), repeat it, and demand the same results.csv, byte for byte.

    python scripts/prove_kill.py [--kills 20] [--seed 0]

Every study starts with an empty cache and an empty output folder and is killed, begun again and killed, at moments drawn
uniformly over the time an undisturbed run takes, until it finishes within such a time (or has been killed four times and
is left alone). Only kills that hit a running process count. Needs POSIX. Exits 1 on any difference.
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
MOST_KILLS = 4  # of one study


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


def killed_after(folder: Path, seconds: float) -> str | None:
    """Run the study, kill it after some seconds, and say how far it was; None if it finished before."""
    process = start(folder)
    try:
        process.communicate(timeout=seconds)
        return None
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    runs = len(list((folder / "study").glob("runs/*/seed*/run.json")))
    cached = sorted({path.parent.name for path in (folder / "cache").glob("*/*")})
    return f"{runs} of 6 runs, cache: {', '.join(cached) or 'empty'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    moments = random.Random(options.seed)
    kills, studies, different = 0, 0, 0
    with tempfile.TemporaryDirectory() as temporary:
        undisturbed = Path(temporary) / "undisturbed"
        duration = finish(undisturbed)
        expected = (undisturbed / "study" / "results.csv").read_bytes()
        print(f"undisturbed: {duration:.1f} s, results.csv of {len(expected)} bytes", flush=True)
        while kills < options.kills:
            folder = Path(temporary) / f"study{studies}"
            folder.mkdir()
            for _ in range(min(MOST_KILLS, options.kills - kills)):
                moment = moments.uniform(0, duration)
                reached = killed_after(folder, moment)
                if reached is None:
                    break
                kills += 1
                print(f"kill {kills}, study {studies}, after {moment:5.1f} s: {reached}", flush=True)
            finish(folder)
            same = (folder / "study" / "results.csv").read_bytes() == expected
            different += not same
            studies += 1
            print(f"study {studies - 1} finished: results {'identical' if same else 'DIFFER'}", flush=True)
    print(f"{kills} kills, {studies - different} of {studies} studies identical")
    sys.exit(bool(different))


if __name__ == "__main__":
    main()

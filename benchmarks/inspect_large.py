"""tametail inspect on 10,000 and 100,000 generated images of 64 pixels: time, peak memory, and time of a second run.

    python benchmarks/inspect_large.py [--images 10000 100000] [--quick] [-o docs/results/inspect-large.md]

Images are drawn like skin lesions, a dark spot of its own shape and texture on skin, so that they are as alike as those of one organ,
and saved as PNG in class folders. Copies are planted: byte for byte, saved again as JPEG, mirrored, and cropped, 10 of each.
Every run is a new process with start-up and reading of the folder. The anonymous memory of the process (RssAnon, without pages of mapped
files) is sampled every 10 ms. The second run is of the same images under other names and labels, so that only their content is known.

Exits 1 if the largest set takes more than 1.3 times as long as the linear extrapolation from the smallest one (start-up, measured with 500
images, is not multiplied), if 2 GB of memory are reached, or if the second run on the largest set takes more than 0.3 of the first: on small
ones start-up is most of it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 64
CLASSES, RATIO = 10, 100  # classes, and images of the largest for one of the smallest
PLANTED = 10  # copies of each kind
CROP = 0.8  # of the side
MOST_GROWTH, MOST_BYTES, MOST_OF_FIRST = 1.3, 2e9, 0.3
_Y, _X = (np.mgrid[0:SIDE, 0:SIDE] / SIDE - 0.5).astype(np.float32)


def _smooth(random: np.random.Generator, nodes: int, spread: float, channels: int) -> NDArray[np.float32]:
    coarse = (spread * random.standard_normal((nodes, nodes, channels), dtype=np.float32)).astype(np.float32)
    return cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC).reshape(SIDE, SIDE, channels)


def picture(seed: int) -> NDArray[np.uint8]:
    """A dark spot on skin (64, 64, 3), with noise; different for each seed."""
    random = np.random.default_rng(seed)
    x, y = random.normal(0, 0.06, 2).astype(np.float32)
    wide, high, slant = random.uniform(0.15, 0.4), random.uniform(0.15, 0.4), random.uniform(-0.7, 0.7)
    distance = (
        np.hypot((_X - x + slant * (_Y - y)) / wide, (_Y - y) / high) + _smooth(random, 6, 0.12, 1)[..., 0]
    )
    spot = 1 / (1 + np.exp(np.clip((distance - 1) * random.uniform(5, 15), -30, 30)))
    skin = _smooth(random, 4, 10, 3) + random.uniform(150, 220, 3).astype(np.float32)
    colour = _smooth(random, 12, 25, 3) + random.uniform(60, 120, 3).astype(np.float32)
    noise = 4 * random.standard_normal((SIDE, SIDE, 3), dtype=np.float32)
    return (skin - spot[..., None] * colour + noise).clip(0, 255).astype(np.uint8)


def write_images(folder: Path, first: int, last: int, images: int) -> None:
    """Images of class folders, the first ``4 * PLANTED`` with copies."""
    share = RATIO ** -np.linspace(0, 1, CLASSES)
    bounds = np.cumsum(share / share.sum()) * images
    for number in range(first, last):
        place = folder / f"class{min(int(np.searchsorted(bounds, number, side='right')), CLASSES - 1)}"
        path, pixels = place / f"{number:06}.png", picture(number)
        cv2.imwrite(str(path), pixels)
        kind = number // PLANTED
        copy = place / f"{number:06}-copy.png"
        margin = round(SIDE * (1 - CROP) / 2)
        if kind == 0:
            copy.write_bytes(path.read_bytes())
        elif kind == 1:
            cv2.imwrite(str(copy.with_suffix(".jpg")), pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])
        elif kind == 2:
            cv2.imwrite(str(copy), pixels[:, ::-1])
        elif kind == 3:
            middle = pixels[margin : SIDE - margin, margin : SIDE - margin]
            cv2.imwrite(str(copy), cv2.resize(middle, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC))


def make_set(folder: Path, images: int) -> None:
    """Draw a set, on all cores."""
    for number in range(CLASSES):
        (folder / f"class{number}").mkdir(parents=True)
    starts = range(0, images, 1000)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        jobs = [pool.submit(write_images, folder, at, min(at + 1000, images), images) for at in starts]
        for job in jobs:
            job.result()


def rename(folder: Path) -> Path:
    """Give all images other names and labels; their content stays."""
    other = folder.with_name(f"{folder.name}-again")
    for number, path in enumerate(sorted(folder.rglob("*.*"))):
        place = other / f"kind{number % 3}"
        place.mkdir(parents=True, exist_ok=True)
        os.link(path, place / f"x{number:06}{path.suffix}")
    return other


class Measured(NamedTuple):
    """Seconds, seconds of processors, and largest anonymous memory of a process, and what it found."""

    seconds: float
    processor: float
    bytes: int
    found: dict[str, Any]


def inspect(folder: Path, cache: Path) -> Measured:
    """Run ``tametail inspect`` in a new process."""
    with tempfile.TemporaryFile("w+") as printed:
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "tametail", "inspect", str(folder), "--json", "--quiet"],
            stdout=printed,
            env={**os.environ, "TAMETAIL_CACHE": str(cache)},
        )
        peak, ended = 0, 0
        while not ended:
            status = Path(f"/proc/{process.pid}/status").read_text()
            peak = max(peak, int((status.partition("RssAnon:")[2].split() or ["0"])[0]) * 1024)
            time.sleep(0.01)
            ended, exit_status, used = os.wait4(process.pid, os.WNOHANG)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(exit_status)
        if process.returncode not in (0, 3):
            raise SystemExit(f"tametail inspect {folder} failed with exit code {process.returncode}")
        printed.seek(0)
        found = json.load(printed)
        if "error" in found:
            raise SystemExit(f"tametail inspect {folder} failed: {found['error']}")
        return Measured(seconds, used.ru_utime + used.ru_stime, peak, found)


def found_copies(found: dict[str, Any]) -> str:
    """Copies that were found, by kind."""
    duplicates = found["duplicates"]
    changed = ", ".join(f"{count} {how}" for how, count in sorted(duplicates["changed_pairs"].items()))
    return f"{duplicates['exact_sets']} identical, {duplicates['near_pairs']} saved again, {changed or 'none changed'}"


def report(folder: Path, sizes: list[int]) -> Iterator[str]:
    """The whole page, line by line, as it is measured."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", "opencv-python-headless", "pyarrow"))
    yield "# tametail inspect on many images\n"
    yield "    python benchmarks/inspect_large.py    (make bench-inspect)\n"
    yield (
        f"Generated images of {SIDE} × {SIDE} pixels, alike as those of one organ, PNG in class folders. Planted are {PLANTED} copies each: byte for byte, "
        f"saved again as JPEG, mirrored, and cropped to {100 * CROP:.0f} % of the side. New processes, start-up and reading of the folder included. The second "
        f"run is of the same images under other names and labels. Memory: anonymous, without pages of mapped files. {os.cpu_count()} cores, "
        f"{platform.machine()}; Python {platform.python_version()}, {versions}.\n"
    )
    make_set(folder / "start", 500)
    began = inspect(folder / "start", folder / "cache-start")
    start = began.seconds
    yield f"Start-up, with 500 images: {start:.1f} s. Load of other processes when it began: {os.getloadavg()[0]:.1f}.\n"
    yield "| images | first run | ms per image | of processors | peak | second run | of the first | copies found |"
    yield "|---:|---:|---:|---:|---:|---:|---:|---|"
    firsts, processors, missed = [], [], []
    for images in sizes:
        place = folder / str(images)
        make_set(place, images)
        first = inspect(place, folder / f"cache-{images}")
        second = inspect(rename(place), folder / f"cache-{images}")
        share = second.seconds / first.seconds
        peak = max(first.bytes, second.bytes)
        missed += [f"memory of {images:,}"] * (peak >= MOST_BYTES)
        missed += ["second run"] * (share > MOST_OF_FIRST and images == sizes[-1])
        firsts.append(first.seconds)
        processors.append(1000 * (first.processor - began.processor) / images)
        yield (
            f"| {images:,} | {first.seconds:.1f} s | {1000 * (first.seconds - start) / images:.2f} | {processors[-1]:.2f} | {peak / 1e9:.2f} GB | "
            f"{second.seconds:.1f} s | {share:.2f} | {found_copies(first.found)} |"
        )
    linear = start + (firsts[0] - start) * sizes[-1] / sizes[0]
    growth = firsts[-1] / linear
    missed += ["time"] * (growth > MOST_GROWTH)
    yield (
        f"\n{sizes[-1]:,} images take {growth:.2f} times the linear extrapolation from {sizes[0]:,}, and {processors[-1] / processors[0]:.2f} times the "
        f"processor time per image, which depends less on the load. Required: at most {MOST_GROWTH}, "
        f"{MOST_BYTES / 1e9:g} GB, and {MOST_OF_FIRST} of the first run for the second; "
        f"{'MISSED: ' + ', '.join(missed) if missed else 'met'}. Load of other processes when it ended: {os.getloadavg()[0]:.1f}."
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--quick", action="store_true", help="500 and 2,000 images, to see that it runs")
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for line in report(Path(folder), [500, 2_000] if given.quick else given.images):
            print(line, flush=True)
            lines.append(line)
    if given.output is not None:
        given.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return int("MISSED" in lines[-1])


if __name__ == "__main__":
    sys.exit(main())

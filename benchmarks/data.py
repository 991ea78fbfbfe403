"""Images per second of decoding, compared with Pillow, torchvision and OpenCV, and of cached epochs; memory by size of data set.

python benchmarks/data.py [--quick] [-o docs/results/data.md]

All methods of a table alternate within one process, and each ratio is within a round: a
busy machine slows both. Speeds are medians over the rounds. Memory is that of a fresh process each.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import cv2
import numpy as np
import PIL
import simplejpeg
import torch
from data_memory import BATCH, SIDE, write_jpegs
from numpy.typing import NDArray
from PIL import Image

from losses import machine
from tametail.data import decode_image
from tametail.data.sampling.augmentation import Preprocess
from tametail.data.sampling.loaders import training_batches
from tametail.models import torchvision_ops

torchvision_ops.ensure_importable()
import torchvision  # noqa: E402 - its extension may be missing, see above
from torchvision import transforms  # noqa: E402

WIDTH, HEIGHT = 600, 450
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PLAIN = "Pillow: open, convert, resize (bicubic, its default)"
Decode = Callable[[Path], object]
Speeds = dict[str, list[float]]


def ours(path: Path) -> object:
    return decode_image(path, SIDE)


def pillow(path: Path, method: Image.Resampling = Image.Resampling.BICUBIC) -> object:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((SIDE, SIDE), method))


def pillow_bilinear(path: Path) -> object:
    return pillow(path, Image.Resampling.BILINEAR)


def pillow_draft(path: Path) -> object:
    with Image.open(path) as image:
        image.draft("RGB", (SIDE, SIDE))
        return np.asarray(image.convert("RGB").resize((SIDE, SIDE)))


_RESIZE = transforms.Compose([transforms.Resize(SIDE), transforms.CenterCrop(SIDE)])


def torchvision_transforms(path: Path) -> object:
    with Image.open(path) as image:
        return np.asarray(_RESIZE(image.convert("RGB")))


def opencv(path: Path) -> object:
    pixels = cv2.imread(str(path))
    assert pixels is not None
    return cv2.cvtColor(cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB)


CONTENDERS: dict[str, Decode] = {
    "tametail: decode_image": ours,
    PLAIN: pillow,
    "Pillow, bilinear": pillow_bilinear,
    "Pillow, draft mode": pillow_draft,
    "torchvision: Resize, CenterCrop": torchvision_transforms,
    "OpenCV: imread, resize (area)": opencv,
}


def take_turns(calls: dict[str, Callable[[], int]], rounds: int) -> Speeds:
    """Images per second of each call, which says how many it did, round by round after one to warm up."""
    speeds: Speeds = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            started = time.perf_counter()
            images = call()
            if number:
                speeds[name].append(images / (time.perf_counter() - started))
    return speeds


def decoding(paths: Sequence[Path], rounds: int, threads: int) -> Speeds:
    def call(decode: Decode) -> Callable[[], int]:
        return lambda: len(list(pool.map(decode, paths)) if threads > 1 else [decode(path) for path in paths])

    with ThreadPoolExecutor(threads) as pool:
        return take_turns({name: call(decode) for name, decode in CONTENDERS.items()}, rounds)


def cached(paths: Sequence[Path], pixels: NDArray[np.uint8], rounds: int) -> Speeds:
    """Epochs over decoded pixels, and plain Pillow for the same without normalisation; one thread each."""
    still = Preprocess(SIDE, MEAN, STD)
    moved = Preprocess(SIDE, MEAN, STD, flip=True, scale=(0.6, 1.0), rotation=30)
    batches = training_batches(
        pixels, np.arange(len(pixels)), np.zeros(len(pixels), np.int64), batch_size=BATCH, seed=0
    )
    epochs = count()

    def epoch(transform: Preprocess | None, most: int) -> int:
        done = 0
        for batch in batches.epoch(next(epochs)):
            if transform:
                transform(batch.inputs, batch.draws if transform is moved else None)
            done += len(batch.target)
            if done >= most:
                break
        return done

    return take_turns(
        {
            "cached epoch": lambda: epoch(None, len(pixels)),
            "cached epoch, normalised to float32": lambda: epoch(still, len(pixels)),
            "cached epoch, scaled, rotated, flipped, normalised": lambda: epoch(moved, 512),
            PLAIN: lambda: len([pillow(path) for path in paths]),
        },
        rounds,
    )


def measured_memory(what: str, images: int) -> dict[str, int]:
    """In a process of its own."""
    command = [sys.executable, str(Path(__file__).with_name("data_memory.py")), what, str(images)]
    found: dict[str, int] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return found


class Others:
    """What share of all cores other processes took since this was made: where it is large, speeds are too low."""

    def __init__(self) -> None:
        self.started = self._now()

    @staticmethod
    def _now() -> tuple[float, float, float]:
        """Seconds that all cores, busy ones, and this process have spent."""
        user, nice, system, idle, waiting, *rest = map(int, Path("/proc/stat").read_text().split()[1:9])
        busy = user + nice + system + sum(rest)
        tick = os.sysconf("SC_CLK_TCK")
        return (busy + idle + waiting) / tick, busy / tick, time.process_time()

    def __str__(self) -> str:
        everything, busy, own = (now - then for now, then in zip(self._now(), self.started, strict=True))
        return f"\nOther processes used {max(busy - own, 0) / everything:.0%} of the cores."


def table(speeds: Speeds) -> Iterator[str]:
    """Markdown lines: median ratio to plain Pillow with its quartiles, and images per second."""
    yield "| | × plain Pillow | images/s |"
    yield "|---|---:|---:|"
    for name, each in speeds.items():
        ratios = [a / b for a, b in zip(each, speeds[PLAIN], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        spread = "" if name == PLAIN else f" ({low:.3g}–{high:.3g})"
        yield f"| {name} | {middle:.3g}{spread} | {statistics.median(each):,.0f} |"


def report(quick: bool) -> Iterator[str]:
    """The whole page, line by line, as it is measured."""
    rounds, files, sizes = (3, 60, (1000, 10_000)) if quick else (9, 300, (1000, 10_000, 150_000))
    cores = os.cpu_count() or 1
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    yield "# Decoding, cached epochs and memory\n"
    yield f"    python benchmarks/data.py{' --quick' if quick else ''}    (make bench-data)\n"
    yield (
        f"Machine: {machine('cpu')}; {cores} cores; Pillow {PIL.__version__}, torchvision {torchvision.__version__}, "
        f"OpenCV {cv2.__version__}, simplejpeg {simplejpeg.__version__}.\n"
    )
    yield (
        "Ratios are within rounds in which all methods alternate; median and quartiles. Plain Pillow uses its default "
        "filter, bicubic; compared with bilinear the gain is smaller. Files and pixels are in the file-system cache: a "
        "slow disk can be the limit."
    )
    with tempfile.TemporaryDirectory() as name:
        paths = write_jpegs(Path(name), files, WIDTH, HEIGHT)
        size = sum(path.stat().st_size for path in paths) / files
        yield (
            f"\n## JPEG of {WIDTH} × {HEIGHT} to {SIDE} px\n\n{files} files, {size / 1000:.0f} kB each on average: "
            f"smooth texture with noise, quality 90."
        )
        for threads in sorted({1, cores}):
            yield f"\n### {threads} thread{'s' * (threads > 1)}\n"
            others = Others()
            yield from table(decoding(paths, rounds, threads))
            yield str(others)
        yield f"\n## Epochs over decoded images of {SIDE} px\n"
        yield (
            f"2048 images, memory-mapped, shuffled, in batches of {BATCH}; one thread. Pillow's row decodes and resizes, "
            "without normalisation or augmentation. Augmentation costs more on a CPU than reading images; on a GPU it "
            "runs there.\n"
        )
        pixels = np.lib.format.open_memmap(f"{name}/pixels.npy", "w+", np.uint8, (2048, SIDE, SIDE, 3))
        pixels[:] = np.resize(np.stack([decode_image(path, SIDE) for path in paths]), pixels.shape)
        pixels.flush()
        others = Others()
        yield from table(cached(paths, np.load(f"{name}/pixels.npy", mmap_mode="r"), rounds))
        yield str(others)
    yield from memory_table(sizes)


def memory_table(sizes: Sequence[int]) -> Iterator[str]:
    yield "\n## Private memory by size of the data set\n"
    yield (
        f"RssAnon at its peak, in a fresh process each. Epoch: all images of {SIDE} px in normalised batches of {BATCH}, "
        "from a memory-mapped file with holes instead of pixels (150,000 images are 22.6 GB). Decoding: to 32 px, from "
        "100 JPEGs linked to as many names as there are images; the table of names and labels is in memory before, and "
        "the digests of the files are part of the result.\n"
    )
    yield f"| images | epoch, MB | × at {sizes[0]:,} | before decoding, MB | while decoding, MB | added, MB |"
    yield "|---:|---:|---:|---:|---:|---:|"
    first = None
    for images in sizes:
        epoch, decoding_ = measured_memory("epoch", images)["peak"], measured_memory("decoding", images)
        first = first or epoch
        yield (
            f"| {images:,} | {epoch / 1e6:.0f} | {epoch / first:.2f} | {decoding_['before'] / 1e6:.0f} "
            f"| {decoding_['peak'] / 1e6:.0f} | {(decoding_['peak'] - decoding_['before']) / 1e6:.0f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few rounds, to see that it runs")
    parser.add_argument("-o", "--out", type=Path, help="also write the tables to this file")
    options = parser.parse_args()
    lines = []
    for line in report(options.quick):
        print(line, flush=True)
        lines.append(line)
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

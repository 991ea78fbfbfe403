"""Memory of features, fine-tuning and heads for tables larger than memory.

python benchmarks/large_tables.py [--rows 10000 100000 1000000] [--heads 10000 100000] [-o docs/results/large-tables.md]

Pixels are random, 64 × 64, in shards of at most 1 GiB as the decoded cache has them, and at least eight; features are random
too. All are written to a temporary folder before the measurement and deleted after it (13 GB for a million rows). Each
measurement is a new process on one core, whose anonymous memory (RssAnon, without pages of mapped files) is sampled every 10 ms from its
start. The network is tiny: memory is measured, not speed.

Exits 1 if a peak is 4 GB or more, or if that of features or of training grows by more than 10 % from the fewest rows to the most.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from losses import machine
from tametail.data import DecodedImages
from tametail.data.decoding.bit_depth import BitDepth
from tametail.data.row_store import ArrayRows, as_rows
from tametail.data.sampling.augmentation import Preprocess
from tametail.data.sampling.loaders import training_batches
from tametail.models.backbones import BackboneSpec, build_backbone, describe_backbone
from tametail.models.heads import Standardise
from tametail.training.hardware import Hardware, make_accelerator
from tametail.training.heads.head_step import HeadTask
from tametail.training.heads.minimum import train_to_minimum
from tametail.training.large_tensors import RowBlocks
from tametail.training.recipe import load_recipe
from tametail.training.step import Stepper
from tametail.training.strategies import parse_method
from tametail.training.training_data import cached_features

SIDE, CLASSES, WIDTH = 64, 10, 1280
SHARD_BYTES, FEWEST_SHARDS = 2**30, 8
STEPS, BATCH = 2000, 16
METHODS = ("ce", "alpa")
MOST_BYTES, MOST_GROWTH = 4e9, 1.1


def private_memory() -> int:
    """Bytes of this process without those of mapped files, whose pages can be dropped at any time."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) * 1024


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    """The peak of `private_memory` inside the block, as the only entry."""
    peak, ended = [private_memory()], threading.Event()

    def sample() -> None:
        while not ended.wait(0.01):
            peak[0] = max(peak[0], private_memory())

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield peak
    finally:
        ended.set()
        sampler.join()


def shard_starts(rows: int) -> range:
    return range(0, rows, max(min(SHARD_BYTES // (SIDE * SIDE * 3), rows // FEWEST_SHARDS), 1))


def write_pixels(folder: Path, rows: int) -> None:
    """Random pixels, shard by shard."""
    starts, random = shard_starts(rows), np.random.default_rng(0)
    for start in starts:
        shape = (min(starts.step, rows - start), SIDE, SIDE, 3)
        shard = np.lib.format.open_memmap(folder / f"{start:09d}.npy", "w+", np.uint8, shape)
        for row in range(0, len(shard), 1000):
            part = shard[row : row + 1000]
            part[:] = random.integers(0, 256, part.shape, np.uint8)


def write_features(folder: Path, rows: int) -> None:
    """Random features with the classes in them, by blocks."""
    random = np.random.default_rng(1)
    centres = 0.3 * random.normal(size=(CLASSES, WIDTH))
    mapped = np.lib.format.open_memmap(folder / "features.npy", "w+", np.float32, (rows, WIDTH))
    target = targets(rows)
    for start in range(0, rows, 10_000):
        own = target[start : start + 10_000]
        mapped[start : start + len(own)] = random.normal(size=(len(own), WIDTH)) + centres[own]


def targets(rows: int) -> NDArray[np.int64]:
    """Long-tailed classes, of an imbalance ratio of 100."""
    share = 0.01 ** np.linspace(0, 1, CLASSES)
    return np.random.default_rng(2).choice(CLASSES, rows, p=share / share.sum())


def pixels_in(folder: Path) -> ArrayRows:
    return ArrayRows([np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))])


def tiny_backbone() -> tuple[BackboneSpec, nn.Module]:
    spec = describe_backbone("test_resnet", 61)  # whose canvas is SIDE
    torch.manual_seed(0)
    return spec, build_backbone(spec, "none")


def features_side(folder: Path, rows: int) -> dict[str, float]:
    """Features of all rows, into the cache."""
    pixels = pixels_in(folder)
    decoded = DecodedImages(pixels, np.ones(rows, np.bool_), {}, (), BitDepth(), {}, f"{rows:040d}")
    spec, backbone = tiny_backbone()
    accelerator = make_accelerator(load_recipe("head"), "cpu")
    found = cached_features(decoded, spec, backbone, accelerator)
    assert len(found) == rows
    return {"done": rows}


def training_side(folder: Path, rows: int) -> dict[str, float]:
    """Steps of fine-tuning, of batches from all shards."""
    pixels, recipe = pixels_in(folder), load_recipe("quick")
    spec, backbone = tiny_backbone()
    model = nn.Sequential(backbone, nn.Linear(spec.features, CLASSES))
    augment = Preprocess(spec.image_size, spec.mean, spec.std, **dict(recipe.augmentation))
    accelerator = make_accelerator(recipe, "cpu")
    stepper = Stepper(model, nn.CrossEntropyLoss(), recipe, accelerator, Hardware("cpu"))
    batches = training_batches(
        pixels, np.arange(rows), targets(rows), batch_size=BATCH, seed=0, extra=augment.extra_draws
    )
    done, epoch, starts = 0, 0, shard_starts(rows)
    seen: set[int] = set()
    while done < STEPS:
        for step, batch in enumerate(batches.epoch(epoch)):
            seen.update((batches.positions(epoch, step) // starts.step).tolist() if done < 20 else ())
            with torch.no_grad():
                inputs = augment(batch.inputs, batch.draws)
            stepper.update(inputs, batch.target, 1.0, 1e-3)
            done += 1
            if done == STEPS:
                break
        epoch += 1
    assert len(seen) == len(starts), "expected images of all shards"
    return {"done": done}


def heads_side(folder: Path, rows: int) -> dict[str, float]:
    """Heads at their minimum, as a study trains them: standardised features, chosen penalty, several starts."""
    store = as_rows(np.load(folder / "features.npy", mmap_mode="r"))
    every, target = np.arange(rows), targets(rows)
    standardise = Standardise([WIDTH])
    standardise.fit(RowBlocks(store, every))
    scaled = RowBlocks(store, every).joined(standardise)
    recipe, counts = load_recipe("head"), np.bincount(target, minlength=CLASSES).tolist()
    tasks = []
    for text in METHODS:
        method = parse_method(text)
        head = nn.Linear(WIDTH, CLASSES)
        tasks.append(HeadTask(method.loss.create(counts), method.configure(recipe), head))
    found = train_to_minimum(
        scaled, torch.from_numpy(target), tasks, class_counts=counts, fold=every % 4, seed=0
    )
    assert all(each.converged for each in found.convergence)
    return {"done": rows, "iterations": max(each.iterations for each in found.convergence)}


WRITERS = {"features": write_pixels, "training": write_pixels, "heads": write_features}
SIDES = {"features": features_side, "training": training_side, "heads": heads_side}


def measured(side: str, folder: Path, rows: int) -> dict[str, float]:
    """Peak memory and time of one side, in a new process."""
    environment = os.environ | {"TAMETAIL_CACHE": str(folder.parent / "cache"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--side", side, "--rows", str(rows), "--folder", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    shutil.rmtree(folder.parent / "cache", ignore_errors=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def sizes(
    sides: tuple[str, ...], rows: list[int], temporary: str | None
) -> dict[str, dict[int, dict[str, float]]]:
    """Each side at each size; what it reads is written before and deleted afterwards."""
    found: dict[str, dict[int, dict[str, float]]] = {side: {} for side in sides}
    for count in rows:
        with tempfile.TemporaryDirectory(dir=temporary) as name:
            folder = Path(name) / "data"
            folder.mkdir()
            WRITERS[sides[0]](folder, count)
            for side in sides:
                found[side][count] = measured(side, folder, count)
                print(f"{side}, {count:,} rows: {found[side][count]}", flush=True)
    return found


def gigabytes(count: float) -> str:
    return f"{count / 1e9:.2f}"


def main() -> int:
    """Measure, print, and say whether it is good enough."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--heads", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--folder", help="where temporary files are written")
    parser.add_argument("-o", "--out", type=Path, help="also write the page to this file")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.side:
        with peak_memory() as peak:
            began = time.perf_counter()
            found = SIDES[asked.side](Path(asked.folder), asked.rows[0])
            found["seconds"] = time.perf_counter() - began
        print(json.dumps(found | {"peak": peak[0]}))
        return 0
    images = sizes(("features", "training"), asked.rows, asked.folder)
    heads = sizes(("heads",), asked.heads, asked.folder)["heads"]
    features, training = images["features"], images["training"]
    peaks = [each["peak"] for of_size in (features, training, heads) for each in of_size.values()]
    growth = [
        of_size[max(of_size)]["peak"] / of_size[min(of_size)]["peak"] for of_size in (features, training)
    ]
    text = "\n".join(
        [
            "# Tables larger than memory",
            "",
            "    python benchmarks/large_tables.py    (make bench-large)",
            "",
            f"Machine: {machine('cpu')}; one core of it. Peak is the largest anonymous memory (RssAnon) of a process, sampled every 10 ms from its start: "
            f"memory of its own, without the pages of mapped files. Pixels and features are random; the network is timm's test_resnet.",
            "",
            f"Decoded pixels of {SIDE} × {SIDE} in shards: features of all rows, and {STEPS:,} steps of fine-tuning with batches of {BATCH} drawn "
            f"from all shards.",
            "",
            "| rows | shards | pixels, GB | features, s | features, peak GB | training, s | training, peak GB |",
            "|---:|---:|---:|---:|---:|---:|---:|",
            *(
                f"| {rows:,} | {len(shard_starts(rows))} | {gigabytes(rows * SIDE * SIDE * 3)} | {features[rows]['seconds']:.0f} | "
                f"{gigabytes(features[rows]['peak'])} | {training[rows]['seconds']:.0f} | {gigabytes(training[rows]['peak'])} |"
                for rows in features
            ),
            "",
            f"Peak at most rows / fewest rows: features {growth[0]:.3f}, training {growth[1]:.3f}.",
            "",
            f"Heads ({', '.join(METHODS)}; λ chosen, {CLASSES} classes, {WIDTH} features) at their minimum, one training set; what they need is "
            f"the Gram matrix of features, outputs (rows × classes), and one block of 256 MB of features in float64:",
            "",
            "| rows | features, GB | s | iterations | peak GB |",
            "|---:|---:|---:|---:|---:|",
            *(
                f"| {rows:,} | {gigabytes(rows * WIDTH * 4)} | {each['seconds']:.0f} | {each['iterations']:.0f} | "
                f"{gigabytes(each['peak'])} |"
                for rows, each in heads.items()
            ),
            "",
        ]
    )
    print(text)
    if asked.out:
        asked.out.write_text(text, encoding="utf-8")
    return 0 if max(peaks) < MOST_BYTES and max(growth) <= MOST_GROWTH else 1


if __name__ == "__main__":
    sys.exit(main())

"""Peak private memory of an epoch, or of decoding, in bytes, as JSON; `data.py` runs it in a new process each time.

python benchmarks/data_memory.py epoch|decoding IMAGES
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from tametail.data import ImageTable, decoded_images
from tametail.data.sampling.augmentation import Preprocess
from tametail.data.sampling.loaders import training_batches

SIDE = 224
BATCH = 64


def write_jpegs(folder: Path, number: int, width: int, height: int) -> list[Path]:
    """JPEGs of smooth random texture with noise, quality 90: about the size of photographs of these dimensions."""
    random = np.random.default_rng(0)
    paths = [folder / f"{index:05d}.jpg" for index in range(number)]
    for path in paths:
        coarse = random.integers(0, 256, (12, 16, 3), np.uint8)
        smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        noisy = smooth + random.normal(0, 6, smooth.shape)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return paths


def private_memory() -> int:
    """Bytes of this process without those of mapped files, whose pages can be dropped at any time."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) * 1024


def memory_of_epoch(images: int) -> dict[str, int]:
    """Peak over one epoch of normalised batches. The file is sparse, so that it needs no disk space."""
    with tempfile.NamedTemporaryFile() as file:
        file.truncate(images * SIDE * SIDE * 3)
        pixels = np.memmap(file.name, np.uint8, "r", shape=(images, SIDE, SIDE, 3))
        transform = Preprocess(SIDE, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
        batches = training_batches(
            pixels, np.arange(images), np.zeros(images, np.int64), batch_size=BATCH, seed=0
        )
        peak = 0
        for batch in batches.epoch(1):
            inputs = transform(batch.inputs)
            assert len(inputs)
            peak = max(peak, private_memory())
        return {"peak": peak}


def memory_of_decoding(images: int) -> dict[str, int]:
    """Memory before, with the table, and peak while decoding to 32 px; 100 files with many hard links."""
    import pandas as pd

    with tempfile.TemporaryDirectory() as name:
        os.environ["TAMETAIL_CACHE"] = f"{name}/cache"
        folder = Path(name) / "set"
        folder.mkdir()
        files = write_jpegs(folder, 100, 64, 48)
        names = [f"{index:06d}.jpg" for index in range(images)]
        for index, link in enumerate(names):
            os.link(files[index % 100], folder / link)
        frame = pd.DataFrame({"image": names, "label": "a", "group": names, "split": ""})
        table = ImageTable(frame, folder, ("a",), "links")
        before = private_memory()
        peaks: list[int] = []
        decoded_images(table, 32, advance=lambda done: peaks.append(private_memory()))
        return {"before": before, "peak": max(peaks)}


MEMORY = {"epoch": memory_of_epoch, "decoding": memory_of_decoding}


if __name__ == "__main__":
    print(json.dumps(MEMORY[sys.argv[1]](int(sys.argv[2]))))

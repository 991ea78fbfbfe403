"""A small set of images, and the smallest settings a study can be made with."""

from __future__ import annotations

from pathlib import Path

import numpy as np

COLOURS = {"amber": (200, 140, 40), "blue": (60, 80, 200), "crimson": (190, 50, 90)}
SIZES = {"amber": 40, "blue": 20, "crimson": 10}
TINY = {"backbone": "test_efficientnet", "weights": "none", "image_size": 32}


def write_images(folder: Path, *, seed: int = 0) -> Path:
    """70 noisy images of three colours in class-free names, two to a group, with labels.csv."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    lines = ["image,label,group,site"]
    labels = [name for name, count in SIZES.items() for _ in range(count)]
    for number, label in enumerate(labels):
        pixels = np.array(COLOURS[label]) + rng.normal(0, 60, (40, 48, 3))
        name = f"images/{number:03d}.png"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name)
        lines.append(f"{name},{label},g{number // 2},site{number % 2}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder

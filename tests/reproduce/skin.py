"""A small synthetic folder with the classes of HAM10000, and the least that can be trained on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tametail.training.hardware import Hardware

SIZES = {"akiec": 5, "bcc": 6, "bkl": 8, "df": 4, "mel": 7, "nv": 12, "vasc": 4}
QUICK = {"backbone": "test_efficientnet", "weights": "none", "image_size": 32, "epochs": 1, "batch_size": 16}
TRAINING: dict[str, Any] = {"recipe": "head", "folds": 2, "fields": QUICK, "hardware": Hardware("cpu")}
WORDS = [word for name, value in QUICK.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def write_skin(folder: Path, names: dict[str, str] | None = None) -> Path:
    """46 noisy images of 40 by 32 pixels, a colour per class, two of the nevi in a group; ``names`` renames classes."""
    from PIL import Image

    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    lines = ["image,label,group"]
    for colour, (label, count) in enumerate(SIZES.items()):
        for number in range(count):
            pixels = np.array([30 * colour, 200 - 20 * colour, 120]) + rng.normal(0, 40, (32, 40, 3))
            name, group = f"{label}{number}.png", f"{label}{number // 2 if label == 'nv' else number}"
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name)
            lines.append(f"{name},{(names or {}).get(label, label)},{group}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder

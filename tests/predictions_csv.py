"""Files of predictions as other programs write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from tametail.predictions import Predictions, scores

CLASSES = ("bcc", "mel", "nv")


def frame_of(
    seed: int = 0, *, images: int = 150, skill: float = 1.5, classes: tuple[str, ...] = CLASSES
) -> pd.DataFrame:
    """Columns image, label, group, sex, age and prob_<class>; images and labels are the same for every seed."""
    shared, rng = np.random.default_rng(99), np.random.default_rng(seed)
    target = shared.permutation(np.arange(images) % 10 % len(classes))
    z = rng.normal(size=(images, len(classes)))
    z[np.arange(images), target] += skill
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    frame = pd.DataFrame(
        {
            "image": [f"{number:04}.png" for number in range(images)],
            "label": np.array(classes)[target],
            "group": [f"patient{number // 2}" for number in range(images)],
            "sex": np.array(["f", "m", ""])[shared.integers(0, 3, images)],
            "age": shared.integers(20, 90, images),
        }
    )
    return frame.assign(**{f"prob_{name}": p[:, c] for c, name in enumerate(classes)})


def write(frame: pd.DataFrame, path: Path) -> Path:
    """By the kind that the ending names."""
    if path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
    else:
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path


def expected_of(frame: pd.DataFrame, classes: tuple[str, ...] = CLASSES) -> Predictions:
    """What such a frame says, made by hand."""
    p = frame[[f"prob_{name}" for name in classes]].to_numpy()
    table = Predictions(
        frame["image"].to_numpy(dtype=np.str_),
        frame["group"].to_numpy(dtype=np.str_),
        np.array([classes.index(label) for label in frame["label"]]),
        np.zeros(len(frame), dtype=np.int64),
        np.log(p).astype(np.float32),
        classes,
        "softmax",
        scores(np.log(p), "softmax").astype(np.float32),
    )
    return table.sorted_by_image()

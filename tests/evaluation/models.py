"""Tables of predictions of several models on the same images, made up for tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from tametail.predictions import Predictions


def table(
    target: ArrayLike, right: ArrayLike, group: ArrayLike | None = None, classes: int = 3
) -> Predictions:
    """A model that is right where ``right`` (N,) says, and otherwise predicts the next class."""
    codes = np.asarray(target, dtype=np.int64)
    image = np.array([f"image{index:05}" for index in range(len(codes))])
    predicted = np.where(np.asarray(right, dtype=bool), codes, (codes + 1) % classes)
    return Predictions(
        image,
        image if group is None else np.asarray(group).astype(np.str_),
        codes,
        np.zeros(len(codes), dtype=np.int64),
        np.eye(classes, dtype=np.float32)[predicted],
        tuple(f"c{index}" for index in range(classes)),
        "softmax",
    )


def random_models(
    seed: int,
    images: int = 60,
    groups: int = 20,
    classes: int = 4,
    replicates: Sequence[int] = (1, 1),
    skill: Sequence[float] = (0.7, 0.6),
) -> dict[str, list[Predictions]]:
    """Models m0, m1, ... with so many replicates each, on images of a long tail that come in groups."""
    rng = np.random.default_rng(seed)
    share = 0.5 ** np.arange(classes)
    target = rng.choice(classes, images, p=share / share.sum())
    group = rng.integers(0, groups, images)
    return {
        f"m{index}": [table(target, rng.random(images) < s, group, classes) for _ in range(count)]
        for index, (count, s) in enumerate(zip(replicates, skill, strict=True))
    }

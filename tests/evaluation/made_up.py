"""Tables of predictions to test the evaluation with."""

from __future__ import annotations

import numpy as np

from tametail.predictions import Link, Predictions, scores

NAMES = ("akiec", "bcc", "mel")


def made_up(
    seed: int = 0,
    *,
    images: int = 240,
    folds: int = 4,
    per_group: int = 2,
    sharpness: float = 1.0,
    link: Link = "softmax",
    posterior: bool = True,
) -> Predictions:
    """Predictions by Bayes' rule of points drawn around their class, one class rare; calibrated at sharpness 1.

    With sharpness k the log-odds are k times as large, so that the temperature to be found is k.
    """
    rng = np.random.default_rng(1000 + seed)
    target = rng.choice(3, images, p=(0.7, 0.22, 0.08))
    points = rng.normal(size=(images, 2)) + np.array([(0, 0), (1.6, 0), (0, 1.6)])[target]
    centres = np.array([(0, 0), (1.6, 0), (0, 1.6)])
    log_p = np.log((0.7, 0.22, 0.08)) - ((points[:, None] - centres) ** 2).sum(axis=2) / 2
    p = np.exp(log_p - log_p.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    z = np.log(p) if link == "softmax" else np.log(p) - np.log1p(-p)
    logits = (sharpness * z).astype(np.float32)
    image = np.array([f"{number:05}" for number in range(images)])
    group = np.array([f"g{number // per_group:05}" for number in range(images)])
    return Predictions(
        image,
        group,
        target.astype(np.int64),
        np.arange(images) // per_group % folds,
        logits,
        NAMES,
        link,
        scores(logits, link).astype(np.float32) if posterior else None,
    )


def deterministic(p: np.ndarray, target: np.ndarray, fold: np.ndarray | None = None) -> Predictions:
    """Given probabilities (N, C), each image by itself."""
    image = np.array([f"{number:05}" for number in range(len(p))])
    names = tuple(f"c{c}" for c in range(p.shape[1]))
    return Predictions(
        image,
        image,
        np.asarray(target, dtype=np.int64),
        np.zeros(len(p), dtype=np.int64) if fold is None else np.asarray(fold, dtype=np.int64),
        np.log(np.maximum(p, 1e-30)).astype(np.float32),
        names,
        "softmax",
        p.astype(np.float32),
    )

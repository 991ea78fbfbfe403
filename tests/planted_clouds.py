"""Features of which it is known what helps: clouds of points, one for each class, and what is found on them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from tametail.console import Console
from tametail.recommending.candidates import CANDIDATES, method_texts
from tametail.recommending.findings import Findings, Images, find
from tametail.recommending.nested import Readings
from tametail.recommending.trainings import TrainingPart, run_all
from tametail.training.hardware import make_accelerator
from tametail.training.recipe import load_recipe

FOLDS = 3
QUICK = tuple(candidate for candidate in CANDIDATES if candidate.step != "re-training")


def clouds(counts: Sequence[int], apart: float, seed: int = 0, features: int = 6) -> TrainingPart:
    """Normal clouds on the axes, ``apart`` from the origin; at 0 the labels say nothing about the features."""
    rng = np.random.default_rng(seed)
    target = np.repeat(np.arange(len(counts)), counts)
    centres = apart * np.eye(len(counts), features)
    values = centres[target] + rng.normal(size=(len(target), features))
    fold = np.concatenate([rng.permutation(np.arange(count) % FOLDS) for count in counts])
    return TrainingPart(values.astype(np.float32), target, fold, len(counts), FOLDS)


def images(part: TrainingPart) -> Images:
    """Names for the points, each a group of its own."""
    names = np.array([f"{number:05d}" for number in range(len(part.target))], dtype=np.str_)
    return Images(names, names, tuple(f"class{code}" for code in range(part.classes)))


@cache
def found_on(counts: tuple[int, ...], apart: float, folder: Path, seed: int = 0) -> Findings:
    """The findings on such clouds, of one seed."""
    part = clouds(counts, apart, seed)
    recipe = load_recipe("head", fields={"weights": "none", "epochs": 8, "batch_size": 32, "lr": 0.1})
    accelerator = make_accelerator(recipe, "cpu")
    kept = run_all(folder, part, method_texts(QUICK), 1, recipe, "", accelerator, Console(quiet=True))
    decisions = {training: reading.logits for training, reading in kept.items()}
    readings = Readings(part.target, part.fold, part.classes, 1, FOLDS, decisions)
    return find(QUICK, readings, images(part), {})

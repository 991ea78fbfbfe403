"""A search over features that are made up, small enough to be done in a second."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tametail.console import Console
from tametail.training.hardware import make_accelerator
from tametail.training.head_trials import Trial, TrialData, TrialResult, run_trials
from tametail.training.interrupts import Stop
from tametail.training.recipe import Recipe, load_recipe
from tametail.training.strategies import parse_method
from tametail.tuning.folds import Folds
from tametail.tuning.journal import alone, open_journal, working
from tametail.tuning.searches import Settings, Tried, run_searches, tried
from tametail.tuning.space import Space, make_space
from tametail.tuning.trainings import Training

CLASSES, FOLDS, SIZE = (60, 30, 15), 4, 12


def small_folds(seed: int = 0) -> Folds:
    """105 images of three classes, two to three of each class in every fold at the least."""
    rng = np.random.default_rng(seed)
    target = rng.permutation(np.repeat(np.arange(len(CLASSES)), CLASSES))
    fold = np.zeros(len(target), dtype=np.int64)
    for code in range(len(CLASSES)):
        rows = np.flatnonzero(target == code)
        fold[rows] = np.arange(len(rows)) % FOLDS
    features = rng.normal(size=(len(target), SIZE)) + 1.5 * np.eye(len(CLASSES), SIZE)[target]
    return Folds(features.astype(np.float32), target, fold, len(CLASSES))


def small_recipe() -> Recipe:
    return load_recipe("head", fields={"epochs": 4, "batch_size": 16, "lr": 1e-2})


def small_space(method: str = "alpa", *texts: str) -> Space:
    return make_space(parse_method(method), small_recipe(), texts)


def settings(
    trials: int = 6, sampler: str = "random", halving: bool = False, seeds: int = 1, batch: int = 4
) -> Settings:
    assert sampler in ("random", "tpe")
    return Settings(
        trials, "tpe" if sampler == "tpe" else "random", halving, "balanced_accuracy", seeds, 0, batch
    )


def train_heads(trials: Sequence[Trial], data: TrialData, training: Training) -> list[TrialResult]:
    return run_trials(trials, data, make_accelerator(small_recipe(), "cpu"), seed=training.random_seed())


def search_in(directory: Path, folds: Folds, asked: Settings, space: Space | None = None) -> list[Tried]:
    """All trials of a search, begun or gone on with in a folder."""
    directory.mkdir(exist_ok=True)
    with working(directory) as worker:
        with alone(directory):
            storage = open_journal(directory)
        run_searches(
            directory,
            storage,
            space or small_space(),
            folds,
            asked,
            lambda own, data, training: train_heads(own, data, training),
            worker,
            Stop(),
            Console(quiet=True),
        )
    return tried(storage, folds.names, asked)


def in_short(trials: Sequence[Tried]) -> list[tuple[object, ...]]:
    """What of trials must not depend on how often the work was interrupted."""
    return [(t.outer, t.number, dict(t.values), repr(t.score), t.state, t.n) for t in trials]

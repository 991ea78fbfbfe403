"""The trainings of a recommendation, each run once and stored.

Shape legend: n images of the training set, D features, C classes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray

from tametail.core.arrays import IntArray
from tametail.core.console import Console
from tametail.recommend.nested import all_trainings
from tametail.recommend.outputs import HeadOutputs, load_outputs, outputs_store, save_outputs
from tametail.training.checkpointing.checkpointer import Stop, Stopped
from tametail.training.heads.head_experiments import Trial, TrialData, run_trials
from tametail.training.recipe import Recipe
from tametail.training.run import TrainingKey
from tametail.training.strategies import parse_method

if TYPE_CHECKING:
    from tametail.study.inputs import StudyInputs

_POLL_SECONDS = 0.3  # between two looks at the trainings of other processes


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """The images outside the held-out test set.

    Attributes:
        features: (n, D).
        target, fold: (n,).
        classes: C.
        folds: number of folds.
        blocks: lengths of the parts of the feature vector; empty for one part.
    """

    features: NDArray[np.float32]
    target: IntArray
    fold: IntArray
    classes: int
    folds: int
    blocks: tuple[int, ...] = ()


def training_set(inputs: StudyInputs, features: NDArray[Any]) -> TrainingSet:
    """The rows outside the test set, with features (N, D) of all; no code below sees any other."""
    table, splits = inputs.table, inputs.splits
    rows = np.flatnonzero(splits.part == "train")
    return TrainingSet(
        features[rows].astype(np.float32, copy=False),
        table.targets[rows],
        splits.fold[rows],
        len(table.class_names),
        splits.folds,
        inputs.spec.blocks,
    )


def trainings_left(directory: Path, folds: int, seeds: int) -> int:
    """Number of trainings without a file of outputs."""
    store = outputs_store(directory)
    return sum(not store.path(training.name).exists() for training in all_trainings(seeds, folds))


def run_trainings(
    directory: Path,
    data: TrainingSet,
    methods: Sequence[str],
    seeds: int,
    recipe: Recipe,
    settings: str,
    accelerator: Accelerator,
    stop: Stop,
    console: Console,
) -> dict[TrainingKey, HeadOutputs]:
    """Run every training that is not stored yet, and return the outputs of all; several processes may share the work.

    Args:
        methods: texts of the methods.
        seeds: number of trainings for each combination of folds.
        settings: digest that stored outputs are recognised by, see `tametail.recommend.outputs.create_or_extend`.
        stop: whether a stop was requested.

    Raises:
        Stopped: requested; every training that was started is stored.
        TametailError: a file cannot be written.
    """
    trainings = all_trainings(seeds, data.folds)
    store, warned = outputs_store(directory), False
    done: dict[TrainingKey, HeadOutputs] = {}

    def load(training: TrainingKey) -> HeadOutputs | None:
        shape = int(np.isin(data.fold, training.left_out).sum()), data.classes
        return load_outputs(directory, training, methods, shape, settings)

    with console.track("Trainings", len(trainings) * len(methods)) as advance:
        while len(done) < len(trainings):
            before = len(done)
            for training in [each for each in trainings if each not in done]:
                outputs = load(training)
                if outputs is not None:
                    advance(len(methods))
                else:
                    with store.claimed(training.name) as ours:
                        if not ours:
                            continue  # another process trains it
                        outputs = load(training)  # which it may have done meanwhile
                        if outputs is None:
                            if not warned and store.path(training.name).exists():
                                warned = True
                                console.warn(
                                    f"{directory} holds outputs of other settings, or damaged ones: they are computed again"
                                )
                            outputs = train_methods(data, training, methods, recipe, accelerator, advance)
                            save_outputs(directory, training, outputs, methods, settings)
                done[training] = outputs
                if stop.requested:
                    raise Stopped
            if len(done) == before:
                if stop.requested:
                    raise Stopped
                time.sleep(_POLL_SECONDS)
    return done


def train_methods(
    data: TrainingSet,
    training: TrainingKey,
    methods: Sequence[str],
    recipe: Recipe,
    accelerator: Accelerator,
    advance: Callable[[int], None],
) -> HeadOutputs:
    """Train the heads of the methods on all folds except those left out, and predict these."""
    rows = np.isin(data.fold, training.left_out)
    trial_data = TrialData(
        data.features[~rows],
        data.target[~rows],
        data.features[rows],
        data.classes,
        data.fold[~rows],
        data.blocks,
    )
    trials = [Trial(parse_method(text), recipe) for text in methods]
    results = run_trials(trials, trial_data, accelerator, seed=training.random_seed(), advance=advance)
    logits, posteriors, failures = {}, {}, {}
    for text, result in zip(methods, results, strict=True):
        found = () if result.outputs is None else (result.decision(), result.posterior())
        if found and all(np.isfinite(values).all() for values in found):
            logits[text], posteriors[text] = found
        else:
            failures[text] = result.message or "its outputs are not finite"
    return HeadOutputs(logits, posteriors, failures)

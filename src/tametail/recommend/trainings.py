"""The trainings of a recommendation, each run once and stored.

Shape legend: n images of the training set, D features, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray

from tametail.core.arrays import IntArray
from tametail.core.console import Console
from tametail.recommend.nested import all_trainings
from tametail.recommend.outputs import HeadOutputs, load_outputs, outputs_path, save_outputs
from tametail.training.checkpointing.checkpointer import Stopped, stop_on_signals
from tametail.training.heads.head_experiments import Trial, TrialData, run_trials
from tametail.training.recipe import Recipe
from tametail.training.run import TrainingKey
from tametail.training.strategies import parse_method


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


def run_trainings(
    directory: Path,
    data: TrainingSet,
    methods: Sequence[str],
    seeds: int,
    recipe: Recipe,
    settings: str,
    accelerator: Accelerator,
    console: Console,
) -> dict[TrainingKey, HeadOutputs]:
    """Run every training that is not stored yet, and return the outputs of all.

    Args:
        methods: texts of the methods.
        seeds: number of trainings for each combination of folds.
        settings: digest that stored outputs are recognised by, see `tametail.recommend.outputs.create_or_extend`.

    Raises:
        Stopped: requested by Ctrl-C or SIGTERM; every training that was started is stored.
        TametailError: a file cannot be written.
    """
    trainings = all_trainings(seeds, data.folds)
    done: dict[TrainingKey, HeadOutputs] = {}
    warned, stopping = False, "Stopping after this training ... (press again to quit now)"
    with (
        console.track("Trainings", len(trainings) * len(methods)) as advance,
        stop_on_signals(lambda: console.say(stopping)) as stop,
    ):
        for training in trainings:
            left_out = int(np.isin(data.fold, training.left_out).sum())
            outputs = load_outputs(directory, training, methods, (left_out, data.classes), settings)
            if outputs is None:
                if not warned and outputs_path(directory, training).exists():
                    warned = True
                    console.warn(
                        f"{directory} holds outputs of other settings, or damaged ones: they are computed again"
                    )
                outputs = train_methods(data, training, methods, recipe, accelerator, advance)
                save_outputs(directory, training, outputs, methods, settings)
            else:
                advance(len(methods))
            done[training] = outputs
            if stop.requested:
                raise Stopped
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

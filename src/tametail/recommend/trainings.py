"""The trainings a recommendation is made from, each done once and kept.

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
from tametail.recommend.nested import TrainingKey, all_trainings
from tametail.recommend.outputs import HeadOutputs, load_outputs, outputs_path, save_outputs
from tametail.training.checkpointing.interrupts import Stopped, stop_on_signals
from tametail.training.heads.head_experiments import Trial, TrialData, run_trials
from tametail.training.recipe import Recipe
from tametail.training.strategies import parse_method


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """All that is looked at: the images outside the held-out test set.

    Attributes:
        features: (n, D).
        target, fold: (n,).
        classes: C.
        folds: k.
    """

    features: NDArray[np.float32]
    target: IntArray
    fold: IntArray
    classes: int
    folds: int


def random_seed(training: TrainingKey) -> int:
    """Of weights and order, shared by all methods. Where one fold is left out it is the seed that compare has there."""
    return int(np.random.SeedSequence([training.seed, *training.without]).generate_state(1)[0])


def run_all(
    directory: Path,
    part: TrainingSet,
    methods: Sequence[str],
    seeds: int,
    recipe: Recipe,
    settings: str,
    accelerator: Accelerator,
    console: Console,
) -> dict[TrainingKey, HeadOutputs]:
    """Do each training that is not kept, and give what all of them say.

    Args:
        methods: texts.
        seeds: trainings of each kind.
        settings: by which readings are known, see `tametail.recommend.outputs.create_or_extend`.

    Raises:
        Stopped: asked for by Ctrl-C or SIGTERM, with every training that was begun kept.
        TametailError: a file cannot be written.
    """
    trainings = all_trainings(seeds, part.folds)
    done: dict[TrainingKey, HeadOutputs] = {}
    said = False
    with (
        console.track("Trainings", len(trainings) * len(methods)) as advance,
        stop_on_signals(
            lambda: console.say("Finishing this training ... (once more to quit at once)")
        ) as stop,
    ):
        for training in trainings:
            out = int(np.isin(part.fold, training.without).sum())
            found = load_outputs(directory, training, methods, (out, part.classes), settings)
            if found is None:
                if not said and outputs_path(directory, training).exists():
                    said = True
                    console.warn(
                        f"{directory} holds readings made with other settings, or damaged ones: they are trained anew"
                    )
                found = train(part, training, methods, recipe, accelerator, advance)
                save_outputs(directory, training, found, methods, settings)
            else:
                advance(len(methods))
            done[training] = found
            if stop.requested:
                raise Stopped
    return done


def train(
    part: TrainingSet,
    training: TrainingKey,
    methods: Sequence[str],
    recipe: Recipe,
    accelerator: Accelerator,
    advance: Callable[[int], None],
) -> HeadOutputs:
    """Train the methods' heads on all folds but those left out, and read them on those."""
    out = np.isin(part.fold, training.without)
    data = TrialData(part.features[~out], part.target[~out], part.features[out], part.classes)
    trials = [Trial(parse_method(text), recipe) for text in methods]
    results = run_trials(trials, data, accelerator, seed=random_seed(training), advance=advance)
    logits, failures = {}, {}
    for text, result in zip(methods, results, strict=True):
        decision = None if result.outputs is None else result.decision()
        if decision is not None and np.isfinite(decision).all():
            logits[text] = decision
        else:
            failures[text] = result.message or "its outputs are not finite"
    return HeadOutputs(logits, failures)

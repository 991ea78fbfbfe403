"""Trials by fine-tuning: one after another through the trainer, each stored, so that a kill loses at most one.

Shape legend: n training images, m held-out images, C classes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import nn

from tametail.data.sampling.loaders import training_batches
from tametail.storage.output_store import OutputStore
from tametail.storage.search_file import TRAININGS
from tametail.training.checkpointing.checkpointer import RunCheckpointer, Stop
from tametail.training.hardware import Hardware
from tametail.training.heads.head_experiments import Trial, TrialData, TrialResult
from tametail.training.inference import Transform, predict_logits
from tametail.training.optimisation import batch_mixing
from tametail.training.run import TrainingKey
from tametail.training.trainer import RunFailed, train
from tametail.training.training_data import NewModel

_OUTPUTS = "outputs"


@dataclass(frozen=True)
class ModelFactory:
    """How models are built and see images, without the images themselves.

    Attributes:
        new_model, train_transform, eval_transform, extra_draws: see `TrainingData`.
    """

    new_model: NewModel
    train_transform: Transform | None
    eval_transform: Transform | None
    extra_draws: int


@dataclass(frozen=True)
class ImageRunner:
    """Trains trials on images.

    Attributes:
        directory: of the search; outputs are stored below it.
        identity: what determines the results besides the trial: data, splits, weights.
        models: how models are built.
        accelerator, hardware: what is computed on.
        stop: whether a stop was requested.
        warn: prints a warning.
    """

    directory: Path
    identity: str
    models: ModelFactory
    accelerator: Accelerator
    hardware: Hardware
    stop: Stop
    warn: Callable[[str], None]

    def __call__(
        self, trials: Sequence[Trial], data: TrialData, training: TrainingKey, predicted: Sequence[int]
    ) -> list[TrialResult]:
        """Train each trial, or load its stored outputs.

        Raises:
            Stopped: requested; the current training is saved as a checkpoint.
        """
        return [self._run(trial, data, training, predicted) for trial in trials]

    def _run(
        self, trial: Trial, data: TrialData, training: TrainingKey, predicted: Sequence[int]
    ) -> TrialResult:
        counts = data.class_counts
        decision_rule = trial.method.decision_rule(counts, len(data.targets), trial.recipe)
        recipe = trial.recipe.model_dump(mode="json")
        parts = [self.identity, trial.method.text, recipe, training.name, list(predicted)]
        key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
        store = OutputStore(self.directory / TRAININGS)
        outputs = _stored(store, key, (len(data.held_out), data.classes))
        if outputs is None:
            checkpointer = RunCheckpointer(store.path(key), key, self.stop, self.warn)
            try:
                outputs = self._train(trial, data, training, counts, checkpointer)
            except RunFailed as error:
                return TrialResult(None, decision_rule, str(error))
            store.save(key, key, {_OUTPUTS: outputs})
            checkpointer.remove()
        return TrialResult(torch.from_numpy(outputs), decision_rule)

    def _train(
        self,
        trial: Trial,
        data: TrialData,
        training: TrainingKey,
        counts: list[int],
        checkpointer: RunCheckpointer,
    ) -> NDArray[np.float32]:
        method, recipe, seed = trial.method, trial.method.configure(trial.recipe), training.random_seed()
        torch.manual_seed(seed)
        rows = np.arange(len(data.targets))
        batches = training_batches(
            data.features,
            rows,
            data.targets,
            batch_size=recipe.batch_size,
            seed=seed,
            sampler=recipe.sampler,
            deferred_from=recipe.deferred_from,
            epochs=recipe.epochs,
            extra=self.models.extra_draws,
            workers=self.hardware.workers,
            pin_memory=self.accelerator.device.type == "cuda",
        )
        trained = train(
            self.models.new_model(method.base, rows),
            method.loss.create(class_counts=counts),
            batches,
            recipe,
            self.accelerator,
            seed=seed,
            class_counts=counts,
            transform=self.models.train_transform,
            mixing=batch_mixing(recipe, counts, seed),
            hardware=self.hardware,
            checkpointer=checkpointer,
        )
        model = trained.model
        if method.single_label:
            assert isinstance(model, nn.Sequential)
            features = torch.from_numpy(self._predict(model[0], data.features))
            model[1] = method.fit_head(model[1], features, torch.from_numpy(data.targets), counts, seed)
        return self._predict(model, data.held_out)

    def _predict(self, model: nn.Module, array: NDArray[np.generic]) -> NDArray[np.float32]:
        rows = np.arange(len(array))
        return predict_logits(model, array, rows, self.accelerator, transform=self.models.eval_transform)


def _stored(store: OutputStore, key: str, shape: tuple[int, int]) -> NDArray[np.float32] | None:
    arrays, _ = store.load(key, key) or ({}, {})
    outputs = arrays.get(_OUTPUTS)
    return outputs if outputs is not None and outputs.shape == shape else None

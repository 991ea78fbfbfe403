"""Predictions of a study's models, and the context of its runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import nn

from tametail.core.arrays import IntArray
from tametail.core.atomic import atomic_path
from tametail.core.errors import explain_save_error
from tametail.core.run_files import TEST_PREDICTIONS
from tametail.data import ImageTable
from tametail.predictions.multi_label import LabelPredictions, write_label_predictions
from tametail.predictions.single_label import Predictions, exclusive, write_predictions
from tametail.training.hardware import Hardware
from tametail.training.inference import predict_logits
from tametail.training.multi_label import make_label_predictions
from tametail.training.recipe import Recipe
from tametail.training.run import Run, load_class_counts, load_trained_model
from tametail.training.strategies import DecisionRule
from tametail.training.trainer import RunFailed
from tametail.training.training_data import TrainingData


@dataclass(frozen=True)
class RunContext:
    """What all runs of a study share.

    Attributes:
        training_data: arrays, table, splits.
        recipe: of the study; a run's strategies change it.
        accelerator: several processes work together on each run, and the main one writes.
        study: the study's directory.
        hardware: how the machine is used.
    """

    training_data: TrainingData
    recipe: Recipe
    accelerator: Accelerator
    study: Path
    hardware: Hardware

    @property
    def writes(self) -> bool:
        """Whether this process writes files."""
        return bool(self.accelerator.is_main_process)


def training_rows(run: Run, training_data: TrainingData) -> IntArray:
    """Rows of the table that a run is trained on."""
    splits = training_data.splits
    return np.flatnonzero((splits.part == "train") & (splits.fold != run.fold))


def held_out_rows(run: Run, training_data: TrainingData) -> IntArray:
    """Rows of the table in a run's held-out fold."""
    return np.flatnonzero(training_data.splits.fold == run.fold)


def compute_outputs(model: nn.Module, context: RunContext, rows: IntArray) -> NDArray[np.float32]:
    """Outputs (len(rows), C) of a model for some rows of the data."""
    training_data = context.training_data
    return predict_logits(
        model, training_data.array, rows, context.accelerator, transform=training_data.eval_transform
    )


def make_predictions(
    run: Run, table: ImageTable, rows: IntArray, outputs: NDArray[np.float32], decision_rule: DecisionRule
) -> Predictions | LabelPredictions:
    """Predictions for some rows of the table from a head's outputs (len(rows), C)."""
    if not np.isfinite(outputs).all():
        raise RunFailed(
            "the trained model's predictions are not finite numbers. Lower the learning rate (--lr)."
        )
    if table.multi_label:
        return make_label_predictions(outputs, decision_rule, table, rows, run.fold)
    head_outputs = torch.from_numpy(outputs)
    return Predictions(
        table.images[rows],
        table.groups[rows],
        table.targets[rows],
        np.full(len(rows), run.fold, dtype=np.int64),
        decision_rule.decision(head_outputs).numpy(),
        table.class_names,
        decision_rule.family,
        exclusive(decision_rule.posterior(head_outputs).numpy()).astype(np.float32),
    )


def save_predictions(predictions: Predictions | LabelPredictions, path: Path) -> None:
    """Write single-label or multi-label predictions."""
    if isinstance(predictions, LabelPredictions):
        write_label_predictions(predictions, path)
    else:
        write_predictions(predictions, path)


def predict_test(run: Run, context: RunContext) -> None:
    """Predict the test set with a finished run's model, and save the predictions in its directory."""
    directory = run.directory(context.study)
    model = load_trained_model(run, context.study, context.training_data.new_model)
    rows = np.flatnonzero(context.training_data.splits.part == "test")
    outputs = compute_outputs(model, context, rows)
    decision_rule = run.method.decision_rule(*load_class_counts(directory))
    predictions = make_predictions(run, context.training_data.table, rows, outputs, decision_rule)
    if context.writes:
        path = directory / TEST_PREDICTIONS
        with explain_save_error(path), atomic_path(path) as temporary:
            save_predictions(predictions, temporary)

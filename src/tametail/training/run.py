"""The runs of a study: their identity, directory, model and predictions, and the trainings of cross-validation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import nn

from tametail.core.arrays import IntArray
from tametail.core.atomic import atomic_path
from tametail.core.errors import DataError, explain_save_error
from tametail.core.run_files import DESCRIPTION, EVALUATION, HEAD, TEST_PREDICTIONS, WEIGHTS, is_finished
from tametail.core.trust import NO_TRUST, Trust
from tametail.data import ImageTable
from tametail.predictions.multi_label import LabelPredictions, write_label_predictions
from tametail.predictions.single_label import Predictions, exclusive, write_predictions
from tametail.storage.identity import IDENTITY
from tametail.storage.run_file import FILES, file_digest, intact, read_run_file, write_run_file
from tametail.storage.study_file import STUDY_FOLDER, folds_to_run, refuse_shared
from tametail.training.checkpointing.checkpoint import load_weights
from tametail.training.hardware import Hardware
from tametail.training.inference import predict_logits
from tametail.training.multi_label import make_label_predictions
from tametail.training.recipe import Recipe
from tametail.training.strategies import DecisionRule, Method, parse_method
from tametail.training.strategies.method import method_slug
from tametail.training.trainer import RunFailed
from tametail.training.training_data import NewModel, TrainingData
from tametail.training.unlikeness_file import evenly

# In place of a fold: trained on all training images, with none held out. More than any fold.
ALL_FOLDS = 10_000


@dataclass(frozen=True)
class Run:
    """A method, a repeat and a fold; with the study's table, splits and recipe they determine the result.

    Attributes:
        seed: number of the repeat, from 0. Each has its own folds, initial weights and random numbers.
        fold: that is held out; or `ALL_FOLDS`.
    """

    method: Method
    seed: int
    fold: int

    @property
    def title(self) -> str:
        where = "all training images" if self.fold == ALL_FOLDS else f"fold {self.fold}"
        return f"{self.method.text} seed {self.seed} {where}"

    @property
    def base(self) -> Run:
        """The run whose trained model this one starts from: itself where no strategy is applied after training."""
        return Run(self.method.base, self.seed, self.fold)

    def directory(self, study: Path) -> Path:
        """The run's directory in a study."""
        return run_directory(study, self.method.text, self.seed, self.fold)

    def random_seed(self) -> int:
        """Seed of weights and batches, the same for all methods."""
        return TrainingKey(self.seed, (self.fold,)).random_seed()

    def identity(self, described: Mapping[str, Any]) -> str:
        """Digest of what determines the run's result."""
        parts = [self.method.text, self.seed, self.fold, *(described.get(key) for key in IDENTITY)]
        if self.method.loss.class_order is not None:
            parts.append(self.method.loss.class_order)
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def all_runs(
    study: Path, described: Mapping[str, Any], trust: Trust, methods: Iterable[str] | None = None
) -> list[Run]:
    """The runs of a study, finished or not; base runs come before the runs that start from them.

    Args:
        study: its directory.
        described: the content of its study.json.
        trust: whether code that study.json names may be run.
        methods: only those of these methods of the study; None for all.

    Raises:
        UsageError: a method names code that is not trusted, or the study is a copy made by `tametail share`.
        DataError: a method is unknown here.
    """
    refuse_shared(study, described)
    texts = list(described["methods"] if methods is None else methods)
    parsed = read_methods(
        texts, trust, study / STUDY_FOLDER.file, described.get("packages", ()), class_indices(described)
    )
    runs = [Run(method, *place) for place in places(described) for method in parsed]
    return list(dict.fromkeys(each for run in runs for each in (run.base, run)))


def read_methods(
    texts: Sequence[str],
    trust: Trust,
    file: Path,
    packages: Sequence[str] = (),
    class_order: Sequence[int] | None = None,
) -> list[Method]:
    """Parse the methods that stand in a file, which was made with these packages.

    Args:
        class_order: class indices from the lowest grade to the highest, for ordinal losses; None if unknown.

    Raises:
        UsageError: a method names code that is not trusted.
        DataError: a method is unknown here.
    """
    trust.check(texts, file)
    try:
        return [parse_method(text).in_order(class_order) for text in texts]
    except (ValueError, TypeError) as error:
        needed = f" (the study was made with {', '.join(packages)})" if packages else ""
        raise DataError(
            f"expected losses and strategies that are known here in {file}, but {error}; install the package that they "
            f"come from{needed}, or use the version of tametail that made the study"
        ) from error


def class_indices(described: Mapping[str, Any]) -> tuple[int, ...] | None:
    """The class indices of a study from the lowest grade to the highest; None if its classes are not ordinal."""
    order = described.get("class_order")
    return tuple(map(list(described["class_names"]).index, order)) if order else None


def finished_runs(study: Path, described: Mapping[str, Any], method: str) -> list[bool]:
    """Whether each run of a method is finished; no code that the method names is imported."""
    return [is_finished(run_directory(study, method, *place)) for place in places(described)]


def places(described: Mapping[str, Any]) -> list[tuple[int, int]]:
    """(seed, fold) of all runs of a method."""
    return [(seed, fold) for seed in described["seeds"] for fold in folds_to_run(described)]


def run_directory(study: Path, method: str, seed: int, fold: int) -> Path:
    """The directory of a run of a study."""
    name = f"seed{seed:d}-all" if fold == ALL_FOLDS else f"seed{seed:d}-fold{fold:d}"
    return study / "runs" / method_slug(method) / name  # never a path


def load_class_counts(directory: Path, class_names: Sequence[str]) -> tuple[list[int], int]:
    """Training images per class, in the order of the classes, and in total, of a finished run.

    Raises:
        DataError: its run.json is damaged, or about other classes.
    """
    described = read_run_file(directory / DESCRIPTION)
    found: dict[str, int] = described.get("class_counts", {})
    if set(found) != set(class_names):
        raise DataError(
            f"expected the training images of {', '.join(class_names)} in {directory / DESCRIPTION}, found {found}; remove "
            f"the folder of the run, and tametail resume trains it again"
        )
    counts = [found[name] for name in class_names]
    return counts, described.get("images") or sum(counts)


def load_trained_model(run: Run, study: Path, new_model: NewModel) -> nn.Sequential:
    """Load the model of a finished run, ``nn.Sequential(representation, head)``, into one from ``new_model``.

    Raises:
        DataError: weights are missing or damaged.
    """
    model = new_model(run.method.base, None)
    load_weights(model, _own_file(run.base, study, WEIGHTS))
    if run.method.after:
        model[1] = load_weights(new_model(run.method, None)[1], _own_file(run, study, HEAD))
    return model


def _own_file(run: Run, study: Path, name: str) -> Path:
    """A file of a run, which must be the one that this very run wrote."""
    path = run.directory(study) / name
    described = read_run_file(path.parent / DESCRIPTION)
    found = described["method"], described["seed"], described["fold"]
    if found != (run.method.text, run.seed, run.fold):
        method, seed, fold = found
        raise DataError(
            f"expected {run.title} in {path.parent}, but its {DESCRIPTION} is that of {method} seed {seed} fold {fold}: folders "
            f"of runs were exchanged; give each its name again"
        )
    return intact(path)


@dataclass(frozen=True)
class TrainingKey:
    """A training on all folds except one or two.

    Attributes:
        seed: number of the repeat.
        left_out: the folds that are not trained on, in ascending order.
    """

    seed: int
    left_out: tuple[int, ...]

    @property
    def name(self) -> str:
        """Identifier in files, such as ``seed0-without1-3``."""
        return f"seed{self.seed}-without{'-'.join(map(str, self.left_out))}"

    def random_seed(self) -> int:
        """Seed of the initial weights and of the batch order, shared by all methods."""
        return int(np.random.SeedSequence([self.seed, *self.left_out]).generate_state(1)[0])


def leave_one_fold_out(folds: Iterable[int], seeds: Iterable[int]) -> list[TrainingKey]:
    """One training for each fold and seed."""
    seeds = list(seeds)
    return [TrainingKey(seed, (fold,)) for fold in folds for seed in seeds]


def leave_two_folds_out(folds: Iterable[int], seeds: Iterable[int]) -> list[TrainingKey]:
    """One training for each pair of folds and seed: each fold of a pair can be the inner fold of the other."""
    seeds = list(seeds)
    return [TrainingKey(seed, pair) for pair in combinations(sorted(folds), 2) for seed in seeds]


@dataclass(frozen=True)
class RunContext:
    """What all runs of a study share.

    Attributes:
        training_data: arrays, table, splits.
        recipe: of the study; a run's strategies change it.
        accelerator: several processes work together on each run, and the main one writes.
        study: the study's directory.
        hardware: how the machine is used.
        trust: whether code that the study's files name may be run.
    """

    training_data: TrainingData
    recipe: Recipe
    accelerator: Accelerator
    study: Path
    hardware: Hardware
    trust: Trust = NO_TRUST

    @property
    def writes(self) -> bool:
        """Whether this process writes files."""
        return bool(self.accelerator.is_main_process)


def training_rows(run: Run, training_data: TrainingData) -> IntArray:
    """Rows of the table that a run is trained on."""
    splits = training_data.splits
    return np.flatnonzero((splits.part == "train") & (splits.fold_in(run.seed) != run.fold))


def held_out_rows(run: Run, training_data: TrainingData) -> IntArray:
    """Rows of the table in a run's held-out fold."""
    return np.flatnonzero(training_data.splits.fold_in(run.seed) == run.fold)


def compute_outputs(model: nn.Module, context: RunContext, rows: IntArray) -> NDArray[np.float32]:
    """Outputs (len(rows), C) of a model for some rows of the data."""
    training_data = context.training_data
    return predict_logits(
        model, training_data.store, rows, context.accelerator, transform=training_data.eval_transform
    )


def compute_outputs_and_features(
    model: nn.Module, context: RunContext, rows: IntArray
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Outputs (len(rows), C) of a fine-tuned model, and the features (n, D) that its head takes of those that `evenly` takes."""
    some, width = evenly(np.arange(len(rows))), context.training_data.feature_count
    both = compute_outputs(_WithFeatures(model), context, rows[some])
    outputs, features = np.ascontiguousarray(both[:, width:]), np.ascontiguousarray(both[:, :width])
    if len(some) == len(rows):
        return outputs, features
    others = np.setdiff1d(np.arange(len(rows)), some)
    every = np.empty((len(rows), outputs.shape[1]), dtype=np.float32)
    every[some], every[others] = outputs, compute_outputs(model, context, rows[others])
    return every, features


class _WithFeatures(nn.Module):
    """A representation and a head, whose outputs come after the features."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.train(model.training)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        representation, head = self.model.children()
        features = representation(images)
        return torch.cat([features.float(), head(features).float()], dim=1)


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


def save_predictions(predictions: Predictions | LabelPredictions, path: Path, **noted: int) -> None:
    """Write single-label or multi-label predictions, with what is ``noted`` in their metadata."""
    if isinstance(predictions, LabelPredictions):
        write_label_predictions(predictions, path, **noted)
    else:
        write_predictions(predictions, path, **noted)


def predict_test(run: Run, context: RunContext, evaluation: int) -> None:
    """Predict the test set with a finished run's model, and save the predictions in its directory.

    They hold the number of the evaluation, which they show to have taken place even if its record is removed.
    """
    directory = run.directory(context.study)
    model = load_trained_model(run, context.study, context.training_data.new_model)
    rows = np.flatnonzero(context.training_data.splits.part == "test")
    outputs = compute_outputs(model, context, rows)
    counted = load_class_counts(directory, context.training_data.table.class_names)
    decision_rule = run.method.decision_rule(*counted, context.recipe)
    predictions = make_predictions(run, context.training_data.table, rows, outputs, decision_rule)
    if context.writes:
        path = directory / TEST_PREDICTIONS
        with explain_save_error(path):
            with atomic_path(path) as temporary:
                save_predictions(predictions, temporary, **{EVALUATION: evaluation})
            described = read_run_file(directory / DESCRIPTION)
            described[FILES] = described.get(FILES, {}) | {TEST_PREDICTIONS: file_digest(path)}
            write_run_file(directory / DESCRIPTION, described)


def is_test_predicted(directory: Path) -> bool:
    """Whether the test set was predicted with a run's model, to the end."""
    if not (directory / TEST_PREDICTIONS).is_file():
        return False
    files = read_run_file(directory / DESCRIPTION).get(FILES, {})
    return not files or TEST_PREDICTIONS in files

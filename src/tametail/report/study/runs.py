"""The runs of a study and the rank of its methods, without intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tametail.core.errors import DataError, TametailError
from tametail.core.run_files import DESCRIPTION, PREDICTIONS, TEST_PREDICTIONS
from tametail.evaluation.label_thresholds import macro_average_precision
from tametail.evaluation.metrics import balanced_accuracy, confusion_matrix
from tametail.predictions.by_group import PredictBy, replicates_by_group
from tametail.predictions.multi_label import LabelPredictions, concatenate_labels, read_label_predictions
from tametail.predictions.single_label import Predictions, concatenate, read_predictions
from tametail.storage.run_file import intact, read_run_file
from tametail.storage.study_file import folds_to_run, read_study_file

_Table = TypeVar("_Table")


@dataclass(frozen=True)
class MethodRuns:
    """The runs of one method.

    Attributes:
        method: its name.
        wanted: (seed, fold) of every run of the study.
        finished: directories of the finished runs, by (seed, fold).
        described: content of each run.json, of failed runs too.
        multi_label: an image may have several labels; then the predictions are those of `label_replicates`.
        predict_by: whether scores of a multi-label study are of images or of groups.
    """

    method: str
    wanted: tuple[tuple[int, int], ...]
    finished: Mapping[tuple[int, int], Path]
    described: Sequence[Mapping[str, Any]]
    multi_label: bool = False
    predict_by: PredictBy = "image"

    @property
    def complete(self) -> bool:
        """Whether every run is finished."""
        return len(self.finished) == len(self.wanted)

    @property
    def missing(self) -> tuple[tuple[int, int], ...]:
        """(seed, fold) of the runs that are not finished."""
        return tuple(run for run in self.wanted if run not in self.finished)

    def only(self, runs: Sequence[tuple[int, int]]) -> MethodRuns:
        """The same method restricted to these runs, as far as they are finished."""
        finished = {run: self.finished[run] for run in runs if run in self.finished}
        return replace(self, wanted=tuple(runs), finished=finished)

    @property
    def still_falling(self) -> tuple[bool, ...]:
        """For each finished run that was trained for a number of epochs: whether its loss was falling before the end."""
        return tuple(
            run["still_falling"]
            for run in self.described
            if run.get("status") == "finished" and "still_falling" in run
        )

    @property
    def endings(self) -> tuple[Mapping[str, Any], ...]:
        """How the training of each finished run ended, where its head was trained to the minimum."""
        return tuple(
            run["convergence"]
            for run in self.described
            if run.get("status") == "finished" and run.get("convergence")
        )

    @cached_property
    def replicates(self) -> list[Predictions]:
        """Per seed, the held-out folds as one table."""
        return self._joined(read_predictions, concatenate)

    @cached_property
    def label_replicates(self) -> list[LabelPredictions]:
        """The same of a multi-label study."""
        return self._joined(read_label_predictions, concatenate_labels)

    @cached_property
    def evaluated_labels(self) -> list[LabelPredictions]:
        """The rows that are evaluated: those of `label_replicates`, or one per group."""
        return replicates_by_group(self.label_replicates, self.predict_by)

    def _joined(
        self, read: Callable[[Path], _Table], join: Callable[[Sequence[_Table]], _Table]
    ) -> list[_Table]:
        seeds = dict.fromkeys(seed for seed, _ in self.wanted)
        tables = {run: read(intact(path / PREDICTIONS)) for run, path in self.finished.items()}
        try:
            return [join([table for run, table in tables.items() if run[0] == seed]) for seed in seeds]
        except ValueError as error:
            raise disagreeing(self.method, error) from error

    @cached_property
    def repeat_scores(self) -> tuple[float, ...]:
        """Of each repeat, balanced accuracy, or mean average precision for several labels; empty unless complete."""
        if not self.complete:
            return ()
        if self.multi_label:
            return tuple(macro_average_precision(table) for table in self.evaluated_labels)
        return tuple(
            float(balanced_accuracy(confusion_matrix(table.target, table.predicted, len(table.class_names))))
            for table in self.replicates
        )

    @property
    def score(self) -> float | None:
        """The score that ranks methods in cross-validation, mean over repeats; None unless complete."""
        # Rounded, so that equal methods stay equal whatever the order of the sum.
        return round(float(np.mean(self.repeat_scores)), 12) if self.complete else None

    def test_replicates(self) -> list[Predictions]:
        """One table per fold model, or none unless every run has been evaluated on the test set."""
        return [read_predictions(intact(path)).sorted_by_image() for path in self._test_files()]

    def label_test_replicates(self) -> list[LabelPredictions]:
        """The same of a multi-label study."""
        return [read_label_predictions(intact(path)).sorted_by_image() for path in self._test_files()]

    def _test_files(self) -> list[Path]:
        paths = [path / TEST_PREDICTIONS for path in self.finished.values()]
        return paths if self.complete and all(path.is_file() for path in paths) else []


def best_method(directory: Path) -> str:
    """The complete method with the highest score (see `MethodRuns.score`); the first by name of equal ones.

    No interval is computed, so this is quick.

    Raises:
        DataError: the directory holds no study, or one of its files is damaged.
        TametailError: no method has all its runs finished.
    """
    runs = ranked(find_runs(directory, read_study_file(directory)))
    if not runs or not runs[0].complete:
        states = ", ".join(
            f"{of_method.method} {len(of_method.finished)} of {len(of_method.wanted)}" for of_method in runs
        )
        raise TametailError(
            f"expected a method with all its runs finished in {directory}, found none ({states}); "
            "tametail resume finishes them"
        )
    return runs[0].method


def find_runs(directory: Path, settings: Mapping[str, Any]) -> list[MethodRuns]:
    """Runs per method, in the order of the study. Directories are identified by their run.json, not by name."""
    wanted = tuple((seed, fold) for seed in settings["seeds"] for fold in folds_to_run(settings))
    found: dict[str, dict[tuple[int, int], tuple[Path, Mapping[str, Any]]]] = {}
    for path in sorted(directory.glob(f"runs/*/*/{DESCRIPTION}")):
        if path.parent.name.startswith("."):
            continue  # still being written
        described = read_run_file(path)
        found.setdefault(described["method"], {})[described["seed"], described["fold"]] = (
            path.parent,
            described,
        )
    runs = []
    for method in settings["methods"]:
        of_method = {run: found[method][run] for run in wanted if run in found.get(method, {})}
        finished = {
            run: folder
            for run, (folder, described) in of_method.items()
            if described.get("status") == "finished" and (folder / PREDICTIONS).is_file()
        }
        descriptions = [described for _, described in of_method.values()]
        runs.append(MethodRuns(method, wanted, finished, descriptions, settings.get("multi_label", False)))
    return runs


def ranked(runs: Sequence[MethodRuns]) -> list[MethodRuns]:
    """Complete methods, the highest score first and equal ones by name; then the others in their given order."""
    complete = [of_method for of_method in runs if of_method.complete]
    complete.sort(key=lambda of_method: (-(of_method.score or 0.0), of_method.method))
    return complete + [of_method for of_method in runs if not of_method.complete]


def disagreeing(method: str, error: ValueError) -> DataError:
    """The error for runs that do not predict the same images."""
    return DataError(f"expected the runs of {method} to predict the same images, but they do not: {error}")

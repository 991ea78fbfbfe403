"""A finished search as its page shows it, read from search.json and trials.csv."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tametail.core.errors import DataError
from tametail.core.regular_file import regular
from tametail.evaluation import Estimate
from tametail.evaluation.class_order import order_in_words, order_sentence
from tametail.evaluation.evaluate import headline
from tametail.report.search.scales import scales
from tametail.storage.search_file import SEARCH_FOLDER, TRIALS, read_finished

ALL_FOLDS = "all folds"
METRIC_NAMES = {
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "accuracy": "accuracy",
    "mcc": "MCC",
    "kappa": "quadratic kappa",
    "off_by_one_accuracy": "off-by-one accuracy",
    "mean_average_precision": "mean average precision",
    "macro_auroc": "macro AUROC",
}
_IN_PERCENT = (
    "balanced_accuracy",
    "accuracy",
    "off_by_one_accuracy",
    "mean_average_precision",
    "macro_auroc",
)


@dataclass(frozen=True)
class TrialRow:
    """A trial of the search over all folds.

    Attributes:
        number: from 0.
        values: of each dimension, as text.
        score: over the folds; nan where it was pruned or failed.
        n: images the score is of.
        indistinguishable: whether it is not significantly different from the best.
    """

    number: int
    values: Mapping[str, str]
    score: float
    n: int
    indistinguishable: bool


@dataclass(frozen=True)
class SearchResults:
    """Everything the page shows.

    Attributes:
        settings: search.json.
        trials: of the search over all folds, those with a score, the best first.
    """

    settings: Mapping[str, Any]
    trials: tuple[TrialRow, ...]

    @property
    def search(self) -> Mapping[str, Any]:
        """The settings of the search."""
        search: Mapping[str, Any] = self.settings["search"]
        return search

    @property
    def result(self) -> Mapping[str, Any]:
        """The result of the search."""
        result: Mapping[str, Any] = self.settings["result"]
        return result

    @property
    def metric(self) -> str:
        """Name of the metric in sentences."""
        metric: str = self.search["metric"]
        return METRIC_NAMES.get(metric, metric)

    @property
    def grades(self) -> str:
        """The order of the classes, if the metric is for ordinal ones; otherwise empty."""
        return order_sentence(order_in_words(self.search["class_order"]))

    @property
    def in_percent(self) -> bool:
        """Whether the metric is shown in %, and differences in points."""
        return self.search["metric"] in _IN_PERCENT

    @property
    def space(self) -> dict[str, str]:
        """The range of each dimension, in the notation after the ``=``."""
        return {name: inside for name, _, inside in (text.partition("=") for text in self.search["space"])}

    def nested(self, which: str) -> Estimate:
        """The estimate of ``tuned`` or ``default``."""
        return Estimate.from_dict(self.result["nested"][which])

    @property
    def tested(self) -> str:
        """The metric of the paired test: balanced accuracy, or mean average precision of several labels."""
        return headline(multi_label=self.settings.get("multi_label", False))

    @property
    def test(self) -> Mapping[str, Any]:
        """The paired test of tuned and default."""
        found: Mapping[str, Any] = self.result["nested"][self.tested]
        return found

    @property
    def difference(self) -> Estimate:
        """Difference in `tested`, tuned minus default."""
        return Estimate.from_dict(self.test["difference"])


def read_search_results(directory: Path) -> SearchResults:
    """Read a finished search.

    Raises:
        DataError: a file is absent or damaged.
        UsageError: the search is not done.
    """
    settings = read_finished(directory)
    try:
        with regular(directory / TRIALS).open(encoding="utf-8", newline="") as handle:
            rows = [row for row in csv.DictReader(handle) if row["search"] == ALL_FOLDS and row["score"]]
        names = [text.partition("=")[0] for text in settings["search"]["space"]]
        trials = [
            TrialRow(
                int(row["trial"]),
                {name: row[name] for name in names},
                float(row["score"]),
                int(row["n"]),
                row["indistinguishable"] == "yes",
            )
            for row in rows
        ]
        results = SearchResults(
            settings, tuple(sorted(trials, key=lambda trial: (-trial.score, trial.number)))
        )
        _touch(results)
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError, OverflowError, csv.Error) as error:
        raise DataError(
            f"expected a finished search at {directory}, but {SEARCH_FOLDER.file} or {TRIALS} cannot be read ({error!r}); repeat its tametail "
            "search command in another folder"
        ) from error
    return results


def _touch(results: SearchResults) -> None:
    """Raise for missing content here."""
    if not results.trials or not all(math.isfinite(trial.score) for trial in results.trials):
        raise ValueError("there is no trial with a score, or one of its scores is none")
    _ = results.nested("tuned"), results.nested("default"), results.difference, results.metric, results.space
    shown = [results.result["best"]["values"], *(trial.values for trial in results.trials)]
    for name, scale in scales(results.space).items():
        for values in shown:
            if not math.isfinite(scale.at(values[name])):
                raise ValueError(f"{name} is {values[name]}, which is not in its range {results.space[name]}")

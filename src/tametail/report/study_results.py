"""From a study directory to its results: what is finished, how it ranks, and every number with its interval.

Read-only, and nothing but the directory is read: results can be computed again at any time, without torch.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tametail.data.table import LABEL_SEPARATOR
from tametail.errors import DataError
from tametail.evaluation import Estimate, Evaluation, evaluate
from tametail.evaluation.multi_label import LabelEvaluation, evaluate_labels
from tametail.evaluation.thresholds import deployable_thresholds
from tametail.predictions import ensemble
from tametail.predictions_multi_label import ensemble_labels
from tametail.report.runs import LossRuns, disagreeing, find_runs, ranked
from tametail.study_file import read_openings, read_study_file

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class LabelEvidence:
    """What a multi-label study says about one loss.

    Attributes:
        out_of_fold: folds pooled, one replicate per seed, at thresholds chosen for each fold on the others.
        thresholds: per label, chosen on all out-of-fold predictions: for the test part and for images yet to come.
        test: the fold models on the test part, one replicate each; None while it is sealed for this loss.
        test_ensemble: the mean of the fold models' probabilities on the test part; None likewise.
    """

    out_of_fold: LabelEvaluation
    thresholds: tuple[float, ...]
    test: LabelEvaluation | None
    test_ensemble: LabelEvaluation | None


@dataclass(frozen=True)
class LossResults:
    """What a study says about one loss.

    Attributes:
        loss: the loss's text, such as ``alpa[variant=code]``.
        finished, expected: runs that are done, and all of them (folds × seeds).
        failures: one message per failed run.
        score: what ranks it, out of fold, mean over seeds (see `headline`); None unless every run is finished.
        out_of_fold: folds pooled, one replicate per seed; None unless every run is finished.
        test: the fold models on the test part, one replicate each; None while it is sealed for this loss.
        test_ensemble: the mean of the fold models' probabilities on the test part; None likewise.
        histories: per finished run its epochs (columns epoch, step, loss, lr and what else it recorded).
        labels: what takes the place of the three evaluations where an image may have several labels.
    """

    loss: str
    finished: int
    expected: int
    failures: tuple[str, ...]
    score: float | None
    out_of_fold: Evaluation | None
    test: Evaluation | None
    test_ensemble: Evaluation | None
    histories: tuple[pd.DataFrame, ...]
    labels: LabelEvidence | None = None

    @property
    def evidence(self) -> Evaluation | LabelEvaluation | None:
        """Its evaluation out of fold, of either kind."""
        return self.labels.out_of_fold if self.labels else self.out_of_fold

    @property
    def on_test(self) -> tuple[Evaluation | LabelEvaluation, Evaluation | LabelEvaluation] | None:
        """On the test part the mean of the fold models and their ensemble; None while it is sealed for this loss."""
        of = self.labels or self
        return (of.test, of.test_ensemble) if of.test and of.test_ensemble else None

    @property
    def status(self) -> str:
        """``"complete"``, or how far it is: ``"3 of 5 runs"``."""
        return "complete" if self.finished == self.expected else f"{self.finished} of {self.expected} runs"


@dataclass(frozen=True)
class PartCounts:
    """Images per class, and images and groups in all, of the training and the test part.

    Attributes:
        train, test: images per class name, in the order of the class names; an image of several labels counts for each.
        train_groups, test_groups: how many groups each part holds.
        train_images, test_images: how many images each part holds.
    """

    train: Mapping[str, int]
    test: Mapping[str, int]
    train_groups: int
    test_groups: int
    train_images: int
    test_images: int

    @property
    def images(self) -> dict[str, int]:
        """Images per class in both parts."""
        return {name: self.train[name] + self.test[name] for name in self.train}


@dataclass(frozen=True)
class StudyResults:
    """Everything a report shows.

    Attributes:
        settings: the content of study.json.
        losses: complete ones in the order of their rank, then the others in the study's order.
        openings: each opening of the test part, oldest first.
        counts: images per class and part.
        environments: the distinct environments of the finished runs.
        seconds: time all finished runs took, added up.
    """

    settings: Mapping[str, Any]
    losses: tuple[LossResults, ...]
    openings: tuple[Mapping[str, Any], ...]
    counts: PartCounts
    environments: tuple[Mapping[str, str], ...]
    seconds: float

    @property
    def class_names(self) -> tuple[str, ...]:
        """All classes, in the order of the logits."""
        return tuple(self.settings["class_names"])

    @property
    def class_order(self) -> list[int]:
        """Class indices, the most frequent in training first, so that the tail is at the end."""
        counts, names = self.counts.train, self.class_names
        return sorted(range(len(names)), key=lambda index: (-counts[names[index]], names[index]))

    @property
    def ranking(self) -> tuple[LossResults, ...]:
        """Complete losses, the highest score out of fold first; equal ones by name."""
        return tuple(result for result in self.losses if result.score is not None)

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several labels or none."""
        return bool(self.settings.get("multi_label", False))

    @property
    def headline(self) -> str:
        """What ranks the losses, in words."""
        return "mean average precision" if self.multi_label else "balanced accuracy"

    @property
    def opened(self) -> bool:
        """Whether the test part has been looked at."""
        return bool(self.openings)


def read_results(directory: Path) -> StudyResults:
    """Read a study directory and evaluate its complete losses.

    Raises:
        DataError: the directory holds no study, or one of its files is damaged.
    """
    settings = read_study_file(directory)
    runs = find_runs(directory, settings)
    openings = tuple(read_openings(directory))
    results = [_evaluate(of_loss, opened=bool(openings)) for of_loss in ranked(runs)]
    described = [run for of_loss in runs for run in of_loss.described if run["status"] == "finished"]
    environments = {json.dumps(run.get("environment", {}), sort_keys=True): None for run in described}
    return StudyResults(
        settings=settings,
        losses=tuple(results),
        openings=openings,
        counts=_count(directory, settings["class_names"], multi_label=settings.get("multi_label", False)),
        environments=tuple(json.loads(text) for text in environments),
        seconds=float(sum(run.get("seconds", 0.0) for run in described)),
    )


def headline(evaluation: Evaluation | LabelEvaluation) -> Estimate:
    """What ranks the losses: balanced accuracy, or, for several labels per image, mean average precision.

    An AUROC hardly moves when a rare label drowns in false alarms, as its negatives are so many; average precision
    does. It is what the challenge of long-tailed chest X-rays ranks by (Holste et al. 2024).
    """
    if isinstance(evaluation, LabelEvaluation):
        return evaluation.average_precision
    return evaluation.balanced_accuracy


def _evaluate(runs: LossRuns, *, opened: bool) -> LossResults:
    out_of_fold = test = test_ensemble = labels = None
    try:
        if runs.complete and runs.multi_label:
            labels = _label_evidence(runs, opened=opened)
        elif runs.complete:
            out_of_fold = evaluate(runs.replicates)
            on_test = runs.test_replicates() if opened else []
            test = evaluate(on_test) if on_test else None
            test_ensemble = evaluate([ensemble(on_test)]) if on_test else None
    except ValueError as error:
        raise disagreeing(runs.loss, error) from error
    return LossResults(
        loss=runs.loss,
        finished=len(runs.finished),
        expected=len(runs.wanted),
        failures=tuple(
            f"seed {run['seed']}, fold {run['fold']}: {run.get('message') or 'no message'}"
            for run in runs.described
            if run.get("status") == "failed"
        ),
        score=runs.score,
        out_of_fold=out_of_fold,
        test=test,
        test_ensemble=test_ensemble,
        histories=tuple(
            _history(folder / "history.csv")
            for folder in runs.finished.values()
            if (folder / "history.csv").is_file()  # a head that is fitted after training has none
        ),
        labels=labels,
    )


def _label_evidence(runs: LossRuns, *, opened: bool) -> LabelEvidence:
    thresholds = deployable_thresholds(runs.label_replicates)
    on_test = runs.label_test_replicates() if opened else []
    return LabelEvidence(
        evaluate_labels(runs.label_replicates),
        tuple(thresholds.tolist()),
        evaluate_labels(on_test, thresholds) if on_test else None,
        evaluate_labels([ensemble_labels(on_test)], thresholds) if on_test else None,
    )


def _history(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise DataError(f"expected the history of a run at {path}, but it cannot be read: {error}") from error


def _count(directory: Path, class_names: Sequence[str], *, multi_label: bool) -> PartCounts:
    import pandas as pd

    try:
        table = pd.read_parquet(directory / "table.parquet", columns=["image", "label", "group"])
        splits = pd.read_csv(
            directory / "splits.csv", dtype={"image": str}, keep_default_na=False, usecols=["image", "part"]
        )
    except (OSError, ValueError) as error:
        raise DataError(f"expected the table and the splits of a study in {directory}: {error}") from error
    joined = table.merge(splits, on="image", validate="one_to_one")
    if len(joined) != len(table):
        raise DataError(
            f"expected a part for each of {len(table)} images in {directory}, found {len(joined)}"
        )
    parts = {part: joined[joined["part"] == part] for part in ("train", "test")}
    per_class = {}
    for part, rows in parts.items():
        found = Counter(
            name
            for label in rows["label"]
            for name in (label.split(LABEL_SEPARATOR) if multi_label else [label])
        )
        per_class[part] = {name: found[name] for name in class_names}
    return PartCounts(
        per_class["train"],
        per_class["test"],
        int(parts["train"]["group"].nunique()),
        int(parts["test"]["group"].nunique()),
        len(parts["train"]),
        len(parts["test"]),
    )

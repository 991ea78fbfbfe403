"""What a study says: its losses with every number and interval, its images, and how often its test set was opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tametail.evaluation import Estimate, Evaluation
from tametail.evaluation.calibration import Calibration
from tametail.evaluation.mcnemar import ClassTest
from tametail.evaluation.multi_label import LabelEvaluation
from tametail.evaluation.operating import OperatingPoint
from tametail.evaluation.paired import PairedTable
from tametail.evaluation.subgroups import Subgroup
from tametail.report.study.comparisons import RunComparison

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class LabelEvidence:
    """What a multi-label study says about one loss.

    Attributes:
        out_of_fold: folds pooled, one replicate per seed, at thresholds chosen for each fold on the others.
        thresholds: per label, chosen on all out-of-fold predictions: for the test set and for images yet to come.
        test: the fold models on the test set, one replicate each; None while it is held out for this loss.
        test_ensemble: the mean of the fold models' probabilities on the test set; None likewise.
    """

    out_of_fold: LabelEvaluation
    thresholds: tuple[float, ...]
    test: LabelEvaluation | None
    test_ensemble: LabelEvaluation | None


@dataclass(frozen=True)
class MethodResults:
    """What a study says about one loss.

    Attributes:
        loss: the loss's text, such as ``alpa[variant=code]``.
        finished, expected: runs that are done, and all of them (folds × seeds).
        failures: one message per failed run.
        score: what ranks it, out of fold, mean over seeds (see `headline`); None unless every run is finished.
        out_of_fold: folds pooled, one replicate per seed; None unless every run is finished.
        test: the fold models on the test set, one replicate each; None while it is held out for this loss.
        test_ensemble: the mean of the fold models' probabilities on the test set; None likewise.
        histories: per finished run its epochs (columns epoch, step, loss, lr and what else it recorded).
        labels: what takes the place of the three evaluations where an image may have several labels.
        calibration: how far its probabilities out of fold can be taken at their word; None where that was not looked at.
        operating: what required sensitivities of classes cost; empty where none were asked for.
        subgroups: its evaluation for each value of the columns asked for; empty likewise.
    """

    method: str
    finished: int
    expected: int
    failures: tuple[str, ...]
    score: float | None
    out_of_fold: Evaluation | None
    test: Evaluation | None
    test_ensemble: Evaluation | None
    histories: tuple[pd.DataFrame, ...]
    labels: LabelEvidence | None = None
    calibration: Calibration | None = None
    operating: tuple[OperatingPoint, ...] = ()
    subgroups: tuple[Subgroup, ...] = ()

    @property
    def log_posterior(self) -> Evaluation | LabelEvaluation | None:
        """Its evaluation out of fold, of either kind."""
        return self.labels.out_of_fold if self.labels else self.out_of_fold

    @property
    def on_test(self) -> tuple[Evaluation | LabelEvaluation, Evaluation | LabelEvaluation] | None:
        """On the test set the mean of the fold models and their ensemble; None while it is held out for this loss."""
        of = self.labels or self
        return (of.test, of.test_ensemble) if of.test and of.test_ensemble else None

    @property
    def status(self) -> str:
        """``"complete"``, or how far it is: ``"3 of 5 runs"``."""
        return "complete" if self.finished == self.expected else f"{self.finished} of {self.expected} runs"


@dataclass(frozen=True)
class SetCounts:
    """Images per class, and images and groups in all, of the training and the test set.

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
        openings: each opening of the test set, oldest first.
        counts: images per class and part.
        environments: the distinct environments of the finished runs.
        seconds: time all finished runs took, added up.
        pairs: paired tests of the complete losses, in the order of their rank; None where there is but one, or none were made.
        by_class: of each loss but the best, the recalls of the best beside its own, class by class.
        over_runs: of each loss but the best, the scores of the best beside its own over seeds and folds; empty where
            a single fold was held out, or none is known.
    """

    settings: Mapping[str, Any]
    methods: tuple[MethodResults, ...]
    openings: tuple[Mapping[str, Any], ...]
    counts: SetCounts
    environments: tuple[Mapping[str, str], ...]
    seconds: float
    pairs: PairedTable | None = None
    by_class: Mapping[str, tuple[ClassTest, ...]] = field(default_factory=dict)
    over_runs: Mapping[str, RunComparison] = field(default_factory=dict)

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
    def ranking(self) -> tuple[MethodResults, ...]:
        """Complete losses, the highest score out of fold first; equal ones by name."""
        return tuple(result for result in self.methods if result.score is not None)

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several labels or none."""
        return bool(self.settings.get("multi_label", False))

    @property
    def evaluated(self) -> bool:
        """Whether these are finished predictions on given images: nothing was trained, held out or sealed here."""
        return self.settings.get("kind") == "evaluation"

    @property
    def headline(self) -> str:
        """What ranks the losses, in words."""
        return "mean average precision" if self.multi_label else "balanced accuracy"

    @property
    def opened(self) -> bool:
        """Whether the test set has been looked at."""
        return bool(self.openings)


def headline(evaluation: Evaluation | LabelEvaluation) -> Estimate:
    """What ranks the losses: balanced accuracy, or, for several labels per image, mean average precision.

    An AUROC hardly moves when a rare label drowns in false alarms, as its negatives are so many; average precision
    does. It is what the challenge of long-tailed chest X-rays ranks by (Holste et al. 2024).
    """
    if isinstance(evaluation, LabelEvaluation):
        return evaluation.average_precision
    return evaluation.balanced_accuracy

"""Results of a study or an evaluation: methods with all metrics, image counts, and the record of test-set evaluations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import stdev
from typing import TYPE_CHECKING, Any

from tametail.evaluation import Evaluation
from tametail.evaluation.calibration import Calibration
from tametail.evaluation.conformal import PredictionSets
from tametail.evaluation.curves import Curve
from tametail.evaluation.evaluate import headline
from tametail.evaluation.label_calibration import LabelCalibration
from tametail.evaluation.label_shift import ShiftReference
from tametail.evaluation.mcnemar import ClassTest
from tametail.evaluation.net_benefit import DecisionCurve
from tametail.evaluation.operating import OperatingPoint
from tametail.evaluation.paired import PairedTable
from tametail.evaluation.subgroup_contrasts import SubgroupContrasts
from tametail.evaluation.subgroups import Subgroup
from tametail.predictions.by_group import PredictBy
from tametail.report.study.comparisons import RunComparison

if TYPE_CHECKING:
    import pandas as pd


_ALWAYS_SHOWN = ("ce", "logistic_regression")
_MOST_SHOWN = 4  # methods, up to which all are


def shown_first(ranked: Sequence[str], picked: Sequence[str]) -> tuple[str, ...]:
    """Methods that are shown first: the best, cross-entropy, logistic regression and those that are picked; at least three.

    Args:
        ranked: the finished methods, the best first.
        picked: those that the user wants to see.
    """
    if len(ranked) <= _MOST_SHOWN and not picked:
        return tuple(ranked)
    wanted = {*ranked[:1], *_ALWAYS_SHOWN, *picked}
    missing = [name for name in ranked if name not in wanted]
    found = {name for name in ranked if name in wanted}
    found |= set(missing[: max(3 - len(found), 0)])
    return tuple(name for name in ranked if name in found)


@dataclass(frozen=True, eq=False)
class MethodResults:
    """Results of one method.

    Attributes:
        method: its name, such as ``alpa[variant=code]``.
        finished, expected: numbers of finished runs and of all runs (folds × repeats).
        failures: one message per failed run.
        score: the score that ranks it, mean over repeats (see `tametail.evaluation.evaluate.headline`); None unless every run is finished.
        repeat_scores: the same of each repeat.
        out_of_fold: folds pooled, one replicate per repeat; None unless every run is finished.
        test: the fold models on the test set, one replicate each; None before the test-set evaluation.
        test_ensemble: the mean of the fold models' probabilities on the test set; None before the test-set evaluation.
        histories: the epochs of each finished run (columns epoch, step, loss, lr and others); the iterations of a head
            that was trained to its minimum.
        endings: for each finished run whose head was trained to its minimum, how that ended: ``convergence`` of run.json.
        still_falling: for each finished run of some epochs, whether its training loss fell until the learning rate was zero.
        thresholds: per label, chosen on all out-of-fold predictions: for the test set and for new images; empty for single labels.
        calibration: of its out-of-fold probabilities; None for multi-label studies.
        label_calibration: the same for multi-label studies.
        prediction_sets: of its calibrated out-of-fold probabilities; None for multi-label studies and evaluations.
        shift: the same out-of-fold probabilities, for the prevalence in a batch of new images; None where ``prediction_sets`` is.
        operating: operating points for the required sensitivities.
        subgroups: evaluations for each value of the requested columns.
        contrasts: of the best method, each subgroup against the rest, by column.
        curves: ROC and precision-recall curve of the rarest classes by name, of the best method.
        decision: net benefit of one class, of the methods that are shown first.
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
    endings: tuple[Mapping[str, Any], ...] = ()
    still_falling: tuple[bool, ...] = ()
    thresholds: tuple[float, ...] = ()
    repeat_scores: tuple[float, ...] = ()
    calibration: Calibration | None = None
    prediction_sets: PredictionSets | None = None
    shift: ShiftReference | None = None
    label_calibration: LabelCalibration | None = None
    operating: tuple[OperatingPoint, ...] = ()
    subgroups: tuple[Subgroup, ...] = ()
    contrasts: tuple[SubgroupContrasts, ...] = ()
    curves: Mapping[str, tuple[Curve, Curve]] = field(default_factory=dict)
    decision: DecisionCurve | None = None

    @property
    def spread(self) -> float:
        """Standard deviation of the score over repeats; nan for less than two."""
        return stdev(self.repeat_scores) if len(self.repeat_scores) > 1 else math.nan

    @property
    def status(self) -> str:
        """``"complete"``, or the progress: ``"3 of 5 runs"``."""
        return "complete" if self.finished == self.expected else f"{self.finished} of {self.expected} runs"


@dataclass(frozen=True)
class SetCounts:
    """Numbers of images and groups in the training set and the test set.

    Attributes:
        train, test: images per class name, in the order of the class names; an image of several labels counts for each.
        train_groups, test_groups: groups in each set.
        train_images, test_images: images in each set.
    """

    train: Mapping[str, int]
    test: Mapping[str, int]
    train_groups: int
    test_groups: int
    train_images: int
    test_images: int

    @property
    def images(self) -> dict[str, int]:
        """Images per class in both sets."""
        return {name: self.train[name] + self.test[name] for name in self.train}


@dataclass(frozen=True)
class StudyResults:
    """Everything a report shows.

    Attributes:
        settings: the content of study.json.
        methods: complete ones in the order of their rank, then the others in the order of the study.
        test_set_evaluations: the test-set evaluations, oldest first; those without a record are ``missing``.
        counts: images per class and set.
        environments: the distinct environments of the finished runs.
        seconds: total time of all finished runs.
        pairs: paired tests of the complete methods, in the order of their rank; None for a single method.
        by_class: for each method but the best, tests of the best against it, class by class.
        across_runs: for each method but the best, the test of the best against it over repeats and folds; empty if only
            one fold was held out.
        class_order: all classes from the lowest grade to the highest; empty unless they are ordinal.
        test_set_looks: the record of predictions of held-out images outside an evaluation, oldest first.
        picked: methods that the user wants to see first.
        predict_by: whether the evaluated predictions are of images or of groups (several labels only).
    """

    settings: Mapping[str, Any]
    methods: tuple[MethodResults, ...]
    test_set_evaluations: tuple[Mapping[str, Any], ...]
    counts: SetCounts
    environments: tuple[Mapping[str, str], ...]
    seconds: float
    pairs: PairedTable | None = None
    by_class: Mapping[str, tuple[ClassTest, ...]] = field(default_factory=dict)
    across_runs: Mapping[str, RunComparison] = field(default_factory=dict)
    class_order: tuple[str, ...] = ()
    test_set_looks: tuple[Mapping[str, Any], ...] = ()
    picked: tuple[str, ...] = ()
    predict_by: PredictBy = "image"

    @property
    def class_names(self) -> tuple[str, ...]:
        """All classes, in the order of the logits."""
        return tuple(self.settings["class_names"])

    @property
    def by_frequency(self) -> list[int]:
        """Class indices, the most frequent in training first."""
        counts, names = self.counts.train, self.class_names
        return sorted(range(len(names)), key=lambda index: (-counts[names[index]], names[index]))

    @property
    def in_order(self) -> list[int]:
        """Class indices for confusion matrices: the lowest grade first, or, unless classes are ordinal, the most frequent."""
        names = self.class_names
        return [names.index(name) for name in self.class_order] or self.by_frequency

    @property
    def ranking(self) -> tuple[MethodResults, ...]:
        """Complete methods, the highest score first; equal ones by name."""
        return tuple(result for result in self.methods if result.score is not None)

    @property
    def shown(self) -> tuple[MethodResults, ...]:
        """Methods that are shown first, see `shown_first`."""
        names = shown_first([result.method for result in self.ranking], self.picked)
        return tuple(result for result in self.ranking if result.method in names)

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several labels or none."""
        return bool(self.settings.get("multi_label", False))

    @property
    def is_evaluation(self) -> bool:
        """Whether these are existing predictions for given images, rather than a study."""
        return self.settings.get("kind") == "evaluation"

    @property
    def headline(self) -> str:
        """The name of the score that ranks the methods, in words."""
        return headline(multi_label=self.multi_label).replace("_", " ")

    @property
    def test_set_evaluated(self) -> bool:
        """Whether the test set was evaluated at least once."""
        return bool(self.test_set_evaluations)

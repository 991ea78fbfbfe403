"""The objective of a recommendation: the metric that candidates, and all that is chosen on inner folds, are chosen for.

Shape legend: S seeds, n images of the training set, m of them in some folds, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from tametail.core.arrays import FloatArray, IntArray, TextArray
from tametail.core.errors import UsageError
from tametail.core.text import sample_of
from tametail.evaluation.intervals import Estimate
from tametail.evaluation.log_loss import log_losses, mean_log_losses
from tametail.evaluation.metric_registry import METRICS, ConfusionMetric
from tametail.evaluation.metrics import confusion_matrix
from tametail.evaluation.net_benefit import benefits, net_benefit
from tametail.evaluation.subgroups import SMALL_SUBGROUP, subgroup_values
from tametail.evaluation.worst_group import lowest_balanced_accuracy, worst_group
from tametail.predictions.single_label import Predictions
from tametail.recommend.class_offsets import OffsetMetric

NET_BENEFIT, WORST_GROUP = "net_benefit:", "worst_group:"
FORMS = "net_benefit:CLASS@THRESHOLD or worst_group:COLUMN"
_LEAST_LOG_LOSS = 5e-4  # standard error; the log-losses of heads with the same minimum differ by less

Outputs = tuple[NDArray[np.floating], NDArray[np.floating]]
"""Of one replicate: logits (m, C), the largest of which decides, and probabilities (m, C) that sum to one."""


@dataclass(frozen=True, eq=False)
class ObjectiveData:
    """What an objective may need to know of the training set.

    Attributes:
        class_names: C.
        image, target: (n,).
        columns: further columns (n,) of the table of images as texts, empty where missing.
        folds: of the cross-validation.
    """

    class_names: tuple[str, ...]
    image: TextArray
    target: IntArray
    columns: Mapping[str, TextArray]
    folds: int


@dataclass(frozen=True)
class Objective:
    """A metric to choose by: one of the decisions, registered under its name, unless a subclass says otherwise.

    Attributes:
        name: as in the option and in recommend.json.
        title: as in sentences.
        greater_is_better: the direction; the log-loss is minimised.
        digits: decimals in which scores are compared. Log-losses of heads with the same minimum differ in the fourth one, as
            training ends at a tolerance.
        in_percent: whether values are proportions that are shown in percent and points.
        offsets_for: the metric that class offsets are tuned for; None if the decisions do not matter.
    """

    name: str
    title: str
    greater_is_better: bool = True
    digits: int = 10
    in_percent: bool = True
    offsets_for: OffsetMetric | None = None

    @property
    def sign(self) -> int:
        """1, or -1 where lower is better: the factor between the metric and a score of which greater is better."""
        return 1 if self.greater_is_better else -1

    @property
    def extreme(self) -> str:
        """The best value: the highest, or the lowest."""
        return "highest" if self.greater_is_better else "lowest"

    def on(self, data: ObjectiveData) -> Objective:
        """The objective for a training set.

        Raises:
            UsageError: it names a class or column that the data lack, or too few subgroups have enough images.
        """
        return self

    def subgroup(self, image: TextArray) -> IntArray | None:
        """The subgroups (m,) of images, where the objective needs them."""
        return None

    def value(
        self,
        target: IntArray,
        logits: NDArray[np.floating],
        probabilities: NDArray[np.floating],
        subgroup: IntArray | None = None,
    ) -> float:
        """The metric of one replicate.

        Args:
            target: (m,) class indices.
            logits: (m, C), the largest of which decides.
            probabilities: (m, C) by the loss's own link, which sum to one; see `Predictions.probabilities`.
            subgroup: (m,) from `subgroup`.
        """
        metric = METRICS.get(self.name)
        assert isinstance(metric, ConfusionMetric)
        counts = confusion_matrix(target, logits.argmax(axis=1), logits.shape[1])
        return float(metric.function(counts.astype(np.float64)))

    def over_replicates(
        self, target: IntArray, replicates: Iterable[Outputs], subgroup: IntArray | None = None
    ) -> float:
        """The metric times `sign`, so that greater is better: mean over the replicates."""
        values = [self.value(target, *of_replicate, subgroup) for of_replicate in replicates]
        return self.sign * sum(values) / len(values)

    def score(self, tables: Sequence[Predictions]) -> float:
        """`over_replicates` of tables over the same images."""
        outputs = [(table.logits, table.probabilities) for table in tables]
        return self.over_replicates(tables[0].target, outputs, self.subgroup(tables[0].image))

    def estimate(self, tables: Sequence[Predictions]) -> Estimate | None:
        """The metric with its interval, if it is none of those that are shown of every candidate."""
        return None


@dataclass(frozen=True)
class MeanOverImages(Objective):
    """A metric that is the mean of a value of each image's probabilities."""

    def image_scores(self, tables: Sequence[Predictions]) -> FloatArray:
        """(m,) values of the images, mean over the replicates, of which greater is better."""
        raise NotImplementedError

    def least_variance(self, images: int) -> float:
        """Added to the variance of a difference, which would be 0 if no image differs."""
        raise NotImplementedError


@dataclass(frozen=True)
class LogLoss(MeanOverImages):
    """The log-loss of the probabilities."""

    def value(
        self,
        target: IntArray,
        logits: NDArray[np.floating],
        probabilities: NDArray[np.floating],
        subgroup: IntArray | None = None,
    ) -> float:
        return float(log_losses(target, probabilities).mean())

    def image_scores(self, tables: Sequence[Predictions]) -> FloatArray:
        return -mean_log_losses(tables)

    def least_variance(self, images: int) -> float:
        return _LEAST_LOG_LOSS**2


@dataclass(frozen=True)
class NetBenefitOf(MeanOverImages):
    """The net benefit of acting where the probability of one class is at least the threshold.

    Attributes:
        class_name, threshold: as given.
        class_index: known for a training set.
    """

    class_name: str = ""
    threshold: float = math.nan
    class_index: int = -1

    def on(self, data: ObjectiveData) -> Objective:
        if self.class_name not in data.class_names:
            raise UsageError(
                f"expected --objective {NET_BENEFIT}CLASS@THRESHOLD with one of the classes "
                f"{sample_of(data.class_names)}, got {self.class_name!r}"
            )
        return replace(self, class_index=data.class_names.index(self.class_name))

    def value(
        self,
        target: IntArray,
        logits: NDArray[np.floating],
        probabilities: NDArray[np.floating],
        subgroup: IntArray | None = None,
    ) -> float:
        p = probabilities[:, self.class_index]
        return float(benefits(target == self.class_index, p, self.threshold).mean())

    def image_scores(self, tables: Sequence[Predictions]) -> FloatArray:
        positive = np.asarray(tables[0].target == self.class_index)
        scores = [
            benefits(positive, table.class_probabilities(self.class_index), self.threshold)
            for table in tables
        ]
        return np.asarray(np.mean(scores, axis=0))

    def least_variance(self, images: int) -> float:
        """As if the decisions differed on one more image of the class, and on one more of the others."""
        odds = self.threshold / (1 - self.threshold)
        return (1 + odds**2) / images**2

    def estimate(self, tables: Sequence[Predictions]) -> Estimate | None:
        return net_benefit(tables, self.class_index, self.threshold).model


@dataclass(frozen=True)
class WorstGroup(Objective):
    """The lowest balanced accuracy of the subgroups that a column defines, of recalls that are means over the replicates.

    Attributes:
        column: its name.
        values: of the subgroups with enough images.
        of_image: their index, by image; images without one are in none.
    """

    column: str = ""
    values: tuple[str, ...] = ()
    of_image: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)

    def on(self, data: ObjectiveData) -> Objective:
        if self.column not in data.columns:
            raise UsageError(
                f"expected --objective {WORST_GROUP}COLUMN with a column of the image table (available: "
                f"{', '.join(data.columns) or 'none'}), got {self.column!r}"
            )
        values = subgroup_values(data.columns[self.column], self.column, option="--objective worst_group")
        least = SMALL_SUBGROUP * data.folds
        enough = [
            value
            for value in sorted(set(values.tolist()) - {""})
            if (own := values == value).sum() >= least and len(np.unique(data.target[own])) > 1
        ]
        if len(enough) < 2:
            raise UsageError(
                f"expected at least 2 values of {self.column!r} with {least} images ({SMALL_SUBGROUP} per fold) of 2 "
                f"classes in the training set, found {len(enough)} ({sample_of(enough) if enough else 'none'}); combine "
                f"values, or name another column with --objective {WORST_GROUP}COLUMN"
            )
        places = {value: place for place, value in enumerate(enough)}
        of_image = {
            image: places[value]
            for image, value in zip(data.image.tolist(), values.tolist(), strict=True)
            if value in places
        }
        return replace(self, values=tuple(enough), of_image=of_image)

    def subgroup(self, image: TextArray) -> IntArray | None:
        return np.array([self.of_image.get(name, -1) for name in image.tolist()], dtype=np.int64)

    def value(
        self,
        target: IntArray,
        logits: NDArray[np.floating],
        probabilities: NDArray[np.floating],
        subgroup: IntArray | None = None,
    ) -> float:
        return self.over_replicates(target, [(logits, probabilities)], subgroup)

    def over_replicates(
        self, target: IntArray, replicates: Iterable[Outputs], subgroup: IntArray | None = None
    ) -> float:
        assert subgroup is not None
        logits = [decisions for decisions, _ in replicates]
        right = np.mean([one.argmax(axis=1) == target for one in logits], axis=0)
        classes, known = logits[0].shape[1], subgroup >= 0
        cell = subgroup[known] * classes + target[known]
        hits, images = (
            np.bincount(cell, weights, len(self.values) * classes).reshape(-1, classes)
            for weights in (right[known], None)
        )
        return float(lowest_balanced_accuracy(hits, images))

    def estimate(self, tables: Sequence[Predictions]) -> Estimate | None:
        subgroup = self.subgroup(tables[0].image)
        assert subgroup is not None
        return worst_group(tables, subgroup)


OBJECTIVES: dict[str, Objective] = {
    one.name: one
    for one in (
        Objective("balanced_accuracy", "balanced accuracy", offsets_for="balanced_accuracy"),
        Objective("macro_f1", "macro-F1", offsets_for="macro_f1"),
        LogLoss("log_loss", "log-loss", greater_is_better=False, digits=3, in_percent=False),
    )
}


def parse_objective(text: str) -> Objective:
    """The objective that a text names; one of a class or column must be put on a training set, see `Objective.on`.

    Raises:
        UsageError: no such objective, or a threshold that is not above 0 and below 1.
    """
    if text in OBJECTIVES:
        return OBJECTIVES[text]
    if text.startswith(NET_BENEFIT):
        class_name, _, number = text.removeprefix(NET_BENEFIT).rpartition("@")
        try:
            threshold = float(number)
        except ValueError:
            threshold = math.nan
        if not (class_name and 0 < threshold < 1):
            raise UsageError(
                f"expected --objective {NET_BENEFIT}CLASS@THRESHOLD with a threshold above 0 and below 1, as in "
                f"{NET_BENEFIT}melanoma@0.1, got {text!r}"
            )
        return NetBenefitOf(
            f"{NET_BENEFIT}{class_name}@{threshold:g}",
            f"net benefit of acting on {class_name} at {threshold:g}",
            in_percent=False,
            class_name=class_name,
            threshold=threshold,
        )
    column = text.removeprefix(WORST_GROUP)
    if text.startswith(WORST_GROUP) and column:
        return WorstGroup(
            text, f"worst-group balanced accuracy by {column}", offsets_for="balanced_accuracy", column=column
        )
    raise UsageError(f"expected --objective as one of {', '.join(OBJECTIVES)}, {FORMS}, got {text!r}")

"""Calibration of the probabilities of several labels per image: maps fitted on held-out predictions, and how good they are.

Each label has its own map p → sigmoid(a logit p + b) (Platt 1999), kept only where it lowers the log-loss of images that it
was not fitted on. Maps rise, so that they change neither the order of images nor a decision at a threshold that is mapped
as well. Unknown labels are left out.

Shape legend: S replicates, N images, G groups, C labels, R resamples, B bins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import special

from tametail.core.arrays import BoolArray, FloatArray, IntArray
from tametail.evaluation.bootstrap import percentile_limits, resampled_groups
from tametail.evaluation.calibration import bin_codes, logistic_recalibration
from tametail.evaluation.intervals import Estimate
from tametail.evaluation.label_thresholds import deployable_thresholds
from tametail.evaluation.log_loss import LEAST
from tametail.evaluation.sample import group_codes
from tametail.predictions.by_group import PredictBy, replicates_by_group
from tametail.predictions.multi_label import LabelPredictions, check_same_images

_RESAMPLES = 1000
_RIDGE = 1.0  # weight of the identity in a fit, in images
_ITERATIONS = 30
_FEWEST = 5  # groups with the label, and without it, from which a map is fitted


@dataclass(frozen=True)
class LabelMap:
    """A map of probabilities (N, C) to calibrated ones: sigmoid(slope logit p + intercept) of each label.

    Attributes:
        slope, intercept: (C,); 1 and 0 where probabilities stay as they are.
    """

    slope: FloatArray
    intercept: FloatArray

    def __call__(self, p: FloatArray) -> FloatArray:
        """Calibrated probabilities (N, C) or thresholds (C,)."""
        p = np.asarray(p, dtype=np.float64)
        mapped = special.expit(self.slope * _logit(p) + self.intercept)
        return np.where((self.slope == 1) & (self.intercept == 0), p, mapped)

    @property
    def changed(self) -> BoolArray:
        """(C,) labels whose probabilities are changed."""
        return np.asarray((self.slope != 1) | (self.intercept != 0))

    @property
    def summary(self) -> str:
        """The map in words: ``logistic, 12 of 30 labels``."""
        count = int(self.changed.sum())
        return f"logistic, {count} of {len(self.slope)} labels" if count else "identity"

    def described(self) -> dict[str, Any]:
        """The map as JSON: what `from_description` takes."""
        return {"kind": "labels", "slope": self.slope.tolist(), "intercept": self.intercept.tolist()}

    @classmethod
    def from_description(cls, values: Mapping[str, Any], labels: int) -> LabelMap:
        """The map that `described` wrote, for so many labels.

        Raises:
            ValueError, KeyError, TypeError: the description is damaged.
        """
        found = [np.array(values[name], dtype=np.float64) for name in ("slope", "intercept")]
        if any(each.shape != (labels,) or not np.isfinite(each).all() for each in found):
            raise ValueError(f"expected slope and intercept of {labels} labels, got {values}")
        if (found[0] <= 0).any():
            raise ValueError("expected slopes above 0")
        return cls(*found)


@dataclass(frozen=True)
class LabelQuality:
    """How well the probabilities of one label are calibrated.

    Attributes:
        log_loss: mean of -log of the probability of what is the case.
        constant_log_loss: that of the prevalence as the probability of every image.
        brier: mean squared distance of probability and label, in 0..1.
        ece: mean distance of probability and frequency in bins of equal size, in 0..1.
        intercept, slope: of the logistic regression of the label on the log-odds, see `calibration.Calibration`.
    """

    log_loss: float
    constant_log_loss: float
    brier: float
    ece: float
    intercept: float
    slope: float


@dataclass(frozen=True)
class LabelCalibration:
    """Calibration of one method with several labels.

    Attributes:
        labels: of each label with positive and negative images, by name: the quality of the given probabilities.
        after: the same with the map fitted on other folds.
        ece, ece_after: mean over the labels with its 95 % interval (basic bootstrap of groups).
        map: for new images, fitted on all out-of-fold predictions.
        tables: the given ones, sorted by image, with the probabilities of each fold mapped by what was fitted on the other folds.
    """

    labels: Mapping[str, LabelQuality]
    after: Mapping[str, LabelQuality]
    ece: Estimate
    ece_after: Estimate
    map: LabelMap
    tables: tuple[LabelPredictions, ...]


def calibrate_labels(replicates: Sequence[LabelPredictions]) -> LabelCalibration:
    """Fit a map for each label by nested cross-validation on out-of-fold predictions, and evaluate it.

    The map of the images of a fold is fitted on the other folds. If the log-loss of a label is not lower with these maps, its
    probabilities stay as they are: this single decision sees the labels of all folds. Labels with few positive or negative
    groups, and studies of a single fold, keep theirs too.

    Args:
        replicates: tables over the same images, e.g. one per seed (folds joined).

    Raises:
        ValueError: no table, or tables that differ in images, groups, labels or classes.
    """
    tables = check_same_images([table.sorted_by_image() for table in replicates])
    group = group_codes(tables[0])
    names = tables[0].class_names
    p = [table.posterior.astype(np.float64) for table in tables]
    mapped = [_out_of_fold(table, of_table, group) for table, of_table in zip(tables, p, strict=True)]
    first = tables[0]
    positives, negatives = first.labels.sum(axis=0), (first.known & ~first.labels).sum(axis=0)
    defined = np.flatnonzero((positives > 0) & (negatives > 0)).tolist()
    before, after = ({at: _quality(tables, each, at) for at in defined} for each in (p, mapped))
    kept = np.zeros(len(names), dtype=np.bool_)
    kept[[at for at in defined if after[at].log_loss < before[at].log_loss]] = True
    for given, changed in zip(p, mapped, strict=True):
        changed[:, ~kept] = given[:, ~kept]
    everything = [np.ones(len(table), dtype=np.bool_) for table in tables]
    return LabelCalibration(
        {names[at]: before[at] for at in defined},
        {names[at]: after[at] if kept[at] else before[at] for at in defined},
        _mean_ece(tables, p, group, defined),
        _mean_ece(tables, mapped, group, defined),
        _fit(tables, p, everything, group, kept),
        tuple(
            replace(table, posterior=changed.astype(np.float32))
            for table, changed in zip(tables, mapped, strict=True)
        ),
    )


def apply_label_map(found: LabelMap, table: LabelPredictions) -> LabelPredictions:
    """The table with its probabilities mapped."""
    return replace(table, posterior=found(table.posterior.astype(np.float64)).astype(np.float32))


def deployed_thresholds(
    tables: Sequence[LabelPredictions], found: LabelMap, by: PredictBy = "image"
) -> FloatArray:
    """Thresholds (C,) of calibrated probabilities, of images or of groups, chosen on all out-of-fold predictions."""
    if by == "image":
        return found(deployable_thresholds(tables))
    return deployable_thresholds(replicates_by_group([apply_label_map(found, table) for table in tables], by))


def _logit(p: FloatArray) -> FloatArray:
    return np.asarray(special.logit(np.clip(p, LEAST, 1 - LEAST)))


def _out_of_fold(table: LabelPredictions, p: FloatArray, group: IntArray) -> FloatArray:
    """Probabilities (N, C) of the images of each fold with maps fitted on the other folds."""
    found, folds = p.copy(), np.unique(table.fold)
    for fold in folds if len(folds) > 1 else ():
        own = table.fold == fold
        found[own] = _fit([table], [p], [~own], group, np.ones(p.shape[1], dtype=np.bool_))(p[own])
    return found


def _fit(
    tables: Sequence[LabelPredictions],
    p: Sequence[FloatArray],
    rows: Sequence[BoolArray],
    group: IntArray,
    wanted: BoolArray,
) -> LabelMap:
    """Maps of the wanted labels (C,) from these rows of each table."""
    slope, intercept = np.ones(len(wanted)), np.zeros(len(wanted))
    for at in np.flatnonzero(wanted):
        used = [own & table.known[:, at] for own, table in zip(rows, tables, strict=True)]
        has = [table.labels[of, at] for of, table in zip(used, tables, strict=True)]
        groups = group[used[0]]
        if min(len(np.unique(groups[has[0]])), len(np.unique(groups[~has[0]]))) < _FEWEST:
            continue
        x = np.concatenate([_logit(each[of, at]) for each, of in zip(p, used, strict=True)])
        a, b = _logistic(x, np.concatenate(has), 1 / len(tables))
        if a > 0:
            slope[at], intercept[at] = a, b
    return LabelMap(slope, intercept)


def _logistic(x: FloatArray, happened: BoolArray, weight: float) -> tuple[float, float]:
    """Slope and intercept of the logistic regression on x (N,), with a ridge about 1 and 0, by Newton's method.

    Labels are smoothed as Platt does, (n + 1) / (n + 2): a few images would otherwise move probabilities to 0 and 1.
    """
    positives = float(happened.sum()) * weight
    negatives = float(len(x)) * weight - positives
    target = np.where(happened, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    design = np.stack([x, np.ones(len(x))], axis=1)
    origin = np.array([1.0, 0.0])
    found = origin
    for _ in range(_ITERATIONS):
        mean = special.expit(design @ found)
        gradient = weight * design.T @ (mean - target) + _RIDGE * (found - origin)
        hessian = weight * (design * (mean * (1 - mean))[:, None]).T @ design + _RIDGE * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        found = found - step * min(1.0, 2.0 / max(float(np.abs(step).max()), LEAST))
        if np.abs(step).max() < 1e-9:
            break
    return float(found[0]), float(found[1])


def _quality(tables: Sequence[LabelPredictions], p: Sequence[FloatArray], at: int) -> LabelQuality:
    """Of one label with positive and negative images, mean over the replicates."""
    known = tables[0].known[:, at]
    has = tables[0].labels[known, at]
    share = float(has.mean())
    constant = -(share * np.log(share) + (1 - share) * np.log(1 - share))
    rows = []
    for each in p:
        own = each[known, at]
        right = np.where(has, own, 1 - own)
        code = bin_codes(own, len(own))
        gap = np.abs(np.bincount(code, own) - np.bincount(code, has)).sum() / len(own)
        losses = -np.log(np.maximum(right, LEAST))
        rows.append(
            [losses.mean(), constant, ((own - has) ** 2).mean(), gap, *logistic_recalibration(own, has)]
        )
    return LabelQuality(*np.mean(rows, axis=0).tolist())


def _mean_ece(
    tables: Sequence[LabelPredictions], p: Sequence[FloatArray], group: IntArray, labels: Sequence[int]
) -> Estimate:
    """Mean ECE over the labels with these indices; the bins stay where they are in all resamples.

    The ECE of a resample is higher than that of the sample, as noise adds to it; the basic bootstrap turns that around.
    """
    if not labels:
        return Estimate(np.nan, np.nan, np.nan, 0)
    gaps, sizes, of_bin, groups = [], [], [], int(group.max()) + 1
    for at in labels:
        known = tables[0].known[:, at]
        has = tables[0].labels[known, at]
        for each in p:
            own = each[known, at]
            code = bin_codes(own, len(own))
            bins = int(code.max()) + 1
            cell = group[known] * bins + code
            gaps.append(np.bincount(cell, own - has, groups * bins).reshape(groups, bins))
            sizes.append(np.bincount(group[known], minlength=groups))
            of_bin += [len(sizes) - 1] * bins
    gap, size, column = np.concatenate(gaps, axis=1), np.stack(sizes, axis=1), np.array(of_bin)

    def ece(weights: FloatArray) -> float:
        total = np.bincount(column, np.abs(weights @ gap), size.shape[1])
        return float((total / np.maximum(weights @ size, 1)).mean())

    value = ece(np.ones(groups))
    strata = np.zeros(groups, dtype=np.int64)
    drawn = [ece(times) for times in resampled_groups(strata, _RESAMPLES, 0)]
    low, high = percentile_limits(np.array(drawn))
    return Estimate(
        value, float(np.clip(2 * value - high, 0, value)), max(2 * value - float(low), value), len(tables[0])
    )

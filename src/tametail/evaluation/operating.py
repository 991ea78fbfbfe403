"""Operating points: the threshold on the probability of one class for a required sensitivity, and its performance.

Shape legend: S replicates, N images, G groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tametail.core.arrays import BoolArray, FloatArray, IntArray
from tametail.evaluation.intervals import Estimate, defined_mean, proportions
from tametail.evaluation.sample import align, assigned_parts, group_codes
from tametail.predictions.single_label import Predictions


@dataclass(frozen=True)
class Decisions:
    """Images by decision and truth, means over the replicates and so not always integers.

    Attributes:
        true_positives, false_positives: flagged images of the class, and of others.
        false_negatives, true_negatives: images of the class that are not flagged, and of others.
        false_positives_of: the false positives by true class, the most frequent class first; without classes that have none.
    """

    true_positives: float
    false_positives: float
    false_negatives: float
    true_negatives: float
    false_positives_of: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class OperatingPoint:
    """Performance of one class at a threshold; metrics without images are nan with n = 0.

    Attributes:
        class_name: the class.
        required_sensitivity: above 0 and at most 1.
        threshold: chosen on all these images, for deployment; nan without an image of the class. The results are those of
            thresholds chosen on other images, by cross-validation.
        sensitivity: its n counts the images of the class.
        specificity: its n counts the other images.
        ppv: positive predictive value at the prevalence of these images; its n counts the images that any replicate
            flags.
        alert_rate: the proportion of images that are flagged; its n counts the images with a threshold.
        decisions: the images with a threshold by decision and truth.
    """

    class_name: str
    required_sensitivity: float
    threshold: float
    sensitivity: Estimate
    specificity: Estimate
    ppv: Estimate
    alert_rate: Estimate
    decisions: Decisions

    @property
    def flagged_per_100(self) -> float:
        """Flagged images per 100 images."""
        return 100 * self.alert_rate.value


def operating_point(
    replicates: Sequence[Predictions], class_index: int, sensitivity: float, *, threshold: float | None = None
) -> OperatingPoint:
    """Evaluate the operating point of one class for a required sensitivity.

    The threshold for the images of each fold is chosen on the other folds. If all images are of one fold, as in a test
    set or an external table, whole groups are assigned to five parts, those with the class first. Images are left out,
    as n shows, if no other part has an image of the class.

    Intervals regard thresholds as fixed, and images of one group as clustered.

    Args:
        replicates: tables over the same images, e.g. one per seed (folds joined) or one per fold model.
        class_index: into the class names.
        sensitivity: required, above 0 and at most 1.
        threshold: chosen on other images, used for all images; nan if none could be chosen, and then nothing is evaluated.

    Raises:
        ValueError: no table, no image, tables that differ in images, groups, targets or classes, no such class, or a
            sensitivity outside its range.
    """
    if not 0 < sensitivity <= 1:
        raise ValueError(f"expected a sensitivity above 0 and at most 1, got {sensitivity}")
    tables = align(replicates)
    names, target, group = tables[0].class_names, tables[0].target, group_codes(tables[0])
    if not 0 <= class_index < len(names):
        raise ValueError(f"expected a class index in 0..{len(names) - 1}, got {class_index}")
    positive = np.asarray(target == class_index)
    p = np.stack([table.class_probabilities(class_index) for table in tables])  # (S, N)
    if threshold is None:
        parts = [_parts(table.fold, positive, group) for table in tables]
        cuts = np.stack([_cuts(*each, positive, sensitivity) for each in zip(p, parts, strict=True)])
        to_come = threshold_for(np.tile(positive, len(tables)), p.ravel(), sensitivity)
    else:
        cuts, to_come = np.full(p.shape, threshold), threshold
    evaluated = ~np.isnan(cuts)
    flagged = evaluated & (p >= cuts)
    return OperatingPoint(
        class_name=names[class_index],
        required_sensitivity=sensitivity,
        threshold=to_come,
        sensitivity=_share(flagged, evaluated & positive, group),
        specificity=_share(~flagged, evaluated & ~positive, group),
        ppv=_share(np.broadcast_to(positive, flagged.shape), flagged, group),
        alert_rate=_share(flagged, evaluated, group),
        decisions=_decisions(flagged, evaluated, target, class_index, names),
    )


def threshold_for(positive: BoolArray, p: FloatArray, sensitivity: float) -> float:
    """The highest threshold that flags at least this proportion of the positives; nan without a positive.

    It is halfway to the next lower probability that occurs, or to 0.

    Args:
        positive, p: (N,).
        sensitivity: above 0 and at most 1.
    """
    own = np.sort(p[positive])[::-1]
    if not len(own):
        return float("nan")
    needed = int(np.ceil(sensitivity * len(own) - 1e-9))  # 0.95 of 20 are 19, despite rounding
    least = float(own[max(needed, 1) - 1])
    below = p[p < least]
    return (least + float(below.max() if len(below) else 0.0)) / 2


def _parts(fold: IntArray, positive: BoolArray, group: IntArray) -> IntArray:
    """The folds (N,), or, if there is only one, a part for each image."""
    return fold if len(np.unique(fold)) > 1 else assigned_parts(group, positive)


def _cuts(p: FloatArray, part: IntArray, positive: BoolArray, sensitivity: float) -> FloatArray:
    """Thresholds (N,): for the images of each part chosen on the other parts."""
    cuts = np.empty(len(p))
    for each in np.unique(part):
        own = part == each
        cuts[own] = threshold_for(positive[~own], p[~own], sensitivity)
    return cuts


def _decisions(
    flagged: BoolArray, evaluated: BoolArray, target: IntArray, class_index: int, names: Sequence[str]
) -> Decisions:
    """Counts of flagged (S, N) and other images among those ``evaluated`` (S, N)."""
    by_class = [np.bincount(target, kind.sum(axis=0), len(names)) for kind in (flagged, evaluated & ~flagged)]
    acted, passed = (counts / len(flagged) for counts in by_class)
    wrong = {int(code): float(acted[code]) for code in np.argsort(-acted, kind="stable") if acted[code] > 0}
    true_positives = wrong.pop(class_index, 0.0)
    return Decisions(
        true_positives=true_positives,
        false_positives=float(sum(wrong.values())),
        false_negatives=float(passed[class_index]),
        true_negatives=float(np.delete(passed, class_index).sum()),
        false_positives_of=tuple((names[code], count) for code, count in wrong.items()),
    )


def _share(found: BoolArray, among: BoolArray, group: IntArray) -> Estimate:
    """Proportion of ``found`` (S, N) in ``among`` (S, N): mean over replicates; n counts images in ``among`` of any."""
    found, trials = found & among, among.sum(axis=1)
    ratio = np.divide(found.sum(axis=1), trials, out=np.full(len(trials), np.nan), where=trials > 0)
    n = int(among.any(axis=0).sum())
    if not n:
        return Estimate(np.nan, np.nan, np.nan, 0)
    hits, all_ = (np.bincount(group, each.mean(axis=0))[:, None] for each in (found, among))
    return proportions(defined_mean(ratio[:, None]), hits, all_, np.array([n])).estimate(0)

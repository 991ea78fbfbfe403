"""From which probability of one class an image is flagged, so that a required share of its images is found, and the cost.

Shape legend: S replicates, N images, G groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tametail.core.arrays import BoolArray, FloatArray, IntArray
from tametail.evaluation.alignment import align, group_codes
from tametail.evaluation.proportions import Estimate, defined_mean, proportions
from tametail.predictions.single_label import Predictions

ASSIGNED_PARTS = 5  # that images without folds are dealt to


@dataclass(frozen=True)
class OperatingPoint:
    """One class flagged from a threshold on, and what comes of it. What has no image is nan with n = 0.

    Attributes:
        class_name: the class.
        asked: the required sensitivity.
        threshold: chosen on all these images, for images yet to come; nan where none is of the class. The results are
            not those of this threshold but of those chosen without the images that they are judged by.
        sensitivity: share of the class's images that are flagged; its n counts them.
        specificity: share of the others that are not; its n counts them.
        ppv: positive predictive value, the share of the class among the flagged; its n counts the images that any
            replicate flags. It holds for the share of the class in these images.
        flagged: share of the images that are flagged; its n counts those that could be judged.
    """

    class_name: str
    asked: float
    threshold: float
    sensitivity: Estimate
    specificity: Estimate
    ppv: Estimate
    flagged: Estimate

    @property
    def flagged_per_100(self) -> float:
        """Images flagged of 100."""
        return 100 * self.flagged.value


def operating_point(
    replicates: Sequence[Predictions],
    class_index: int,
    sensitivity: float,
    *,
    threshold: float | None = None,
) -> OperatingPoint:
    """What it costs to find a required share of the images of a class.

    The threshold for the images of each fold is chosen on the other folds. Where all images are of one fold, as in a test
    part or a table made elsewhere, they are dealt to five parts, whole groups, those that hold the class first. Images
    whose class is absent from all other parts cannot be judged and are left out, which n shows.

    The required sensitivity holds where the threshold is chosen; the one that is found on other images may be lower.
    Intervals take thresholds as given; images of one group count as alike.

    Args:
        replicates: tables over the same images, e.g. one per seed (folds joined) or one per fold model.
        class_index: into the class names.
        sensitivity: required, above 0 and at most 1.
        threshold: one chosen on other images, in place of all that; nan where there was nothing to choose by, and then
            nothing is judged.

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
    p = np.stack([table.probabilities[:, class_index] for table in tables])  # (S, N)
    if threshold is None:
        parts = [_parts(table.fold, positive, group) for table in tables]
        cuts = np.stack([_cuts(*each, positive, sensitivity) for each in zip(p, parts, strict=True)])
        to_come = threshold_for(np.tile(positive, len(tables)), p.ravel(), sensitivity)
    else:
        cuts, to_come = np.full(p.shape, threshold), threshold
    judged = ~np.isnan(cuts)
    flagged = judged & (p >= cuts)

    def share(found: BoolArray, among: BoolArray) -> Estimate:
        return _share(found & among, among, group)

    return OperatingPoint(
        class_name=names[class_index],
        asked=sensitivity,
        threshold=to_come,
        sensitivity=share(flagged, judged & positive),
        specificity=share(~flagged, judged & ~positive),
        ppv=share(np.broadcast_to(positive, flagged.shape), flagged),
        flagged=share(flagged, judged),
    )


def threshold_for(positive: BoolArray, p: FloatArray, sensitivity: float) -> float:
    """The highest threshold that flags at least this share of the positives; nan where there is none.

    It lies half way to the next lower probability that occurs, or to 0; images of one probability go together.

    Args:
        positive, p: (N,).
        sensitivity: above 0 and at most 1.
    """
    own = np.sort(p[positive])[::-1]
    if not len(own):
        return float("nan")
    needed = int(np.ceil(sensitivity * len(own) - 1e-9))  # 0.95 of 20 are 19, whatever is left by rounding
    least = float(own[max(needed, 1) - 1])
    below = p[p < least]
    return (least + float(below.max() if len(below) else 0.0)) / 2


def _parts(fold: IntArray, positive: BoolArray, group: IntArray) -> IntArray:
    """(N,) the folds, or where there is only one a part for each image."""
    if len(np.unique(fold)) > 1:
        return fold
    holds = np.bincount(group, positive) > 0
    drawn = np.random.default_rng(0).permutation(len(holds))  # names may come in an order that says something
    dealt = np.empty(len(holds), dtype=np.int64)
    dealt[drawn[np.argsort(~holds[drawn], kind="stable")]] = np.arange(len(holds)) % ASSIGNED_PARTS
    return dealt[group]


def _cuts(p: FloatArray, part: IntArray, positive: BoolArray, sensitivity: float) -> FloatArray:
    """(N,) for the images of each part the threshold chosen on the other parts."""
    cuts = np.empty(len(p))
    for each in np.unique(part):
        own = part == each
        cuts[own] = threshold_for(positive[~own], p[~own], sensitivity)
    return cuts


def _share(found: BoolArray, among: BoolArray, group: IntArray) -> Estimate:
    """Share of ``found`` (S, N) among ``among`` (S, N): mean over replicates, n the images in ``among`` of any."""
    trials = among.sum(axis=1)
    ratio = np.divide(found.sum(axis=1), trials, out=np.full(len(trials), np.nan), where=trials > 0)
    n = int(among.any(axis=0).sum())
    if not n:
        return Estimate(np.nan, np.nan, np.nan, 0)
    hits, all_ = (np.bincount(group, each.mean(axis=0))[:, None] for each in (found, among))
    return proportions(defined_mean(ratio[:, None]), hits, all_, np.array([n])).estimate(0)

"""Paired comparison of models on the same images: difference in balanced accuracy and sign-flip permutation test.

Shape legend: N images, K cells (the images of one group and one class), G groups, C classes, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from tametail.core.arrays import FloatArray, IntArray
from tametail.evaluation.bootstrap import group_bootstrap
from tametail.evaluation.distributions import normal_quantile, t_quantile
from tametail.evaluation.intervals import Estimate
from tametail.evaluation.sample import align, group_codes
from tametail.evaluation.significance import (
    SIGNIFICANCE_LEVEL,
    Verdict,
    holm,
    permutation_p,
    required_sample_size,
    verdict,
)
from tametail.predictions.single_label import Predictions

_DIGITS = 10  # equal scores may differ in their last digits

# Pseudo-images that are added to each interval, divided among its classes, with a maximum per class.
_PSEUDO_IMAGES, _PSEUDO_IMAGES_PER_CLASS = 4.0, 2.0
_ODDS_RATIO = 2.0  # of disagreement on pseudo-images to that on images, see `difference_standard_error`
_HALVINGS = 40  # of the distance in which a limit lies
_QUANTILE = normal_quantile(0.975)

_DRAWS_PER_PAIR = 4.0  # / level: the smallest possible p is then a quarter of Holm's first step
_LOW = 10.0  # times Holm's first step: a smaller p gets more draws
_REVERSED: dict[Verdict, Verdict] = {"better": "worse", "worse": "better"}
_MOST_TIMES = 10  # times as many images as there are, beyond which a larger set is not realistic


@dataclass(frozen=True)
class Paired:
    """Model a compared with model b on the same images.

    Attributes:
        difference: balanced accuracy (of several labels mean average precision) of a minus that of b, in -1..1, with its 95 %
            interval; n counts images.
        p: of the sign-flip test with groups as units, of this pair alone.
        p_holm: p after Holm's correction over all pairs of the table.
        verdict: on a; significant if ``p_holm`` is at most 5 % and the interval excludes 0, see `significance.verdict`.
        required_sample_size: additional test images for a power of 80 % in this table, see
            `significance.required_sample_size`; 0 if the difference is significant, None if it is 0.
        groups: distinct groups, the units of the test.
        discordant: groups on which the models differ; the test depends on these alone.
        standard_error: of the difference, with groups as units, see `difference_standard_error`.
    """

    difference: Estimate
    p: float
    p_holm: float
    verdict: Verdict
    required_sample_size: int | None
    groups: int
    discordant: int
    standard_error: float

    def reversed(self) -> Paired:
        """Model b compared with model a."""
        d = self.difference
        turned = Estimate(0.0 - d.value, 0.0 - d.high, 0.0 - d.low, d.n)
        return replace(self, difference=turned, verdict=_REVERSED.get(self.verdict, self.verdict))


@dataclass(frozen=True)
class PairedTable:
    """All pairs of the models ``names``; ``pairs`` has those with i < j, in the order of `itertools.combinations`."""

    names: tuple[str, ...]
    pairs: tuple[Paired, ...]

    def pair(self, i: int, j: int) -> Paired:
        """Model i compared with model j.

        Raises:
            ValueError: no such pair of two different models.
        """
        count = len(self.names)
        if i == j or not (0 <= i < count and 0 <= j < count):
            raise ValueError(f"expected two different models in 0..{count - 1}, got {i} and {j}")
        low, high = min(i, j), max(i, j)
        found = self.pairs[low * count - low * (low + 1) // 2 + high - low - 1]
        return found if i < j else found.reversed()


def paired_table(
    replicates_by_name: Mapping[str, Sequence[Predictions]], *, resamples: int = 10_000, seed: int = 0
) -> PairedTable:
    """Compare all pairs of models in balanced accuracy on the same images.

    Under the null hypothesis the two models are exchangeable on a group (patient, lesion): its contribution
    ``d_g = sum_c (hits_a - hits_b) / (C n_c)`` is equally likely to have either sign. Hits are means over the replicates,
    C counts the classes present. A paired bootstrap has more false positives where classes are rare
    (``make false-alarms``). The p of a pair does not depend on the other models, except for the number of draws.

    Args:
        replicates_by_name: for each model, tables over the same images, e.g. one per seed (folds joined).
        resamples: of the test, if its signs cannot be enumerated. Pairs with the smallest possible p get more draws,
            4 / 0.05 for each pair of the table, so that no number of pairs alone makes significance impossible.
        seed: of the test; the same seed gives the same p.

    Raises:
        ValueError: no model, a model without tables, or tables that differ in images, groups, targets or classes.
    """
    counted = correctness(replicates_by_name)
    indices = list(combinations(range(len(counted.names)), 2))
    return PairedTable(counted.names, _compare(counted, indices, resamples, seed))


def against_one(
    replicates_by_name: Mapping[str, Sequence[Predictions]],
    one: str,
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> dict[str, Paired]:
    """Compare one model with each of the others in balanced accuracy, see `paired_table`.

    Holm's correction is over these comparisons alone, fewer than all pairs, so that the power is higher.

    Args:
        replicates_by_name: as for `paired_table`.
        one: the model a of each pair.
        resamples, seed: as for `paired_table`.

    Returns:
        By the other model's name, in the given order; empty if there is no other.

    Raises:
        ValueError: as `paired_table`, or an unknown name.
    """
    counted = correctness(replicates_by_name)
    if one not in counted.names:
        raise ValueError(f"expected one of {', '.join(counted.names)}, got {one!r}")
    place = counted.names.index(one)
    others = [at for at in range(len(counted.names)) if at != place]
    compared = _compare(counted, [(place, other) for other in others], resamples, seed)
    return {counted.names[other]: pair for other, pair in zip(others, compared, strict=True)}


@dataclass(frozen=True)
class Contrast:
    """Model a compared with model b, before the correction for all pairs.

    Attributes:
        difference: score of a minus that of b with its 95 % interval; n counts images.
        if_none: the same with limits under the hypothesis of no difference.
        contributions: (G,) of each group to the difference or to its error; the sum of their squares is its variance.
        p: of the test of this pair alone.
        standard_error: of the difference, with groups as units.
    """

    difference: Estimate
    if_none: Estimate
    contributions: FloatArray
    p: float
    standard_error: float


def correct_contrasts(contrasts: Sequence[Contrast]) -> tuple[Paired, ...]:
    """Correct the p of the contrasts for all of them, and give the verdicts."""
    count = len(contrasts)
    corrected_p = holm([contrast.p for contrast in contrasts])
    pairs = []
    for contrast, corrected in zip(contrasts, corrected_p, strict=True):
        found = verdict(contrast.difference, float(corrected))
        # The first step of Holm's correction, which the smallest p of the table has to pass.
        more = required_sample_size(
            contrast.contributions, contrast.if_none, level=SIGNIFICANCE_LEVEL / count
        )
        pairs.append(
            Paired(
                difference=contrast.difference,
                p=contrast.p,
                p_holm=float(corrected),
                verdict=found,
                required_sample_size=more if found == "no significant difference" else 0,
                groups=len(contrast.contributions),
                discordant=int(np.count_nonzero(np.abs(contrast.contributions) > 1e-12)),
                standard_error=contrast.standard_error,
            )
        )
    return tuple(pairs)


def _compare(
    counted: Correctness, indices: Sequence[tuple[int, int]], resamples: int, seed: int
) -> tuple[Paired, ...]:
    """Compare model i with model j for each of the pairs (i, j), adjusted for all of them."""
    contrasts = []
    for i, j in indices:
        of_pair = counted.differences(i, j)
        error = difference_standard_error(of_pair, counted.images, counted.group, counted.of_class)
        flipped = counted.contributions(of_pair)
        p = _p(flipped, resamples, len(indices), seed)
        contrasts.append(Contrast(*_difference(counted, of_pair), flipped, p, error))
    return correct_contrasts(contrasts)


def _p(contributions: FloatArray, resamples: int, pairs: int, seed: int) -> float:
    p = permutation_p(contributions, resamples=resamples, seed=seed)
    enough = math.ceil(_DRAWS_PER_PAIR / SIGNIFICANCE_LEVEL * pairs)
    if p > _LOW * SIGNIFICANCE_LEVEL / pairs or enough <= resamples:
        return p
    return permutation_p(contributions, resamples=enough, seed=seed)


def describe(paired: Paired, a: str, b: str) -> str:
    """Describe the comparison of model ``a`` with ``b`` in one sentence."""
    d = paired.difference
    verb = {
        "better": "is better than",
        "worse": "is worse than",
        "no significant difference": "is not significantly different from",
    }
    points = f"{100 * d.value:+.1f} points of balanced accuracy ({100 * d.low:+.1f} to {100 * d.high:+.1f})"
    p = "p < 0.001" if paired.p_holm < 0.001 else f"p = {paired.p_holm:.2g}"
    text = f"{a} {verb[paired.verdict]} {b}: {points}, {p}"
    if paired.verdict != "no significant difference":
        return f"{text}."
    if paired.required_sample_size == 0:
        return f"{text}; not significant after adjustment for multiple testing."
    if paired.required_sample_size is None:
        return f"{text}; no sample size would make this difference significant."
    return f"{text}; {sample_size_in_words(paired, 'test images like these')} would make a difference of this size significant."


def sample_size_in_words(paired: Paired, images: str = "images") -> str:
    """``about 160,000 more images (not realistic)``: rounded up to two digits; more than ten times those there are."""
    count = paired.required_sample_size or 0
    step = 10 ** max(len(str(count)) - 2, 0)
    unrealistic = " (not realistic)" if count > _MOST_TIMES * paired.difference.n else ""
    return f"about {-(-count // step) * step:,} more {images}{unrealistic}"


def _difference(counted: Correctness, differences: FloatArray) -> tuple[Estimate, Estimate]:
    """The difference with its interval, and with its limits under the hypothesis that there is none."""
    of_class = _by_class(differences, counted.images, counted.group, counted.of_class)
    value = of_class.difference
    value = 0.0 if abs(value) < 1e-12 else value
    limits = (of_class.low(), of_class.high()), (of_class.low_if(0.0), of_class.high_if(0.0))
    found = [Estimate(value, min(low, value), max(high, value), len(counted.target)) for low, high in limits]
    return found[0], found[1]


def difference_limits(
    differences: FloatArray, images: FloatArray, group: IntArray, of_class: IntArray
) -> tuple[float, float]:
    """Limits in -1..1 of the mean over C classes of the difference in recall.

    A score interval, as Tango (1998) gives for a single class: it holds the hypothetical differences D that are within
    1.96 standard errors of the estimate, with the standard error under D. For this the rate of disagreement of the
    pseudo-images in `difference_standard_error` is ``r + C |D|`` instead of r, because all of a mean difference of D may
    come from a single class. The pooled rate r thus decides whether the interval excludes 0, and its limits far from 0 are
    about those of Price & Bonett (2004): a rare class may differ more than the others, and does not show it. If 0 is
    excluded, all beyond it is. The estimate is moved towards 0 by the discordant pseudo-images of each class.

    With one class this is the interval of Bonett & Price (2012). Newcombe's square-and-add of Wilson limits is wider where
    two models agree on most images, as trained ones do (``make false-alarms``).

    Args:
        differences: (K,) correct images of one model minus those of the other in each cell (means over replicates).
        images: (K,) of each cell, at least 1.
        group: (K,) codes 0..G-1.
        of_class: (K,) codes 0..C-1, each with at least one cell.
    """
    found = _by_class(differences, images, group, of_class)
    return found.low(), found.high()


def difference_standard_error(
    differences: FloatArray, images: FloatArray, group: IntArray, of_class: IntArray
) -> float:
    """Standard error of the mean over C classes of the difference in recall under the hypothesis of no difference, above 0.

    A class needs a variance even if the models agree on all its few images. Price & Bonett (2004) add 4 / C pseudo-images
    to each class (2 if C is 1, as Bonett & Price 2012), and the models disagree on all of them, half in either direction.
    That is far too often for models that seldom disagree: the 4 / 7 of a class of three images then outweigh all data.
    Here the pseudo-images are an empirical prior: with a rate of disagreement r, pooled over the classes, the models
    disagree on a proportion ``min(1, 2 r / (1 - r))`` of them. That is twice the pooled odds, because a rare class may
    differ more than the others; the factor was chosen by simulation (``make false-alarms``, ``make power``). If the models
    agree on all images, r is not known to be 0: at least two of the pseudo-images, divided among the classes by size, are
    discordant, as Bonett & Price assume of a single class.

    The variance is cluster-robust, with G / (G - 1) by class and, as Korn & Graubard (1998) do, the ratio of the t quantiles
    with G - 1 and n - 1 degrees of freedom over all classes; never smaller than under independence of the classes. With
    groups and replicates r is the mean over the cells of the squared difference per image. Arguments as for
    `difference_limits`.
    """
    return _by_class(differences, images, group, of_class).error_if(0.0)


@dataclass(frozen=True)
class _ByClass:
    """What the interval needs of each class.

    Attributes:
        value: (C,) difference in recall.
        groups: (C,) of each class.
        added: pseudo-images of a class.
        rate: of disagreement, pooled over the classes, in 0..1.
        variance: of the mean difference, without the discordant pseudo-images.
    """

    value: FloatArray
    groups: FloatArray
    added: float
    rate: float
    variance: float

    @property
    def difference(self) -> float:
        return float(self.value.mean())

    def discordant_if(self, hypothesis: float) -> FloatArray:
        """Discordant pseudo-images (C,) of each class if the mean difference is ``hypothesis``."""
        rate = self.rate + len(self.value) * abs(hypothesis)
        proportion = _ODDS_RATIO * rate / (1 - rate) if rate < 1 else 1.0
        least = _PSEUDO_IMAGES_PER_CLASS * self.groups / self.groups.sum()
        discordant: FloatArray = np.minimum(np.maximum(least, self.added * proportion), self.added)
        return discordant

    def error_if(self, hypothesis: float) -> float:
        discordant = self.discordant_if(hypothesis)
        imagined = float((discordant / (self.groups + self.added) ** 2).sum()) / len(self.value) ** 2
        return math.sqrt(self.variance + imagined)

    def high_if(self, hypothesis: float) -> float:
        groups = self.groups / (self.groups + self.discordant_if(hypothesis))
        return float((self.value * groups).mean()) + _QUANTILE * self.error_if(hypothesis)

    def low_if(self, hypothesis: float) -> float:
        return -self.reversed().high_if(hypothesis)

    def high(self) -> float:
        """The hypothesis that equals its own upper limit, below 0 exactly if 0 is above its own."""
        if np.array_equal(self.discordant_if(0.0), self.discordant_if(1.0)):
            return min(max(self.high_if(0.0), self.difference), 1.0)
        inside, outside = self.difference, 1.0
        if inside < 0:
            inside, outside = (inside, 0.0) if self.high_if(0.0) < 0 else (0.0, 1.0)
        for _ in range(_HALVINGS):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if self.high_if(middle) >= middle else (inside, middle)
        return inside

    def low(self) -> float:
        return -self.reversed().high()

    def reversed(self) -> _ByClass:
        return replace(self, value=-self.value)


def _by_class(differences: FloatArray, images: FloatArray, group: IntArray, of_class: IntArray) -> _ByClass:
    groups = np.bincount(of_class).astype(np.float64)
    n = np.bincount(of_class, weights=images)
    value = np.bincount(of_class, weights=differences) / n
    added = min(_PSEUDO_IMAGES / len(n), _PSEUDO_IMAGES_PER_CLASS)
    of_groups, of_images = t_quantile(0.975, np.maximum([group.max(), n.sum() - 1], 1))
    factor = max(of_groups / of_images, 1.0) * np.sqrt(groups / np.maximum(groups - 1, 1))
    # A pseudo-image has the mean weight of a group of the class.
    scale = factor * groups / (n * (groups + added) * len(n))
    residuals = (differences - images * value[of_class]) * scale[of_class]
    together = np.bincount(group, weights=residuals)
    variance = max(float(together @ together), float(residuals @ residuals))
    return _ByClass(value, groups, added, float(((differences / images) ** 2).mean()), variance)


@dataclass(frozen=True)
class Correctness:
    """Correct predictions of several models on the same images.

    Attributes:
        names: of the models.
        right: for each model (N,) the proportion of its replicates that are correct.
        target: (N,) class indices.
        class_names: all classes, absent ones included.
        groups: G.
        cell: (N,) the cell of an image, 0..K-1.
        images: (K,) images of a cell.
        group: (K,) group of a cell, 0..G-1.
        of_class: (K,) class of a cell, counted over the classes present.
    """

    names: tuple[str, ...]
    right: tuple[FloatArray, ...]
    target: IntArray
    class_names: tuple[str, ...]
    groups: int
    cell: IntArray
    images: FloatArray
    group: IntArray
    of_class: IntArray

    def differences(self, i: int, j: int) -> FloatArray:
        """Correct images (K,) of model i minus those of model j in each cell."""
        weights = self.right[i] - self.right[j]
        return np.bincount(self.cell, weights, len(self.images)).astype(np.float64)

    def contributions(self, differences: FloatArray) -> FloatArray:
        """Contribution (G,) of each group to the difference in balanced accuracy: sum_c hits / (C n_c)."""
        n = np.bincount(self.of_class, weights=self.images)
        share = differences / (n * len(n))[self.of_class]
        return np.bincount(self.group, share, self.groups).astype(np.float64)


def correctness(replicates_by_name: Mapping[str, Sequence[Predictions]]) -> Correctness:
    """Count correct predictions; models may have different numbers of replicates.

    Args:
        replicates_by_name: for each model, tables over the same images, e.g. one per seed (folds joined).

    Raises:
        ValueError: a model without tables, no image, or tables that differ in images, groups, targets or classes.
    """
    for name, replicates in replicates_by_name.items():
        if not replicates:
            raise ValueError(f"expected predictions of {name!r}, got none")
    tables = align([table for replicates in replicates_by_name.values() for table in replicates])
    first = tables[0]
    group = group_codes(first)
    right, start = [], 0
    for replicates in replicates_by_name.values():
        own = tables[start : start + len(replicates)]
        # Integers are added before the division, so that equal proportions are equal numbers.
        hits = np.sum([table.predicted == table.target for table in own], axis=0)
        right.append(hits / float(len(own)))
        start += len(own)
    classes = len(first.class_names)
    codes, cell, images = np.unique(group * classes + first.target, return_inverse=True, return_counts=True)
    return Correctness(
        names=tuple(replicates_by_name),
        right=tuple(right),
        target=first.target,
        class_names=first.class_names,
        groups=int(group.max()) + 1,
        cell=np.asarray(cell, dtype=np.int64),
        images=images.astype(np.float64),
        group=codes // classes,
        of_class=np.unique(codes % classes, return_inverse=True)[1].astype(np.int64),
    )


def probability_best(
    replicates_by_name: Mapping[str, Sequence[Predictions]], *, resamples: int = 2000, seed: int = 0
) -> dict[str, float]:
    """Proportion of group bootstrap resamples in which each model has the highest balanced accuracy; they sum to 1.

    Groups are drawn within strata, see `bootstrap.group_bootstrap`. Tied models share the resample. The models are fixed:
    variation by other training images is not included. These are no posterior probabilities: of two equally good models
    each is best in half of the resamples.

    Args:
        replicates_by_name: for each of M models, tables over the same images, e.g. one per seed (folds joined).
        resamples: R.
        seed: of the draws; the same seed gives the same result.

    Raises:
        ValueError: no model, a model without tables, or tables that differ in images, groups, targets or classes.
    """
    counted = correctness(replicates_by_name)
    classes, models = int(counted.of_class.max()) + 1, len(counted.names)
    cell = counted.group * classes + counted.of_class

    def by_group(weights: NDArray[np.number]) -> FloatArray:
        found = np.bincount(cell, weights, counted.groups * classes)
        return np.asarray(found.reshape(counted.groups, classes), dtype=np.float64)

    images = by_group(counted.images)
    hits = [by_group(np.bincount(counted.cell, right, len(cell))) for right in counted.right]
    size = np.where(images > 0, images.sum(axis=0), np.inf)
    firsts = np.zeros(models)

    def note(summed: FloatArray) -> FloatArray:
        actual, of_models = summed[:, :1], summed[:, 1:]
        recall = np.divide(of_models, actual, out=np.zeros_like(of_models), where=actual > 0)
        score = (recall.sum(axis=2) / (actual > 0).sum(axis=2)).round(_DIGITS)
        best = score == score.max(axis=1, keepdims=True)
        firsts[:] += (best / best.sum(axis=1, keepdims=True)).sum(axis=0)
        return np.asarray(score, dtype=np.float64)

    strata = size.argmin(axis=1).astype(np.int64)
    group_bootstrap(np.stack([images, *hits], axis=1), strata, note, resamples=resamples, seed=seed)
    return dict(zip(counted.names, (firsts / resamples).tolist(), strict=True))

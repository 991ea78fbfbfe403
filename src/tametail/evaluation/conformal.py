"""Conformal prediction sets: the classes that an image may have, at a required coverage, from out-of-fold probabilities.

The score of an image is 1 - p of its class (Sadinle, Lei & Wasserman 2019), and a set has the classes whose score does not exceed
a threshold. Two kinds of sets:

- class-conditional (Mondrian; Vovk 2012): one threshold per class, from the scores of its own images. The coverage of each class
  is the required one, whatever the prevalence.
- prevalence-adjusted: the coverage over all images, at a given prevalence of the classes: the weighted quantile for label
  shift of Podkopaev & Ramdas (2021), with weights prevalence / frequency. Sets are smaller, but rare classes may be missed.

Images of one group (patient) are not exchangeable, but groups are: each group has the same weight, shared by its images, and an
unseen group has the score infinity (hierarchical conformal prediction, Lee, Barber & Willett 2023; Dunn, Wasserman & Ramdas
2022). The coverage of a random image of the class, of an unseen group that has one, is then at least the required one, for a model that
was trained on other groups. With one image per group it is split conformal prediction.

Scores here are of several fold models, each of images that it was not trained on, and `predict` uses the mean of the models.
For that the guarantee is not exact; the coverage that is reported was measured, by thresholds from other folds.

Shape legend: S replicates, N images, C classes, M scores.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from tametail.core.arrays import BoolArray, FloatArray, IntArray
from tametail.evaluation.distributions import t_quantile
from tametail.evaluation.intervals import Estimate, proportions
from tametail.evaluation.sample import align, cross_fitting_parts, group_codes
from tametail.predictions.single_label import Predictions

DEFAULT_COVERAGE = 0.9
_MOST_SCORES = 1000  # of a class in a file
_DECIMALS = 6  # of a score in a file
_ROUNDING = 1e-9  # of sums of weights


@dataclass(frozen=True)
class ScoreDistribution:
    """The scores of images, such as those of one class, each group with the same total weight.

    Attributes:
        scores: (M,) rising; of prediction sets in 0..1.
        share: (M,) rising, the weight of the scores up to each one; the last is 1.
        groups: of the images.
        images: their number.
    """

    scores: FloatArray
    share: FloatArray
    groups: int
    images: int

    def threshold(self, coverage: float) -> float:
        """The least score that enough groups do not exceed; infinite if there are fewer than `needed_groups`."""
        if not self.groups:
            return math.inf
        level = coverage * (self.groups + 1) / self.groups
        at = int(np.searchsorted(self.share, level - _ROUNDING))
        return float(self.scores[at]) if at < len(self.scores) else math.inf

    def described(self) -> dict[str, Any]:
        """The distribution as JSON: what `from_description` takes; at most 1000 scores, rounded so that sets are not smaller."""
        scores, share = self.scores, self.share
        if len(scores) > _MOST_SCORES:
            share = np.arange(1, _MOST_SCORES + 1) / _MOST_SCORES
            scores = scores[np.minimum(np.searchsorted(self.share, share - _ROUNDING), len(scores) - 1)]
        rounded = np.minimum(np.ceil(scores * 10**_DECIMALS) / 10**_DECIMALS, 1.0)
        return {
            "groups": self.groups,
            "images": self.images,
            "scores": rounded.tolist(),
            "share": share.tolist(),
        }

    @classmethod
    def from_description(cls, values: Mapping[str, Any]) -> ScoreDistribution:
        """The distribution that `described` wrote.

        Raises:
            ValueError, KeyError, TypeError: the description is damaged.
        """
        scores, share = (np.array(values[name], dtype=np.float64) for name in ("scores", "share"))
        groups, images = int(values["groups"]), int(values["images"])
        valid = all(
            each.ndim == 1 and (np.diff(each) >= 0).all() and ((each >= 0) & (each <= 1 + _ROUNDING)).all()
            for each in (scores, share)
        )
        if not valid or scores.shape != share.shape or (groups > 0) != (len(scores) > 0):
            raise ValueError("expected rising scores and shares in 0..1, as many of both")
        return cls(scores, share, groups, images)


def checked_coverage(coverage: float) -> float:
    """The coverage.

    Raises:
        ValueError: it is not between 0 and 1.
    """
    if not 0 < coverage < 1:
        raise ValueError(f"expected a coverage above 0 and below 1, got {coverage}")
    return coverage


def needed_groups(coverage: float) -> int:
    """The least number of groups with a class for a finite threshold: 9 for a coverage of 90 %, 19 for 95 %.

    Raises:
        ValueError: a coverage that is not between 0 and 1.
    """
    coverage = checked_coverage(coverage)
    return math.ceil(coverage / (1 - coverage) - _ROUNDING)


def score_distributions(tables: Sequence[Predictions]) -> tuple[ScoreDistribution, ...]:
    """The scores of each class, of all images and replicates, for thresholds for new images.

    Args:
        tables: S tables of calibrated out-of-fold probabilities of the same images, aligned.
    """
    first = tables[0]
    scores = np.stack([_true_scores(table) for table in tables])
    used = np.ones(scores.shape, dtype=np.bool_)
    return _distributions(scores, used, first.target, group_codes(first), len(first.class_names))


def score_distribution(scores: FloatArray, group: IntArray) -> ScoreDistribution:
    """Of scores (N,) of images of the groups (N,)."""
    order = np.argsort(scores, kind="stable")
    return _distribution(scores[order], order, group)


def class_thresholds(distributions: Sequence[ScoreDistribution], coverage: float) -> FloatArray:
    """(C,) the threshold of each class for class-conditional sets; infinite for a class that is too rare.

    Raises:
        ValueError: a coverage that is not between 0 and 1.
    """
    needed_groups(coverage)
    return np.array([each.threshold(coverage) for each in distributions])


def prevalence_thresholds(
    distributions: Sequence[ScoreDistribution], coverage: float, prevalence: FloatArray
) -> FloatArray:
    """(C,) the threshold of each class for sets that cover this proportion of all images at a prevalence (C,).

    They differ between classes only because a new image of a rare class would have a larger weight. A class without scores has an
    infinite one.

    Raises:
        ValueError: a coverage that is not between 0 and 1.
    """
    needed_groups(coverage)
    weights = [
        share * np.diff(each.share, prepend=0.0)
        for each, share in zip(distributions, prevalence, strict=True)
    ]
    scores = np.concatenate([each.scores for each in distributions])
    order = np.argsort(scores, kind="stable")
    total = np.cumsum(np.concatenate(weights)[order])
    found = []
    for each, share in zip(distributions, prevalence.tolist(), strict=True):
        level = coverage * (1 + share / each.groups) if each.groups else math.inf
        at = int(np.searchsorted(total, level - _ROUNDING))
        found.append(float(scores[order[at]]) if at < len(total) else math.inf)
    return np.array(found)


def sets_of(p: FloatArray, thresholds: FloatArray) -> BoolArray:
    """The classes (N, C) in the set of each image, from probabilities (N, C) at the frequencies of the training set."""
    return np.asarray(p >= least_probabilities(thresholds))


def least_probabilities(thresholds: FloatArray) -> FloatArray:
    """(C,) the probability from which a class is in the set, for thresholds (C,) of the scores; -inf for a class in every set."""
    return np.asarray(1 - thresholds - _ROUNDING)


@dataclass(frozen=True)
class SetsOfClass:
    """Prediction sets of the images of one class.

    Attributes:
        name: the class.
        groups: with an image of the class.
        needed: groups that a finite threshold needs.
        coverage: proportion of sets that contain the class, each group with the same weight; n counts images.
        size: mean number of classes in a set, each group with the same weight.
    """

    name: str
    groups: int
    needed: int
    coverage: Estimate
    size: Estimate

    @property
    def too_rare(self) -> bool:
        """Whether the class has too few groups for the required coverage, and so is in every set."""
        return self.groups < self.needed


@dataclass(frozen=True)
class PredictionSets:
    """Prediction sets of out-of-fold predictions: for the images of each fold, with thresholds from the other folds.

    Attributes:
        required: coverage.
        classes: C results.
        coverage, size, single, empty: over all groups, each with the same weight: proportion of sets with the true class, mean
            number of classes, and proportions of sets with exactly one class, and with none.
        distributions: (C,) of the scores of all images, for new images.
    """

    required: float
    classes: tuple[SetsOfClass, ...]
    coverage: Estimate
    size: Estimate
    single: Estimate
    empty: Estimate
    distributions: tuple[ScoreDistribution, ...]

    @property
    def too_rare(self) -> tuple[str, ...]:
        """The classes that have too few groups for the required coverage."""
        return tuple(one.name for one in self.classes if one.too_rare)


def prediction_sets(
    replicates: Sequence[Predictions],
    coverage: float = DEFAULT_COVERAGE,
    prevalence: FloatArray | None = None,
) -> PredictionSets:
    """Evaluate prediction sets: coverage and size in each class, with thresholds from other folds.

    Values are means over the replicates. Intervals describe the sampling of groups, and regard thresholds as fixed: Wilson for
    proportions, t for sizes. Predictions of a single fold are assigned to five parts, whole groups at a time.

    Args:
        replicates: tables of calibrated probabilities of the same images, e.g. one per seed (folds joined).
        coverage: required, above 0 and below 1.
        prevalence: (C,) for prevalence-adjusted sets; None for class-conditional ones.

    Raises:
        ValueError: no table, no image, tables that differ in images, groups, targets or classes, or a coverage out of range.
    """
    needed, tables = needed_groups(coverage), align(replicates)
    first, group = tables[0], group_codes(tables[0])
    target, names = first.target, first.class_names
    scores = np.stack([_true_scores(table) for table in tables])
    covered, size = np.zeros(scores.shape), np.zeros(scores.shape)
    for replicate, table in enumerate(tables):
        parts = cross_fitting_parts(table, 2)
        for part in np.unique(parts):
            own = parts == part
            used = np.zeros(scores.shape, dtype=np.bool_)
            used[replicate] = ~own
            others = _distributions(scores, used, target, group, len(names))
            thresholds = _thresholds(others, coverage, prevalence)
            rows = np.flatnonzero(own)
            sets = sets_of(table.probabilities_of(rows), thresholds)
            size[replicate, rows] = sets.sum(axis=1)
            covered[replicate, rows] = sets[np.arange(len(rows)), target[rows]]
    hits, sizes = covered.mean(axis=0), size.mean(axis=0)
    single, empty = (size == 1).mean(axis=0), (size == 0).mean(axis=0)
    everything = np.ones(len(target), dtype=np.bool_)
    most = len(names)
    by_class = []
    for index, name in enumerate(names):
        of_class = target == index
        groups = len(np.unique(group[of_class]))
        estimates = _mean(hits, of_class, group), _mean(sizes, of_class, group, most)
        by_class.append(SetsOfClass(name, groups, needed, *estimates))
    return PredictionSets(
        coverage,
        tuple(by_class),
        _mean(hits, everything, group),
        _mean(sizes, everything, group, most),
        _mean(single, everything, group),
        _mean(empty, everything, group),
        score_distributions(tables),
    )


def _thresholds(
    distributions: Sequence[ScoreDistribution], coverage: float, prevalence: FloatArray | None
) -> FloatArray:
    if prevalence is None:
        return class_thresholds(distributions, coverage)
    return prevalence_thresholds(distributions, coverage, prevalence)


def _true_scores(table: Predictions) -> FloatArray:
    """(N,) the score of the true class of each image."""
    scores = np.empty(len(table))
    for rows, p in table.probability_blocks():
        scores[rows] = 1 - p[np.arange(len(p)), table.target[rows]]
    return scores


def _distributions(
    scores: FloatArray, used: BoolArray, target: IntArray, group: IntArray, classes: int
) -> tuple[ScoreDistribution, ...]:
    """Of each class, from scores (S, N), of those ``used`` (S, N)."""
    replicate, image = np.nonzero(used)
    order = np.lexsort((scores[replicate, image], target[image]))
    replicate, image = replicate[order], image[order]
    ends = np.searchsorted(target[image], np.arange(classes + 1))
    return tuple(
        _distribution(scores[replicate[a:b], image[a:b]], image[a:b], group)
        for a, b in pairwise(ends.tolist())
    )


def _distribution(scores: FloatArray, image: IntArray, group: IntArray) -> ScoreDistribution:
    """From rising scores (M,) of images (M,)."""
    code, times = np.unique(group[image], return_inverse=True, return_counts=True)[1:]
    weight = 1 / (times[code] * max(len(times), 1))
    return ScoreDistribution(scores, np.cumsum(weight), len(times), len(np.unique(image)))


def _mean(values: FloatArray, member: BoolArray, group: IntArray, most: int | None = None) -> Estimate:
    """Mean of values (N,) of the images that ``member`` (N,) marks, each group with the same weight; n counts images.

    Args:
        most: of a value, for the limits of a t distribution; None for proportions.
    """
    n = int(member.sum())
    if not n:
        return Estimate(math.nan, math.nan, math.nan, 0)
    code, times = np.unique(group[member], return_inverse=True, return_counts=True)[1:]
    of_groups = np.bincount(code, values[member]) / times
    mean, groups = float(of_groups.mean()), len(of_groups)
    if most is None:
        of_each, ones = of_groups[:, None], np.ones((groups, 1))
        return proportions(np.array([mean]), of_each, ones, np.array([n])).estimate(0)
    if groups < 2:
        return Estimate(mean, 0.0, float(most), n)
    half = float(t_quantile(0.975, groups - 1)) * float(of_groups.std(ddof=1)) / math.sqrt(groups)
    return Estimate(mean, max(mean - half, 0.0), min(mean + half, float(most)), n)

"""Label shift: the prevalence of the classes in a batch of unlabelled images, from calibrated probabilities, with intervals.

Images of each class are assumed to be like those of the study, and only the prevalence to be new. Two estimators in turn:

- EM (Saerens, Latinne & Decaestecker 2002): the prevalence of maximum likelihood. It takes the probabilities at their word, so
  that errors of calibration go into the estimate (Alexandari, Kundaje & Shrikumar 2020 calibrate first).
- BBSE (Lipton, Wang & Smola 2018): the mean prediction of the batch is a mixture of the mean predictions of each class, which
  out-of-fold predictions give. It needs no calibration, and holds for predictions of any kind.

`estimate_prevalence` applies BBSE to the probabilities that EM has adapted to the batch. At the prevalence in question these are
the most informative predictions, so that the variance is about that of maximum likelihood, but without its bias.

Predictions are adapted to the centres of the intervals: an estimate of 0 would exclude a class that a few images cannot exclude. And
they are adapted only if their log-loss is expected to become lower, with 95 % confidence; images that are few, or whose prevalence is
near that of the training set, do not reach that.

Intervals have the sampling of the batch and of the out-of-fold images. An interval has all prevalences t for which the estimate is
within its standard error at t (a score interval): of a classifier without mistakes it is Wilson's.

Shape legend: N images of the batch, M out-of-fold images, C classes.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tametail.core.arrays import BoolArray, FloatArray, IntArray, TextArray
from tametail.evaluation.distributions import normal_quantile, t_quantile
from tametail.evaluation.sample import align, group_codes
from tametail.predictions.single_label import Predictions, exclusive, for_prevalence

CONFIDENCE = 0.95
"""With which adapted predictions must have a lower log-loss."""

MOST_DEVIATION = 3.0
"""Standard errors of the confidence, beyond which images are not like those of the study."""

_NUMBERS = 50_000  # probabilities that a reference has at most, about: 0.4 MB in a file
_DIGITS = 4  # significant, of a probability in a file
_ITERATIONS, _CHANGE = 5_000, 1e-7  # of EM
_MOST_OF_EM = (
    20_000  # images, which are drawn if there are more: EM only prepares the estimate, which is of all
)
_CONDITION = 1e8  # from which two classes are regarded as indistinguishable
_UNKNOWN = 1e9  # squared error of what a single group tells


@dataclass(frozen=True)
class ShiftReference:
    """Calibrated out-of-fold probabilities of some images of each class.

    Attributes:
        p: (M, C) at the class frequencies of the training set.
        target: (M,) true classes.
        group: (M,) codes of the groups (patients).
        images: (C,) of each class in the training set, which may be more than are included.
    """

    p: FloatArray
    target: IntArray
    group: IntArray
    images: IntArray

    @property
    def trained(self) -> FloatArray:
        """(C,) class frequencies of the training set."""
        return np.asarray(self.images / self.images.sum())

    def of_classes(self, chosen: BoolArray) -> ShiftReference:
        """The reference of some classes (C,): as if there were no others, of which it has no images."""
        number = np.cumsum(chosen) - 1
        return ShiftReference(
            exclusive(self.p[:, chosen]), number[self.target], self.group, self.images[chosen]
        )

    def unordered(self) -> ShiftReference:
        """The same in an order of its own, which does not tell that of the study's images, with new codes of groups."""
        order = np.lexsort((*self.p.T[::-1], self.target))
        first = np.unique(self.group[order], return_index=True)[1]
        code = np.empty(int(self.group.max()) + 1, dtype=np.int64)
        code[self.group[order][np.sort(first)]] = np.arange(len(first))
        return ShiftReference(self.p[order], self.target[order], code[self.group[order]], self.images)

    def described(self) -> dict[str, Any]:
        """The reference as JSON: what `from_description` takes; probabilities have four significant digits."""
        short = [[float(f"{value:.{_DIGITS}g}") for value in row] for row in self.p.tolist()]
        return {
            "images": self.images.tolist(),
            "target": self.target.tolist(),
            "group": self.group.tolist(),
            "p": short,
        }

    @classmethod
    def from_description(cls, values: Mapping[str, Any]) -> ShiftReference:
        """The reference that `described` wrote.

        Raises:
            ValueError, KeyError, TypeError: the description is damaged.
        """
        target, group, images = (
            np.array(values[name], dtype=np.int64) for name in ("target", "group", "images")
        )
        p = np.array(values["p"], dtype=np.float64)
        classes = len(images)
        valid = (
            images.ndim == 1
            and p.shape == (len(target), classes)
            and target.shape == group.shape
            and ((p >= 0) & (p <= 1)).all()
            and ((target >= 0) & (target < classes)).all()
            and (np.bincount(target, minlength=classes) <= images).all()
            and len(target) > 0
        )
        if not valid:
            raise ValueError("expected probabilities in 0..1 with a class and a group of each image")
        return cls(exclusive(p), target, group, images)


def shift_reference(tables: Sequence[Predictions]) -> ShiftReference | None:
    """Choose out-of-fold images to estimate prevalences with: about 50,000 probabilities, of each class all or equally many.

    None of so many classes that two images of each are too much. Of several replicates each image has the mean, as new images have the mean of several models.

    Args:
        tables: one per replicate, of calibrated out-of-fold probabilities of the same images.

    Raises:
        ValueError: no table, no image, or tables of different images.
    """
    tables = align(tables)
    first = tables[0]
    classes = len(first.class_names)
    counts = np.bincount(first.target, minlength=classes)
    fits = range(1, int(counts.max()) + 1)
    most = bisect_right(fits, _NUMBERS / classes, key=lambda n: float(np.minimum(counts, n).sum()))
    if most < 2:
        return None
    drawn = np.random.default_rng(0).permutation(len(first))
    rows = np.sort(np.concatenate([drawn[first.target[drawn] == c][:most] for c in range(classes)]))
    p = np.asarray(np.mean([table.probabilities_of(rows) for table in tables], axis=0))
    group = np.unique(group_codes(first)[rows], return_inverse=True)[1]
    return ShiftReference(p, first.target[rows], np.asarray(group, dtype=np.int64), counts)


@dataclass(frozen=True)
class PrevalenceEstimate:
    """The estimated prevalence of the classes in a batch of images.

    Attributes:
        prevalence: (C,) sums to one; 0 for a class that the study has no image of.
        low, high: (C,) limits of its confidence intervals; nan for a class that the study has no image of.
        trained: (C,) class frequencies of the training set.
        adapted: (C,) what predictions are adapted to: the centres of the intervals, scaled to sum to one.
        em: (C,) the estimate of EM alone.
        images: N.
        gain: by how much the mean log-loss of these images is expected to fall if predictions are adapted.
        gain_low: its lower limit, one-sided, with 95 % confidence.
        needed: number of images of this prevalence with which the limit would be above 0; None if no number is enough, as the prevalence
            is that of the training set, or too few images of a class have out-of-fold predictions.
        confidence: mean probability of the most probable class, at the estimated prevalence.
        expected_confidence: the same as expected of images of the study at this prevalence.
        deviation: their difference in standard errors. Beyond `MOST_DEVIATION`, images of a class differ from those of the study, and the
            estimate is doubtful; nan where it is unknown.
    """

    prevalence: FloatArray
    low: FloatArray
    high: FloatArray
    trained: FloatArray
    adapted: FloatArray
    em: FloatArray
    images: int
    gain: float
    gain_low: float
    needed: int | None
    confidence: float
    expected_confidence: float
    deviation: float

    @property
    def helps(self) -> bool:
        """Whether adapted predictions are expected to have a lower log-loss, with 95 % confidence."""
        return self.gain_low > 0


def em_prevalence(p: FloatArray, trained: FloatArray) -> FloatArray:
    """The prevalence (C,) of maximum likelihood in a batch, by the EM algorithm (Saerens, Latinne & Decaestecker 2002).

    Args:
        p: (N, C) calibrated probabilities at the class frequencies of the training set.
        trained: (C,) these frequencies; a class with 0 gets 0.

    Raises:
        ValueError: no image.
    """
    if not len(p):
        raise ValueError("expected the probabilities of at least one image, got none")
    if len(p) > _MOST_OF_EM:
        p = p[np.random.default_rng(0).choice(len(p), _MOST_OF_EM, replace=False)]
    prevalence = trained / trained.sum()
    for _ in range(_ITERATIONS):
        before, prevalence = prevalence, for_prevalence(p, trained, prevalence).mean(axis=0)
        if np.abs(prevalence - before).max() < _CHANGE:
            break
    return np.asarray(prevalence)


def bbse_prevalence(mean: FloatArray, by_class: FloatArray) -> FloatArray:
    """The prevalence (C,) of which the mean prediction of a batch is the mixture (Lipton, Wang & Smola 2018).

    Values may be negative, if the batch is no such mixture, as by chance; `on_simplex` gives the nearest prevalence.

    Args:
        mean: (C,) mean prediction of the batch, e.g. mean probabilities.
        by_class: (C, C) mean prediction of the images of each true class (rows).

    Raises:
        numpy.linalg.LinAlgError: mean predictions of the classes are linearly dependent.
    """
    return np.asarray(np.linalg.solve(by_class.T, mean))


def on_simplex(values: FloatArray) -> FloatArray:
    """The nearest numbers to these (C,) that are not negative and sum to one (Duchi et al. 2008)."""
    falling = np.sort(values)[::-1]
    excess = (np.cumsum(falling) - 1) / np.arange(1, len(values) + 1)
    return np.asarray(np.maximum(values - excess[np.flatnonzero(falling > excess)[-1]], 0.0))


def estimate_prevalence(
    p: FloatArray,
    reference: ShiftReference,
    *,
    group: IntArray | TextArray | None = None,
    confidence: float = 0.95,
) -> PrevalenceEstimate:
    """Estimate the prevalence of the classes in a batch of images, with confidence intervals.

    Args:
        p: (N, C) calibrated probabilities at the class frequencies of the training set, of several models their mean.
        reference: of the same models.
        group: (N,) of the images, of which those of one group (patient) are correlated; None if each has its own.
        confidence: of the intervals.

    Raises:
        ValueError: no image, other classes than those of the reference, or groups of another number of images.
    """
    images, classes = p.shape
    if classes != len(reference.images) or not images:
        raise ValueError(
            f"expected probabilities of at least one image and {len(reference.images)} classes, got {images} and {classes}"
        )
    if group is not None and len(group) != images:
        raise ValueError(f"expected the groups of {images} images, got {len(group)}")
    known = np.bincount(reference.target, minlength=classes) > 0
    if not known.all():
        return _of_all_classes(
            _estimate(exclusive(p[:, known]), reference.of_classes(known), group, confidence), known
        )
    return _estimate(p, reference, group, confidence)


def _estimate(
    p: FloatArray, reference: ShiftReference, group: IntArray | TextArray | None, confidence: float
) -> PrevalenceEstimate:
    images, classes = p.shape
    trained, em = reference.trained, em_prevalence(p, reference.trained)
    # One more image of each class: predictions of a class that EM leaves out would not tell it from others.
    near = (images * em + 1) / (images + classes)
    adapted, of_reference = (for_prevalence(each, trained, near) for each in (p, reference.p))
    moments = _Moments.of(of_reference, reference)
    if moments is None:
        nothing, everything = np.zeros(classes), np.ones(classes)
        unknown = (math.nan, -math.inf, None, math.nan, math.nan, math.nan)
        return PrevalenceEstimate(em, nothing, everything, trained, em, em, images, *unknown)
    codes = np.arange(images) if group is None else np.unique(group, return_inverse=True)[1]
    influence = adapted @ moments.inverse
    share = on_simplex(influence.mean(axis=0))
    independent = images / _design_effect(influence - influence.mean(axis=0), codes)
    low, high = moments.interval(share, independent, normal_quantile(0.5 + confidence / 2))
    # Rounding may put a limit slightly inside the estimate.
    low, high = np.minimum(low, share), np.maximum(high, share)
    centre = (low + high) / (low + high).sum()

    # Of true class y the log-loss falls by log(centre / trained) of y, less the logarithm of what the probabilities are divided by.
    change = np.log(centre / trained)
    gains = influence @ change - np.log((p * centre / trained).sum(axis=1))
    gain, within = float(gains.mean()), _squared_error_of_batch(gains, codes)
    between = float(centre**2 @ moments.error(moments.influence @ change))
    limit = float(t_quantile(CONFIDENCE, max(int(codes.max()), 1)))
    room = (max(gain, 0.0) / limit) ** 2 - between

    highest, highest_known = adapted.max(axis=1), of_reference.max(axis=1)
    by_class = np.array([highest_known[own].mean() for own in moments.members])
    left = highest - influence @ by_class
    left_error = share**2 @ moments.error(highest_known - moments.influence @ by_class)
    error = math.sqrt(_squared_error_of_batch(left, codes) + left_error)
    return PrevalenceEstimate(
        prevalence=share,
        low=low,
        high=high,
        trained=trained,
        adapted=centre,
        em=em,
        images=images,
        gain=gain,
        gain_low=gain - limit * math.sqrt(within + between),
        needed=math.ceil(images * within / room) if room > 0 and math.isfinite(within) else None,
        confidence=float(highest.mean()),
        expected_confidence=float(share @ by_class),
        deviation=float(left.mean()) / error if 0 < error < math.inf else math.nan,
    )


def _of_all_classes(found: PrevalenceEstimate, known: BoolArray) -> PrevalenceEstimate:
    """An estimate of some classes, with 0 for the others, and no limits."""

    def filled(values: FloatArray, other: float) -> FloatArray:
        every = np.full(len(known), other)
        every[known] = values
        return every

    return replace(
        found,
        prevalence=filled(found.prevalence, 0.0),
        low=filled(found.low, math.nan),
        high=filled(found.high, math.nan),
        trained=filled(found.trained, 0.0),
        adapted=filled(found.adapted, 0.0),
        em=filled(found.em, 0.0),
    )


@dataclass(frozen=True)
class _Moments:
    """What the reference says of C classes, all of them with images.

    Attributes:
        inverse: (C, C) maps adapted probabilities to the influence of an image on the estimate, whose mean over the images of a class
            is 1 for this class and 0 for the others.
        influence: (M, C) of the images of the reference.
        members: of each class its images.
        group: (M,) codes.
    """

    inverse: FloatArray
    influence: FloatArray
    members: tuple[IntArray, ...]
    group: IntArray

    @classmethod
    def of(cls, adapted: FloatArray, reference: ShiftReference) -> _Moments | None:
        """Of adapted probabilities (M, C); None if they do not tell all classes apart."""
        members = tuple(np.flatnonzero(reference.target == c) for c in range(adapted.shape[1]))
        by_class = np.stack([adapted[own].mean(axis=0) for own in members])
        if np.linalg.cond(by_class) > _CONDITION:
            return None
        # Its transpose solves the equations of `bbse_prevalence`.
        inverse = np.linalg.inv(by_class)
        return cls(inverse, adapted @ inverse, members, reference.group)

    def error(self, values: FloatArray) -> FloatArray:
        """(C,) squared standard errors of the means of values (M,) of each class, or (C, L) of (M, L), over groups."""
        columns = values.reshape(len(values), -1)
        errors = np.stack([_squared_error(columns[own], self.group[own]) for own in self.members])
        return errors.reshape(-1, *values.shape[1:])

    def interval(self, share: FloatArray, images: FloatArray, z: float) -> tuple[FloatArray, FloatArray]:
        """Limits (C,) in 0..1: the prevalences t of each class for which (share - t)² is at most z² times the variance at t.

        The other classes have the rest 1 - t in their estimated proportions. The variance is then a polynomial of degree 2 in t.

        Args:
            share: (C,) the estimate.
            images: (C,) independent ones of the batch.
        """
        square = np.stack([(self.influence[own] ** 2).mean(axis=0) for own in self.members])
        error = self.error(self.influence)
        own, own_error = np.diagonal(square), np.diagonal(error)
        others = np.tile(share, (len(share), 1))
        np.fill_diagonal(others, 0.0)
        total = others.sum(axis=1, keepdims=True)
        even = (1 - np.eye(len(share))) / max(len(share) - 1, 1)
        others = np.where(total > 0, others / np.where(total > 0, total, 1.0), even)
        rest = np.einsum("ki,ik->k", others, square)
        rest_error = np.einsum("ki,ik->k", others**2, error)
        # variance(t) = (t own + (1 - t) rest - t²) / images + t² own_error + (1 - t)² rest_error
        quadratic = -1 / images + own_error + rest_error
        linear = (own - rest) / images - 2 * rest_error
        constant = rest / images + rest_error
        a, b, c = 1 - z**2 * quadratic, -2 * share - z**2 * linear, share**2 - z**2 * constant
        root = np.sqrt(np.maximum(b**2 - 4 * a * c, 0.0))
        # With a <= 0 errors grow as fast as t: no t is excluded.
        safe = np.where(a > 0, a, 1.0)
        low, high = ((-b + sign * root) / (2 * safe) for sign in (-1, 1))
        low, high = np.where(a > 0, low, 0.0), np.where(a > 0, high, 1.0)
        return np.clip(low, 0.0, 1.0), np.clip(high, 0.0, 1.0)


def _squared_error(values: FloatArray, group: IntArray) -> FloatArray:
    """(K,) squared standard errors of the means of values (M, K) over groups; larger for few groups, huge for one.

    As if one more group could differ from the mean by 1, as an image does that looks like one of another class: where few images
    are known, mistakes that are rare, but matter in a batch of other prevalence, have often not been seen.
    """
    code = np.unique(group, return_inverse=True)[1]
    groups = int(code.max()) + 1
    if groups < 2:
        return np.full(values.shape[1], _UNKNOWN)
    apart = values - values.mean(axis=0)
    sums = np.stack([np.bincount(code, column) for column in apart.T], axis=1)
    few = (float(t_quantile(0.975, groups - 1)) / normal_quantile(0.975)) ** 2
    squared = (sums**2).sum(axis=0) / len(values) ** 2 * groups / (groups - 1) * few
    return np.asarray(squared + 1 / (groups + 1) ** 2)


def _squared_error_of_batch(values: FloatArray, code: IntArray) -> float:
    """Squared standard error of the mean of values (N,) over groups; infinite for a single group."""
    groups = int(code.max()) + 1
    if groups < 2:
        return math.inf
    sums = np.bincount(code, values - values.mean())
    return float((sums**2).sum() / len(values) ** 2 * groups / (groups - 1))


def _design_effect(apart: FloatArray, code: IntArray) -> FloatArray:
    """(K,) variance of means of (N, K) centred values over groups by that over images, at least 1; N for a single group."""
    images, groups = len(apart), int(code.max()) + 1
    if groups == images:
        return np.ones(apart.shape[1])
    if groups < 2:
        return np.full(apart.shape[1], float(images))
    sums = np.stack([np.bincount(code, column) for column in apart.T], axis=1)
    between, within = (sums**2).sum(axis=0) * groups / (groups - 1), (apart**2).sum(axis=0)
    return np.maximum(np.where(within > 0, between / np.where(within > 0, within, 1.0), images / groups), 1.0)

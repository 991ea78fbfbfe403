"""Unlikeness: how far the features of a new image are from those of the training images. NumPy alone.

Features are scaled by blocks and described by a Gaussian with a low-rank covariance (probabilistic principal components; Tipping &
Bishop 1999): K directions with a variance each, and one variance for all the others. The score is the squared Mahalanobis
distance under it, per feature: of large values the model has seen nothing like them. The classes play no part, so that it is the
same for images of one or of several labels.

Training images that a Gaussian was fitted on are nearer to it than new ones. So the threshold is a quantile of scores by
cross-fitting: of each fold by a Gaussian of the other folds. Groups (patients) have equal weight there, as in
`tametail.evaluation.conformal`: the image of a new group exceeds the threshold with at most the stated false-alarm rate.

What is kept of the training images is a mean, directions, variances and the scores in order: no features of an image.

Shape legend: N images, D features, K directions, M held-out images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tametail.core.arrays import FloatArray, IntArray, TextArray
from tametail.evaluation.conformal import ScoreDistribution, needed_groups, score_distribution
from tametail.evaluation.sample import assigned_parts

Features = NDArray[np.float32]

FALSE_ALARMS = 0.05  # of images of new groups that are like the training images
MOST_DIRECTIONS = 32
_IMAGES_PER_DIRECTION = 4  # at least
_SPARE = 8  # directions that are iterated with those that are kept
_ITERATIONS = 3
_FEWEST = 8  # images of a fit
_NO_VARIANCE = 1e-10  # of a block, relative to the largest
_LEAST_NOISE = 1e-6  # variance outside of the directions, relative to the mean of all features


def score(
    features: Features,
    mean: Features,
    scale: Features,
    components: Features,
    variances: Features,
    noise: Features,
) -> Features:
    """Squared Mahalanobis distance per feature (N,) of features (N, D), about 1 for images that were fitted on.

    Of products, sums and quotients alone, so that a graph of an exported model can compute it too.

    Args:
        features: as the network gives them.
        mean, scale: (D,) of the features.
        components: (D, K) orthonormal directions of the scaled features.
        variances: (K,) along them.
        noise: (1,) variance along every other direction.
    """
    scaled = (features - mean) / scale
    inside = scaled @ components
    outside = (scaled * scaled).sum(axis=1) - (inside * inside).sum(axis=1)
    distance = (inside * inside / variances).sum(axis=1) + outside / noise
    return np.asarray(distance / len(mean), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class FeatureGaussian:
    """A Gaussian of features; the attributes are the arguments of `score`."""

    mean: Features
    scale: Features
    components: Features
    variances: Features
    noise: Features

    def score(self, features: Features) -> Features:
        """See `score`."""
        return score(features, self.mean, self.scale, self.components, self.variances, self.noise)


@dataclass(frozen=True, eq=False)
class Unlikeness:
    """A Gaussian of training images' features, and scores of images that it was not fitted on.

    Attributes:
        gaussian: of all of them.
        held_out: the scores by cross-fitting, each group with the same weight.
    """

    gaussian: FeatureGaussian
    held_out: ScoreDistribution

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What `from_arrays` takes."""
        held_out = self.held_out
        return {
            **{name: getattr(self.gaussian, name) for name in FeatureGaussian.__dataclass_fields__},
            "scores": held_out.scores.astype(np.float32),
            "share": held_out.share,
            "counts": np.array([held_out.groups, held_out.images]),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Unlikeness:
        """The values that `arrays` gave.

        Raises:
            ValueError, KeyError: they are damaged.
        """
        gaussian = FeatureGaussian(*(arrays[name] for name in FeatureGaussian.__dataclass_fields__))
        features, directions = gaussian.components.shape
        shapes = ((features,), (features,), (features, directions), (directions,), (1,))
        values = [getattr(gaussian, name) for name in FeatureGaussian.__dataclass_fields__]
        if [each.shape for each in values] != list(shapes) or any(
            each.dtype != np.float32 or not np.isfinite(each).all() for each in values
        ):
            raise ValueError("expected finite float32 values of one number of features and directions")
        if not all((each > 0).all() for each in (gaussian.scale, gaussian.variances, gaussian.noise)):
            raise ValueError("expected positive scales and variances")
        scores, share = (arrays[name].astype(np.float64) for name in ("scores", "share"))
        groups, images = map(int, arrays["counts"])
        rising = all(each.ndim == 1 and (np.diff(each) >= 0).all() for each in (scores, share))
        if not rising or scores.shape != share.shape or groups < 0:
            raise ValueError("expected rising scores and shares, as many of both")
        return cls(gaussian, ScoreDistribution(scores, share, groups, images))


def threshold(
    held_out: Sequence[ScoreDistribution], repeats: int = 1, false_alarms: float = FALSE_ALARMS
) -> float:
    """The score that images of new groups exceed at most at this rate; infinite with fewer groups than `fewest_groups`.

    Args:
        held_out: of one model, or of several, each with its own images, in each of so many ``repeats``.
    """
    scores = np.concatenate([each.scores for each in held_out])
    weight = np.concatenate([np.diff(each.share, prepend=0.0) * each.groups for each in held_out])
    order = np.argsort(scores, kind="stable")
    groups = sum(each.groups for each in held_out)
    share = np.cumsum(weight[order]) / max(groups, 1)
    pooled = ScoreDistribution(scores[order], share, groups // repeats, len(scores))
    return pooled.threshold(1 - false_alarms)


def fewest_groups(false_alarms: float = FALSE_ALARMS) -> int:
    """The least number of groups for a threshold: 19 for a false-alarm rate of 5 %."""
    return needed_groups(1 - false_alarms)


def fit_unlikeness(
    features: Features, blocks: Sequence[int], group: TextArray, fold: IntArray | None = None
) -> Unlikeness:
    """Fit the Gaussian to all images, and score each by one of other images.

    Args:
        features: (N, D).
        blocks: lengths of the blocks of features, of sum D.
        group: (N,) of the images.
        fold: (N,) of the images, with whole groups in each; None for five parts of whole groups.

    Raises:
        ValueError: too few images or groups, or features that are not finite or do not vary.
    """
    codes = np.asarray(np.unique(group, return_inverse=True)[1], dtype=np.int64)
    parts = assigned_parts(codes, np.zeros(len(codes), dtype=np.bool_)) if fold is None else fold
    scores = np.empty(len(features))
    for part in np.unique(parts):
        own = parts == part
        scores[own] = fit_gaussian(features[~own], blocks).score(features[own])
    return Unlikeness(fit_gaussian(features, blocks), score_distribution(scores, codes))


def fit_gaussian(features: Features, blocks: Sequence[int]) -> FeatureGaussian:
    """Fit to features (N, D), by subspace iteration from a fixed start, so that equal features give equal bytes.

    Args:
        blocks: lengths of the blocks of features, each of which is scaled by one factor to the same variance.

    Raises:
        ValueError: too few images, or features that are not finite or do not vary.
    """
    images, width = features.shape
    if images < _FEWEST:
        raise ValueError(f"expected the features of at least {_FEWEST} images, got {images}")
    mean = features.mean(axis=0, dtype=np.float64).astype(np.float32)
    scaled = features - mean
    variance = np.square(scaled).mean(axis=0, dtype=np.float64)
    ends = np.cumsum([0, *blocks])
    of_block = np.array([variance[start:end].sum() for start, end in pairwise(ends.tolist())])
    if not np.isfinite(of_block).all() or of_block.max() <= 0:
        raise ValueError("expected finite features that vary")
    varies = of_block > _NO_VARIANCE * of_block.max()
    scale = np.repeat(np.where(varies, np.sqrt(of_block), 1.0), blocks).astype(np.float32)
    scaled /= scale
    total = float((variance / np.square(scale, dtype=np.float64)).sum())
    kept = min(MOST_DIRECTIONS, images // _IMAGES_PER_DIRECTION, width // 2)
    components, variances = _leading(scaled, kept, min(kept + _SPARE, width))
    noise = max((total - float(variances.sum())) / (width - kept), _LEAST_NOISE * total / width)
    return FeatureGaussian(
        mean,
        scale,
        components,
        np.maximum(variances, noise).astype(np.float32),
        np.array([noise], dtype=np.float32),
    )


def _leading(scaled: Features, kept: int, iterated: int) -> tuple[Features, FloatArray]:
    """The principal components (D, K) of centred features (N, D), and the variances (K,) along them."""
    start = np.random.default_rng(0).standard_normal((scaled.shape[1], iterated), dtype=np.float32)
    basis = np.linalg.qr(start)[0]
    for _ in range(_ITERATIONS):
        basis = np.linalg.qr(scaled.T @ (scaled @ basis))[0]
    inside = scaled @ basis
    values, vectors = np.linalg.eigh((inside.T @ inside).astype(np.float64) / len(scaled))
    chosen = vectors[:, ::-1][:, :kept].astype(np.float32)
    return np.ascontiguousarray(basis @ chosen), values[::-1][:kept]

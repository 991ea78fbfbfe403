"""Unlikeness: scores beside scikit-learn's probabilistic PCA and SciPy, false alarms by simulation, invariances, storage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.decomposition import PCA

from tametail.core.arrays import FloatArray
from tametail.evaluation.conformal import score_distribution
from tametail.evaluation.unlikeness import (
    Features,
    Unlikeness,
    fewest_groups,
    fit_gaussian,
    fit_unlikeness,
    threshold,
)

BLOCKS = (24, 16)


def drawn(n: int, rng: np.random.Generator, blocks: tuple[int, ...] = BLOCKS) -> Features:
    """Features whose variances along 40 random directions fall."""
    width = sum(blocks)
    turn = np.linalg.qr(np.random.default_rng(7).normal(size=(width, width)))[0]
    return (5 + rng.normal(size=(n, width)) * 0.9 ** np.arange(width) @ turn).astype(np.float32)


def scaled(features: Features, like: Features) -> FloatArray:
    """Blocks of the same variance, as `fit_gaussian` takes them."""
    parts = []
    for own, all_of_it in zip(np.split(features, [24], axis=1), np.split(like, [24], axis=1), strict=True):
        mean = all_of_it.mean(axis=0, dtype=np.float64)
        parts.append((own - mean) / np.sqrt(((all_of_it - mean) ** 2).sum(axis=1).mean()))
    return np.concatenate(parts, axis=1)


def test_the_score_is_that_of_probabilistic_principal_components() -> None:
    rng = np.random.default_rng(0)
    train, new = drawn(400, rng), drawn(50, rng) + np.float32(0.3)
    found = fit_gaussian(train, BLOCKS)
    kept = found.components.shape[1]
    assert kept == 20
    pca = PCA(kept, svd_solver="full").fit(scaled(train, train))
    likelihood = pca.score_samples(scaled(new, train))
    covariance = pca.get_covariance()
    width = sum(BLOCKS)
    distance = -2 * likelihood - width * np.log(2 * np.pi) - np.linalg.slogdet(covariance)[1]
    unbiased = 400 / 399  # of the covariance of scikit-learn
    np.testing.assert_allclose(found.score(new) * width, distance * unbiased, rtol=2e-3)


def test_the_score_is_the_mahalanobis_distance_of_its_gaussian() -> None:
    rng = np.random.default_rng(1)
    train, new = drawn(300, rng), drawn(20, rng)
    own = fit_gaussian(train, BLOCKS)
    v = own.components.astype(np.float64)
    covariance = v * own.variances @ v.T + own.noise * (np.eye(len(v)) - v @ v.T)
    points = (new - own.mean) / own.scale
    expected = stats.multivariate_normal(np.zeros(len(v)), covariance, allow_singular=True)
    distance = -2 * (expected.logpdf(points) - expected.logpdf(np.zeros(len(v))))
    np.testing.assert_allclose(own.score(new) * len(v), distance, rtol=1e-3)
    np.testing.assert_allclose(v.T @ v, np.eye(v.shape[1]), atol=1e-5)


def test_the_mean_score_of_the_images_of_the_fit_is_one() -> None:
    train = drawn(400, np.random.default_rng(2))
    assert fit_gaussian(train, BLOCKS).score(train).mean() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(("groups", "least"), [(30, 0.0), (120, 0.02)])
def test_false_alarms_are_at_most_the_stated_rate(groups: int, least: float) -> None:
    """Of one random image of each new group; images of a group are alike, and groups with many images are harder."""
    rng = np.random.default_rng(3)
    rates = []
    for _ in range(60):
        sizes = rng.integers(1, 6, groups + 100)
        group = np.repeat(np.arange(len(sizes)), sizes)
        shared = rng.normal(size=(len(sizes), 12)) * (0.7 + 0.3 * sizes[:, None])
        features = (shared[group] + 0.5 * rng.normal(size=(len(group), 12))).astype(np.float32)
        known = group < groups
        fitted = fit_unlikeness(features[known], (8, 4), group[known].astype(np.str_))
        first = np.unique(group, return_index=True)[1][groups:]
        rates.append((fitted.gaussian.score(features[first]) > threshold([fitted.held_out])).mean())
    error = np.std(rates) / np.sqrt(len(rates))
    assert least < np.mean(rates) < 0.05 + 3 * error


def test_folds_are_scored_by_the_others() -> None:
    rng = np.random.default_rng(4)
    features, fold = drawn(90, rng), np.arange(90) % 3
    found = fit_unlikeness(features, BLOCKS, np.arange(90).astype(np.str_), fold)
    own = fit_gaussian(features[fold != 1], BLOCKS).score(features[fold == 1])
    assert np.isin(own, found.held_out.scores.astype(np.float32)).all()
    assert (found.held_out.groups, found.held_out.images) == (90, 90)


def test_groups_have_the_same_weight() -> None:
    scores = np.array([*range(1, 41), *[100.0] * 60])
    group = np.array([*range(40), *[40] * 60])
    assert (
        threshold([score_distribution(scores, group)], false_alarms=0.1) == 38
    )  # of 41, with the unseen one
    assert threshold([score_distribution(scores, np.arange(100))], false_alarms=0.1) == 100


def test_the_scores_of_several_models_are_pooled() -> None:
    scores = np.arange(1.0, 101.0)
    whole = score_distribution(scores, np.arange(100))
    parts = [
        score_distribution(part, np.arange(len(part)))
        for part in (scores[::2], scores[1:60:2], scores[61::2])
    ]
    assert threshold(parts) == threshold([whole]) == 96
    assert threshold([whole, whole], repeats=2) == 96, "the same groups again are no more groups"


def test_too_few_groups_have_no_threshold() -> None:
    assert fewest_groups() == 19
    few = score_distribution(np.arange(18.0), np.arange(18))
    assert np.isinf(threshold([few]))
    assert threshold([score_distribution(np.arange(19.0), np.arange(19))]) == 18


def test_scale_shift_and_order_do_not_matter() -> None:
    rng = np.random.default_rng(5)
    train, new = drawn(200, rng), drawn(30, rng)
    plain = fit_gaussian(train, BLOCKS).score(new)
    factors = np.repeat([8.0, 0.01], BLOCKS).astype(np.float32)
    np.testing.assert_allclose(
        fit_gaussian(train * factors - 3, BLOCKS).score(new * factors - 3), plain, rtol=0.02
    )
    order = rng.permutation(200)
    np.testing.assert_allclose(fit_gaussian(train[order], BLOCKS).score(new), plain, rtol=0.01)


def test_what_differs_from_all_images_scores_high() -> None:
    rng = np.random.default_rng(6)
    train = drawn(200, rng)
    train[:, 30] = 2.5  # in all images
    fitted = fit_unlikeness(train, BLOCKS, np.arange(200).astype(np.str_))
    odd = drawn(5, rng)
    limit = threshold([fitted.held_out])
    assert (fitted.gaussian.score(odd) > limit).all(), "a feature that never varied"
    assert (fitted.gaussian.score(np.zeros((1, 40), np.float32)) > limit).all()


def test_stored_arrays_give_the_same_scores_and_bytes() -> None:
    train = drawn(100, np.random.default_rng(8))
    groups = np.arange(100).astype(np.str_)
    one, other = (fit_unlikeness(train, BLOCKS, groups) for _ in range(2))
    for name, values in one.arrays().items():
        assert values.tobytes() == other.arrays()[name].tobytes()
    again = Unlikeness.from_arrays(one.arrays())
    np.testing.assert_array_equal(again.gaussian.score(train), one.gaussian.score(train))
    assert threshold([again.held_out]) == pytest.approx(threshold([one.held_out]))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("mean", np.zeros(3, np.float32)),
        ("scale", np.zeros(40, np.float32)),
        ("noise", np.array([np.nan], np.float32)),
        ("scores", np.array([2.0, 1.0], np.float32)),
        ("components", np.zeros((40, 20))),
    ],
)
def test_damaged_arrays_are_refused(name: str, values: FloatArray) -> None:
    arrays = fit_unlikeness(
        drawn(60, np.random.default_rng(9)), BLOCKS, np.arange(60).astype(np.str_)
    ).arrays()
    with pytest.raises(ValueError, match="expected"):
        Unlikeness.from_arrays(arrays | {name: values})


@pytest.mark.parametrize(
    ("features", "why"),
    [
        (np.ones((5, 40), np.float32), "at least 8 images"),
        (np.ones((50, 40), np.float32), "that vary"),
        (np.full((50, 40), np.nan, np.float32), "finite"),
    ],
)
def test_what_cannot_be_fitted_is_refused(features: Features, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        fit_unlikeness(features, BLOCKS, np.arange(len(features)).astype(np.str_))

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sklearn

from tametail.evaluation.ranking_metrics import (
    RankedClass,
    auroc_limits,
    auroc_residuals,
    average_precision,
    placements_and_precision,
    ranking_proportions,
)


def placements(positive: np.ndarray, score: np.ndarray) -> np.ndarray:
    return placements_and_precision(positive, score)[0]


def _reference_placements(positive: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Pair by pair."""
    found = []
    for own, own_score in zip(positive, score, strict=True):
        others = score[positive != own]
        above, equal = own_score > others, own_score == others
        share = float((above + 0.5 * equal).mean())
        found.append(share if own else 1 - share)
    return np.array(found)


def drawn(seed: int, positives: int = 15, negatives: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    positive = rng.permutation(np.arange(positives + negatives) < positives)
    return positive, np.round(rng.normal(size=len(positive)) + positive, 1)


@pytest.mark.parametrize("seed", range(5))
def test_placements_are_those_of_pairs_and_their_mean_is_the_auroc(seed: int) -> None:
    positive, score = drawn(seed)
    found = placements(positive, score)
    np.testing.assert_allclose(found, _reference_placements(positive, score))
    assert found[positive].mean() == pytest.approx(sklearn.roc_auc_score(positive, score))
    assert found[~positive].mean() == pytest.approx(found[positive].mean())


@pytest.mark.parametrize("seed", range(5))
def test_single_images_have_delongs_variance(seed: int) -> None:
    positive, score = drawn(seed)
    placed = placements(positive, score)
    residuals = auroc_residuals(positive, placed, np.arange(len(score)))
    expected = placed[positive].var(ddof=1) / 15 + placed[~positive].var(ddof=1) / 60
    assert (residuals**2).sum() == pytest.approx(expected)


def _delong_by_midranks(positive: np.ndarray, score: np.ndarray) -> tuple[float, float]:
    """AUROC and its variance as Sun & Xu (2014) compute them: from midranks among all images and within each kind."""
    own, others = score[positive], score[~positive]
    m, n = len(own), len(others)
    of_all = stats.rankdata(score)
    above = (of_all[positive] - stats.rankdata(own)) / n
    below = 1 - (of_all[~positive] - stats.rankdata(others)) / m
    auroc = of_all[positive].sum() / (m * n) - (m + 1) / (2 * n)
    return auroc, above.var(ddof=1) / m + below.var(ddof=1) / n


@pytest.mark.parametrize("values", [2, 3, 5, 20])
@pytest.mark.parametrize("seed", range(4))
def test_delong_with_ties_is_that_of_midranks(seed: int, values: int) -> None:
    rng = np.random.default_rng([seed, values])
    positive = rng.permutation(np.arange(90) < 25)
    score = np.floor(values * rng.beta(1 + positive, 2)) / values  # so few that most images tie
    assert len(np.unique(score)) <= values
    value, variance = _delong_by_midranks(positive, score)
    auroc, _ = ranking_proportions([RankedClass(positive, [score])], np.arange(90), for_means=True)
    assert auroc.value[0] == pytest.approx(value)
    assert auroc.value[0] == pytest.approx(sklearn.roc_auc_score(positive, score))
    assert isinstance(auroc.residuals, np.ndarray)
    assert (auroc.residuals**2).sum() == pytest.approx(variance)
    logit, half = np.log(value / (1 - value)), stats.t.ppf(0.975, 24) * variance**0.5 / (value * (1 - value))
    limits = 1 / (1 + np.exp(-(logit + half * np.array([-1, 1]))))
    np.testing.assert_allclose([auroc.low[0], auroc.high[0]], limits)


def test_the_variance_of_grouped_images_is_that_seen_in_repetitions() -> None:
    """Groups of 4 alike images: single images would make the variance look much too small."""
    rng = np.random.default_rng(0)
    values, grouped, single = [], [], []
    group = np.arange(240) // 4
    positive = group < 20
    for _ in range(300):
        score = rng.normal(size=60)[group] + 0.3 * rng.normal(size=240) + positive
        placed = placements(positive, score)
        values.append(placed[positive].mean())
        grouped.append((auroc_residuals(positive, placed, group) ** 2).sum())
        single.append((auroc_residuals(positive, placed, np.arange(240)) ** 2).sum())
    assert np.mean(grouped) == pytest.approx(np.var(values), rel=0.2)
    assert np.mean(single) < 0.5 * np.var(values)


@pytest.mark.parametrize("positives", [5, 20, 100])
def test_intervals_cover_the_true_auroc(positives: int) -> None:
    rng = np.random.default_rng(1)
    positive = np.arange(positives + 200) < positives
    truth, covered = stats.norm.cdf(1 / np.sqrt(2)), 0
    for _ in range(300):
        placed = placements(positive, rng.normal(size=len(positive)) + positive)
        residuals = auroc_residuals(positive, placed, np.arange(len(positive)))[:, None]
        auroc = np.array([placed[positive].mean()])
        low, high = auroc_limits(auroc, residuals, np.array([positives]), np.array([200]))
        covered += int(low[0] <= truth <= high[0])
    assert covered / 300 > 0.91


@pytest.mark.parametrize("auroc", [0.0, 1.0])
def test_where_nothing_varies_the_smaller_kind_decides(auroc: float) -> None:
    positive = np.arange(50) < 8
    placed = placements(positive, np.where(positive, auroc, 1 - auroc))
    residuals = auroc_residuals(positive, placed, np.arange(50))[:, None]
    low, high = auroc_limits(np.array([auroc]), residuals, np.array([8]), np.array([42]))
    assert float(high[0] - low[0]) == pytest.approx(3.841459 / (8 + 3.841459), rel=1e-5)  # Wilson's at 8 of 8


@pytest.mark.parametrize("seed", range(5))
def test_average_precision_is_sklearns(seed: int) -> None:
    positive, score = drawn(seed)
    assert average_precision(positive, score) == pytest.approx(
        sklearn.average_precision_score(positive, score)
    )
    assert len(placements_and_precision(positive, score)[1]) == 15


def test_equal_scores_say_nothing() -> None:
    positive = np.arange(40) < 10
    assert average_precision(positive, np.zeros(40)) == pytest.approx(0.25)
    assert placements(positive, np.zeros(40)).tolist() == [0.5] * 40


@pytest.mark.parametrize("kind", [True, False])
def test_one_kind_alone_is_undefined(kind: bool) -> None:
    positive = np.full(10, kind)
    assert np.isnan(placements(positive, np.arange(10.0))).all()
    assert np.isnan(average_precision(positive, np.arange(10.0)))


@st.composite
def tables(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Up to 40 images with scores of a few values, so that many tie, or of many values, infinitely small ones too."""
    values = draw(st.sampled_from([st.integers(0, 3), st.floats(-1e6, 1e6), st.just(0.5)]))
    pairs = draw(st.lists(st.tuples(st.booleans(), values), min_size=1, max_size=40))
    positive, score = zip(*pairs, strict=True)
    return np.array(positive), np.array(score, dtype=draw(st.sampled_from([np.float32, np.float64])))


@settings(deadline=None)
@given(tables())
def test_every_table_has_the_values_of_scikit_learn_and_the_placements_of_scipy(
    table: tuple[np.ndarray, np.ndarray],
) -> None:
    positive, score = table
    placed, precision = placements_and_precision(positive, score)
    if positive.all() or not positive.any():
        assert np.isnan(placed).all()
        assert np.isnan(average_precision(positive, score))
        return
    assert placed[positive].mean() == pytest.approx(sklearn.roc_auc_score(positive, score))
    assert precision.mean() == pytest.approx(sklearn.average_precision_score(positive, score))
    u = stats.mannwhitneyu(score[positive], score[~positive]).statistic
    assert placed[~positive].mean() == pytest.approx(u / positive.sum() / (~positive).sum())
    ranks, own = stats.rankdata(score), stats.rankdata(score[positive])
    np.testing.assert_allclose(placed[positive], (ranks[positive] - own) / (~positive).sum())

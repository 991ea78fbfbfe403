"""Intervals against scipy, naive loops and their own laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tametail.evaluation import intervals


@settings(deadline=None)
@given(st.integers(1, 500), st.floats(0, 1), st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_agrees_with_scipy(n, share, confidence):
    successes = round(share * n)
    expected = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    low, high = intervals.wilson(successes / n, n, confidence=confidence)
    np.testing.assert_allclose([low, high], [expected.low, expected.high], atol=1e-12)


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(1e-3, 1e6))
def test_wilson_with_fractions_holds_its_share(share, n):
    low, high = intervals.wilson(share, n)
    assert 0 <= low <= share <= high <= 1
    assert low < high
    mirrored = intervals.wilson(1 - share, n)
    np.testing.assert_allclose([1 - mirrored[1], 1 - mirrored[0]], [low, high], atol=1e-9)


def test_wilson_solves_the_score_equation_between_whole_numbers():
    low, high = intervals.wilson(0.37, 12.5)
    for limit in (low, high):
        assert abs(0.37 - limit) / np.sqrt(limit * (1 - limit) / 12.5) == pytest.approx(stats.norm.ppf(0.975))


def test_wilson_without_trials_is_nan():
    assert np.isnan(intervals.wilson(np.nan, 0)).all()
    assert np.isnan(intervals.wilson([0.5, np.nan], [0, 3])).all()


def _reference_effective_size(x, m):
    """Loops over groups, one share; the formulas as Korn & Graubard print them."""
    n, p, groups = sum(m), sum(x) / sum(m), sum(count > 0 for count in m)
    if p in (0, 1) or groups == 1:
        return min(groups, n)
    cluster_variance = 0.0
    for successes, trials in zip(x, m, strict=True):
        cluster_variance += groups / (groups - 1) * ((successes - p * trials) / n) ** 2
    effect = max(1.0, cluster_variance / (p * (1 - p) / (n - 1)))
    few = stats.t.ppf(0.975, n - 1) / stats.t.ppf(0.975, groups - 1)
    return n / effect * min(1.0, few**2)


groups_of_trials = st.lists(
    st.integers(0, 6).flatmap(lambda m: st.tuples(st.integers(0, m), st.just(m))), min_size=1, max_size=12
).filter(lambda pairs: sum(m for _, m in pairs) > 1)


@settings(deadline=None)
@given(groups_of_trials)
def test_effective_size_agrees_with_loops_and_never_exceeds_n(pairs):
    x, m = (np.array(column) for column in zip(*pairs, strict=True))
    found = intervals.effective_sample_size(x[:, None], m[:, None])[0]
    assert found == pytest.approx(_reference_effective_size(x.tolist(), m.tolist()), rel=1e-9)
    assert 0 < found <= m.sum() * (1 + 1e-12)


def test_ungrouped_images_count_in_full():
    x = np.array([1, 1, 0, 1, 0, 0, 1, 1])[:, None]
    assert intervals.effective_sample_size(x, np.ones_like(x))[0] == pytest.approx(8)


def test_copies_of_an_image_add_nothing():
    x = np.random.default_rng(0).integers(0, 2, (50, 1))
    copied = intervals.effective_sample_size(3 * x, np.full((50, 1), 3))[0]
    assert 45 < copied <= 50  # below 50 by the allowance for few groups


@pytest.mark.parametrize(
    ("x", "m", "expected"),
    [([0, 0, 0], [4, 2, 5], 3), ([4, 2, 5], [4, 2, 5], 3), ([2, 0, 0], [4, 0, 0], 1), ([3], [3], 1)],
    ids=["all wrong", "all right", "one group, split", "one group, all right"],
)
def test_where_alikeness_cannot_be_seen_groups_are_counted(x, m, expected):
    assert intervals.effective_sample_size(np.array(x)[:, None], np.array(m)[:, None])[0] == expected


def test_no_trials_is_an_effective_size_of_zero():
    assert intervals.effective_sample_size(np.zeros((3, 2)), np.zeros((3, 2))).tolist() == [0, 0]


def test_mover_of_one_share_is_its_own_interval():
    low, high = intervals.mover_mean([0.3], [0.1], [0.7])
    assert (low, high) == (pytest.approx(0.1), pytest.approx(0.7))


def _reference_mover(share, low, high, residuals):
    count, below, above = len(share), 0.0, 0.0
    below_alone, above_alone = 0.0, 0.0
    for i in range(count):
        below_alone += (share[i] - low[i]) ** 2
        above_alone += (high[i] - share[i]) ** 2
        for j in range(count):
            norms = np.linalg.norm(residuals[:, i]) * np.linalg.norm(residuals[:, j])
            r = 1.0 if i == j else (residuals[:, i] @ residuals[:, j] / norms if norms else 0.0)
            below += r * (share[i] - low[i]) * (share[j] - low[j])
            above += r * (high[i] - share[i]) * (high[j] - share[j])
    mean = sum(share) / count
    return (
        mean - np.sqrt(max(below, below_alone)) / count,
        mean + np.sqrt(max(above, above_alone)) / count,
    )


def test_mover_agrees_with_loops():
    rng = np.random.default_rng(1)
    for _ in range(20):
        share, n = rng.uniform(0.2, 0.8, 5), rng.integers(20, 200, 5)
        low, high = intervals.wilson(share, n)
        residuals = rng.normal(size=(8, 5)) + rng.normal(size=(8, 1))
        residuals[:, 2] = 0
        found = intervals.mover_mean(share, low, high, residuals)
        np.testing.assert_allclose(found, _reference_mover(share, low, high, residuals), rtol=1e-12)


def test_mover_of_shares_that_err_together_averages_the_limits():
    share, low, high = np.array([0.4, 0.6]), np.array([0.3, 0.4]), np.array([0.6, 0.7])
    together = np.array([[1.0, 2.0], [-1.0, -2.0]])
    np.testing.assert_allclose(intervals.mover_mean(share, low, high, together), [0.35, 0.65])
    opposed = together * [1, -1]
    np.testing.assert_allclose(
        intervals.mover_mean(share, low, high, opposed), intervals.mover_mean(share, low, high)
    )


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 300)), min_size=1, max_size=8), st.integers(0, 99))
def test_mover_holds_the_mean_and_stays_in_range(pairs, seed):
    share, n = (np.array(column, dtype=float) for column in zip(*pairs, strict=True))
    residuals = np.random.default_rng(seed).normal(size=(4, len(share)))
    for given_residuals in (None, residuals):
        low, high = intervals.mover_mean(share, *intervals.wilson(share, n), given_residuals)
        assert 0 <= low <= share.mean() <= high <= 1


def test_mover_of_nothing_is_nan():
    assert np.isnan(intervals.mover_mean([], [], [])).all()


def test_the_adjusted_mean_is_that_of_price_and_bonett():
    share, n = np.array([0.5, 1.0, 0.9]), np.array([8, 4, 30])
    adjusted = (share * n + 2 / 3) / (n + 4 / 3)
    half = (
        stats.norm.ppf(0.975)
        / 3
        * np.sqrt(sum(p * (1 - p) / (m + 4 / 3) for p, m in zip(adjusted, n, strict=True)))
    )
    found = intervals.adjusted_mean(share, n)
    np.testing.assert_allclose(found, [adjusted.mean() - half, adjusted.mean() + half])
    together = np.array([[1.0, 2.0, 1.0], [-1.0, -2.0, -1.0]])
    wider = intervals.adjusted_mean(share, n, together)
    assert wider[0] < found[0] < found[1] < wider[1]


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 300)), min_size=1, max_size=8))
def test_the_mean_of_shares_is_as_wide_as_both(pairs):
    share, n = (np.array(column, dtype=float) for column in zip(*pairs, strict=True))
    limits = intervals.wilson(share, n)
    low, high = intervals.mean_of_proportions(share, *limits, n)
    parts = [intervals.mover_mean(share, *limits)]
    if len(share) > 1:
        parts.append(intervals.adjusted_mean(share, n))
    assert low == pytest.approx(min(part[0] for part in parts), abs=1e-12)
    assert high == pytest.approx(max(part[1] for part in parts), abs=1e-12)
    assert 0 <= low <= share.mean() <= high <= 1


def test_means_of_nothing_are_nan():
    assert np.isnan(intervals.adjusted_mean([], [])).all()
    assert np.isnan(intervals.mean_of_proportions([], [], [], [])).all()


@pytest.mark.parametrize("events", [0, 1, 5, 20])
def test_the_rate_of_rare_events_has_the_exact_poisson_interval(events):
    weight = np.zeros(100_000)
    weight[:events] = 1
    low, high = intervals.weighted_rate(weight, np.ones_like(weight), 1)
    expected = [
        stats.chi2.ppf(0.025, 2 * events) / 2 if events else 0,
        stats.chi2.ppf(0.975, 2 * events + 2) / 2,
    ]
    np.testing.assert_allclose([low * 1e5, high * 1e5], expected, rtol=1e-3)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 16), st.integers(1, 5)), min_size=1, max_size=12))
def test_a_weighted_rate_lies_in_an_interval_with_a_width(pairs):
    weight, trials = (np.array(column) for column in zip(*pairs, strict=True))
    low, high = intervals.weighted_rate(weight, trials, 4)
    assert 0 <= low <= weight.sum() / trials.sum() <= high
    assert low < high


def test_a_weighted_rate_scales_with_its_weights():
    weight, trials = np.array([0, 0, 1, 4, 0, 9]), np.ones(6)
    single, fourfold = (intervals.weighted_rate(k * weight, trials, 16 * k) for k in (1, 4))
    np.testing.assert_allclose(fourfold, 4 * np.array(single))

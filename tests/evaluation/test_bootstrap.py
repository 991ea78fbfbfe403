"""The group bootstrap against loops and known distributions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from fixtures.close import assert_close
from tametail.evaluation.bootstrap import group_bootstrap


def _share_right(summed):
    return summed[:, 0] / summed.sum(axis=1)


def test_bootstrap_of_a_share_follows_the_binomial_distribution():
    tables = np.repeat([[1, 0], [0, 1]], [30, 10], axis=0)
    low, high = group_bootstrap(tables, np.zeros(40, dtype=np.int64), _share_right, resamples=20_000)
    expected = stats.binom.ppf([0.025, 0.975], 40, 0.75) / 40
    np.testing.assert_allclose([low, high], expected, atol=1 / 40 + 1e-12)


def _reference_bootstrap(tables, strata, statistic, resamples, seed):
    """One resample after the other, one stratum after the other, group by group."""
    rng, values = np.random.default_rng(seed), []
    for _ in range(resamples):
        drawn = []
        for stratum in np.unique(strata):
            members = np.flatnonzero(strata == stratum)
            drawn.extend(rng.choice(members, len(members)))
        values.append(statistic(sum(tables[group] for group in drawn)[None])[0])
    return np.quantile(values, [0.025, 0.975])


def test_bootstrap_agrees_with_loops():
    rng = np.random.default_rng(2)
    tables, strata = rng.integers([0, 1], [3, 4], (60, 2)), rng.integers(0, 3, 60)
    found = group_bootstrap(tables, strata, _share_right, resamples=4000)
    expected = _reference_bootstrap(tables, strata, _share_right, 4000, 1)
    np.testing.assert_allclose(found, expected, atol=0.01)


def test_bootstrap_keeps_the_size_of_every_stratum():
    # The first entry of a table marks stratum 5, the second stratum 9: their sums must never change.
    marks = np.eye(2, dtype=np.int64)[[0] * 200 + [1] * 300]
    tables = np.concatenate([marks, np.arange(500)[:, None]], axis=1)
    seen = []

    def record(summed):
        seen.append(summed)
        return summed[:, 2]

    group_bootstrap(tables, np.array([5] * 200 + [9] * 300), record, resamples=8100)
    sums = np.concatenate(seen)
    assert len(seen) == 2, "in chunks of bounded memory"
    assert len(sums) == 8100
    assert (sums[:, :2] == [200, 300]).all()
    assert np.unique(sums[:, 2]).size > 10


def test_bootstrap_is_seeded_and_nan_where_all_is_undefined():
    tables, strata = np.random.default_rng(3).integers(0, 5, (20, 2)), np.zeros(20, dtype=np.int64)
    first = group_bootstrap(tables, strata, _share_right, seed=1)
    assert first == group_bootstrap(tables, strata, _share_right, seed=1)
    assert first != group_bootstrap(tables, strata, _share_right, seed=2)
    nothing = group_bootstrap(tables, strata, lambda summed: np.full(len(summed), np.nan))
    assert np.isnan(nothing).all()


def _two_sums(summed):
    return np.stack([_share_right(summed), summed[:, 1]], axis=1)


def test_statistics_of_one_bootstrap_are_those_of_one_each():
    tables = np.random.default_rng(4).integers(0, 5, (200, 2))
    strata = np.zeros(200, dtype=np.int64)
    both = np.array(group_bootstrap(tables, strata, _two_sums))
    for column, statistic in enumerate((_share_right, lambda summed: summed[:, 1])):
        np.testing.assert_allclose(both[:, column], group_bootstrap(tables, strata, statistic))


@pytest.mark.parametrize("groups", [60, 700, 4321])
def test_the_order_of_the_groups_does_not_matter(groups):
    rng = np.random.default_rng(5)
    tables, strata = rng.integers(0, 90, (groups, 3)), rng.integers(0, 2, groups)
    order = rng.permutation(groups)
    first = group_bootstrap(tables, strata, _share_right)
    assert_close(first, group_bootstrap(tables[order], strata[order], _share_right))


@pytest.mark.parametrize("dtype", [np.int64, np.float64])
def test_bundles_keep_the_size_of_a_stratum_and_the_width_of_the_interval(dtype):
    rng = np.random.default_rng(6)
    share = rng.beta(2, 1, 12_345)
    tables = np.stack([rng.binomial(40, share), rng.integers(0, 1000, 12_345), np.ones(12_345)], axis=1)
    seen = []

    def statistic(summed):
        seen.append(summed[:, 2])
        return summed[:, 0] / (40 * summed[:, 2])

    low, high = group_bootstrap(tables.astype(dtype), np.zeros(12_345, dtype=np.int64), statistic)
    assert (np.concatenate(seen) == 12_345).all()
    mean = tables[:, 0].mean() / 40
    half = stats.norm.ppf(0.975) * tables[:, 0].std() / 40 / np.sqrt(12_345)
    # Bundles know the width to 3 %, 2000 resamples to another 2 %.
    assert high - low == pytest.approx(2 * half, rel=0.12)
    assert (low + high) / 2 == pytest.approx(mean, abs=0.2 * half)


def test_sums_beyond_what_float32_holds_are_exact():
    tables = np.full((3, 1), 2**24 + 1)
    low, high = group_bootstrap(tables, np.zeros(3, dtype=np.int64), lambda summed: summed[:, 0])
    assert low == high == 3 * (2**24 + 1)

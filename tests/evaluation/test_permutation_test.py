"""The sign-flip test against every sign in turn, McNemar's test, and a plain loop."""

from __future__ import annotations

import time
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

from tametail.evaluation.significance import permutation_p


def _reference_every_sign(differences):
    observed = abs(sum(differences))
    sums = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
        for signs in product((-1, 1), repeat=len(differences))
    ]
    return np.mean([total >= observed - 1e-9 for total in sums])


@settings(deadline=None, max_examples=80)
@given(st.lists(st.sampled_from([0.0, 0.25, -0.25, 0.1, -0.1, 1 / 3, -1 / 3, 0.7, -2 / 3]), max_size=11))
def test_listed_signs_are_all_signs(differences):
    assert permutation_p(differences) == pytest.approx(_reference_every_sign(differences), abs=1e-12)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=10))
def test_listed_signs_are_all_signs_for_any_sizes(differences):
    rounded = list(np.round(differences, 6))
    assert permutation_p(rounded) == pytest.approx(_reference_every_sign(rounded), abs=1e-12)


@pytest.mark.parametrize(
    ("only_a", "only_b"), [(0, 0), (4, 0), (5, 0), (6, 0), (9, 2), (3, 3), (40, 61), (500, 431)]
)
def test_equal_sizes_are_mcnemars_exact_test(only_a, only_b):
    reference = mcnemar([[10, only_a], [only_b, 10]], exact=True).pvalue
    assert permutation_p([0.3] * only_a + [-0.3] * only_b) == pytest.approx(min(reference, 1.0))


def test_drawn_signs_agree_with_all_signs():
    """Of 24 sizes there are too many sums to list, but each is one of the first twelve and one of the others."""
    rng = np.random.default_rng(0)
    signs = np.array(list(product((-1, 1), repeat=12)))
    for shift in (0.0, 0.1, 0.2, 0.3, 0.5):
        differences = rng.normal(shift, 1, 24)
        first, second = signs @ differences[:12], np.sort(signs @ differences[12:])
        observed = abs(differences.sum()) - 1e-9
        above = len(second) - np.searchsorted(second, observed - first)
        below = np.searchsorted(second, -observed - first, side="right")
        expected = (above + below).sum() / 2**24
        drawn = permutation_p(differences, resamples=40_000)
        assert drawn == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / 40_000) + 1e-4)


def test_drawn_signs_agree_with_a_plain_loop_over_groups():
    rng = np.random.default_rng(1)
    sizes = np.array([1 / 4, 1 / 11, 1 / 70, 1 / 93, 1 / 576, 1 / 1319])
    differences = np.concatenate(
        [rng.choice(sizes, 120) * rng.choice([-1, 1], 120, p=[0.45, 0.55]), rng.normal(size=60) / 50]
    )
    flips = rng.choice([-1.0, 1.0], (40_000, differences.size)) @ differences
    expected = np.mean(np.abs(flips) >= abs(differences.sum()))
    assert 0.02 < expected < 0.98
    assert permutation_p(differences, resamples=40_000) == pytest.approx(expected, abs=0.012)


def test_thousands_of_sizes_agree_with_a_plain_loop():
    rng = np.random.default_rng(6)
    differences = rng.exponential(size=3000) ** 2 * rng.choice([-1, 1], 3000, p=[0.5, 0.5])
    flips = np.concatenate([rng.choice([-1.0, 1.0], (1000, 3000)) @ differences for _ in range(10)])
    expected = np.mean(np.abs(flips) >= abs(differences.sum()))
    assert 0.02 < expected < 0.98
    assert permutation_p(differences, resamples=20_000) == pytest.approx(expected, abs=0.02)


def test_very_many_sizes_agree_with_the_normal_distribution_of_their_sum():
    """Of 8,000 sizes the smaller half, with a third of the variance, is drawn as one number."""
    rng = np.random.default_rng(9)
    differences = rng.uniform(1, 2, 8000) * rng.choice([-1, 1], 8000)
    expected = 2 * stats.norm.sf(abs(differences.sum()) / np.sqrt((differences**2).sum()))
    assert 0.1 < expected < 0.7
    assert permutation_p(differences, resamples=10_000) == pytest.approx(expected, abs=0.02)


def test_a_drawn_p_is_never_zero_and_counts_the_observed_signs():
    differences = np.linspace(1, 2, 60)
    assert permutation_p(differences, resamples=99) == 0.01


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.sampled_from([8, 60]))
def test_order_and_scale_and_the_side_do_not_matter(seed, count):
    rng = np.random.default_rng(seed)
    differences = rng.choice([0.25, 0.1, 0.013], count) * rng.choice([-1, 1], count) + 0.001 * rng.random(
        count
    )
    expected = permutation_p(differences, resamples=200)
    assert permutation_p(rng.permutation(differences), resamples=200) == expected
    assert permutation_p(-differences, resamples=200) == expected
    assert permutation_p(4 * differences, resamples=200) == expected
    assert permutation_p(np.append(differences, np.zeros(7)), resamples=200) == expected


def test_sums_that_are_equal_on_paper_count_as_equal():
    # 3 × 0.1 is not 0.3 in floating point; the sign flips that give the observed sum again must all count.
    assert permutation_p([0.1, 0.1, 0.1, -0.3]) == 1
    assert permutation_p([0.1, 0.1, 0.1, 0.3]) == pytest.approx(_reference_every_sign([0.1, 0.1, 0.1, 0.3]))


def test_extremes():
    assert permutation_p([]) == 1
    assert permutation_p([0.0, 0.0]) == 1
    assert permutation_p([0.4]) == 1
    assert permutation_p([1e-300] * 6) == pytest.approx(2 / 64)
    with pytest.raises(ValueError, match="finite"):
        permutation_p([np.nan])
    with pytest.raises(ValueError, match="resample"):
        permutation_p([0.1], resamples=0)


def test_the_seed_moves_a_drawn_p_and_nothing_else():
    differences = np.random.default_rng(2).normal(0.1, 1, 50)
    one, again, other = (permutation_p(differences, resamples=500, seed=seed) for seed in (0, 0, 1))
    assert one == again
    assert one != other
    assert permutation_p(differences[:12], seed=0) == permutation_p(differences[:12], seed=1)


def test_cost_is_by_distinct_size_and_not_by_group():
    rng = np.random.default_rng(3)
    sizes = 1 / rng.integers(4, 5000, 340)
    differences = rng.choice(sizes, 150_000) * rng.choice([-1, 1], 150_000)
    start = time.perf_counter()
    permutation_p(differences)
    # One by one these would be 1.5 billion signs.
    assert time.perf_counter() - start < 5

"""Ranks over data sets against scipy, published tables and every permutation; what is undefined is said."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fixtures.statsmodels_holm import holm_by_statsmodels
from tametail.evaluation.multi_dataset import cliques, friedman, nemenyi_critical_difference, rank_sets


def _frame(values):
    values = np.asarray(values, dtype=float)
    return pd.DataFrame(
        values, [f"set{i}" for i in range(len(values))], [f"m{i}" for i in range(values.shape[1])]
    )


# Demsar (2006), Table 6: AUC of C4.5 and three variants on 14 data sets.
DEMSAR = [
    [0.763, 0.768, 0.771, 0.798], [0.599, 0.591, 0.590, 0.569], [0.954, 0.971, 0.968, 0.967], [0.628, 0.661, 0.654, 0.657],
    [0.882, 0.888, 0.886, 0.898], [0.936, 0.931, 0.916, 0.931], [0.661, 0.668, 0.609, 0.685], [0.583, 0.583, 0.563, 0.625],
    [0.775, 0.838, 0.866, 0.875], [1.000, 1.000, 1.000, 1.000], [0.940, 0.962, 0.965, 0.962], [0.619, 0.666, 0.614, 0.669],
    [0.972, 0.981, 0.9751, 0.975], [0.957, 0.978, 0.946, 0.970],
]  # fmt: skip


def test_demsars_example():
    found = rank_sets(_frame(DEMSAR))
    # The paper: mean ranks 3.143, 2.000, 2.893, 1.964; chi² 9.28, F 3.69; CD 1.25 (2.569 sqrt(20 / 84)).
    assert dict(zip(found.methods, np.round(found.mean_ranks, 3), strict=True)) == {
        "m3": 1.964, "m1": 2.0, "m2": 2.893, "m0": 3.143,
    }  # fmt: skip
    assert found.critical_difference == pytest.approx(1.25, abs=0.005)
    uncorrected = 12 * 14 / 20 * (np.sum(np.square(found.mean_ranks)) - 4 * 25 / 4)
    assert uncorrected == pytest.approx(9.28, abs=0.02)
    assert found.friedman.statistic >= uncorrected  # ties corrected for
    assert found.friedman.permutation_p < 0.05
    assert found.cliques == ((0, 1, 2, 3),)
    assert found.undefined == ""


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(2, 12), st.integers(3, 6), st.booleans())
def test_friedman_is_scipys(seed, sets, methods, tied):
    values = np.random.default_rng(seed).normal(size=(sets, methods))
    values = np.round(values) if tied else values
    if (values == values[:, :1]).all():
        return
    found = rank_sets(_frame(values), resamples=200).friedman
    reference = stats.friedmanchisquare(*values.T)
    assert found.statistic == pytest.approx(reference.statistic, abs=1e-9)
    assert found.p == pytest.approx(reference.pvalue)
    if found.statistic < sets * (methods - 1) - 1e-6:
        f = (sets - 1) * reference.statistic / (sets * (methods - 1) - reference.statistic)
        assert found.iman_davenport == pytest.approx(f)
        assert found.iman_davenport_p == pytest.approx(stats.f.sf(f, methods - 1, (methods - 1) * (sets - 1)))


def test_the_permutation_p_is_that_of_all_permutations():
    ranks = np.array([[1.0, 2, 3], [1, 3, 2], [1.5, 1.5, 3]])
    observed = friedman(ranks).statistic
    every = [list(permutations(row)) for row in ranks]
    statistics = [friedman(np.array(rows), 1).statistic for rows in product(*every)]
    expected = np.mean(np.array(statistics) >= observed - 1e-9)
    assert friedman(ranks, 20_000).permutation_p == pytest.approx(expected, abs=0.015)


def test_two_sets_that_agree_prove_little():
    # By the F distribution p would be 0; of the six orders of the second set one agrees.
    found = rank_sets(_frame([[0.9, 0.8, 0.7], [0.6, 0.5, 0.4]])).friedman
    assert (found.iman_davenport, found.iman_davenport_p) == (np.inf, 0)
    assert found.permutation_p == pytest.approx(1 / 6, abs=0.02)


@pytest.mark.parametrize(("methods", "q"), [(3, 2.343), (4, 2.569), (5, 2.728), (7, 2.949), (10, 3.164)])
def test_nemenyi_by_demsars_table(methods, q):
    assert nemenyi_critical_difference(methods, 14) == pytest.approx(
        q * np.sqrt(methods * (methods + 1) / 84), rel=1e-3
    )


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(2, 12), st.integers(2, 5))
def test_wilcoxon_is_scipys_exact_one_with_holm(seed, sets, methods):
    frame = _frame(np.random.default_rng(seed).normal(size=(sets, methods)))
    found = rank_sets(frame, resamples=100)
    columns = [frame[name] for name in found.methods]
    upper = np.triu_indices(methods, 1)
    p = [stats.wilcoxon(columns[i], columns[j], method="exact").pvalue for i, j in zip(*upper, strict=True)]
    np.testing.assert_allclose(found.wilcoxon_p[upper], holm_by_statsmodels(p))
    np.testing.assert_array_equal(found.wilcoxon_p, found.wilcoxon_p.T)


def test_wilcoxon_with_ties_is_exact():
    differences = np.array([0.1, 0.1, 0.1, -0.1, 0.2, 0.3, 0.0])
    found = rank_sets(_frame(np.stack([0.5 + differences, np.full(7, 0.5)], axis=1)))
    ranks = np.array([2.5, 2.5, 2.5, -2.5, 5, 6])
    flips = np.array(list(product((-1, 1), repeat=6))) @ np.abs(ranks)
    assert found.wilcoxon_p[0, 1] == pytest.approx(np.mean(np.abs(flips) >= ranks.sum()))


def test_neither_order_nor_scale_matters():
    values = np.random.default_rng(0).normal(size=(8, 5))
    one = rank_sets(_frame(values))
    other = rank_sets(_frame(values).iloc[::-1, ::-1])
    grown = rank_sets(_frame(values) * 100)
    assert (one.methods, one.mean_ranks, one.cliques) == (other.methods, other.mean_ranks, other.cliques)
    np.testing.assert_allclose(one.wilcoxon_p, other.wilcoxon_p)
    np.testing.assert_allclose(one.wilcoxon_p, grown.wilcoxon_p)
    assert one.friedman.statistic == pytest.approx(grown.friedman.statistic)


def test_cliques_are_the_longest_runs():
    mean = np.array([1.0, 1.5, 2.4, 3.0, 5.0])
    assert cliques(np.abs(mean[:, None] - mean) > 1) == ((0, 1), (1, 2), (2, 3))
    assert cliques(np.abs(mean[:, None] - mean) > 2) == ((0, 1, 2, 3), (3, 4))
    assert cliques(np.abs(mean[:, None] - mean) > 0.1) == ()
    assert cliques(np.zeros((4, 4), dtype=bool)) == ((0, 1, 2, 3),)


def test_a_clear_winner_over_many_sets_is_told():
    rng = np.random.default_rng(1)
    found = rank_sets(_frame(rng.normal(size=(20, 4)) * 0.1 + [0, 0, 0, 1]))
    assert found.methods[0] == "m3"
    assert found.friedman.permutation_p < 0.001
    assert (found.wilcoxon_p[0, 1:] < 0.05).all()
    assert found.wilcoxon_cliques == ((1, 2, 3),)
    assert found.cliques == ((1, 2, 3),)


def test_methods_that_always_tie():
    found = rank_sets(_frame(np.full((4, 3), 0.5)))
    assert found.mean_ranks == (2, 2, 2)
    assert (found.friedman.statistic, found.friedman.permutation_p) == (0, 1)
    assert (found.wilcoxon_p == 1).all()
    assert found.cliques == found.wilcoxon_cliques == ((0, 1, 2),)


def test_what_is_undefined_is_said_in_words():
    one_set = rank_sets(_frame([[0.1, 0.2, 0.3]]))
    assert one_set.methods == ("m2", "m1", "m0")
    assert (one_set.friedman, one_set.critical_difference, one_set.cliques) == (None, None, ())
    assert np.isnan(one_set.wilcoxon_p).all()
    assert "at least two data sets; here there is 1" in one_set.undefined
    two_methods = rank_sets(_frame(np.random.default_rng(0).normal(size=(9, 2))))
    assert (two_methods.friedman, two_methods.critical_difference) == (None, None)
    assert not np.isnan(two_methods.wilcoxon_p).any()
    assert "need at least three methods" in two_methods.undefined
    assert "only one method" in rank_sets(_frame([[0.1], [0.2]])).undefined
    few = rank_sets(_frame(np.random.default_rng(0).normal(size=(5, 3))))
    assert "cannot find a significant difference between 3 methods on 5 data sets" in few.undefined
    assert (few.wilcoxon_p > 0.05)[np.triu_indices(3, 1)].all()


def test_incomplete_tables_are_refused_by_name():
    frame = _frame([[0.1, np.nan], [0.2, 0.3]])
    with pytest.raises(ValueError, match="missing: m1 on set0"):
        rank_sets(frame)
    with pytest.raises(ValueError, match="'set0' comes twice"):
        rank_sets(pd.concat([frame, frame]))
    with pytest.raises(ValueError, match="got none"):
        rank_sets(pd.DataFrame())

"""McNemar's test by class against statsmodels, by groups against every exchange; absent classes; Holm."""

from __future__ import annotations

import dataclasses
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar

from fixtures.random_models import random_models, table
from fixtures.statsmodels_holm import holm_by_statsmodels
from tametail.evaluation.mcnemar import mcnemar_by_class


def _ungrouped(models):
    return {name: [dataclasses.replace(t, group=t.image) for t in tables] for name, tables in models.items()}


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(4, 200), st.integers(1, 6))
def test_single_images_are_statsmodels_exact_mcnemar_with_holm(seed, images, classes):
    a, b = _ungrouped(random_models(seed, images, classes=classes)).values()
    found = mcnemar_by_class(a, b)
    assert [test.name for test in found] == list(a[0].class_names)
    expected = []
    for index, test in enumerate(found):
        own = a[0].target == index
        right = [(t[0].predicted == t[0].target)[own] for t in (a, b)]
        if not own.any():
            assert (test.verdict, test.n, test.groups) == ("absent", 0, 0)
            assert np.isnan([test.p, test.p_holm, test.difference.value]).all()
            continue
        only_a, only_b = (right[0] & ~right[1]).sum(), (right[1] & ~right[0]).sum()
        both = (right[0] & right[1]).sum()
        expected.append(min(1.0, mcnemar([[both, only_a], [only_b, own.sum() - both]], exact=True).pvalue))
        assert test.p == pytest.approx(expected[-1])
        assert (test.n, test.groups, test.only_a, test.only_b) == (own.sum(), own.sum(), only_a, only_b)
        assert test.difference.value == pytest.approx((only_a - only_b) / own.sum(), abs=1e-12)
        assert test.difference.low <= test.difference.value <= test.difference.high
    corrected = [test.p_holm for test in found if test.n]
    np.testing.assert_allclose(corrected, holm_by_statsmodels(expected))


def test_groups_of_several_images_are_exchanged_whole():
    a, b = random_models(1, 60, 9, 3, (3, 2)).values()
    shares = [np.mean([t.predicted == t.target for t in tables], axis=0) for tables in (a, b)]
    for index, test in enumerate(mcnemar_by_class(a, b)):
        own = a[0].target == index
        groups = np.unique(a[0].group[own])
        sums = np.array([(shares[0] - shares[1])[own & (a[0].group == g)].sum() for g in groups])
        flips = np.array(list(product((-1, 1), repeat=len(groups)))) @ sums
        assert test.p == pytest.approx(np.mean(np.abs(flips) >= abs(sums.sum()) - 1e-9))
        assert test.groups == len(groups)
        pairs = [((x.predicted == x.target) & (y.predicted != y.target))[own].sum() for x in a for y in b]
        assert test.only_a == pytest.approx(np.mean(pairs))


def test_verdicts_and_what_turns_them_round():
    target = np.repeat([0, 1, 2], [60, 5, 40])
    a = [table(target, np.repeat([1, 1, 0, 1, 0], [60, 5, 10, 20, 10]), classes=4)]
    b = [table(target, np.repeat([0, 1, 0, 1], [30, 30, 5, 40]), classes=4)]
    found, turned = mcnemar_by_class(a, b), mcnemar_by_class(b, a)
    # The five images of c1 all speak for a, and five cannot tell: p = 2 / 32.
    assert [test.verdict for test in found] == ["better", "no significant difference", "worse", "absent"]
    assert [test.verdict for test in turned] == ["worse", "no significant difference", "better", "absent"]
    assert found[1].p == pytest.approx(2 / 32)
    for one, other in zip(found[:3], turned[:3], strict=True):
        assert (one.p, one.p_holm, one.only_a) == (other.p, other.p_holm, other.only_b)
        assert one.difference.low == pytest.approx(-other.difference.high)


def test_identical_models_differ_nowhere():
    models = random_models(2)["m0"]
    for test in mcnemar_by_class(models, models):
        assert (test.p, test.p_holm, test.only_a, test.only_b) == (1, 1, 0, 0)
        assert test.difference.low < 0 < test.difference.high


def test_tables_must_be_about_the_same_images():
    with pytest.raises(ValueError, match="same"):
        mcnemar_by_class([table([0, 1], [1, 1])], [table([0, 2], [1, 1])])
    with pytest.raises(ValueError, match="got none"):
        mcnemar_by_class([table([0, 1], [1, 1])], [])

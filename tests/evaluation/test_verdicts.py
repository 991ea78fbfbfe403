"""Holm against statsmodels; verdicts; and whether the number of images that is asked for does tell models apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.statsmodels_holm import holm_by_statsmodels
from tametail.evaluation import Estimate
from tametail.evaluation.significance import holm, permutation_p, required_sample_size, verdict


@given(st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.01, 0.05, 1.0])), min_size=1, max_size=12))
def test_holm_is_statsmodels(p):
    np.testing.assert_allclose(holm(p), holm_by_statsmodels(p), rtol=1e-12)


def test_what_was_not_tested_does_not_count():
    np.testing.assert_array_equal(holm([0.01, np.nan, 0.04]), [0.02, np.nan, 0.04])
    assert holm([]).size == 0
    assert np.isnan(holm([np.nan])).all()


def _estimate(value, half=1e-9, n=200):
    return Estimate(value, value - half, value + half, n)


def test_the_verdict_needs_test_and_interval_and_agrees_with_the_difference():
    assert verdict(_estimate(0.1), 0.05) == "better"
    assert verdict(_estimate(-0.1), 0.05) == "worse"
    assert verdict(_estimate(0.1), 0.0501) == "no significant difference"
    assert verdict(_estimate(0.1, 0.1), 0.01) == "no significant difference"
    assert verdict(_estimate(-0.1, 0.11), 0.01) == "no significant difference"
    assert verdict(_estimate(0.0), 0.01) == "no significant difference"
    assert verdict(_estimate(0.1), float("nan")) == "no significant difference"


def test_no_number_of_images_tells_a_difference_of_nothing():
    assert required_sample_size([], _estimate(0.0)) is None
    assert required_sample_size([0.1, -0.1, 0.0], _estimate(0.0, 0.5)) is None


def test_more_images_is_the_formula_of_mcnemars_power():
    # 30 against 10 discordant images of 200: k = (1.96 + 0.8416)² · 40 / 20² = 0.785; of 15 against 10: 7.849 · 25 / 25.
    assert required_sample_size([1.0] * 30 + [-1.0] * 10, _estimate(20.0)) == 0
    assert required_sample_size([1.0] * 15 + [-1.0] * 10, _estimate(5.0)) == pytest.approx(
        200 * (7.8489 - 1), abs=1
    )
    assert required_sample_size([1.0] * 15 + [-1.0] * 10, _estimate(5.0), level=0.01) > 1369 + 200


def test_the_interval_may_ask_for_more():
    # Limits of 1.96 standard deviations ask for what the test asks for; twice as wide ones for four times the images.
    d = [1.0] * 15 + [-1.0] * 10
    assert required_sample_size(d, _estimate(5.0, 1.959964 * 5)) == pytest.approx(1370, abs=1)
    assert required_sample_size(d, _estimate(-5.0, 2 * 1.959964 * 5)) == pytest.approx(
        200 * (4 * 7.8489 - 1), abs=1
    )
    assert required_sample_size([1.0] * 30, _estimate(30.0, 30.0)) > 0  # an interval that touches 0


def test_as_many_images_as_asked_for_tell_about_four_times_in_five():
    rng = np.random.default_rng(0)
    differences = np.concatenate([[0.5, 0.5, -0.5], np.full(30, 0.1), np.full(22, -0.1)])
    asked = required_sample_size(differences, _estimate(differences.sum(), n=100))
    assert asked is not None
    assert asked > 0
    times = (100 + asked) / 100
    # Every kind of group comes as often as before, on average, with so many times the images; each counts the less.
    drawn = [rng.poisson(times, differences.size) for _ in range(400)]
    told = [permutation_p(np.repeat(differences / times, copies), resamples=500) <= 0.05 for copies in drawn]
    assert 0.72 < np.mean(told) < 0.88


@given(st.lists(st.sampled_from([-0.3, -0.25, 0.1, 0.25, 0.017]), min_size=1, max_size=18))
def test_who_has_enough_images_is_told_apart(differences):
    # By Hoeffding's inequality: p <= 2 exp(-(1.96 + 0.84)² / 2) = 0.04.
    if required_sample_size(differences, _estimate(sum(differences))) == 0:
        assert permutation_p(differences) <= 0.05

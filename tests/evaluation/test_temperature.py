from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, special
from sklearn import metrics as sklearn

from fixtures.made_up import made_up
from tametail.evaluation.calibration import LIMITS, fit_temperature, out_of_fold_temperatures, tempered
from tametail.predictions.single_label import LinkName

LINKS: list[LinkName] = ["softmax", "sigmoid"]


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("posterior", [True, False])
def test_at_one_they_are_the_probabilities(link: LinkName, posterior: bool) -> None:
    table = made_up(link=link, posterior=posterior, sharpness=3)
    np.testing.assert_allclose(tempered(table, 1.0), table.probabilities, rtol=1e-5, atol=1e-12)


@given(temperature=st.floats(0.05, 20), seed=st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_rows_sum_to_one_and_keep_their_order(temperature: float, seed: int) -> None:
    for link in LINKS:
        table = made_up(seed, images=20, link=link)
        p = tempered(table, temperature)
        np.testing.assert_allclose(p.sum(axis=1), 1)
        order = np.argsort(table.probabilities, axis=1)
        sorted_p = np.take_along_axis(p, order, axis=1)
        assert (np.diff(sorted_p, axis=1) >= -1e-9).all()


def test_under_softmax_it_divides_the_logits_and_under_sigmoids_the_log_odds() -> None:
    table = made_up(sharpness=2)
    expected = special.softmax(table.logits.astype(np.float64) / 2.5, axis=1)
    np.testing.assert_allclose(tempered(table, 2.5), expected, rtol=1e-4, atol=1e-9)
    table = made_up(link="sigmoid", sharpness=2)
    p = table.probabilities
    each = special.expit(special.logit(p) / 2.5)
    np.testing.assert_allclose(tempered(table, 2.5), each / each.sum(axis=1, keepdims=True), rtol=1e-4)


def test_an_image_may_have_its_own() -> None:
    table = made_up(images=40)
    own = np.linspace(0.5, 2, 40)
    each = tempered(table, own)
    for row in (0, 17, 39):
        np.testing.assert_allclose(each[row], tempered(table, own[row])[row])


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("posterior", [True, False])
def test_the_fit_is_that_of_a_plain_search_on_sklearns_log_loss(link: LinkName, posterior: bool) -> None:
    table = made_up(link=link, sharpness=2.5, posterior=posterior)

    def log_loss(temperature: float) -> float:
        return float(sklearn.log_loss(table.target, tempered(table, temperature), labels=[0, 1, 2]))

    grid = np.geomspace(0.5, 10, 200)
    rough = grid[np.argmin([log_loss(t) for t in grid])]
    assert fit_temperature(table) == pytest.approx(
        optimize.minimize_scalar(log_loss, bracket=(rough * 0.98, rough, rough * 1.02)).x, rel=1e-3
    )


def test_it_finds_how_much_too_sharp_they_are() -> None:
    assert fit_temperature(made_up(images=20_000, sharpness=3)) == pytest.approx(3, rel=0.05)
    assert fit_temperature(made_up(images=20_000, sharpness=0.5)) == pytest.approx(0.5, rel=0.05)


def test_a_decision_that_is_shifted_to_rare_classes_does_not_move_it() -> None:
    table = made_up()
    shifted = dataclasses.replace(table, logits=table.logits + np.float32([0, 2, 5]))
    assert fit_temperature(shifted) == fit_temperature(table)


def test_a_fold_is_not_fitted_on_itself() -> None:
    table = made_up(sharpness=2)
    before = out_of_fold_temperatures(table)
    own = table.fold == 1
    turned = dataclasses.replace(table, target=np.where(own, (table.target + 1) % 3, table.target))
    after = out_of_fold_temperatures(turned)
    assert before is not None
    assert after is not None
    np.testing.assert_array_equal(before[own], after[own])
    assert (before[~own] != after[~own]).all()
    assert out_of_fold_temperatures(dataclasses.replace(table, fold=np.full(240, 3))) is None


def test_it_stays_within_its_limits_where_everything_or_nothing_is_right() -> None:
    table = made_up(sharpness=4)
    right = dataclasses.replace(table, target=table.predicted)
    wrong = dataclasses.replace(table, target=(table.predicted + 1) % 3)
    assert LIMITS[0] <= fit_temperature(right) < 0.1
    assert 10 < fit_temperature(wrong) <= LIMITS[1]


def test_probabilities_at_their_ends_are_finite() -> None:
    for link in LINKS:
        table = made_up(images=4, link=link)
        p = np.float32([[1, 0, 0], [0, 1, 0], [1 - 2**-24, 2**-24, 0], [0, 0, 1]])
        ends = dataclasses.replace(table, posterior=p, logits=p)
        for temperature in (0.05, 1.0, 20.0):
            assert np.isfinite(tempered(ends, temperature)).all()
        np.testing.assert_allclose(tempered(ends, 1.0), ends.probabilities, atol=1e-7)


def test_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        fit_temperature(made_up(images=0))

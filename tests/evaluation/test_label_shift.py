"""Label shift: prevalences beside QuaPy and a direct maximisation, intervals by simulation, and batches of every kind."""

from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from tametail.core.arrays import FloatArray, IntArray
from tametail.evaluation.intervals import wilson
from tametail.evaluation.label_shift import (
    PrevalenceEstimate,
    ShiftReference,
    bbse_prevalence,
    em_prevalence,
    estimate_prevalence,
    on_simplex,
    shift_reference,
)
from tametail.predictions.single_label import Predictions, for_prevalence

TRAINED = np.array([0.6, 0.2, 0.12, 0.08])
REVERSED = TRAINED[::-1].copy()


def drawn(
    n: int,
    prevalence: FloatArray,
    rng: np.random.Generator,
    trained: FloatArray = TRAINED,
    sharpness: float = 1.0,
) -> tuple[IntArray, FloatArray]:
    """True classes, and probabilities that are calibrated at the ``trained`` frequencies if their sharpness is 1."""
    target = rng.choice(len(prevalence), n, p=prevalence)
    x = rng.normal(size=(n, len(prevalence))) + 2 * np.eye(len(prevalence))[target]
    with np.errstate(divide="ignore"):
        z = sharpness * (2 * x + np.log(trained))
    p = np.exp(z - z.max(axis=1, keepdims=True))
    return target, p / p.sum(axis=1, keepdims=True)


def reference_of(
    target: IntArray, p: FloatArray, group: IntArray | None = None, images: IntArray | None = None
) -> ShiftReference:
    counts = np.bincount(target, minlength=p.shape[1]) if images is None else images
    return ShiftReference(p, target, np.arange(len(p)) if group is None else group, counts)


def width(found: PrevalenceEstimate) -> float:
    """Of the widest interval."""
    return float(np.nanmax(found.high - found.low))


def log_likelihood(p: FloatArray, trained: FloatArray, prevalence: FloatArray) -> float:
    """Of a batch up to a constant: the mixture of the class densities p / trained."""
    return float(np.log((p * prevalence / trained).sum(axis=1)).mean())


def test_em_is_that_of_quapy() -> None:
    aggregative = pytest.importorskip("quapy.method.aggregative")
    _, p = drawn(300, REVERSED, np.random.default_rng(0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that its number of iterations is reached
        expected, posterior = aggregative.EMQ.EM(TRAINED, p, epsilon=1e-12)
    found = em_prevalence(p, TRAINED)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(for_prevalence(p, TRAINED, found), posterior, atol=1e-3)


@pytest.mark.parametrize("n", [20, 500])
def test_bbse_is_the_pacc_of_quapy(n: int) -> None:
    aggregative = pytest.importorskip("quapy.method.aggregative")
    functional = pytest.importorskip("quapy.functional")
    rng = np.random.default_rng(1)
    target, known = drawn(400, TRAINED, rng)
    _, p = drawn(n, np.array([0.0, 0.0, 0.5, 0.5]), rng)
    rates = aggregative.PACC.getPteCondEstim(np.arange(4), target, known)
    solved = aggregative.ACC.solve_adjustment(rates, p.mean(axis=0), method="inversion", solver="exact-raise")
    by_class = np.stack([known[target == c].mean(axis=0) for c in range(4)])
    found = bbse_prevalence(p.mean(axis=0), by_class)
    np.testing.assert_allclose(found, solved, atol=1e-10)
    expected = functional.normalize_prevalence(solved, method="mapsimplex")
    np.testing.assert_allclose(on_simplex(found), expected, atol=1e-10)


def test_em_maximises_the_likelihood() -> None:
    _, p = drawn(200, REVERSED, np.random.default_rng(2))
    found = em_prevalence(p, TRAINED)
    direct = optimize.minimize(
        lambda z: -log_likelihood(p, TRAINED, np.exp(z) / np.exp(z).sum()), np.zeros(4), tol=1e-12
    )
    np.testing.assert_allclose(found, np.exp(direct.x) / np.exp(direct.x).sum(), atol=1e-4)
    # The likelihood is concave: no other prevalence has a higher one, so no iteration has lowered it.
    others = np.random.default_rng(0).dirichlet(np.ones(4), 200)
    best = log_likelihood(p, TRAINED, found)
    assert all(log_likelihood(p, TRAINED, each) <= best for each in (*others, TRAINED))


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 60), classes=st.integers(2, 8))
def test_em_is_a_fixed_point_and_follows_the_order_of_classes(seed: int, n: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    trained = rng.dirichlet(np.ones(classes)) * 0.9 + 0.1 / classes
    _, p = drawn(n, rng.dirichlet(np.ones(classes)), rng, trained)
    found = em_prevalence(p, trained)
    assert found.sum() == pytest.approx(1)
    np.testing.assert_allclose(for_prevalence(p, trained, found).mean(axis=0), found, atol=1e-6)
    order = rng.permutation(classes)
    np.testing.assert_allclose(em_prevalence(p[:, order], trained[order]), found[order], atol=1e-6)
    known_target, known = drawn(40 * classes, np.full(classes, 1 / classes), rng, trained)
    known_target[:classes] = np.arange(classes)
    both = [
        estimate_prevalence(p[:, of], reference_of(np.argsort(of)[known_target], known[:, of]))
        for of in (np.arange(classes), order)
    ]
    for name in ("prevalence", "low", "high"):
        first, second = (getattr(each, name) for each in both)
        np.testing.assert_allclose(first[order], second, atol=1e-5)


@pytest.mark.parametrize("sharpness", [1.0, 2.0])
def test_many_images_give_the_prevalence_even_of_miscalibrated_probabilities(sharpness: float) -> None:
    rng = np.random.default_rng(3)
    reference = reference_of(*drawn(40_000, TRAINED, rng, sharpness=sharpness))
    for prevalence in (REVERSED, TRAINED, np.array([0.0, 0.5, 0.0, 0.5])):
        found = estimate_prevalence(drawn(40_000, prevalence, rng, sharpness=sharpness)[1], reference)
        np.testing.assert_allclose(found.prevalence, prevalence, atol=0.02)
        assert width(found) < 0.05
        # EM alone takes probabilities at their word.
        assert (np.abs(found.em - prevalence).max() > 0.03) == (sharpness == 2 and prevalence is not TRAINED)


def test_without_mistakes_intervals_are_those_of_wilson() -> None:
    known = np.repeat(np.arange(3), 10_000)
    reference = reference_of(known, np.eye(3)[known])
    batch = np.repeat(np.arange(3), (0, 12, 28))
    found = estimate_prevalence(np.eye(3)[batch], reference)
    share = np.array([0, 0.3, 0.7])
    np.testing.assert_allclose(found.prevalence, share, atol=1e-12)
    np.testing.assert_allclose((found.low, found.high), wilson(share, 40), atol=1e-6)


@pytest.mark.parametrize(("known", "n"), [(400, 60), (400, 1000), (4000, 60)])
def test_intervals_cover_the_prevalence(known: int, n: int) -> None:
    """Those of small batches, and those where the uncertainty is that of the out-of-fold images."""
    rng = np.random.default_rng(4)
    prevalence = np.array([0.25, 0.0, 0.7, 0.05])
    covered = np.zeros(4)
    studies = 60
    for _ in range(studies):
        reference = reference_of(*drawn(known, TRAINED, rng, sharpness=1.3))
        found = estimate_prevalence(drawn(n, prevalence, rng, sharpness=1.3)[1], reference)
        covered += (found.low <= prevalence) & (prevalence <= found.high)
    # At a coverage of 95 %, 60 studies have fewer than 52 with a probability of 0.3 %.
    assert (covered >= 52).all(), covered


def test_images_of_one_group_are_not_independent() -> None:
    rng = np.random.default_rng(5)
    reference = reference_of(*drawn(4000, TRAINED, rng))
    _, p = drawn(100, REVERSED, rng)
    once = estimate_prevalence(p, reference)
    repeated = np.repeat(p, 5, axis=0)
    grouped = estimate_prevalence(repeated, reference, group=np.repeat(np.arange(100), 5))
    np.testing.assert_allclose(grouped.high - grouped.low, once.high - once.low, rtol=0.1)
    assert width(estimate_prevalence(repeated, reference)) < 0.6 * width(once)


def test_out_of_fold_images_of_one_group_are_not_independent() -> None:
    rng = np.random.default_rng(6)
    target, p = drawn(300, TRAINED, rng)
    _, batch = drawn(5000, REVERSED, rng)
    once = estimate_prevalence(batch, reference_of(target, p))
    five = np.repeat(target, 5), np.repeat(p, 5, axis=0)
    grouped = estimate_prevalence(batch, reference_of(*five, np.repeat(np.arange(300), 5)))
    np.testing.assert_allclose(grouped.high - grouped.low, once.high - once.low, rtol=0.05)
    assert width(estimate_prevalence(batch, reference_of(*five))) < 0.7 * width(once)


def test_a_lower_log_loss_is_expected_where_it_becomes_lower() -> None:
    """Of shifts and sizes of every kind, where it is expected, it becomes much lower, or hardly higher by chance."""
    rng = np.random.default_rng(8)
    gains, helps, expected = [], [], []
    for _ in range(60):
        reference = reference_of(*drawn(1500, TRAINED, rng))
        for n in (20, 60, 200):
            prevalence = rng.dirichlet(5 * TRAINED)
            target, p = drawn(n, prevalence, rng)
            found = estimate_prevalence(p, reference)
            after = for_prevalence(p, reference.trained, found.adapted)
            gains.append(float(np.log(after / p)[np.arange(n), target].mean()))
            helps.append(found.helps)
            expected.append(found.gain)
    chosen, own = np.array(gains), np.array(helps)
    assert 0.2 < own.mean() < 0.9
    assert (chosen[own] > 0).mean() > 0.8
    assert chosen[own].mean() > 10 * -np.minimum(chosen[own], 0).mean()
    assert np.corrcoef(gains, expected)[0, 1] > 0.5
    assert np.mean(gains) == pytest.approx(np.mean(expected), abs=0.04)


def test_too_few_images_are_refused_with_the_number_that_is_enough() -> None:
    rng = np.random.default_rng(8)
    reference = reference_of(*drawn(4000, TRAINED, rng))
    _, p = drawn(4000, np.array([0.5, 0.3, 0.12, 0.08]), rng)
    few = estimate_prevalence(p[:60], reference)
    assert not few.helps
    many = estimate_prevalence(p, reference)
    assert many.helps
    assert many.needed is not None
    assert 60 < many.needed < 2000
    assert estimate_prevalence(p[: 3 * many.needed], reference).helps
    single = estimate_prevalence(p[:1], reference)
    assert single.gain_low == -math.inf
    assert single.needed is None
    assert math.isnan(single.deviation)
    assert single.prevalence.sum() == pytest.approx(1)
    same_group = estimate_prevalence(p, reference, group=np.zeros(len(p), dtype=np.int64))
    assert not same_group.helps
    unchanged = estimate_prevalence(drawn(2000, TRAINED, rng)[1], reference)
    assert not unchanged.helps


def test_a_few_images_exclude_no_class() -> None:
    rng = np.random.default_rng(20)
    reference = reference_of(*drawn(4000, TRAINED, rng))
    found = estimate_prevalence(drawn(40, np.array([0.0, 0.0, 0.0, 1.0]), rng)[1], reference)
    assert found.helps
    assert found.prevalence.min() == 0
    assert (found.adapted > 0.005).all()
    assert found.adapted.sum() == pytest.approx(1)


def test_no_number_of_images_is_enough_where_the_study_has_too_few() -> None:
    rng = np.random.default_rng(9)
    _, p = drawn(500, REVERSED, rng)
    target, known = drawn(800, TRAINED, rng)
    one_group = np.where(target == 3, -1, np.arange(800))
    alone = estimate_prevalence(p, reference_of(target, known, one_group))
    assert (alone.low[3], alone.high[3]) == (0, 1)
    assert not alone.helps
    assert alone.needed is None
    same = np.tile([0.5, 0.3, 0.1, 0.1], (800, 1))
    useless = estimate_prevalence(same[:100], reference_of(target, same))
    assert not useless.helps
    assert useless.needed is None
    assert useless.prevalence.sum() == pytest.approx(1)


def test_a_class_without_images_has_no_prevalence() -> None:
    rng = np.random.default_rng(10)
    trained = np.array([0.7, 0.0, 0.2, 0.1])
    target, known = drawn(2000, trained, rng, trained)
    _, p = drawn(800, np.array([0.1, 0.0, 0.3, 0.6]), rng, trained)
    found = estimate_prevalence(p, reference_of(target, known))
    assert found.prevalence[1] == 0
    assert math.isnan(found.low[1])
    assert math.isnan(found.high[1])
    assert found.adapted[1] == 0
    np.testing.assert_allclose(found.prevalence, [0.1, 0, 0.3, 0.6], atol=0.08)
    assert found.helps


@pytest.mark.parametrize("classes", [2, 30])
def test_images_of_one_class_only(classes: int) -> None:
    rng = np.random.default_rng(11)
    trained = np.full(classes, 0.5 / (classes - 1))
    trained[0] = 0.5
    reference = reference_of(*drawn(6000, trained, rng, trained))
    only = np.eye(classes)[classes - 1]
    found = estimate_prevalence(drawn(400, only, rng, trained)[1], reference)
    assert found.prevalence[-1] > 0.8
    assert found.high[-1] > 0.97
    assert (found.prevalence >= 0).all()
    assert (found.low <= found.prevalence).all()
    assert (found.prevalence <= found.high).all()


def test_images_unlike_those_of_the_study_are_noticed_and_label_shift_is_not() -> None:
    rng = np.random.default_rng(12)
    deviations = []
    for _ in range(40):
        reference = reference_of(*drawn(2000, TRAINED, rng))
        deviations.append(estimate_prevalence(drawn(300, REVERSED, rng)[1], reference).deviation)
    assert np.mean(np.abs(deviations) > 3) <= 1 / 40
    assert 0.6 < np.std(deviations) < 1.4
    blurred = estimate_prevalence(drawn(300, REVERSED, rng, sharpness=0.5)[1], reference)
    assert blurred.deviation < -3
    assert blurred.confidence < blurred.expected_confidence


def test_wrong_arguments_are_refused() -> None:
    reference = reference_of(*drawn(100, TRAINED, np.random.default_rng(13)))
    with pytest.raises(ValueError, match="at least one image"):
        em_prevalence(np.empty((0, 4)), TRAINED)
    for p in (np.empty((0, 4)), np.full((5, 3), 1 / 3)):
        with pytest.raises(ValueError, match="at least one image and 4 classes"):
            estimate_prevalence(p, reference)
    with pytest.raises(ValueError, match="groups of 5 images, got 4"):
        estimate_prevalence(np.full((5, 4), 0.25), reference, group=np.arange(4))


def table_of(target: IntArray, p: FloatArray) -> Predictions:
    image = np.array([f"{number:06}" for number in range(len(target))])
    group = np.array([f"{number // 2:06}" for number in range(len(target))])
    z = np.log(p).astype(np.float32)
    return Predictions(
        image, group, target, np.arange(len(p)) % 5, z, tuple("abcd"), "softmax", p.astype(np.float32)
    )


def test_the_reference_has_each_image_once_and_its_file_the_same_numbers() -> None:
    rng = np.random.default_rng(14)
    target, p = drawn(20_000, TRAINED, rng)
    reference = shift_reference([table_of(target, p), table_of(target, p[:, ::-1])])
    counts = np.bincount(target)
    most = 12_500 - int(np.sort(counts)[:-1].sum())
    np.testing.assert_array_equal(reference.images, counts)
    np.testing.assert_array_equal(np.bincount(reference.target), np.minimum(counts, most))
    one = shift_reference([table_of(target, p)])
    np.testing.assert_allclose(reference.p, (one.p + one.p[:, ::-1]) / 2, atol=1e-6)
    text = json.dumps(one.described())
    assert len(text) < 700_000
    again = ShiftReference.from_description(json.loads(text))
    np.testing.assert_array_equal(again.group, one.group)
    _, batch = drawn(300, REVERSED, rng)
    found, expected = (estimate_prevalence(batch, each) for each in (again, one))
    np.testing.assert_allclose(found.prevalence, expected.prevalence, atol=1e-4)
    np.testing.assert_allclose(found.high, expected.high, atol=1e-4)


@pytest.mark.parametrize(
    "damage",
    [{"p": [[0.5, 0.5]]}, {"target": [7, 1]}, {"p": [[2.0, 0.0], [0.5, 0.5]]}, {"images": [0, 1]}],
)
def test_a_damaged_description_is_refused(damage: dict[str, object]) -> None:
    good = ShiftReference(np.eye(2), np.arange(2), np.arange(2), np.ones(2, dtype=np.int64)).described()
    ShiftReference.from_description(good)
    with pytest.raises(ValueError, match="expected probabilities in 0"):
        ShiftReference.from_description(good | damage)

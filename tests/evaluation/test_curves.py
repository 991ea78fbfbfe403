"""Curves, compared with scikit-learn's points and with the areas that the metrics estimate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn

from tametail.evaluation.curves import MOST_POINTS, Curve, precision_recall_curve, roc_curve
from tametail.evaluation.ranking_metrics import RankedClass, ranking_proportions


def drawn(seed: int, positives: int, negatives: int, decimals: int = 1) -> RankedClass:
    rng = np.random.default_rng(seed)
    positive = rng.permutation(np.arange(positives + negatives) < positives)
    return RankedClass(positive, [np.round(rng.normal(size=len(positive)) + positive, decimals)])


def joined(curve: Curve) -> float:
    """Area under straight lines."""
    return float(np.trapezoid(curve.y, curve.x))


def stepped(curve: Curve) -> float:
    """Area under steps."""
    return float((np.diff(curve.x, prepend=0.0) * curve.y).sum())


def points(x: np.ndarray, y: np.ndarray) -> set[tuple[float, float]]:
    return {(round(float(a), 9), round(float(b), 9)) for a, b in zip(x, y, strict=True)}


CASES = [
    (0, 15, 60, 1),
    (1, 300, 3000, 6),
    (2, 5, 4000, 2),
    (3, 1, 1, 1),
    (4, 2000, 30, 6),
    (8, 3000, 90, 9),
    (9, 90, 3000, 9),
    (5, 40, 40, 0),
]


@pytest.mark.parametrize(("seed", "positives", "negatives", "decimals"), CASES)
def test_points_of_one_replicate_are_scikit_learns(
    seed: int, positives: int, negatives: int, decimals: int
) -> None:
    of_class = drawn(seed, positives, negatives, decimals)
    positive, score = of_class.positive, of_class.scores[0]
    found = roc_curve(of_class)
    fpr, tpr, _ = sklearn.roc_curve(positive, score, drop_intermediate=False)
    assert points(found.x, found.y) <= points(fpr, tpr)
    assert (found.x[0], found.y[0], found.x[-1], found.y[-1]) == (0, 0, 1, 1)
    assert len(found.x) <= MOST_POINTS + 2
    assert joined(found) == pytest.approx(sklearn.roc_auc_score(positive, score), abs=2e-3)
    found = precision_recall_curve(of_class)
    precision, recall, _ = sklearn.precision_recall_curve(positive, score)
    assert points(found.x, found.y) <= points(recall, precision)
    assert found.x[-1] == 1
    assert len(found.x) <= MOST_POINTS + 2
    assert stepped(found) == pytest.approx(sklearn.average_precision_score(positive, score), abs=4e-3)
    assert (found.positives, found.negatives) == (positives, negatives)


@pytest.mark.parametrize("curve", [roc_curve, precision_recall_curve])
def test_there_are_at_most_about_200_points_that_follow_the_curve_closely(curve) -> None:
    of_class = drawn(6, 2000, 20_000, 9)
    found, whole = curve(of_class), curve(of_class, most=10**6)
    assert MOST_POINTS / 2 < len(found.x) <= MOST_POINTS + 2
    assert len(whole.x) > 1000
    between = np.interp(whole.x, found.x, found.y)
    # The precision of the first few images leaps.
    assert np.abs(between - whole.y)[whole.x > 0.02].max() < 0.02


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(
        st.tuples(st.booleans(), *[st.sampled_from(np.linspace(0, 1, 7).tolist())] * 3),
        min_size=2,
        max_size=40,
    )
)
def test_the_areas_are_the_means_over_the_replicates_whatever_ties(rows: list[tuple]) -> None:
    positive, *scores = (np.array(column) for column in zip(*rows, strict=True))
    of_class = RankedClass(positive, scores)
    roc, precision_recall = roc_curve(of_class), precision_recall_curve(of_class)
    if positive.all() or not positive.any():
        assert len(roc.x) == len(precision_recall.x) == 0
        return
    auroc, average_precision = ranking_proportions([of_class], np.arange(len(positive)))
    assert joined(roc) == pytest.approx(auroc.value[0])
    assert stepped(precision_recall) == pytest.approx(average_precision.value[0])
    assert (np.diff(roc.x) >= 0).all()
    assert (np.diff(roc.y) >= 0).all()
    assert (np.diff(precision_recall.x) > 0).all()
    each = [sklearn.roc_auc_score(positive, score) for score in scores]
    assert joined(roc) == pytest.approx(np.mean(each))


def test_several_replicates_are_averaged_at_equal_rates() -> None:
    positive = np.array([True, True, False, False])
    right, wrong = np.array([4.0, 3.0, 2.0, 1.0]), np.array([1.0, 2.0, 3.0, 4.0])
    found = roc_curve(RankedClass(positive, [right, wrong]))
    # One rises to 1 at a false-positive rate of 0, the other at 1.
    assert points(found.x, found.y) == {(0, 0), (0, 0.5), (0.5, 0.5), (1, 0.5), (1, 1)}
    found = precision_recall_curve(RankedClass(positive, [right, wrong]))
    assert points(found.x, found.y) == points(np.array([0.5, 1]), np.array([(1 + 1 / 3) / 2, 0.75]))


def test_unknown_images_are_left_out() -> None:
    of_class = drawn(7, 10, 30)
    known = np.arange(40) % 3 > 0
    left = RankedClass(of_class.positive[known], [of_class.scores[0][known]])
    for curve in (roc_curve, precision_recall_curve):
        found, expected = curve(RankedClass(of_class.positive, of_class.scores, known)), curve(left)
        np.testing.assert_array_equal([found.x, found.y], [expected.x, expected.y])

"""The corrected resampled t test against scipy where it is the plain one, against its formula, and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tametail.evaluation.resampled_t import resampled_t


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(2, 6))
def test_without_shared_images_it_is_the_paired_t_test(seed, seeds, folds):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(0.7, 0.1, (2, seeds, folds))
    found = resampled_t(a, b, 1e15, 1)
    reference = stats.ttest_rel(a.ravel(), b.ravel())
    assert found.p == pytest.approx(reference.pvalue)
    interval = reference.confidence_interval(0.95)
    np.testing.assert_allclose([found.low, found.high], [interval.low, interval.high])
    assert found.runs == seeds * folds


def test_the_formula_by_hand():
    # Differences 1, 2, 3, 4 in hundredths: mean 2.5, s² = 5 / 3; five folds share so that (1/4 + 1/4) s² is the variance.
    found = resampled_t([[0.51, 0.52], [0.53, 0.54]], np.full((2, 2), 0.5), 800, 200)
    error = np.sqrt(0.5 * 5 / 3) / 100
    assert found.difference == pytest.approx(0.025)
    assert found.p == pytest.approx(2 * stats.t.sf(0.025 / error, 3))
    assert found.high - found.difference == pytest.approx(3.182446 * error)
    turned = resampled_t(np.full((2, 2), 0.5), [[0.51, 0.52], [0.53, 0.54]], 800, 200)
    assert (turned.p, turned.low) == (pytest.approx(found.p), pytest.approx(-found.high))


def test_order_of_runs_does_not_matter():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3, 5))
    order = rng.permutation(5)
    one, other = resampled_t(a, b, 4, 1), resampled_t(a[::-1][:, order], b[::-1][:, order], 4, 1)
    assert (one.p, one.low) == (pytest.approx(other.p), pytest.approx(other.low))


def test_extremes():
    same = resampled_t([[0.5, 0.6]], [[0.5, 0.6]], 4, 1)
    assert (same.difference, same.low, same.high, same.p) == (0, 0, 0, 1)
    one_run = resampled_t([[0.5]], [[0.4]], 4, 1)
    assert one_run.difference == pytest.approx(0.1)
    assert np.isnan([one_run.low, one_run.high, one_run.p]).all()
    assert np.isnan(resampled_t([[0.5]], [[0.5]], 4, 1).p)
    constant = resampled_t(
        [[0.5, 0.6, 0.7]], [[0.4, 0.5, 0.6]], 4, 1
    )  # 0.1 but for rounding: no spread to judge by
    assert np.isnan(constant.p)


@pytest.mark.parametrize(
    ("a", "b", "train", "test", "said"),
    [
        ([[0.1, 0.2]], [[0.1]], 4, 1, r"\(1, 2\) and \(1, 1\)"),
        ([0.1, 0.2], [0.1, 0.3], 4, 1, "seeds, folds"),
        ([[0.1, np.nan]], [[0.1, 0.2]], 4, 1, "missing"),
        (np.zeros((0, 3)), np.zeros((0, 3)), 4, 1, "seeds, folds"),
        ([[0.1, 0.2]], [[0.1, 0.3]], 0, 1, "above 0"),
    ],
)
def test_what_is_refused(a, b, train, test, said):
    with pytest.raises(ValueError, match=said):
        resampled_t(a, b, train, test)


def test_false_alarms_where_runs_share_training_images():
    # Two learners that are equally good on average: each fits the means of two classes in one of two noise features.
    rng = np.random.default_rng(1)
    plain, corrected = [], []
    for _ in range(400):
        x, y = rng.normal(size=(60, 2)), np.tile([0, 1], 30)
        x += 0.8 * y[:, None]
        scores = np.empty((2, 3, 5))
        for repeat in range(3):
            fold = rng.permutation(60) % 5
            for k in range(5):
                train = fold != k
                for learner in range(2):
                    feature = x[:, learner]
                    means = [feature[train & (y == c)].mean() for c in (0, 1)]
                    predicted = (feature > np.mean(means)) == (means[1] > means[0])
                    scores[learner, repeat, k] = (predicted == y)[~train].mean()
        corrected.append(resampled_t(*scores, 48, 12).p <= 0.05)
        plain.append(resampled_t(*scores, 1e9, 1).p <= 0.05)
    assert np.mean(plain) > 0.2
    assert np.mean(corrected) < 0.12

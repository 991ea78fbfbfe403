"""Do 95 % intervals hold the truth about 95 times in 100? Seeded simulations; bounds in each test.

The standard error of a coverage of 0.95 over 400 simulations is 0.011.
"""

from __future__ import annotations

import numpy as np
import pytest

from tametail.evaluation import evaluate, intervals, metrics
from tametail.predictions.single_label import Predictions

SIMULATIONS = 400
TAIL = np.array([670, 110, 110, 103, 51, 14, 12])  # test images of seven skin lesions
RECALL = np.array([0.95, 0.7, 0.6, 0.5, 0.8, 0.8, 0.9])


def _covers(limits, truth):
    return np.mean((limits[0] <= truth) & (truth <= limits[1]), axis=0)


def test_wilson_and_mover_on_a_long_tail():
    rng = np.random.default_rng(0)
    share = rng.binomial(TAIL, RECALL, (SIMULATIONS, len(TAIL))) / TAIL
    low, high = intervals.wilson(share, TAIL)
    per_class = _covers((low, high), RECALL)
    assert (per_class > 0.91).all()
    assert 0.93 < per_class.mean() < 0.975
    means = np.array([intervals.mover_mean(*row) for row in zip(share, low, high, strict=True)]).T
    assert 0.92 < _covers(means, RECALL.mean()) < 0.985


@pytest.mark.parametrize("recall", [0.9, 0.95, 0.97])
def test_the_mean_of_easy_rare_classes_needs_more_than_mover(recall):
    rng, n = np.random.default_rng(4), np.full(17, 20)
    share = rng.binomial(n, recall, (SIMULATIONS, len(n))) / n
    rows = list(zip(share, *intervals.wilson(share, n), strict=True))
    mover = np.array([intervals.mover_mean(*row) for row in rows]).T
    widened = np.array([intervals.mean_of_proportions(*row, n) for row in rows]).T
    assert _covers(mover, recall) < 0.93
    assert 0.93 < _covers(widened, recall) <= 1


@pytest.mark.parametrize(("groups", "images"), [(40, 5), (12, 6)])
def test_clustered_images_need_the_effective_sample_size(groups, images):
    rng = np.random.default_rng(1)
    # Beta-binomial with mean 0.7 and a correlation of 0.4 between the images of a group.
    skill = rng.beta(0.7 * 1.5, 0.3 * 1.5, (groups, SIMULATIONS))
    right, trials = rng.binomial(images, skill), np.full((groups, SIMULATIONS), images)
    share = right.mean(axis=0) / images
    naive = _covers(intervals.wilson(share, groups * images), 0.7)
    clustered = _covers(intervals.wilson(share, intervals.effective_sample_size(right, trials)), 0.7)
    assert naive < 0.85
    assert 0.925 < clustered < 0.985


def _simulated(rng, confusion, counts):
    target = np.repeat(np.arange(len(counts)), counts)
    predicted = (rng.random((len(target), 1)) > confusion.cumsum(axis=1)[target, :-1]).sum(axis=1)
    image = np.array([f"{index:05}" for index in range(len(target))])
    logits = np.eye(len(counts), dtype=np.float32)[predicted]
    names = tuple("abcdefg"[: len(counts)])
    return Predictions(image, image, target, np.zeros(len(target), dtype=np.int64), logits, names, "softmax")


@pytest.mark.slow
def test_evaluate_covers_f1_and_its_mean_where_rare_classes_are_nearly_all_right():
    # The bootstrap alone holds the macro F1 in 0.88 and the rarest F1 in 0.66 of such simulations.
    rng = np.random.default_rng(2)
    counts, right = np.array([120, 60, 20, 8, 5]), np.array([0.98, 0.95, 0.95, 0.9, 0.97])
    confusion = np.diag(right) + (1 - np.eye(5)) * ((1 - right) / 4)[:, None]
    population = confusion * counts[:, None]
    results = [evaluate([_simulated(rng, confusion, counts)], resamples=300) for _ in range(150)]
    macro = np.array([(r["macro_f1"].low, r["macro_f1"].high) for r in results]).T
    per_class = np.array([[(one.low, one.high) for one in r.by_class("f1")] for r in results]).transpose(
        2, 0, 1
    )
    assert 0.92 < _covers(macro, metrics.macro_f1(population)) < 0.99
    assert (_covers(per_class, metrics.f1(population)) > 0.92).all()


@pytest.mark.slow
def test_balanced_accuracy_knows_that_patients_cost_every_class_at_once():
    rng = np.random.default_rng(3)
    patients, each, classes = 40, 2, 4
    target = np.tile(np.repeat(np.arange(classes), each), patients)
    group = np.repeat(np.arange(patients), classes * each).astype(np.str_)
    image = np.array([f"{index:05}" for index in range(len(target))])
    covered, mover = [], []
    for _ in range(SIMULATIONS):
        skill = np.repeat(rng.beta(2.1, 0.9, patients), classes * each)  # mean 0.7
        predicted = np.where(rng.random(len(target)) < skill, target, (target + 1) % classes)
        logits = np.eye(classes, dtype=np.float32)[predicted]
        fold = np.zeros(len(target), dtype=np.int64)
        table = Predictions(image, group, target, fold, logits, tuple("abcd"), "softmax")
        result = evaluate([table], resamples=2)
        balanced = result["balanced_accuracy"]
        covered.append((balanced.low, balanced.high))
        limits = np.array([(one.value, one.low, one.high) for one in result.by_class("recall")]).T
        mover.append(intervals.mover_mean(*limits))
    assert 0.92 < _covers(np.array(covered).T, 0.7) < 0.985
    assert _covers(np.array(mover).T, 0.7) < 0.85

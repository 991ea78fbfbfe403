"""Prediction sets: thresholds beside MAPIE, groups with equal weights, coverage by simulation, and rare classes."""

from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn.base import BaseEstimator, ClassifierMixin

from tametail.core.arrays import FloatArray, IntArray
from tametail.evaluation import conformal
from tametail.evaluation.conformal import (
    ScoreDistribution,
    class_thresholds,
    needed_groups,
    prediction_sets,
    prevalence_thresholds,
    score_distributions,
    sets_of,
)
from tametail.predictions.single_label import Predictions

CLASSES = 4
NAMES = tuple("abcd")


def table_of(
    target: IntArray, p: FloatArray, group: IntArray | None = None, fold: IntArray | None = None
) -> Predictions:
    image = np.array([f"{number:06}" for number in range(len(target))])
    groups = image if group is None else np.char.zfill(group.astype(np.str_), 6)
    folds = np.arange(len(target)) % 5 if fold is None else fold
    return Predictions(
        image, groups, target, folds, np.log(p).astype(np.float32), NAMES, "softmax", p.astype(np.float32)
    )


def drawn(n: int, rng: np.random.Generator, shift: FloatArray | float = 0.0) -> tuple[IntArray, FloatArray]:
    """Classes, the first the most frequent, and probabilities."""
    target = rng.choice(CLASSES, n, p=[0.55, 0.25, 0.15, 0.05])
    z = rng.normal(size=(n, CLASSES)) + 1.5 * np.eye(CLASSES)[target] + shift
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    return target, p


class Given(ClassifierMixin, BaseEstimator):
    """A fitted classifier whose inputs are its probabilities."""

    classes_ = np.arange(CLASSES)

    def fit(self, x: FloatArray, y: IntArray) -> Given:
        return self

    def predict_proba(self, x: FloatArray) -> FloatArray:
        return x

    def predict(self, x: FloatArray) -> IntArray:
        return np.asarray(x.argmax(axis=1))

    def __sklearn_is_fitted__(self) -> bool:
        return True


def mapie_sets(p: FloatArray, target: IntArray, new: FloatArray, coverage: float) -> FloatArray:
    mapie = pytest.importorskip("mapie.classification")
    found = mapie.SplitConformalClassifier(
        Given(), confidence_level=coverage, conformity_score="lac", prefit=True
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="WARNING: your conformalization dataset has less labels")
        found.conformalize(p, target)
    return np.asarray(found.predict_set(new)[1][:, :, 0])


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95])
def test_sets_are_those_of_mapie(coverage: float) -> None:
    """With one image per group: over all images, and class by class from the images of the class alone."""
    rng = np.random.default_rng(1)
    target, p = drawn(900, rng)
    new = drawn(400, rng)[1]
    table = table_of(target, p)
    p = table.probabilities  # through float32
    distributions = score_distributions([table])
    frequency = np.bincount(target, minlength=CLASSES) / len(target)
    over_all = sets_of(new, prevalence_thresholds(distributions, coverage, frequency))
    np.testing.assert_array_equal(over_all, mapie_sets(p, target, new, coverage))
    by_class = sets_of(new, class_thresholds(distributions, coverage))
    for index in range(CLASSES):
        own = target == index
        reference = mapie_sets(p[own], target[own], new, coverage)[:, index]
        np.testing.assert_array_equal(by_class[:, index], reference)


def test_a_threshold_is_the_quantile_with_one_more_image() -> None:
    scores = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    of_nine = ScoreDistribution(scores, np.arange(1, 10) / 9, 9, 9)
    assert of_nine.threshold(0.9) == 0.9
    assert of_nine.threshold(0.8) == 0.8
    assert of_nine.threshold(0.81) == 0.9
    assert of_nine.threshold(0.91) == math.inf
    assert [needed_groups(coverage) for coverage in (0.5, 0.8, 0.9, 0.95, 0.99)] == [1, 4, 9, 19, 99]
    for coverage in (0.0, 1.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="expected a coverage above 0 and below 1"):
            needed_groups(coverage)


def test_a_group_counts_once_however_many_images_it_has() -> None:
    """Each image of a group k times changes nothing; a group's images share its weight."""
    rng = np.random.default_rng(2)
    target, p = drawn(300, rng)
    alone = class_thresholds(score_distributions([table_of(target, p)]), 0.9)
    times = rng.integers(1, 6, 300)
    many = table_of(np.repeat(target, times), np.repeat(p, times, axis=0), np.repeat(np.arange(300), times))
    np.testing.assert_allclose(class_thresholds(score_distributions([many]), 0.9), alone)
    ignored = class_thresholds(score_distributions([table_of(many.target, many.probabilities)]), 0.9)
    assert (ignored != alone).any()


def test_repeats_are_no_more_groups() -> None:
    rng = np.random.default_rng(3)
    target, p = drawn(60, rng)
    table = table_of(target, p)
    (one, two) = (score_distributions([table] * repeats) for repeats in (1, 2))
    assert [each.groups for each in one] == [each.groups for each in two]
    np.testing.assert_array_equal(class_thresholds(one, 0.8), class_thresholds(two, 0.8))


def test_a_class_that_is_too_rare_is_named_and_in_every_set() -> None:
    rng = np.random.default_rng(4)
    target, p = drawn(400, rng)
    rare = np.flatnonzero(target == 3)[8:]  # 8 of them remain, one fewer than 90 % needs
    keep = np.setdiff1d(np.arange(400), rare)
    found = prediction_sets([table_of(target[keep], p[keep])], 0.9)
    assert found.too_rare == ("d",)
    of_rare = found.classes[3]
    assert (of_rare.groups, of_rare.needed, of_rare.coverage.value) == (8, 9, 1.0)
    assert class_thresholds(found.distributions, 0.9)[3] == math.inf
    assert class_thresholds(found.distributions, 0.8)[3] < 1
    assert found.size.value >= 1
    none = prediction_sets([table_of(np.minimum(target, 2), p)], 0.9)
    assert none.too_rare == ("d",)
    assert (none.classes[3].coverage.n, math.isnan(none.classes[3].coverage.value)) == (0, True)


def simulated(
    rng: np.random.Generator, groups: int, prevalence: FloatArray
) -> tuple[IntArray, FloatArray, IntArray]:
    """Patients of one class each, with 1 to 8 images whose difficulty they share, and the more images the harder."""
    images = rng.integers(1, 9, groups)
    of_group = rng.choice(CLASSES, groups, p=prevalence)
    ease = 3.0 - 0.35 * images + rng.normal(size=groups)
    group = np.repeat(np.arange(groups), images)
    target = of_group[group]
    z = rng.normal(size=(len(group), CLASSES)) * 0.7
    z[np.arange(len(group)), target] += ease[group]
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    return target, p, group


def covered(
    sets: FloatArray, target: IntArray, group: IntArray, rng: np.random.Generator
) -> tuple[IntArray, FloatArray]:
    """For one random image of each group, its class and whether its set has it."""
    order = rng.permutation(len(group))
    rows = order[np.unique(group[order], return_index=True)[1]]
    return target[rows], sets[rows, target[rows]]


def test_coverage_of_each_class_with_patients_as_groups() -> None:
    """Nominal within the binomial interval, in each class, also at another prevalence; below it if groups are ignored."""
    rng = np.random.default_rng(5)
    prevalence, other = np.array([0.5, 0.25, 0.15, 0.1]), np.array([0.1, 0.2, 0.3, 0.4])
    seen: dict[str, list[list[float]]] = {kind: [[] for _ in range(CLASSES)] for kind in ("groups", "images")}
    over_all: list[float] = []
    for _ in range(60):
        target, p, group = simulated(rng, 400, prevalence)
        new_target, new_p, new_group = simulated(rng, 400, other)
        by_group = score_distributions([table_of(target, p, group)])
        by_image = score_distributions([table_of(target, p)])
        for kind, distributions in (("groups", by_group), ("images", by_image)):
            sets = sets_of(new_p, class_thresholds(distributions, 0.9))
            of_class, hit = covered(sets, new_target, new_group, rng)
            for index in range(CLASSES):
                seen[kind][index] += hit[of_class == index].tolist()
        sets = sets_of(new_p, prevalence_thresholds(by_group, 0.9, other))
        over_all += covered(sets, new_target, new_group, rng)[1].tolist()
    for hits in (*seen["groups"], over_all):
        low, high = stats.binom.ppf([0.0005, 0.9995], len(hits), 0.9) / len(hits)
        assert low <= np.mean(hits) <= high + 0.03, len(
            hits
        )  # at most 1 / (groups + 1) above, and thresholds vary
    wrong = [np.mean(hits) for hits in seen["images"]]
    assert max(abs(share - 0.9) for share in wrong) > 0.02


def test_the_reported_coverage_is_that_of_new_images() -> None:
    rng = np.random.default_rng(6)
    prevalence = np.array([0.5, 0.25, 0.15, 0.1])
    target, p, group = simulated(rng, 1500, prevalence)
    found = prediction_sets([table_of(target, p, group, group % 5)], 0.9)
    new_target, new_p, new_group = simulated(rng, 4000, prevalence)
    sets = sets_of(new_p, class_thresholds(found.distributions, 0.9))
    for index, one in enumerate(found.classes):
        assert one.coverage.low < 0.9 < one.coverage.high
        own = new_target == index
        sizes = [sets[own][new_group[own] == each].sum(axis=1).mean() for each in np.unique(new_group[own])]
        assert one.size.low - 0.1 < np.mean(sizes) < one.size.high + 0.1
        assert one.coverage.n == (target == index).sum()
    assert found.coverage.value == pytest.approx(0.9, abs=0.03)


def test_more_coverage_takes_larger_sets() -> None:
    rng = np.random.default_rng(7)
    table = table_of(*drawn(500, rng))
    found = [prediction_sets([table], coverage) for coverage in (0.6, 0.8, 0.9, 0.95)]
    sizes, coverages = [one.size.value for one in found], [one.coverage.value for one in found]
    assert sizes == sorted(sizes)
    assert coverages == sorted(coverages)
    assert found[0].empty.value > 0
    assert found[0].single.value + found[0].empty.value <= 1


def test_a_prevalence_moves_the_coverage_to_its_classes() -> None:
    rng = np.random.default_rng(8)
    target, p = drawn(2000, rng, shift=np.array([1.0, 0, 0, -1.0]))
    table = table_of(target, p)
    frequency = np.bincount(target, minlength=CLASSES) / len(target)
    as_trained = prediction_sets([table], 0.9, frequency)
    even = prediction_sets([table], 0.9, np.full(CLASSES, 0.25))
    assert as_trained.coverage.value == pytest.approx(0.9, abs=0.02)
    assert as_trained.classes[3].coverage.value < 0.8
    mean = np.mean([one.coverage.value for one in even.classes])
    assert mean == pytest.approx(0.9, abs=0.03)
    assert even.coverage.value > as_trained.coverage.value


@pytest.mark.parametrize("images", [30, 5000])
def test_distributions_survive_a_file_and_do_not_shrink_sets(images: int) -> None:
    rng = np.random.default_rng(9)
    target, p = drawn(images, rng)
    before = score_distributions([table_of(target, p)])
    after = [ScoreDistribution.from_description(json.loads(json.dumps(one.described()))) for one in before]
    for one, again in zip(before, after, strict=True):
        assert len(again.scores) <= 1000
        assert (again.groups, again.images) == (one.groups, one.images)
        for coverage in (0.5, 0.8, 0.9, 0.95):
            low, high = one.threshold(coverage), again.threshold(coverage)
            assert low <= high + 1e-9
            assert high == low or high - low < 0.02
    for damage in ({"scores": [0.3, 0.2]}, {"scores": [math.nan] * images}, {"share": []}, {"groups": 0}):
        with pytest.raises(ValueError, match="expected rising scores"):
            ScoreDistribution.from_description(before[0].described() | damage)


def test_predictions_of_one_fold_are_divided_by_whole_groups() -> None:
    rng = np.random.default_rng(10)
    target, p, group = simulated(rng, 300, np.array([0.5, 0.25, 0.15, 0.1]))
    found = prediction_sets([table_of(target, p, group, np.zeros(len(target), dtype=np.int64))])
    assert found.required == conformal.DEFAULT_COVERAGE == 0.9
    assert all(one.coverage.low < 0.9 <= one.coverage.high for one in found.classes)

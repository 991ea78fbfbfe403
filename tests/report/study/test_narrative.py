from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from tametail.evaluation import Estimate, Evaluation
from tametail.evaluation.paired import Paired, PairedTable
from tametail.report import MethodResults, SetCounts, StudyResults, formatting
from tametail.report.study import narrative

UNDEFINED = math.nan


def method(name: str, value: float, low: float, high: float) -> MethodResults:
    estimate = Estimate(value, low, high, 1200)
    evaluation = Evaluation(
        classes=(),
        estimates={(metric, ""): estimate for metric in ("balanced_accuracy", "macro_f1", "accuracy")},
        class_groups={},
        confusion=np.zeros((2, 2)),
        n=1200,
        groups=400,
        replicates=1,
    )
    return MethodResults(name, 5, 5, (), value, evaluation, None, None, ())


def study(methods: Sequence[MethodResults], evaluations: int = 0, test_images: int = 30) -> StudyResults:
    counts = SetCounts({"a": 900, "b": 300}, {"a": test_images, "b": 0}, 400, 10, 1200, test_images)
    return StudyResults(
        {"class_names": ["a", "b"]},
        tuple(methods),
        tuple({"evaluation": n} for n in range(evaluations)),
        counts,
        (),
        1.0,
    )


def test_overlap_is_not_superiority() -> None:
    first, second = narrative.answer(
        study(
            [method("ce", 0.71, 0.68, 0.74), method("asl", 0.70, 0.67, 0.73), method("ldam", 0.3, 0.28, 0.33)]
        )
    )
    assert first == (
        "In cross-validation, ce has the highest balanced accuracy: 71.0 % (95 % interval 68.0 to 74.0), "
        "n = 1,200 images of 400 groups (out-of-fold predictions)."
    )
    assert second.startswith(
        "The interval of asl overlaps with that of ce, so the intervals do not show which is better"
    )
    assert "ldam" not in second


@pytest.mark.parametrize(("low", "overlaps"), [(0.6799, False), (0.68, True)])
def test_intervals_that_touch_overlap(low: float, overlaps: bool) -> None:
    said = narrative.answer(study([method("ce", 0.71, 0.68, 0.74), method("asl", 0.65, 0.6, low)]))[1]
    assert ("overlaps with that of ce, so" in said) is overlaps
    assert ("The interval of no other method overlaps" in said) is not overlaps
    assert "not a test" in said


def test_many_overlaps_are_counted_and_undefined_ones_exclude_nothing() -> None:
    others = [method(name, 0.7, 0.66, 0.74) for name in "bcde"] + [method("f", 0.2, UNDEFINED, UNDEFINED)]
    said = narrative.answer(study([method("a", 0.71, 0.68, 0.74), *others]))[1]
    assert said.startswith("The intervals of all 5 other methods overlap")


def test_a_shared_first_place_is_said() -> None:
    said = narrative.answer(study([method("a", 0.71, 0.68, 0.74), method("b", 0.71, 0.67, 0.75)]))[0]
    assert "a has the highest balanced accuracy, shared with b:" in said


def verdicts(*of_pairs: str) -> PairedTable:
    """The first loss against each other one; what the others are to each other does not matter."""
    count = len(of_pairs) + 1
    all_pairs = [*of_pairs, *["no significant difference"] * (count * (count - 1) // 2 - len(of_pairs))]
    estimate = Estimate(0.02, 0.01, 0.03, 1200)
    made = tuple(Paired(estimate, 0.01, 0.03, each, 0, 400, 20, 0.005) for each in all_pairs)  # type: ignore[arg-type]
    return PairedTable(tuple("abcdefgh"[:count]), made)


@pytest.mark.parametrize(
    ("of_pairs", "said"),
    [
        (
            ("better", "no significant difference"),
            "it is significantly better than b; not significantly different from c.",
        ),
        (("better", "better"), "it is significantly better than b and c."),
        (("better",) * 5, "it is significantly better than all 5 others."),
        (("no significant difference",) * 5, "it is not significantly different from any of the 5 others."),
        (
            ("no significant difference",) * 5 + ("better",),
            "it is significantly better than g; not significantly different from 5 of the 6 others.",
        ),
    ],
)
def test_paired_tests_take_the_place_of_intervals(of_pairs: tuple[str, ...], said: str) -> None:
    methods = [method(name, 0.7, 0.6, 0.8) for name in "abcdefgh"[: len(of_pairs) + 1]]
    sentences = narrative.answer(replace(study(methods), pairs=verdicts(*of_pairs)))
    assert len(sentences) == 2
    assert sentences[1].startswith("In paired tests on the same images (Holm-corrected over all ")
    assert sentences[1].endswith(said)
    two = narrative.answer(replace(study(methods[:2]), pairs=verdicts("better")))
    assert two[1] == "In paired tests on the same images, it is significantly better than b."


def test_p_values() -> None:
    assert [formatting.p_value(p) for p in (0.00004, 0.0342, 0.0999, 0.31, 1.0, UNDEFINED)] == [
        "< 0.001", "0.034", "0.100", "0.31", "1.00", "–",
    ]  # fmt: skip


def test_a_loss_that_is_not_tested_is_named() -> None:
    on_test = method("a", 0.7, 0.6, 0.8).out_of_fold
    tested = replace(method("a", 0.71, 0.68, 0.74), test=on_test, test_ensemble=on_test)
    said = " ".join(narrative.state_of_test_set(study([tested, method("b", 0.7, 0.6, 0.8)], evaluations=1)))
    assert "was evaluated once" in said
    assert "added after the last evaluation: b." in said


def test_a_study_without_a_test_set() -> None:
    assert narrative.state_of_test_set(study([], test_images=0)) == ["This study has no test set."]


def test_numbers() -> None:
    assert formatting.percent(UNDEFINED) == formatting.score(UNDEFINED) == "–"
    assert formatting.percent_interval(Estimate(0.5, UNDEFINED, UNDEFINED, 0)) == ""
    assert formatting.score_interval(Estimate(0.5, 0.25, 0.75, 4)) == "0.25–0.75"
    assert formatting.join_names(["a", "b", "c"]) == "a, b and c"
    assert formatting.images_and_groups(5, 5) == "5 images"
    assert formatting.times(3) == "3 times"

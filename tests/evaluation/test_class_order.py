"""The order of ordinal classes: given or by number, and quadratic kappa in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given
from hypothesis import strategies as st

from tametail.core.errors import UsageError
from tametail.data import KNOWN_SETS
from tametail.evaluation import METRICS, ConfusionMetric, Evaluation, evaluate, register_metric
from tametail.evaluation.class_order import (
    find_class_order,
    ordinal_classes,
    require_class_order,
    with_class_order,
)
from tametail.evaluation.metrics import quadratic_kappa
from tametail.predictions.single_label import Predictions

GRADES = ("No_DR", "Mild", "Moderate", "Severe", "Proliferate_DR")
NAMES = tuple(sorted(GRADES))


def predicted_grades(replicates: int = 1) -> list[Predictions]:
    """300 images whose predicted grade is often a neighbour of the true one; classes in the order of the alphabet."""
    rng = np.random.default_rng(3)
    grade = rng.integers(0, len(GRADES), 300)
    code = np.array([NAMES.index(name) for name in GRADES])
    image = np.array([f"{number:03}" for number in range(len(grade))])
    group = np.array([f"{number // 2:03}" for number in range(len(grade))])
    found = []
    for _ in range(replicates):
        said = np.clip(grade + rng.integers(-1, 2, len(grade)), 0, len(GRADES) - 1)
        logits = np.eye(len(GRADES), dtype=np.float32)[code[said]]
        fold = np.zeros(len(grade), dtype=np.int64)
        found.append(Predictions(image, group, code[grade], fold, logits, NAMES, "softmax"))
    return found


def scikit_learns(tables: list[Predictions]) -> float:
    """Kappa of the grades numbered from the lowest to the highest."""
    number = np.array([GRADES.index(name) for name in NAMES])
    return float(
        np.mean(
            [sk.cohen_kappa_score(number[t.target], number[t.predicted], weights="quadratic") for t in tables]
        )
    )


@pytest.fixture
def own_metric() -> Iterator[None]:
    """A metric of another package that needs the order: quadratic kappa with the general bootstrap."""
    register_metric(ConfusionMetric("own", "Own", quadratic_kappa, low=-1.0, ordinal=True))
    yield
    METRICS.unregister("own")


def test_kappa_is_that_of_numbered_grades_and_not_of_the_alphabet(own_metric: None) -> None:
    tables = predicted_grades(2)
    found = evaluate(tables, class_order=GRADES, resamples=200)
    assert found["kappa"].value == pytest.approx(scikit_learns(tables))
    alphabet = np.mean([sk.cohen_kappa_score(t.target, t.predicted, weights="quadratic") for t in tables])
    assert abs(alphabet - found["kappa"].value) > 0.2
    own = found["own"]
    assert own.value == pytest.approx(found["kappa"].value)
    assert [own.low, own.high] == pytest.approx([found["kappa"].low, found["kappa"].high], abs=0.03)


def test_only_kappa_depends_on_the_order() -> None:
    tables = predicted_grades()
    plain, graded = evaluate(tables, resamples=50), evaluate(tables, class_order=GRADES, resamples=50)
    for name in ("balanced_accuracy", "macro_f1", "accuracy", "mcc"):
        before, after = plain[name], graded[name]
        assert before.value == after.value
        assert [before.low, before.high] == pytest.approx([after.low, after.high], abs=0.01)
    assert plain.classes == graded.classes
    np.testing.assert_array_equal(plain.confusion, graded.confusion)
    turned = evaluate(tables, class_order=GRADES[::-1], resamples=50)
    assert turned["kappa"].as_dict() == pytest.approx(graded["kappa"].as_dict())


def test_classes_in_another_order_are_the_same_evaluation() -> None:
    """The interval too: from tables whose columns are already in the order of the grades."""
    tables = predicted_grades(2)
    there = [with_class_order(table, GRADES) for table in tables]
    here = [evaluate(each, class_order=GRADES, resamples=50) for each in (tables, there)]
    low, high = ([one["kappa"].low for one in here], [one["kappa"].high for one in here])
    assert low[0] == pytest.approx(low[1], abs=0.01)
    assert high[0] == pytest.approx(high[1], abs=0.01)


def test_another_order_of_classes_keeps_what_is_said_of_each_image() -> None:
    (table,) = predicted_grades()
    table = replace(table, posterior=np.full(table.logits.shape, 0.2, dtype=np.float32))
    found = with_class_order(table, GRADES)
    assert found.class_names == GRADES
    for attribute in ("target", "predicted"):
        before, after = (getattr(one, attribute) for one in (table, found))
        assert [NAMES[c] for c in before.tolist()] == [GRADES[c] for c in after.tolist()]


def test_an_order_of_other_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="expected an order of the classes"):
        evaluate(predicted_grades(), class_order=GRADES[1:])


def test_without_an_order_there_is_no_kappa() -> None:
    found: Evaluation = evaluate(predicted_grades())
    assert "kappa" not in {metric.name for metric, _ in found.overall()}
    with pytest.raises(KeyError, match="kappa"):
        found["kappa"]


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (("0", "1", "10", "2"), ("0", "1", "2", "10")),
        (("1.10", "1.5", "1.9"), ("1.10", "1.5", "1.9")),
        (("0.5", "10", "2"), ("0.5", "2", "10")),
        (("-1", "-10", "0", "2"), ("-10", "-1", "0", "2")),
        (("grade_10", "grade_2", "grade_9"), ("grade_2", "grade_9", "grade_10")),
        (("stage 10", "stage 2"), ("stage 2", "stage 10")),
        (("G1", "G12", "G3"), ("G1", "G3", "G12")),
        (("grade-2", "grade-10"), ("grade-2", "grade-10")),
        (("10 mm", "2 mm"), ("2 mm", "10 mm")),
        (NAMES, None),
        (("0", "1", "many"), None),
        (("G1", "T2"), None),  # not one scale
        (("1-2", "3-4"), None),  # ranges
        (("v.10", "v.5"), None),  # a decimal, or a separator
        ((".5", ".25"), None),
        (("1", "1.0", "2"), None),  # of equal value
        (("0", "1", "1e1"), None),
    ],
)
def test_numbers_are_sorted_by_value(names: tuple[str, ...], order: tuple[str, ...] | None) -> None:
    assert find_class_order(names) == order
    assert find_class_order(names[::-1]) == order


@given(
    st.lists(st.integers(0, 10**6), min_size=2, max_size=30, unique=True),
    st.text("abG_ -", max_size=6),
    st.text("abG_ -", max_size=3),
)
def test_numbered_names_are_in_the_order_of_their_numbers(
    numbers: list[int], before: str, after: str
) -> None:
    prefix = f"x{before}" if before else ""
    names = [f"{prefix}{number}{after}" for number in numbers]
    assert find_class_order(names) == tuple(f"{prefix}{number}{after}" for number in sorted(numbers))


def test_a_given_order_comes_first() -> None:
    assert find_class_order(("1", "2", "3"), ["3", "1", "2"]) == ("3", "1", "2")
    assert find_class_order(NAMES, GRADES) == GRADES
    assert find_class_order(NAMES, ()) is None


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (["none", "mild"], r"\(missing: severe\)"),
        (["none", "mild", "severe", "worst"], r"\(unknown: worst\)"),
        (["none", "mild", "mild", "severe"], r"\(more than once: mild\)"),
        (["mild"], "got mild .*the classes are mild, none, severe"),
    ],
)
def test_an_order_has_every_class_once(order: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_class_order(("mild", "none", "severe"), order)


def test_an_unknown_order_is_asked_for_with_the_classes_at_hand() -> None:
    with pytest.raises(UsageError, match=r"for --metric kappa, .*: mild, no disease, severe$"):
        require_class_order(("mild", "no disease", "severe"), None, "--metric kappa")


def test_classes_are_ordinal_where_said_or_where_an_order_is_given() -> None:
    order = ("none", "mild")
    names = ("mild", "none")
    assert ordinal_classes(names, ordered=None, given=None) == ()
    assert ordinal_classes(names, ordered=False, given=order) == ()
    assert ordinal_classes(names, ordered=None, given=order) == order
    assert ordinal_classes(("2", "10"), ordered=None, given=None) == ()
    assert ordinal_classes(("2", "10"), ordered=True, given=None) == ("2", "10")


def test_a_known_set_brings_its_clinical_order() -> None:
    grades = ("no_dr", "mild", "moderate", "severe", "proliferative_dr")
    names = sorted(grades)
    assert find_class_order(names) == grades
    assert ordinal_classes(names, ordered=True, given=None) == grades
    assert ordinal_classes(names, ordered=None, given=None) == ()  # known, not asked for
    assert find_class_order(names, names) == tuple(names)  # what is given comes first
    assert find_class_order(names[:-1]) is None
    assert KNOWN_SETS["aptos2019"].class_order == grades

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tametail.evaluation import Estimate
from tametail.reproduce import Comparison, Reproduction
from tametail.reproduce.comparison import ClassComparison, ColumnComparison, NumberComparison, as_dict
from tametail.reproduce.differences import Differences
from tametail.reproduce.text import as_markdown, as_text, interpretation

pytestmark = pytest.mark.slow


def estimate(value: float, half: float = 0.05) -> Estimate:
    return Estimate(value, value - half, value + half, 40)


@pytest.mark.parametrize(
    ("share", "half_unit", "inside"),
    [(0.5, 0.0, True), (0.45, 0.0, True), (0.44, 0.0, False), (0.44, 0.01, True), (0.56, 0.005, False)],
)
def test_a_printed_number_is_inside_as_it_was_rounded(share: float, half_unit: float, inside: bool) -> None:
    assert NumberComparison("x", share, half_unit, estimate(0.5)).inside is inside


def test_an_undefined_interval_holds_nothing() -> None:
    nowhere = NumberComparison("0.5", 0.5, 0.005, Estimate(math.nan, math.nan, math.nan, 0))
    assert not nowhere.inside


def with_balanced_accuracies(comparison: Comparison, values: tuple[float, ...]) -> Comparison:
    columns = [
        replace(
            column,
            balanced_accuracy={
                kind: replace(pair, measured=estimate(value))
                for kind, pair in column.balanced_accuracy.items()
            },
        )
        for column, value in zip(comparison.columns, values, strict=True)
    ]
    return replace(comparison, columns=tuple(columns))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((0.9, 0.7, 0.3, 0.5), "measured ALPA, ASL, Focal, CE, the same order; no other interval overlaps"),
        ((0.3, 0.5, 0.9, 0.7), "measured CE, Focal, ASL, ALPA, another order; no other interval overlaps"),
        ((0.90, 0.85, 0.3, 0.5), "the same order; the interval of ASL overlaps with that of ALPA"),
        ((0.90, 0.85, 0.3, 0.84), "the intervals of ASL and Focal overlap with that of ALPA"),
    ],
)
def test_the_order_is_read_with_its_intervals(
    table4: Reproduction, values: tuple[float, ...], said: str
) -> None:
    assert said in interpretation(with_balanced_accuracies(table4.comparison, values))[1]


def test_what_cannot_be_said_depends_on_what_differs(table4: Reproduction) -> None:
    alike = replace(table4.comparison, differences=Differences((), ()))
    assert "is not refuted" in interpretation(table4.comparison)[2]
    assert "not the split" in interpretation(alike)[2]
    assert "  - nothing that the paper states" in as_text(alike, ())


def test_impossible_numbers_are_marked_and_not_counted(table4: Reproduction) -> None:
    column = table4.comparison.columns[0]
    rows = dict(column.rows["fold_models"])
    rows["nv"] = ClassComparison(replace(rows["nv"].recall, impossible=True), rows["nv"].f1)
    marked = replace(column, rows=dict.fromkeys(column.rows, rows))
    comparison = replace(table4.comparison, columns=(marked,))
    said = interpretation(comparison)[0]
    assert "of 6 published recalls" in said
    assert "of 7 F1" in said
    assert "1 impossible (†) not counted" in said
    assert "98.50†" in as_text(comparison, ())
    assert "† An impossible number" in as_markdown(comparison, ())
    assert "†" not in table4.text


def test_a_method_without_results_keeps_its_row(table4: Reproduction) -> None:
    waiting = ColumnComparison("Focal", "focal", "1 of 2 runs", {}, {})
    comparison = replace(table4.comparison, columns=(*table4.comparison.columns[:3], waiting))
    text = as_text(comparison, interpretation(comparison))
    assert "1 of 2 runs" in text
    assert "Focal (focal)" not in text
    assert "| Focal | 31.3 | 1 of 2 runs | – | – | – |" in as_markdown(comparison, ())
    assert as_dict(comparison, ())["methods"][3]["measured"] == {}
    nothing = replace(comparison, columns=(waiting,))
    assert interpretation(nothing) == ("There are no results yet: no method has finished all its runs.",)


def test_an_evaluated_test_set_is_not_called_held_out(table4: Reproduction) -> None:
    evaluated = replace(table4.comparison, kinds=("out_of_fold",), columns=(), test_set_evaluations=2)
    assert "was evaluated twice before, and is not shown" in as_text(evaluated, ())

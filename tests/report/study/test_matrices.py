from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from tametail.evaluation import Estimate
from tametail.evaluation.paired import Paired, PairedTable
from tametail.predictions.single_label import concatenate, read_predictions
from tametail.report import read_results
from tametail.report.formatting import points
from tametail.report.study.matrices import SIGNS, confusion, pairs


def test_a_confusion_matrix_is_that_of_scikit_learn(held_out_study: Path) -> None:
    results = read_results(held_out_study)
    result = {each.method: each for each in results.ranking}["ce"]
    assert result.out_of_fold is not None
    table = confusion("ce", result.out_of_fold, results.by_frequency)
    joined = concatenate(
        [read_predictions(path) for path in held_out_study.glob("runs/ce/*/predictions.parquet")]
    )
    labels = results.by_frequency
    counts = confusion_matrix(joined.target, joined.predicted, labels=labels)
    rates = confusion_matrix(joined.target, joined.predicted, labels=labels, normalize="true")
    assert table.names == tuple(results.class_names[index] for index in labels)
    for row, (name, cells) in enumerate(table.rows):
        assert name == table.names[row]
        for column, cell in enumerate(cells):
            assert cell.count == str(counts[row, column])
            assert float(cell.shade) == pytest.approx(rates[row, column], abs=0.005)
            if cell.rate != "<1":
                assert float(cell.rate) == pytest.approx(100 * rates[row, column], abs=0.5)
            assert ("hit" in cell.kind) == (row == column)
            assert ("on" in cell.kind) == (rates[row, column] > 0.61)
    assert not table.dense


def test_shares_too_small_to_round_and_absent_classes(held_out_study: Path) -> None:
    results = read_results(held_out_study)
    evaluation = results.ranking[0].out_of_fold
    assert evaluation is not None
    counts = np.zeros((len(evaluation.classes),) * 2)
    counts[0, 0], counts[0, 1], counts[1, 1] = 997.5, 2.5, 0
    rows = confusion("x", replace(evaluation, confusion=counts), range(len(counts))).rows
    assert [(cell.rate, cell.count) for cell in rows[0][1][:3]] == [
        ("100", "997.5"),
        ("<1", "2.5"),
        ("0", "0"),
    ]
    assert {cell.rate for cell in rows[1][1]} == {"0"}


def paired(difference: float, p: float, verdict: str, more: int | None) -> Paired:
    estimate = Estimate(difference, difference - 0.02, difference + 0.02, 900)
    return Paired(estimate, p, min(3 * p, 1.0), verdict, more, 300, 40, 0.01)  # type: ignore[arg-type]


def three_methods() -> PairedTable:
    of_pairs = (
        paired(0.05, 0.0001, "better", 0),
        paired(0.01, 0.3, "no significant difference", 4200),
        paired(-0.04, 0.002, "worse", 0),
    )
    return PairedTable(("alpa", "asl", "ce"), of_pairs)


def test_pairs_are_read_from_both_sides(held_out_study: Path) -> None:
    shown = pairs(replace(read_results(held_out_study), pairs=three_methods()))
    assert shown is not None
    assert (shown.best, shown.count, shown.small) == ("alpa", 3, False)
    cells = {
        (row, column): cell
        for row, (_, of_row) in enumerate(shown.matrix)
        for column, cell in enumerate(of_row)
    }
    assert all(cells[index, index] is None for index in range(3))
    expected = {(0, 1): ("▲", "+5.0"), (1, 0): ("▼", "−5.0"), (1, 2): ("▼", "−4.0"), (2, 1): ("▲", "+4.0"), (0, 2): ("=", "+1.0")}  # fmt: skip
    for place, (sign, text) in expected.items():
        cell = cells[place]
        assert cell is not None
        assert (SIGNS.get(cell.verdict, "="), points(cell.difference.value)) == (sign, text)


def test_one_method_has_no_pairs_and_two_no_matrix(
    make_study: Callable[..., Path], held_out_study: Path
) -> None:
    assert pairs(read_results(make_study(methods=("ce",)))) is None
    two = PairedTable(("alpa", "ce"), (paired(0.0, 1.0, "no significant difference", None),))
    shown = pairs(replace(read_results(held_out_study), pairs=two))
    assert shown is not None
    assert shown.matrix == ()


def test_points() -> None:
    assert points(0.0312) == "+3.1"
    assert points(-0.0312) == "−3.1"
    assert points(0.0001) == points(-0.0001) == points(0.0) == "0.0"
    assert points(math.nan) == "–"

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tametail.evaluation.calibration import Bin, tendency
from tametail.report import read_results
from tametail.report.figures.reliability import reliability_drawing
from tametail.report.figures.svg import inlined
from tametail.report.study.tables import calibration_table


def a_bin(confidence: float, accuracy: float, n: int = 100) -> Bin:
    return Bin(confidence, accuracy, max(accuracy - 0.1, 0), min(accuracy + 0.1, 1), n)


@pytest.mark.parametrize(
    ("bins", "said"),
    [
        ((a_bin(0.9, 0.7), a_bin(0.5, 0.5, 300)), "overconfident by 5 points"),
        ((a_bin(0.5, 0.9),), "underconfident by 40 points"),
        ((a_bin(0.9, 0.7), a_bin(0.5, 0.7)), "calibrated on average"),
    ],
)
def test_which_way_confidence_is_off_in_words(bins: tuple[Bin, ...], said: str) -> None:
    assert tendency(bins) == said


def test_one_row_per_loss_that_was_looked_at(held_out_study: Path) -> None:
    results = read_results(held_out_study)
    table = calibration_table(results, results.ranking)
    assert table is not None
    assert [row.cells[0].text for row in table.rows] == [result.method for result in results.ranking]
    for row, result in zip(table.rows, results.ranking, strict=True):
        found = result.calibration
        assert found is not None
        assert found.after is not None
        assert found.map is not None
        assert (row.cells[1].key, row.cells[-1].text) == (found.after.log_loss, found.map.summary)
        assert row.cells[1].below == f"uncalibrated {found.log_loss:.3f}"
    without = [
        replace(result, calibration=replace(result.calibration, after=None, map=None))  # type: ignore[type-var]
        for result in results.ranking
    ]
    plain = calibration_table(results, without)
    assert plain is not None
    assert plain.columns[-1].title == "Tendency"
    unseen = [replace(result, calibration=None) for result in results.methods]
    assert calibration_table(results, unseen) is None


def test_the_figure_is_drawn_without_a_map_too(held_out_study: Path) -> None:
    result = read_results(held_out_study).ranking[0]
    assert result.calibration is not None
    without = replace(result, calibration=replace(result.calibration, after=None, map=None))
    drawn = inlined(reliability_drawing(result, "reliability0"))
    assert len(inlined(reliability_drawing(without, "reliability0"))) < len(drawn)
    assert 'aria-label="Reliability of alpa: ' in drawn

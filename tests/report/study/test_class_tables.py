from __future__ import annotations

import math
from pathlib import Path

import pytest

from tametail.report import read_results
from tametail.report.study.class_tables import CLASS_COLUMNS, class_table, method_table


def test_the_table_holds_the_numbers_of_the_evaluations(evaluated_study: Path) -> None:
    results = read_results(evaluated_study)
    table = class_table(results, results.ranking, lambda result: result.out_of_fold, show_n=False)
    assert table.methods == tuple(result.method for result in results.ranking)
    assert [row.train for row in table.rows] == sorted(results.counts.train.values(), reverse=True)
    for row, index in zip(table.rows, results.by_frequency, strict=True):
        for cell, result in zip(row.cells, results.ranking, strict=True):
            assert result.out_of_fold is not None
            of_class = result.out_of_fold.classes[index]
            assert (row.name, row.n) == (of_class.name, of_class.n)
            assert (cell.recall, cell.f1) == (of_class.recall, of_class.f1)
        values = [cell.recall.value for cell in row.cells]
        assert [cell.best_recall for cell in row.cells] == [
            len(set(values)) > 1 and value == max(values) for value in values
        ]


def test_class_groups_follow_each_other_and_their_means_are_below(evaluated_study: Path) -> None:
    results = read_results(evaluated_study)
    table = class_table(results, results.ranking, lambda result: result.out_of_fold, show_n=False)
    assert table.class_groups == (("many", 2), ("medium", 3), ("few", 2))
    assert [row.group for row in table.rows] == ["many"] * 2 + ["medium"] * 3 + ["few"] * 2
    assert [row.starts_group for row in table.rows] == [False, False, True, False, False, True, False]
    assert [total.name for total in table.totals] == [
        "Many-shot, mean of 2",
        "Medium-shot, mean of 3",
        "Few-shot, mean of 2",
        "Balanced accuracy, macro-F1",
    ]
    for place, total in enumerate(table.totals[:3]):
        rows = [row for row in table.rows if row.group == table.class_groups[place][0]]
        assert total.train == sum(row.train for row in rows)
        for number, cell in enumerate(total.cells):
            mean = sum(row.cells[number].recall.value for row in rows) / len(rows)
            assert cell.recall.value == pytest.approx(mean)
    assert table.totals[-1].cells[0].recall.value == pytest.approx(results.ranking[0].score)


def test_nothing_to_show_is_an_empty_table(evaluated_study: Path) -> None:
    table = class_table(read_results(evaluated_study), (), lambda result: result.test, show_n=True)
    assert (table.rows, table.totals, table.class_groups) == ((), (), ())


def test_rows_give_every_metric_of_their_class(held_out_study: Path) -> None:
    results = read_results(held_out_study)
    table = class_table(results, results.ranking, lambda result: result.out_of_fold, show_n=False)
    html = (held_out_study / "report.html").read_text(encoding="utf-8")
    for result in results.ranking:
        assert result.out_of_fold is not None
        detail = html.split(f'aria-label="Classes under {result.method}"')[1].split("</table>")[0]
        for row in table.rows:
            of_class = result.out_of_fold.classes[row.index]
            assert of_class.name == row.name
            line = next(line for line in detail.splitlines() if f'data-v="{row.name}"' in line)
            for name, _, _ in CLASS_COLUMNS:
                value = getattr(of_class, name).value
                assert not math.isnan(value)
                assert f'data-v="{value:.6f}"' in line


def test_the_ranking_says_how_each_stands_against_the_best(held_out_study: Path) -> None:
    results = read_results(held_out_study)
    table = method_table(results)
    assert [row.method for row in table.rows] == [result.method for result in results.ranking]
    assert table.tested
    assert results.pairs is not None
    assert table.rows[0].paired is None
    for place, row in enumerate(table.rows[1:], start=1):
        assert row.paired == results.pairs.pair(place, 0)
        assert row.paired.difference.value <= 0
        assert row.order == {"better": 1, "no significant difference": 2, "worse": 3}[row.paired.verdict]
    titles = table.headings
    assert titles[:3] == ("Balanced accuracy, %", "Macro-F1", "MCC")
    assert titles[-3:] == ("Many-shot recall, %", "Medium-shot recall, %", "Few-shot recall, %")
    assert [
        f"{metric.title}, %" if metric.in_percent else metric.title for metric, _ in table.rows[0].metrics
    ] == list(titles)
    assert [row.metrics[0][1] for row in table.rows] == [True, False, False]

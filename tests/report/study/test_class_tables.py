from __future__ import annotations

import math
from pathlib import Path

import pytest

from tametail.report import read_results
from tametail.report.study.class_tables import class_table, details, method_table


def test_the_table_holds_the_numbers_of_the_evaluations(opened_study: Path) -> None:
    results = read_results(opened_study)
    table = class_table(results, results.ranking, lambda result: result.out_of_fold, show_n=False)
    assert table.methods == tuple(result.method for result in results.ranking)
    assert [row.train for row in table.rows] == sorted(results.counts.train.values(), reverse=True)
    for row, index in zip(table.rows, results.class_order, strict=True):
        for cell, result in zip(row.cells, results.ranking, strict=True):
            assert result.out_of_fold is not None
            of_class = result.out_of_fold.classes[index]
            assert (row.name, row.n) == (of_class.name, of_class.n)
            assert (cell.recall, cell.f1) == (of_class.recall, of_class.f1)
        values = [cell.recall.value for cell in row.cells]
        assert [cell.best_recall for cell in row.cells] == [
            len(set(values)) > 1 and value == max(values) for value in values
        ]


def test_bands_follow_each_other_and_their_means_are_below(opened_study: Path) -> None:
    results = read_results(opened_study)
    table = class_table(results, results.ranking, lambda result: result.out_of_fold, show_n=False)
    assert table.class_groups == (("many", 2), ("medium", 3), ("few", 2))
    assert [row.class_group for row in table.rows] == ["many"] * 2 + ["medium"] * 3 + ["few"] * 2
    assert [row.next for row in table.rows] == [False, False, True, False, False, True, False]
    assert [total.name for total in table.totals] == [
        "Many-shot, mean of 2",
        "Medium-shot, mean of 3",
        "Few-shot, mean of 2",
        "Balanced accuracy, macro-F1",
    ]
    for place, total in enumerate(table.totals[:3]):
        rows = [row for row in table.rows if row.class_group == table.class_groups[place][0]]
        assert total.train == sum(row.train for row in rows)
        for number, cell in enumerate(total.cells):
            mean = sum(row.cells[number].recall.value for row in rows) / len(rows)
            assert cell.recall.value == pytest.approx(mean)
    assert table.totals[-1].cells[0].recall.value == pytest.approx(results.ranking[0].score)


def test_nothing_to_show_is_an_empty_table(opened_study: Path) -> None:
    table = class_table(read_results(opened_study), (), lambda result: result.test, show_n=True)
    assert (table.rows, table.totals, table.class_groups) == ((), (), ())


def test_details_follow_the_rows_of_the_table(held_out_study: Path) -> None:
    results = read_results(held_out_study)
    table = class_table(results, results.ranking, lambda result: result.out_of_fold, show_n=False)
    found = details(results.ranking, table)
    assert [detail.method for detail in found] == [result.method for result in results.ranking]
    for detail, result in zip(found, results.ranking, strict=True):
        assert result.out_of_fold is not None
        for row, index in zip(detail.rows, results.class_order, strict=True):
            of_class = result.out_of_fold.classes[index]
            assert row.name == of_class.name
            for metric, estimate in zip(detail.metrics, row.estimates, strict=True):
                assert estimate == getattr(of_class, metric.name)
                assert not math.isnan(estimate.value)


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
    titles = [column.title for column in table.columns]
    assert titles[:3] == ["Rank", "Method", "Against the best"]
    assert titles[-3:] == ["Many-shot recall, %", "Medium-shot recall, %", "Few-shot recall, %"]
    assert len(table.rows[0].numbers) == len(titles) - 3
    assert [row.numbers[0].best for row in table.rows] == [True, False, False]

"""The tables that all files of a report share: their numbers are those of the evaluations."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tametail.evaluation import Estimate
from tametail.evaluation.evaluate import class_metric_names
from tametail.evaluation.metric_registry import metric_facts
from tametail.evaluation.paired import Paired
from tametail.report import formatting, read_results
from tametail.report.study import tables
from tametail.report.study.result_rows import result_rows
from tametail.report.table import Cell, estimate_cell, marked

MakeStudy = Callable[..., Path]


def test_classes_by_method_have_the_numbers_of_the_evaluations(evaluated_study: Path) -> None:
    results = read_results(evaluated_study)
    table = tables.class_table(results, results.ranking, title="Classes")
    names = [column.title for column in table.columns]
    assert names[:4] == ["Class", "Training images", "n", "Groups"]
    assert table.headings == [*[("", 1)] * 4, *((result.method, 2) for result in results.ranking)]
    assert [row.cells[1].key for row in table.rows] == sorted(results.counts.train.values(), reverse=True)
    for row, index in zip(table.rows, results.by_frequency, strict=True):
        name = results.class_names[index]
        assert row.cells[0].text == name
        for place, result in enumerate(results.ranking):
            assert result.out_of_fold is not None
            assert row.cells[2].key == result.out_of_fold.classes[index].n
            for metric, cell in zip(("recall", "f1"), row.cells[4 + 2 * place :], strict=False):
                assert cell.key == result.out_of_fold[metric, name].value
        printed = [float(cell.text) for cell in row.cells[4::2]]
        expected = [len(set(printed)) > 1 and value == max(printed) for value in printed]
        assert [cell.best for cell in row.cells[4::2]] == expected


def test_class_groups_follow_each_other_and_their_means_are_below(evaluated_study: Path) -> None:
    results = read_results(evaluated_study)
    table = tables.class_table(results, results.ranking, title="Classes")
    assert table.kinds == {"many": 2, "medium": 3, "few": 2}
    assert [row.kind for row in table.rows] == ["many"] * 2 + ["medium"] * 3 + ["few"] * 2
    assert [total.cells[0].text for total in table.totals] == [
        "Many-shot, mean of 2",
        "Medium-shot, mean of 3",
        "Few-shot, mean of 2",
        "Balanced accuracy, macro-F1",
    ]
    for kind, total in zip(table.kinds, table.totals, strict=False):
        rows = [row for row in table.rows if row.kind == kind]
        assert total.cells[1].key == sum(row.cells[1].key or 0 for row in rows)
        for place in range(4, len(table.columns)):
            mean = np.mean([row.cells[place].key for row in rows])
            assert total.cells[place].key == pytest.approx(mean)
    assert table.totals[-1].cells[4].key == pytest.approx(results.ranking[0].score)


def test_nothing_to_show_is_an_empty_table(evaluated_study: Path) -> None:
    table = tables.class_table(read_results(evaluated_study), (), tables.test_mean, title="none")
    assert (table.rows, table.totals, table.kinds) == ((), (), {})


def test_the_table_of_a_method_has_every_metric_of_each_class(held_out_study: Path) -> None:
    results = read_results(held_out_study)
    html = (held_out_study / "report.html").read_text(encoding="utf-8")
    for result in results.ranking:
        assert result.out_of_fold is not None
        table = tables.detail_table(results, result, title="one")
        metrics = class_metric_names(multi_label=False)
        assert {"recall", "precision", "npv", "f1", "specificity", "auroc"} <= set(metrics)
        assert [c.title for c in table.columns[4:]] == [metric_facts(name).heading for name in metrics]
        for row in table.rows:
            for name, cell in zip(metrics, row.cells[4:], strict=True):
                value = result.out_of_fold[name, row.cells[0].text].value
                assert cell.key == value
                assert not math.isnan(value)
                assert f'data-v="{value:.6f}"' in html


def test_the_ranking_says_how_each_stands_against_the_best(held_out_study: Path) -> None:
    results = read_results(held_out_study)
    table = tables.method_table(results, results.ranking, title="Ranking", compared=True)
    assert [row.cells[1].text for row in table.rows] == [result.method for result in results.ranking]
    titles = [column.title for column in table.columns]
    assert titles[:7] == [
        "Rank",
        "Method",
        "Balanced accuracy, %",
        "Difference, points",
        "p, Holm",
        "Verdict",
        "Macro-F1",
    ]
    assert {"MCC", "Many-shot recall, %", "Few-shot F1"} <= set(titles)
    assert titles[-1] == "n"
    assert results.pairs is not None
    assert table.rows[0].cells[5].text == "highest"
    for place, row in enumerate(table.rows[1:], start=1):
        paired = results.pairs.pair(place, 0)
        assert (row.cells[3].key, row.cells[4].key) == (paired.difference.value, paired.p_holm)
        assert paired.difference.value <= 0
        assert row.cells[5].verdict == paired.verdict
    assert [row.cells[2].best for row in table.rows] == [True, False, False]


def test_a_table_for_print_is_narrower_and_some_methods_keep_their_ranks(held_out_study: Path) -> None:
    results = read_results(held_out_study)
    whole = tables.method_table(results, results.ranking, title="Ranking")
    printed = tables.method_table(results, results.ranking[1:], title="Ranking", in_print=True)
    assert len(printed.columns) < len(whole.columns)
    assert [row.cells[0].key for row in printed.rows] == [2, 3]
    assert "MCC" not in [column.title for column in printed.columns]


def test_the_spread_over_repeats_is_a_number_in_the_table(evaluated_study: Path) -> None:
    results = read_results(evaluated_study)
    table = tables.method_table(results, results.ranking, title="Ranking")
    place = [column.title for column in table.columns].index("SD over repeats, points")
    for row, result in zip(table.rows, results.ranking, strict=True):
        assert len(result.repeat_scores) == 2
        assert row.cells[place].key == pytest.approx(np.std(result.repeat_scores, ddof=1))
        assert np.mean(result.repeat_scores) == pytest.approx(result.score)


def test_the_tidy_frame_has_every_number_with_its_interval_kind(evaluated_study: Path) -> None:
    results = read_results(evaluated_study)
    rows = list(result_rows(results))
    assert {row.set for row in rows} == {"out_of_fold", "test", "test_ensemble"}
    keys = [(row.method, row.set, row.class_name, row.metric) for row in rows]
    assert len(keys) == len(set(keys))
    for row in rows:
        if row.class_name and row.estimate.value == row.estimate.value:
            assert row.interval_kind in {"Wilson", "DeLong", "MOVER", "t by groups"}
    best = results.ranking[0]
    assert best.test is not None
    found = {key: row.estimate for key, row in zip(keys, rows, strict=True)}
    assert found[best.method, "test", "blast", "npv"] == best.test["npv", "blast"]


def paired(verdict: str, more: int | None, n: int = 900) -> Paired:
    return Paired(Estimate(0.01, -0.02, 0.04, n), 0.3, 0.9, verdict, more, 300, 40, 0.01)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("of_pair", "said"),
    [
        (paired("better", 0), "–"),
        (paired("worse", 7), "–"),
        (paired("no significant difference", None), "cannot be estimated"),
        (paired("no significant difference", 0), "fewer comparisons"),
        (paired("no significant difference", 4217), "about 4,300 more images"),
        (paired("no significant difference", 129_758), "about 130,000 more images (not realistic)"),
    ],
)
def test_what_a_significant_difference_would_take(held_out_study: Path, of_pair: Paired, said: str) -> None:
    results = read_results(held_out_study)
    assert results.pairs is not None
    several = replace(results, pairs=replace(results.pairs, pairs=(of_pair,) * len(results.pairs.pairs)))
    table = tables.pairs_table(several)
    assert table is not None
    assert table.rows[0].cells[-1].text == said


def test_there_is_no_table_of_pairs_for_one_method(make_study: MakeStudy) -> None:
    assert tables.pairs_table(read_results(make_study(methods=("ce",)))) is None


def estimates(*values: float) -> list[Cell]:
    return [estimate_cell(Estimate(value, value, value, 9)) for value in values]


def test_ties_as_printed_are_all_best_and_the_undefined_never() -> None:
    assert [c.best for c in marked(estimates(0.71234, 0.71199, 0.5, math.nan))] == [True, True, False, False]
    assert not any(c.best for c in marked(estimates(0.7124, 0.7116))), "equal as printed: none is best"
    assert not any(c.best for c in marked(estimates(0.7))), "alone it is no best"
    assert not any(c.best for c in marked(estimates(math.nan, math.nan)))
    assert [c.best for c in marked(estimates(0.1, 0.2), greater_is_better=False)] == [True, False]


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_best_is_what_no_other_is_printed_above(values: list[float]) -> None:
    found = marked(estimates(*values))
    printed = [float(formatting.percent(value)) for value in values]
    several = len(set(printed)) > 1
    assert [cell.best for cell in found] == [several and number == max(printed) for number in printed]


def test_limits_are_printed_where_there_are_some() -> None:
    assert estimate_cell(Estimate(0.0, -0.1, 0.2, 5), formatting.score).plain == "0.00 (-0.10–0.20)"
    assert estimate_cell(Estimate(math.nan, math.nan, math.nan, 0)).plain == "–"
    assert estimate_cell(Estimate(0.1, -0.01, 0.2, 5), formatting.points).below == "−1.0 to +20.0"
    assert estimate_cell(None).plain == ""

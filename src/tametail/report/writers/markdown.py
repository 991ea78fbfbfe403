"""results.md: the ranking, the classes × methods table of the paper with intervals, and the state of the test set."""

from __future__ import annotations

from tametail.report.study import narrative
from tametail.report.study.results import StudyResults
from tametail.report.study.tables import (
    class_table,
    detail_table,
    method_table,
    operating_tables,
    subgroup_tables,
    test_ensemble,
    test_mean,
)
from tametail.report.study.tuned_methods import tuned_in_words
from tametail.report.table import Table
from tametail.report.writers.markdown_table import markdown_table, markdown_text

_CLASS_NOTE = "95 % intervals in brackets; n counts images{}. Bold is the highest value; this is not a test."
_LABEL_NOTE = (
    "95 % intervals in brackets. Means are over labels with positive and negative images; undefined values are a dash. {} "
    "Thresholds maximise F1. Bold is the highest value; this is not a test."
)


def results_markdown(results: StudyResults) -> str:
    """The results as Markdown, methods in the order of their rank."""
    terms = narrative.comparison_terms(results)
    blocks = [f"# {markdown_text(results.settings['name'])}: {terms.methods} compared"]
    if results.settings["synthetic"]:
        blocks.append(f"**{narrative.SYNTHETIC}**")
    notes = [*tuned_in_words(results.settings), *narrative.data_warnings(results.settings)]
    blocks += [f"**{markdown_text(line)}**" for line in notes]
    blocks.append(markdown_text(" ".join(narrative.answer(results))))
    test_set = [*narrative.state_of_test_set(results), *narrative.best_on_test(results)]
    blocks.append(markdown_text(" ".join(test_set)))
    if results.test_set_evaluated:
        record = [narrative.describe_evaluation(entry) for entry in results.test_set_evaluations]
        blocks.append("\n".join(f"- {markdown_text(line)}" for line in record))
    blocks += [line for table in _tables(results, terms.where) for line in _block(results, table)]
    waiting = narrative.not_ranked(results)
    if waiting:
        blocks += ["## Not finished", "\n".join(f"- {markdown_text(line)}" for line in waiting)]
    if results.ranking:
        held_out = (
            ""
            if results.is_evaluation
            else " that were held out, each predicted by a model not trained on it"
        )
        blocks.append(
            _LABEL_NOTE.format(narrative.label_thresholds(results))
            if results.multi_label
            else _CLASS_NOTE.format(held_out)
        )
    return "\n\n".join(blocks) + "\n"


def _tables(results: StudyResults, where: str) -> list[Table]:
    ranking, unit = results.ranking, "Labels" if results.multi_label else "Classes"
    if not ranking:
        return []
    tables = [
        method_table(results, ranking, title=f"Ranking {where}"),
        class_table(results, ranking, title=f"{unit} {where}"),
    ]
    if results.multi_label:
        tables += [
            detail_table(results, result, title=f"{result.method} at its thresholds {where}")
            for result in ranking
        ]
    tables += [*operating_tables(results, ranking), *subgroup_tables(ranking)]
    for choose, which in ((test_mean, "mean over fold models"), (test_ensemble, "ensemble of fold models")):
        if any(choose(result) for result in ranking):
            tables += [
                method_table(results, ranking, choose, title=f"Test set, {which}"),
                class_table(results, ranking, choose, title=f"{unit}, test set, {which}"),
            ]
    return tables


def _block(results: StudyResults, table: Table) -> list[str]:
    lines = [f"## {markdown_text(table.title)}", markdown_table(table)]
    ranked = table.title.startswith("Ranking") and results.class_order
    return [*lines, markdown_text(narrative.grades_in_words(results))] if ranked else lines

"""results.md: the paper's table (classes × losses) with intervals, the ranking, and the state of the test set."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tametail.evaluation import Evaluation
from tametail.report import formatting
from tametail.report.formatting import percent_with_interval, score_with_interval
from tametail.report.study import narrative
from tametail.report.study.evaluation_page import further_blocks
from tametail.report.study.results import MethodResults, StudyResults
from tametail.report.study.tuned_methods import tuned_in_words
from tametail.report.writers.markdown_labels import label_blocks
from tametail.report.writers.markdown_table import NUMBER, markdown_table, markdown_text


def results_markdown(results: StudyResults) -> str:
    """The results as Markdown. Losses are in the order of their rank."""
    blocks = [
        f"# {markdown_text(results.settings['name'])}: {narrative.narrative_of(results).methods} compared"
    ]
    if results.settings["synthetic"]:
        blocks.append(f"**{narrative.SYNTHETIC}**")
    blocks += [f"**{markdown_text(line)}**" for line in tuned_in_words(results.settings)]
    blocks.append(markdown_text(" ".join(narrative.answer(results))))
    blocks += _test_set(results)
    blocks += label_blocks(results) if results.multi_label else _class_blocks(results)
    waiting = narrative.not_ranked(results)
    if waiting:
        blocks += ["## Not finished", "\n".join(f"- {markdown_text(line)}" for line in waiting)]
    if results.ranking and not results.multi_label:
        blocks.append(
            "Acc is recall in %; 95 % intervals in brackets; n counts images"
            + (
                "."
                if results.evaluated
                else " that were held out, each predicted by a model that did not train on it."
            )
        )
    return "\n\n".join(blocks) + "\n"


def _class_blocks(results: StudyResults) -> list[str]:
    blocks: list[str] = []
    ranked, where = results.ranking, narrative.narrative_of(results).where
    if ranked:
        blocks += [
            f"## Ranking, {where}",
            _ranking(results),
            f"## Classes, {where}",
            _classes(results, ranked, lambda result: result.out_of_fold),
        ]
    blocks += further_blocks(results)
    tested = [result for result in ranked if result.test is not None]
    if tested:
        blocks += [
            "## Classes, test set, mean over fold models",
            _classes(results, tested, lambda result: result.test),
            "## Classes, test set, ensemble of fold models",
            _classes(results, tested, lambda result: result.test_ensemble),
        ]
    return blocks


def _test_set(results: StudyResults) -> list[str]:
    blocks = [
        markdown_text(" ".join([*narrative.state_of_test_set(results), *narrative.best_on_test(results)]))
    ]
    if results.opened:
        blocks.append(
            "\n".join(f"- {markdown_text(narrative.opening_in_words(entry))}" for entry in results.openings)
        )
    return blocks


def _ranking(results: StudyResults) -> str:
    rows = []
    for rank, result in enumerate(results.ranking, start=1):
        log_posterior = result.out_of_fold
        assert log_posterior is not None
        rows.append(
            [
                str(rank),
                markdown_text(result.method),
                percent_with_interval(log_posterior.balanced_accuracy),
                score_with_interval(log_posterior.macro_f1),
                percent_with_interval(log_posterior.accuracy),
                str(log_posterior.n),
            ]
        )
    header = [
        "Rank",
        formatting.sentence_case(narrative.narrative_of(results).method),
        "Balanced accuracy, %",
        "Macro-F1",
        "Accuracy, %",
        "n",
    ]
    return markdown_table(header, [NUMBER, "---", *[NUMBER] * 4], rows)


def _classes(
    results: StudyResults,
    methods: Sequence[MethodResults],
    choose: Callable[[MethodResults], Evaluation | None],
) -> str:
    evaluations = [evaluation for result in methods if (evaluation := choose(result)) is not None]
    header = ["Class", formatting.sentence_case(narrative.narrative_of(results).images), "n"]
    for result in methods:
        header += [f"{markdown_text(result.method)} Acc", f"{markdown_text(result.method)} F1"]
    rows = []
    for index in results.class_order:
        name = results.class_names[index]
        row = [markdown_text(name), str(results.counts.train[name]), str(evaluations[0].classes[index].n)]
        for evaluation in evaluations:
            row += [
                percent_with_interval(evaluation.classes[index].recall),
                score_with_interval(evaluation.classes[index].f1),
            ]
        rows.append(row)
    last = ["Balanced accuracy, macro-F1", str(results.counts.train_images), str(evaluations[0].n)]
    for evaluation in evaluations:
        last += [
            f"**{percent_with_interval(evaluation.balanced_accuracy)}**",
            f"**{score_with_interval(evaluation.macro_f1)}**",
        ]
    return markdown_table(header, ["---", *[NUMBER] * (len(header) - 1)], [*rows, last])

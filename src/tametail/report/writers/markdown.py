"""results.md: the ranking, the classes × methods table of the paper with intervals, and the state of the test set."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tametail.evaluation.multi_label import LabelEvaluation, ThresholdedLabel
from tametail.report.formatting import (
    percent_with_interval,
    score_with_interval,
    sentence_case,
    threshold,
)
from tametail.report.study import narrative
from tametail.report.study.class_tables import method_table
from tametail.report.study.clinical_tables import clinical_markdown
from tametail.report.study.results import MethodResults, StudyResults
from tametail.report.study.summary import AnyEvaluation, class_images, class_means, class_metrics
from tametail.report.study.tuned_methods import tuned_in_words
from tametail.report.writers.markdown_table import NUMBER, markdown_table, markdown_text

Choose = Callable[[MethodResults], AnyEvaluation | None]
_CLASS_NOTE = "Recall in %; 95 % intervals in brackets; n counts images{}."
_LABEL_NOTE = (
    "AP is average precision and AUROC the area under the ROC curve, both in %; 95 % intervals in brackets. Means are over "
    "labels with positive and negative images; undefined values are a dash. In cross-validation, the thresholds of each fold "
    "maximise F1 on the other folds; those shown are chosen on all folds, for the test set and for new images."
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
    if results.ranking:
        blocks += _tables(results, terms.where)
    waiting = narrative.not_ranked(results)
    if waiting:
        blocks += ["## Not finished", "\n".join(f"- {markdown_text(line)}" for line in waiting)]
    if results.ranking:
        held_out = (
            ""
            if results.is_evaluation
            else " that were held out, each predicted by a model not trained on it"
        )
        blocks.append(_LABEL_NOTE if results.multi_label else _CLASS_NOTE.format(held_out))
    return "\n\n".join(blocks) + "\n"


def _tables(results: StudyResults, where: str) -> list[str]:
    unit = "Labels" if results.multi_label else "Classes"
    blocks = [
        f"## Ranking {where}",
        _ranking(results, lambda result: result.evaluation, ranked=True),
        *([markdown_text(narrative.grades_in_words(results))] if results.class_order else []),
        f"## {unit} {where}",
        _classes(results, lambda result: result.evaluation),
    ]
    for result in results.ranking if results.multi_label else ():
        blocks += [
            f"## {markdown_text(result.method)} at its thresholds {where}",
            _decisions(results, result),
        ]
    blocks += clinical_markdown(results)
    tested = any(result.on_test is not None for result in results.ranking)
    choices: tuple[tuple[str, Choose], ...] = (
        ("mean over fold models", lambda result: result.on_test[0] if result.on_test else None),
        ("ensemble of fold models", lambda result: result.on_test[1] if result.on_test else None),
    )
    for title, choose in choices if tested else ():
        blocks += [
            f"## Test set, {title}",
            _ranking(results, choose),
            f"## {unit}, test set, {title}",
            _classes(results, choose),
        ]
    return blocks


def _ranking(results: StudyResults, choose: Choose, *, ranked: bool = False) -> str:
    table = method_table(results, choose)
    rows = [
        [
            *[str(row.rank)] * ranked,
            markdown_text(row.method),
            *(metric.text for metric, _ in row.metrics),
            str(row.evaluation.n),
        ]
        for row in table.rows
    ]
    method = sentence_case(narrative.comparison_terms(results).method)
    header = [*["Rank"] * ranked, method, *table.headings, "n"]
    return markdown_table(header, [*[NUMBER] * ranked, "---", *[NUMBER] * (len(table.headings) + 1)], rows)


def _classes(results: StudyResults, choose: Choose) -> str:
    chosen = [(result.method, found) for result in results.ranking if (found := choose(result)) is not None]
    first, labels = chosen[0][1], results.multi_label
    header = ["Label" if labels else "Class", sentence_case(narrative.comparison_terms(results).images)]
    header += ["Positives", "Negatives"] if labels else ["n"]
    for method, evaluation in chosen:
        header += [f"{markdown_text(method)} {metric.title}" for metric in class_metrics(evaluation, 0)]
    rows = []
    for index in results.by_frequency:
        name = results.class_names[index]
        row = [markdown_text(name), str(results.counts.train[name]), str(class_images(first, index))]
        row += [str(first.labels[index].negatives)] if isinstance(first, LabelEvaluation) else []
        rows.append(row + [metric.text for _, found in chosen for metric in class_metrics(found, index)])
    mean = [
        "Mean AP, macro AUROC" if labels else "Balanced accuracy, macro-F1",
        str(results.counts.train_images),
    ]
    mean += ["", ""] if labels else [str(first.n)]
    mean += [f"**{metric.text}**" for _, evaluation in chosen for metric in class_means(evaluation)]
    return markdown_table(header, ["---", *[NUMBER] * (len(header) - 1)], [*rows, mean])


def _decisions(results: StudyResults, result: MethodResults) -> str:
    assert result.labels is not None
    evaluation = result.labels.out_of_fold
    measures = ("Recall, %", "Specificity, %", "Precision, %", "F1")
    header = ["Label", "Threshold", *measures, *(f"{measure} at 0.5" for measure in measures)]
    rows = [
        [
            markdown_text(results.class_names[index]),
            threshold(result.labels.thresholds[index]),
            *_measures(evaluation.chosen.labels[index]),
            *_measures(evaluation.plain.labels[index]),
        ]
        for index in results.by_frequency
    ]
    return markdown_table(header, ["---", *[NUMBER] * (len(header) - 1)], rows)


def _measures(decision: ThresholdedLabel) -> Sequence[str]:
    proportions = (decision.recall, decision.specificity, decision.precision)
    return [*map(percent_with_interval, proportions), score_with_interval(decision.f1)]

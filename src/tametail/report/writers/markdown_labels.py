"""The part of results.md that a multi-label study has in place of classes: labels × losses, and what thresholds do."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tametail.evaluation.multi_label import LabelEvaluation, ThresholdedLabel
from tametail.report import formatting
from tametail.report.formatting import percent_with_interval, score_with_interval
from tametail.report.study.results import LabelEvidence, MethodResults, StudyResults
from tametail.report.writers.markdown_table import NUMBER, markdown_table, markdown_text

Choose = Callable[[LabelEvidence], LabelEvaluation | None]


def label_blocks(results: StudyResults) -> list[str]:
    """Ranking, labels and decisions, out of fold and on the test set."""
    ranked = results.ranking
    if not ranked:
        return []
    blocks = [
        "## Ranking, out of fold",
        _methods(ranked, lambda log_posterior: log_posterior.out_of_fold, ranked=True),
        "## Labels, out of fold",
        _labels(results, ranked, lambda log_posterior: log_posterior.out_of_fold),
    ]
    for result in ranked:
        blocks += [
            f"## {markdown_text(result.method)} at its thresholds, out of fold",
            _decisions(results, result),
        ]
    tested = [result for result in ranked if result.on_test is not None]
    for title, choose in (
        ("mean over fold models", lambda log_posterior: log_posterior.test),
        ("ensemble of fold models", lambda log_posterior: log_posterior.test_ensemble),
    ):
        if tested:
            blocks += [f"## Test set, {title}", _methods(tested, choose), _labels(results, tested, choose)]
    return [
        *blocks,
        "AP is average precision and AUROC the area under the ROC curve, in %; 95 % intervals in brackets. "
        "Means are over the labels that some images have and others have not; an absent label is a dash. Out of fold, "
        "thresholds are chosen by F1 for each fold on the other folds; those shown are chosen on all folds, for the "
        "test set and for images yet to come.",
    ]


def _evaluations(methods: Sequence[MethodResults], choose: Choose) -> list[LabelEvaluation]:
    chosen = [choose(result.labels) for result in methods if result.labels]
    return [evaluation for evaluation in chosen if evaluation is not None]


def _methods(methods: Sequence[MethodResults], choose: Choose, *, ranked: bool = False) -> str:
    rows = []
    for rank, (result, log_posterior) in enumerate(
        zip(methods, _evaluations(methods, choose), strict=True), start=1
    ):
        at = log_posterior.chosen
        cells = [
            percent_with_interval(log_posterior.average_precision),
            percent_with_interval(log_posterior.auroc),
            score_with_interval(at.macro_f1),
        ]
        cells += [
            score_with_interval(at.micro_f1),
            percent_with_interval(at.subset_accuracy),
            percent_with_interval(at.hamming_loss),
        ]
        cells += [score_with_interval(log_posterior.plain.macro_f1), str(log_posterior.n)]
        rows.append([*[str(rank)] * ranked, markdown_text(result.method), *cells])
    header = [
        *["Rank"] * ranked,
        "Loss",
        "Mean AP, %",
        "Macro AUROC, %",
        "Macro-F1",
        "Micro-F1",
        "All labels right, %",
    ]
    header += ["Hamming loss, %", "Macro-F1 at 0.5", "n"]
    return markdown_table(header, [*[NUMBER] * ranked, "---", *[NUMBER] * (len(header) - 1 - ranked)], rows)


def _labels(results: StudyResults, methods: Sequence[MethodResults], choose: Choose) -> str:
    evaluations = _evaluations(methods, choose)
    header = ["Label", "Training images", "With it", "Without"]
    for result in methods:
        header += [f"{markdown_text(result.method)} AP", f"{markdown_text(result.method)} AUROC"]
    rows = []
    for index in results.class_order:
        name, of_first = results.class_names[index], evaluations[0].labels[index]
        row = [
            markdown_text(name),
            str(results.counts.train[name]),
            str(of_first.positives),
            str(of_first.negatives),
        ]
        for evaluation in evaluations:
            label = evaluation.labels[index]
            row += [percent_with_interval(label.average_precision), percent_with_interval(label.auroc)]
        rows.append(row)
    last = ["Mean AP, macro AUROC", str(results.counts.train_images), "", ""]
    for evaluation in evaluations:
        last += [
            f"**{percent_with_interval(evaluation.average_precision)}**",
            f"**{percent_with_interval(evaluation.auroc)}**",
        ]
    return markdown_table(header, ["---", *[NUMBER] * (len(header) - 1)], [*rows, last])


def _decisions(results: StudyResults, result: MethodResults) -> str:
    assert result.labels is not None
    log_posterior = result.labels.out_of_fold
    measures = ("Recall, %", "Specificity, %", "Precision, %", "F1")
    header = ["Label", "Threshold", *measures, *(f"{measure} at 0.5" for measure in measures)]
    rows = []
    for index in results.class_order:
        chosen, plain = log_posterior.chosen.labels[index], log_posterior.plain.labels[index]
        threshold = formatting.threshold(result.labels.thresholds[index])
        rows.append(
            [markdown_text(results.class_names[index]), threshold, *_measures(chosen), *_measures(plain)]
        )
    return markdown_table(header, ["---", *[NUMBER] * (len(header) - 1)], rows)


def _measures(decision: ThresholdedLabel) -> list[str]:
    shares = [
        percent_with_interval(share) for share in (decision.recall, decision.specificity, decision.precision)
    ]
    return [*shares, score_with_interval(decision.f1)]

"""The tables of a study or an evaluation, which all its files and its page show. Methods are in the order of their rank.

Each has a row or a column per metric of the registry, so that a new metric is in all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np

from tametail.core.text import sample_of
from tametail.data.class_groups import CLASS_GROUPS
from tametail.evaluation import Estimate, Evaluation
from tametail.evaluation.calibration import tendency
from tametail.evaluation.evaluate import class_metric_names
from tametail.evaluation.metric_registry import MetricFacts, metric_facts
from tametail.evaluation.paired import Paired, sample_size_in_words
from tametail.evaluation.subgroup_contrasts import SubgroupContrasts
from tametail.report import formatting
from tametail.report.formatting import percent, points, sentence_case, three_decimals, threshold
from tametail.report.study.narrative import comparison_terms
from tametail.report.study.results import MethodResults, StudyResults
from tametail.report.table import (
    Cell,
    Column,
    Row,
    Table,
    count_cell,
    estimate_cell,
    marked,
    number_cell,
)

Choose = Callable[[MethodResults], Evaluation | None]
# The two metrics by which classes or labels are compared across methods.
_CLASS_PAIR = {False: ("recall", "f1"), True: ("average_precision", "auroc")}
_OF_CLASS_GROUPS = {
    f"{metric}_{group}" for metric in ("average_precision", "auroc", "recall", "f1") for group in CLASS_GROUPS
}
_MOST_NAMED = 20  # classes in a sentence
_MOST_CONFUSED = 3  # classes of the false positives at an operating point
_ORDER = {"better": 1, "no significant difference": 2, "worse": 3}


def out_of_fold(result: MethodResults) -> Evaluation | None:
    """The evaluation of out-of-fold predictions."""
    return result.out_of_fold


def test_mean(result: MethodResults) -> Evaluation | None:
    """The mean of the fold models on the test set."""
    return result.test


def test_ensemble(result: MethodResults) -> Evaluation | None:
    """The ensemble of the fold models on the test set."""
    return result.test_ensemble


def metric_cell(metric: MetricFacts, estimate: Estimate | None) -> Cell:
    """An estimate of a metric as all tables show it."""
    return estimate_cell(estimate, percent if metric.percent else formatting.score)


def _chosen(methods: Sequence[MethodResults], choose: Choose) -> list[tuple[MethodResults, Evaluation]]:
    return [(result, found) for result in methods if (found := choose(result)) is not None]


def method_table(
    results: StudyResults,
    methods: Sequence[MethodResults],
    choose: Choose = out_of_fold,
    *,
    title: str,
    in_print: bool = False,
    compared: bool = False,
) -> Table:
    """Methods with every metric over all classes.

    Args:
        methods: that are shown, if they have the chosen evaluation.
        choose: which evaluation.
        title: of the table.
        in_print: leave out what is too wide for print.
        compared: add the primary test, of each method against the best.
    """
    chosen = _chosen(methods, choose)
    ranks = {result.method: rank for rank, result in enumerate(results.ranking, start=1)}
    shown = [
        metric
        for metric, _ in (chosen[0][1].overall() if chosen else [])
        if (metric.in_print or not in_print)
        and (len(chosen[0][1].class_groups) > 1 or metric.name not in _OF_CLASS_GROUPS)
    ]
    columns = [[metric_cell(metric, found[metric.name]) for _, found in chosen] for metric in shown]
    columns = [
        marked(cells, greater_is_better=metric.greater_is_better)
        for metric, cells in zip(shown, columns, strict=True)
    ]
    compared = compared and results.pairs is not None
    headings = [Column("Rank"), Column(sentence_case(comparison_terms(results).method), text=True)]
    headings += [Column(metric.heading) for metric in shown[:1]]
    if compared:
        headings += [Column("Difference, points"), Column("p, Holm"), Column("Verdict", text=True)]
    repeated = choose is out_of_fold and not results.is_evaluation and len(results.settings["seeds"]) > 1
    headings += [Column("SD over repeats, points", spare=True)] if repeated else []
    headings += [Column(metric.heading) for metric in shown[1:]] + [Column("n", spare=True)]
    rows = []
    for place, (result, found) in enumerate(chosen):
        rank = ranks[result.method]
        cells = [count_cell(rank), Cell(result.method), *(column[place] for column in columns[:1])]
        cells += _compared(results, rank - 1) if compared else []
        cells += [number_cell(result.spread, percent)] if repeated else []
        rows.append(Row((*cells, *(column[place] for column in columns[1:]), count_cell(found.n))))
    return Table(title, tuple(headings), tuple(rows), head=1)


def _compared(results: StudyResults, place: int) -> list[Cell]:
    """A method against the best: difference, p and verdict."""
    assert results.pairs is not None
    if not place:
        return [Cell("", key=0.0), Cell("", key=float("nan")), Cell("highest", key=0.0)]
    return paired_cells(results.pairs.pair(place, 0))


def paired_cells(paired: Paired) -> list[Cell]:
    """Difference, p and verdict of a test."""
    return [
        estimate_cell(paired.difference, points),
        number_cell(paired.p_holm, formatting.p_value),
        verdict_cell(paired.verdict),
    ]


def verdict_cell(verdict: str) -> Cell:
    """What a test says."""
    return Cell(verdict, key=_ORDER.get(verdict, 4), verdict=verdict)


def class_table(
    results: StudyResults, methods: Sequence[MethodResults], choose: Choose = out_of_fold, *, title: str
) -> Table:
    """The table of the paper: classes with two metrics for each method, and means below; empty without a method."""
    chosen = _chosen(methods, choose)
    pair = [metric_facts(name) for name in _CLASS_PAIR[results.multi_label]]
    columns = [
        *_size_columns(results),
        *(Column(metric.heading, result.method) for result, _ in chosen for metric in pair),
    ]
    if not chosen:
        return Table(title, tuple(columns), ())
    evaluations = [found for _, found in chosen]
    rows = []
    for index in results.by_frequency:
        name = results.class_names[index]
        cells = _across(pair, [[found[metric.name, name] for metric in pair] for found in evaluations])
        rows.append(Row((*_sizes(results, evaluations[0], index), *cells), _group_of(evaluations[0], index)))
    return Table(title, tuple(columns), tuple(rows), tuple(_totals(results, evaluations, pair)))


def _totals(
    results: StudyResults, evaluations: Sequence[Evaluation], pair: Sequence[MetricFacts]
) -> list[Row]:
    """Means over each class group, and over all classes."""
    first, train, names = evaluations[0], results.counts.train, results.class_names
    rows = []
    for group, members in first.class_groups.items() if len(first.class_groups) > 1 else ():
        found = [[one[f"{metric.name}_{group}", ""] for metric in pair] for one in evaluations]
        images = sum(train[names[index]] for index in members)
        name = f"{group.capitalize()}-shot, mean of {len(members)}"
        rows.append(Row((*_total(results, name, images, found[0][0].n), *_across(pair, found))))
    means = (
        ("mean_average_precision", "macro_auroc") if first.multi_label else ("balanced_accuracy", "macro_f1")
    )
    found = [[one[mean] for mean in means] for one in evaluations]
    titles = [metric_facts(mean).title for mean in means]
    name = f"{titles[0]}, {titles[1][:1].lower()}{titles[1][1:]}"
    total = _total(results, name, results.counts.train_images, first.n)
    return [*rows, Row((*total, *_across(pair, found)))]


def _total(results: StudyResults, name: str, images: int, n: int) -> list[Cell]:
    counts = [] if results.is_evaluation else [count_cell(images)]
    return [Cell(name), *counts, count_cell(n), *([Cell("")] * results.multi_label), Cell("")]


def _across(pair: Sequence[MetricFacts], estimates: Sequence[Sequence[Estimate]]) -> list[Cell]:
    """Cells of several methods side by side, the best of each metric marked."""
    columns = [
        marked([metric_cell(metric, found[place]) for found in estimates])
        for place, metric in enumerate(pair)
    ]
    return [cell for cells in zip(*columns, strict=True) for cell in cells]


def _size_columns(results: StudyResults) -> list[Column]:
    labels = results.multi_label
    counts = [] if results.is_evaluation else [Column("Training images", spare=True)]
    return [
        Column("Label" if labels else "Class", text=True),
        *counts,
        *([Column("Positives"), Column("Negatives", spare=True)] if labels else [Column("n")]),
        Column("Groups", spare=True),
    ]


def _sizes(results: StudyResults, evaluation: Evaluation, index: int) -> list[Cell]:
    """Name of a class and its numbers of images."""
    name, size = results.class_names[index], evaluation.classes[index]
    counts = [] if results.is_evaluation else [count_cell(results.counts.train[name])]
    others = [count_cell(size.others)] if results.multi_label else []
    tag = _group_of(evaluation, index)
    return [Cell(name, tag=tag), *counts, count_cell(size.n), *others, count_cell(size.groups)]


def _group_of(evaluation: Evaluation, index: int) -> str:
    return next((name for name, members in evaluation.class_groups.items() if index in members), "")


def detail_table(
    results: StudyResults, result: MethodResults, choose: Choose = out_of_fold, *, title: str
) -> Table:
    """Classes or labels of one method with every metric."""
    evaluation = choose(result)
    metrics = [metric_facts(name) for name in class_metric_names(multi_label=results.multi_label)]
    thresholds = result.thresholds
    columns = [*_size_columns(results), *([Column("Threshold")] if thresholds else [])]
    columns += [Column(metric.heading) for metric in metrics]
    if evaluation is None:
        return Table(title, tuple(columns), ())
    rows = []
    for index in results.by_frequency:
        at = [number_cell(thresholds[index], threshold)] if thresholds else []
        cells = [
            metric_cell(metric, evaluation[metric.name, results.class_names[index]]) for metric in metrics
        ]
        rows.append(Row((*_sizes(results, evaluation, index), *at, *cells), _group_of(evaluation, index)))
    return Table(title, tuple(columns), tuple(rows))


def calibration_table(results: StudyResults, methods: Sequence[MethodResults]) -> Table | None:
    """Methods with the quality of their probabilities; None if there are none."""
    found = [(result, result.calibration) for result in methods if result.calibration]
    mapped = any(calibration.map for _, calibration in found)
    writes = (
        ("log_loss", "Log-loss", three_decimals),
        ("ece", "ECE, points", percent),
        ("class_wise_ece", "Class-wise ECE, points", percent),
        ("intercept", "Intercept", formatting.score),
        ("slope", "Slope", formatting.score),
    )
    columns = [Column(sentence_case(comparison_terms(results).method), text=True)]
    columns += [Column(title) for _, title, _ in writes] + [Column("Brier score")]
    columns.append(Column("Map" if mapped else "Tendency", text=True))
    rows = []
    for result, given in found:
        shown = given.after or given
        cells = [Cell(result.method)]
        for name, _, write in writes:
            below = f"uncalibrated {write(getattr(given, name))}" if given.after else ""
            cells.append(Cell(write(getattr(shown, name)), below, getattr(shown, name)))
        cells.append(estimate_cell(shown.brier, three_decimals))
        cells.append(Cell((given.map.summary if given.map else "") if mapped else tendency(given.bins)))
        rows.append(Row(tuple(cells)))
    return Table("Calibration", tuple(columns), tuple(rows)) if rows else None


def sets_table(results: StudyResults, result: MethodResults) -> Table | None:
    """Prediction sets of a method class by class; None if there are none."""
    found = result.prediction_sets
    if found is None:
        return None
    columns = (
        Column("Class", text=True),
        Column("n"),
        Column("Groups"),
        Column("Coverage, %"),
        Column("Mean set size"),
    )

    def row(name: Cell, groups: int, coverage: Estimate, size: Estimate) -> Row:
        counts = count_cell(coverage.n), count_cell(groups)
        return Row((name, *counts, estimate_cell(coverage), estimate_cell(size, formatting.score)))

    rows = []
    for index in results.in_order:
        one = found.classes[index]
        name = Cell(one.name, "too rare: in every set" if one.too_rare else "")
        rows.append(row(name, one.groups, one.coverage, one.size))
    groups = result.out_of_fold.groups if result.out_of_fold else 0
    title = f"Prediction sets of {result.method} at {100 * found.required:.6g} % coverage"
    return Table(title, columns, tuple(rows), (row(Cell("All"), groups, found.coverage, found.size),))


def sets_in_words(result: MethodResults) -> str:
    """What the sets are, and the classes that are too rare for them; empty without sets."""
    found = result.prediction_sets
    if found is None:
        return ""
    asked = f"{100 * found.required:.6g}"
    said = (
        f"For each image, the classes that cannot be excluded: in each class at least {asked} % of the sets should contain it, at "
        f"any prevalence. The thresholds of each fold are from the other folds. {percent(found.single.value)} % of the sets have a "
        f"single class, {percent(found.empty.value)} % none."
    )
    if found.too_rare:
        needed = found.classes[0].needed
        said += (
            f" Too rare for {asked} %, which takes {needed} groups (patients), and so in every set: "
            f"{sample_of(found.too_rare, most=_MOST_NAMED)}."
        )
    return said


def label_calibration_table(results: StudyResults, methods: Sequence[MethodResults]) -> Table | None:
    """Methods with several labels and the quality of their probabilities, means over the labels; None if there are none."""
    columns = [
        Column(title)
        for title in ("ECE, points", "Log-loss", "Of the prevalence", "Brier score", "Labels changed")
    ]
    rows = []
    for result in methods:
        found = result.label_calibration
        if found is None or not found.labels:
            continue
        means = {
            name: [
                float(np.mean([getattr(one, name) for one in of.values()]))
                for of in (found.labels, found.after)
            ]
            for name in ("log_loss", "constant_log_loss", "brier")
        }
        ece = estimate_cell(found.ece_after, percent)
        cells = [
            Cell(result.method),
            replace(ece, below=f"{ece.below}; uncalibrated {percent(found.ece.value)}"),
        ]
        for name, (before, after) in means.items():
            below = f"uncalibrated {three_decimals(before)}" if name != "constant_log_loss" else ""
            cells.append(Cell(three_decimals(after), below, after))
        cells.append(Cell(f"{int(found.map.changed.sum())} of {len(found.map.slope)}"))
        rows.append(Row(tuple(cells)))
    first = Column(sentence_case(comparison_terms(results).method), text=True)
    return Table("Calibration, means over the labels", (first, *columns), tuple(rows)) if rows else None


def label_quality_table(results: StudyResults, result: MethodResults) -> Table | None:
    """The labels of one method with the quality of their calibrated probabilities."""
    found = result.label_calibration
    if found is None:
        return None
    writes = (
        ("ece", "ECE, points", percent),
        ("log_loss", "Log-loss", three_decimals),
        ("constant_log_loss", "Of the prevalence", three_decimals),
        ("intercept", "Intercept", formatting.score),
        ("slope", "Slope", formatting.score),
    )
    columns = [Column("Label", text=True), Column("n"), *(Column(title) for _, title, _ in writes)]
    rows = []
    for index in results.by_frequency:
        name = results.class_names[index]
        if name not in found.after:
            continue
        cells = [Cell(name), count_cell(results.counts.train[name])]
        for key, _, write in writes:
            value, before = getattr(found.after[name], key), getattr(found.labels[name], key)
            below = (
                f"uncalibrated {write(before)}"
                if found.map.changed[index] and key != "constant_log_loss"
                else ""
            )
            cells.append(Cell(write(value), below, value))
        rows.append(Row(tuple(cells)))
    return Table(f"Calibration of the labels: {result.method}", tuple(columns), tuple(rows))


def operating_tables(results: StudyResults, methods: Sequence[MethodResults]) -> list[Table]:
    """One per class and required sensitivity."""
    shown = (("sensitivity", "Sensitivity, %"), ("specificity", "Specificity, %"), ("ppv", "PPV, %"))
    columns = [Column(sentence_case(comparison_terms(results).method), text=True), Column("Threshold")]
    columns += [each for _, title in shown for each in (Column(title), Column("n", spare=True))]
    columns.append(Column("Alert rate, %"))
    columns += [Column(title, spare=True) for title in ("TP", "FP", "FN", "TN")]
    columns.append(Column("False positives are", text=True, spare=True))
    tables = []
    for points_of in zip(*(result.operating for result in methods), strict=True):
        rows = []
        for result, point in zip(methods, points_of, strict=True):
            estimates = [getattr(point, name) for name, _ in shown]
            cells = [cell for one in estimates for cell in (estimate_cell(one), count_cell(one.n))]
            at = number_cell(point.threshold, threshold)
            made = point.decisions
            counts = (made.true_positives, made.false_positives, made.false_negatives, made.true_negatives)
            confused = ", ".join(f"{name} {n:,.10g}" for name, n in made.false_positives_of[:_MOST_CONFUSED])
            cells += [estimate_cell(point.alert_rate), *(count_cell(round(count, 1)) for count in counts)]
            rows.append(Row((Cell(result.method), at, *cells, Cell(confused or "none"))))
        asked = percent(points_of[0].required_sensitivity)
        title = f"{points_of[0].class_name}: required sensitivity {asked} %"
        tables.append(Table(title, tuple(columns), tuple(rows)))
    return tables


def subgroup_tables(methods: Sequence[MethodResults]) -> list[Table]:
    """One per column and method."""
    tables = []
    for result in methods:
        for column, members in groupby(result.subgroups, key=lambda one: one.column):
            rows = []
            metrics = [metric_facts(name) for name in result.subgroups[0].estimates]
            titles = ["n", "Groups", *(metric.heading for metric in metrics)]
            for one in members:
                name = Cell(one.value or "unknown", "too few images" if one.small else "")
                cells = [count_cell(one.n), count_cell(one.groups)]
                cells += [metric_cell(metric, one[metric.name]) for metric in metrics]
                rows.append(Row((name, *cells, Cell(", ".join(one.absent) or "none"))))
            columns = [Column(column, text=True), *map(Column, titles), Column("Absent classes", text=True)]
            tables.append(Table(f"{result.method}, by {column}", tuple(columns), tuple(rows)))
    return tables


def contrast_table(found: SubgroupContrasts) -> Table:
    """Each subgroup against all other images."""
    columns = (
        Column(found.column, text=True),
        Column("n"),
        Column("Others", spare=True),
        Column("Difference in balanced accuracy, points"),
        Column("p, Holm"),
        Column("Classes compared", spare=True),
    )
    rows = [
        Row(
            (
                Cell(one.value or "unknown"),
                count_cell(one.n),
                count_cell(one.rest),
                estimate_cell(one.difference, points),
                number_cell(one.p_holm, formatting.p_value),
                count_cell(len(one.classes)),
            )
        )
        for one in found.contrasts
    ]
    return Table(f"{found.column}: each against the others", columns, tuple(rows))


def pairs_table(results: StudyResults) -> Table | None:
    """The best method against each other one: the primary test, and what a significant difference would take."""
    if results.pairs is None:
        return None
    names = results.pairs.names
    columns = (
        Column(f"{names[0]} compared with", text=True),
        Column("Difference, points"),
        Column("p"),
        Column("p, Holm"),
        Column(f"{names[0]} is", text=True),
        Column("Needed for significance", text=True),
    )
    rows = []
    for place, other in enumerate(names[1:], start=1):
        paired = results.pairs.pair(0, place)
        difference, p_holm, verdict = paired_cells(paired)
        p = number_cell(paired.p, formatting.p_value)
        rows.append(Row((Cell(other), difference, p, p_holm, verdict, Cell(_images_needed(paired)))))
    return Table(f"{names[0]} compared with each other", columns, tuple(rows))


def _images_needed(paired: Paired) -> str:
    if paired.verdict in ("better", "worse"):
        return formatting.ABSENT
    if paired.required_sample_size is None:
        return "cannot be estimated"
    if not paired.required_sample_size:
        return "fewer comparisons"
    return sample_size_in_words(paired)


def runs_table(results: StudyResults) -> Table | None:
    """The best method against each other one over repeats and folds."""
    if not results.across_runs:
        return None
    best = results.ranking[0].method
    columns = (
        Column(f"{best} compared with", text=True),
        Column("Difference, points"),
        Column("p"),
        Column("p, Holm"),
        Column(f"{best} is", text=True),
    )
    rows = [
        Row(
            (
                Cell(other),
                estimate_cell(compared.difference, points),
                number_cell(compared.found.p, formatting.p_value),
                number_cell(compared.p_holm, formatting.p_value),
                verdict_cell(compared.verdict),
            )
        )
        for other, compared in results.across_runs.items()
    ]
    return Table(f"{best} compared over runs", columns, tuple(rows))


def class_tests_table(results: StudyResults, other: str) -> Table:
    """The best method against another one, class by class."""
    best, tests = results.ranking[0].method, results.by_class[other]
    labels = results.multi_label
    unit, better, metric = (
        ("Label", "Higher with", "AP") if labels else ("Class", "Correct only by", "recall")
    )
    columns = (
        Column(unit, text=True),
        Column("n"),
        Column(f"{better} {best}"),
        Column(f"{better} {other}"),
        Column(f"Difference in {metric}, points"),
        Column("p, Holm"),
        Column(f"{best} is", text=True),
    )
    rows = []
    for test in (tests[index] for index in results.by_frequency):
        counts = [count_cell(test.n), count_cell(round(test.only_a, 1)), count_cell(round(test.only_b, 1))]
        p = number_cell(test.p_holm, formatting.p_value)
        cells = (
            Cell(test.name),
            *counts,
            estimate_cell(test.difference, points),
            p,
            verdict_cell(test.verdict),
        )
        rows.append(Row(cells))
    return Table(f"{best} compared with {other}, {unit.lower()} by {unit.lower()}", columns, tuple(rows))

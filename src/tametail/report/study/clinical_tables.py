"""Operating points and subgroups as tables of the page, as Markdown and as cells of results.csv."""

from __future__ import annotations

from tametail.evaluation.operating import OperatingPoint
from tametail.evaluation.subgroups import Subgroup
from tametail.report.formatting import (
    percent,
    percent_with_interval,
    score_with_interval,
    sentence_case,
    threshold,
)
from tametail.report.study.narrative import comparison_terms
from tametail.report.study.results import MethodResults, StudyResults
from tametail.report.writers.csv_cells import Cells, estimate_cells, six_decimals
from tametail.report.writers.markdown_table import NUMBER, markdown_table, markdown_text

OperatingTable = list[tuple[str, OperatingPoint]]  # by method, all of one class and required sensitivity
SubgroupTable = tuple[str, str, list[Subgroup]]  # a method, a column, and one subgroup per value


def operating_tables(results: StudyResults) -> list[OperatingTable]:
    """One per class and required sensitivity, methods in the order of their rank."""
    names = [result.method for result in results.ranking]
    return [
        list(zip(names, points, strict=True))
        for points in zip(*(result.operating for result in results.ranking), strict=True)
    ]


def subgroup_tables(results: StudyResults) -> list[SubgroupTable]:
    """One per column and method, methods in the order of their rank."""
    columns = dict.fromkeys(one.column for result in results.ranking for one in result.subgroups)
    return [
        (result.method, column, [one for one in result.subgroups if one.column == column])
        for column in columns
        for result in results.ranking
    ]


def clinical_markdown(results: StudyResults) -> list[str]:
    """Operating points and subgroups as blocks of Markdown."""
    blocks: list[str] = []
    for points in operating_tables(results):
        rows = [
            [
                markdown_text(method),
                threshold(point.threshold),
                *(
                    f"{percent_with_interval(one)}, n = {one.n}"
                    for one in (point.sensitivity, point.specificity, point.ppv)
                ),
                percent_with_interval(point.alert_rate),
            ]
            for method, point in points
        ]
        header = [
            sentence_case(comparison_terms(results).method),
            "Threshold",
            "Sensitivity, %",
            "Specificity, %",
        ]
        first = points[0][1]
        blocks += [
            f"## {markdown_text(first.class_name)}: required sensitivity {percent(first.required_sensitivity)} %",
            markdown_table([*header, "PPV, %", "Alert rate, %"], ["---", *[NUMBER] * 5], rows),
        ]
    for method, column, found in subgroup_tables(results):
        rows = [
            [
                (markdown_text(one.value) or "unknown") + (" (too few images)" if one.small else ""),
                str(one.n),
                str(one.groups),
                percent_with_interval(one.balanced_accuracy),
                score_with_interval(one.macro_f1),
                percent_with_interval(one.accuracy),
                markdown_text(", ".join(one.absent)) or "none",
            ]
            for one in found
        ]
        header = [markdown_text(column), "n", "Groups", "Balanced accuracy, %", "Macro-F1", "Accuracy, %"]
        blocks += [
            f"## {markdown_text(method)}, by {markdown_text(column)}",
            markdown_table([*header, "Absent classes"], ["---", *[NUMBER] * 5, "---"], rows),
        ]
    return blocks


def clinical_cells(result: MethodResults) -> Cells:
    """Operating points and subgroups of one method as cells of results.csv."""
    cells: Cells = []
    for point in result.operating:
        prefix = f"operating_{point.class_name}_{point.required_sensitivity:g}_"
        cells.append((f"{prefix}threshold", six_decimals(point.threshold)))
        for name, estimate in (
            ("sensitivity", point.sensitivity),
            ("specificity", point.specificity),
            ("ppv", point.ppv),
            ("alert_rate", point.alert_rate),
        ):
            cells += [*estimate_cells(prefix + name, estimate), (f"{prefix}{name}_n", str(estimate.n))]
    for one in result.subgroups:
        prefix = f"by_{one.column}_{one.value or 'unknown'}_"
        cells.append((f"{prefix}n", str(one.n)))
        for name in ("balanced_accuracy", "macro_f1", "accuracy"):
            cells += estimate_cells(prefix + name, getattr(one, name))
    return cells

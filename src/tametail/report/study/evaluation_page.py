"""What the page and the tables say of an evaluation where they speak of recipe, folds and test set for a study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tametail.evaluation.operating import OperatingPoint
from tametail.evaluation.subgroups import Subgroup
from tametail.report import formatting
from tametail.report.formatting import percent_with_interval, score_with_interval
from tametail.report.study import narrative
from tametail.report.study.results import MethodResults, StudyResults
from tametail.report.writers.csv_cells import Cells, estimate_cells, six_decimals
from tametail.report.writers.markdown_table import NUMBER, markdown_table, markdown_text


@dataclass(frozen=True)
class OperatingTable:
    """One class and required sensitivity, with the operating point of each loss."""

    class_name: str
    asked: float
    points: tuple[tuple[str, OperatingPoint], ...]


@dataclass(frozen=True)
class SubgroupTable:
    """One loss and column, with the evaluation of each of its values."""

    method: str
    column: str
    rows: tuple[Subgroup, ...]


def evaluation_context(results: StudyResults) -> dict[str, Any]:
    """What an evaluation has to say where a study tells what it is."""
    settings, counts = results.settings, results.counts
    images = counts.images.values()
    ratio = f"{max(images) / min(images):.1f}" if min(images) else "infinite"
    size = formatting.images_and_groups(counts.train_images, counts.train_groups)
    return {
        "name": settings["name"],
        "unit": "class",
        "synthetic": narrative.SYNTHETIC if settings["synthetic"] else "",
        "classes": len(results.class_names),
        "imbalance_ratio": ratio,
        "facts_in_short": [
            ("Images", f"{counts.train_images:,}", _groups(results)),
            ("Classes", f"{len(results.class_names)}", f"rarest: {min(images):,} images"),
            ("Models", f"{len(results.methods)}", "trained elsewhere, evaluated here"),
        ],
        "has_test_set": False,
        "test_set": [],
        "openings": [],
        "openings_in_words": "",
        "folds": "",
        "seeds": max(result.finished for result in results.methods),
        "grouped": counts.train_groups != counts.train_images,
        "data_facts": [("Images", size), *(tuple(fact) for fact in settings["facts"]), *_absent(results)],
        "findings": [],
        "unreadable": [],
        "unreadable_count": 0,
        "recipe_facts": [],
        "environment_facts": [("tametail", settings["tametail"])],
        "command": settings["command"],
        "citation": f"tametail {settings['tametail']} (see its CITATION.cff); evaluation “{settings['name']}”.",
        "methods": _methods(results, size),
    }


def _groups(results: StudyResults) -> str:
    if not results.settings["grouped"]:
        return "every one by itself"
    return f"{results.counts.train_groups:,} groups"


def _absent(results: StudyResults) -> list[tuple[str, str]]:
    absent = [name for name, count in results.counts.images.items() if not count]
    return [("Absent, and in no mean", ", ".join(absent))] if absent else []


def _methods(results: StudyResults, size: str) -> str:
    models = len(results.methods)
    said = [
        f"{models} {'model was' if models == 1 else 'models were'} evaluated on {size}; intervals are 95 % and speak of the "
        f"images drawn.",
    ]
    if results.pairs is not None:
        said.append(
            "Models were compared in pairs on the same images by sign-flip permutation, with Holm’s correction over all pairs."
        )
    return " ".join([*said, f"Computed with tametail {results.settings['tametail']}."])


def operating_tables(results: StudyResults) -> list[OperatingTable]:
    """One per operating point, with the losses in the order of their rank."""
    points = [result.operating for result in results.ranking]
    return [
        OperatingTable(
            at[0].class_name,
            at[0].asked,
            tuple((result.method, one) for result, one in zip(results.ranking, at, strict=True)),
        )
        for at in zip(*points, strict=True)
    ]


def subgroup_tables(results: StudyResults) -> list[SubgroupTable]:
    """One per column and loss, with the losses in the order of their rank."""
    columns = dict.fromkeys(one.column for result in results.ranking for one in result.subgroups)
    return [
        SubgroupTable(result.method, column, tuple(one for one in result.subgroups if one.column == column))
        for column in columns
        for result in results.ranking
    ]


def further_blocks(results: StudyResults) -> list[str]:
    """Operating points and subgroups as Markdown."""
    blocks: list[str] = []
    for operating in operating_tables(results):
        rows = [
            [
                markdown_text(method),
                formatting.threshold(point.threshold)
                if point.threshold == point.threshold
                else formatting.ABSENT,
                *(
                    f"{percent_with_interval(one)}, n = {one.n}"
                    for one in (point.sensitivity, point.specificity, point.ppv)
                ),
                percent_with_interval(point.flagged),
            ]
            for method, point in operating.points
        ]
        header = [
            formatting.sentence_case(narrative.narrative_of(results).method),
            "Threshold",
            "Sensitivity, %",
            "Specificity, %",
            "Right of the flagged, %",
            "Flagged, %",
        ]
        blocks.append(
            f"## {markdown_text(operating.class_name)}: sensitivity of {formatting.percent(operating.asked)} % asked for"
        )
        blocks.append(markdown_table(header, ["---", *[NUMBER] * 5], rows))
    for subgroup in subgroup_tables(results):
        rows = [
            [
                (markdown_text(one.value) or "not known") + (" (too few to judge)" if one.small else ""),
                str(one.n),
                str(one.groups),
                percent_with_interval(one.balanced_accuracy),
                score_with_interval(one.macro_f1),
                percent_with_interval(one.accuracy),
                markdown_text(", ".join(one.absent)) or "none",
            ]
            for one in subgroup.rows
        ]
        header = [
            markdown_text(subgroup.column),
            "n",
            "Groups",
            "Balanced accuracy, %",
            "Macro-F1",
            "Accuracy, %",
            "Absent",
        ]
        blocks.append(f"## {markdown_text(subgroup.method)}, by {markdown_text(subgroup.column)}")
        blocks.append(markdown_table(header, ["---", *[NUMBER] * 5, "---"], rows))
    return blocks


def further_cells(result: MethodResults) -> Cells:
    """Operating points and subgroups of one loss as cells of results.csv."""
    cells: Cells = []
    for point in result.operating:
        prefix = f"operating_{point.class_name}_{point.asked:g}_"
        cells.append((f"{prefix}threshold", six_decimals(point.threshold)))
        for name in ("sensitivity", "specificity", "ppv", "flagged"):
            cells += estimate_cells(prefix + name, getattr(point, name))
            cells.append((f"{prefix}{name}_n", str(getattr(point, name).n)))
    for one in result.subgroups:
        prefix = f"by_{one.column}_{one.value or 'not known'}_"
        cells.append((f"{prefix}n", str(one.n)))
        for name in ("balanced_accuracy", "macro_f1", "accuracy"):
            cells += estimate_cells(prefix + name, getattr(one, name))
    return cells

"""The built-in sections of the page of a study, in the order in which they are shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tametail.core.run_files import CONVERGED_AT
from tametail.report.figures import study_figures
from tametail.report.figures.reliability import calibration_rows, reliability_drawing
from tametail.report.figures.svg import Drawing, inlined
from tametail.report.sections import Section, register_report_section
from tametail.report.study import matrices, narrative
from tametail.report.study.class_tables import CLASS_COLUMNS, class_table, method_table
from tametail.report.study.clinical_tables import operating_tables, subgroup_tables
from tametail.report.study.convergence import convergence_row
from tametail.report.study.results import MethodResults, StudyResults

# In one kind of table; more methods are left out, the best first, so that a page stays below 5 MB.
MOST_CELLS = 6_000
_MOST_BY_CLASS = 8  # methods whose classes are compared with those of the best; metrics.json has all
_MINIMUM_REPEATS = 3  # of the test over runs: fewer hardly show how much a method varies
Context = Mapping[str, Any] | None


def shown_methods(cells: int) -> int:
    """Number of methods to show where each takes so many cells."""
    return max(1, MOST_CELLS // cells)


def inline_svg(drawing: Drawing) -> str:
    """A drawing as SVG that a template does not escape."""
    from markupsafe import Markup

    return Markup(inlined(drawing))


def _tested(results: StudyResults) -> Sequence[MethodResults]:
    return [result for result in results.ranking if result.on_test is not None]


def _single_label(context: Callable[[StudyResults], Context]) -> Callable[[StudyResults], Context]:
    """A section of studies with one class per image, left out before any method is finished."""
    return lambda results: context(results) if results.ranking and not results.multi_label else None


def _multi_label(context: Callable[[StudyResults], Context]) -> Callable[[StudyResults], Context]:
    return lambda results: context(results) if results.ranking and results.multi_label else None


def _test_set(results: StudyResults) -> Context:
    tested = _tested(results)
    if not tested:
        return None
    shown = tested[: shown_methods(2 * len(results.class_names))]
    models = tested[0].expected
    whiches = ((f"mean over {models} fold models", 0), (f"ensemble of {models} fold models", 1))
    summaries = [
        (title, method_table(results, lambda result, at=at: result.on_test[at] if result.on_test else None))  # type: ignore[misc]
        for title, at in whiches
    ]
    common = {"tested": tested, "summaries": summaries, "shown": len(shown)}
    if results.multi_label:
        return common | _label_order(results) | {"details": shown_methods(8 * len(results.class_names))}
    return common | {
        "tables": [
            ("mean over fold models", class_table(results, shown, lambda result: result.test, show_n=True)),
            (
                "ensemble of fold models",
                class_table(results, shown, lambda result: result.test_ensemble, show_n=True),
            ),
        ]
    }


def _methods(results: StudyResults) -> Context:
    if not results.ranking:
        return None
    best = results.ranking[0].evaluation
    assert best is not None
    return {"ranking_table": method_table(results), "n": best.n, "groups": best.groups}


def _pairs(results: StudyResults) -> Context:
    pairs = matrices.pairs(results)
    if pairs is None:
        return None
    by_class = list(results.by_class.items())
    runs = next((compared.found.runs for compared in results.across_runs.values()), 0)
    return {
        "pairs": pairs,
        "signs": matrices.SIGNS,
        "runs": results.across_runs,
        "run_count": runs,
        "minimum_repeats": _MINIMUM_REPEATS,
        "by_class": [
            (other, [tests[index] for index in results.by_frequency])
            for other, tests in by_class[:_MOST_BY_CLASS]
        ],
        "left_out": len(by_class[_MOST_BY_CLASS:]),
    }


def _classes(results: StudyResults) -> Context:
    classes, ranking = len(results.class_names), results.ranking
    shown, details = shown_methods(2 * classes), shown_methods(6 * classes)
    drawn = classes <= study_figures.MOST_NAMED_CLASSES
    return {
        "table": class_table(
            results,
            ranking[:shown],
            lambda result: result.out_of_fold,
            show_n=not narrative.all_held_out(results),
        ),
        "shown": shown,
        "columns": CLASS_COLUMNS,
        "details": ranking[:details],
        "recall": inline_svg(study_figures.recall_drawing(results)) if drawn else "",
        "precision": inline_svg(study_figures.precision_drawing(results)) if drawn else "",
    }


def _label_order(results: StudyResults) -> dict[str, Any]:
    names, train = results.class_names, results.counts.train
    return {
        "order": [(index, names[index], train[names[index]]) for index in results.by_frequency],
        "train_images": results.counts.train_images,
    }


def _labels(results: StudyResults) -> Context:
    drawn = len(results.class_names) <= study_figures.MOST_NAMED_CLASSES
    figure = inline_svg(study_figures.average_precision_drawing(results)) if drawn else ""
    return _label_order(results) | {"shown": shown_methods(2 * len(results.class_names)), "figure": figure}


def _thresholds(results: StudyResults) -> Context:
    return _label_order(results) | {"shown": shown_methods(8 * len(results.class_names))}


def _confusions(results: StudyResults) -> Context:
    classes = len(results.class_names)
    shown = 2 * shown_methods(classes**2)  # most cells are 0 and short
    return {
        "shown": shown,
        "confusions": [
            matrices.confusion(result.method, result.out_of_fold, results.by_frequency)
            for result in results.ranking[:shown]
            if classes <= matrices.MOST_CONFUSION_CLASSES and result.out_of_fold is not None
        ],
    }


def _calibration(results: StudyResults) -> Context:
    rows = calibration_rows(results)
    if not rows:
        return None
    found = [result for result in results.ranking[: study_figures.MOST_METHODS] if result.calibration]
    return {
        "rows": rows,
        "with_map": any(row.mapped for row in rows),
        "uniform": rows[0].given.uniform_log_loss,
        "figures": [
            (result.method, inline_svg(reliability_drawing(result, f"reliability{number}")))
            for number, result in enumerate(found)
        ],
    }


def _operating(results: StudyResults) -> Context:
    tables = operating_tables(results)
    elsewhere = bool(results.settings.get("thresholds_elsewhere"))
    return {"tables": tables, "thresholds_elsewhere": elsewhere} if tables else None


def _subgroups(results: StudyResults) -> Context:
    tables = subgroup_tables(results)
    return {"tables": tables} if tables else None


def _curves(results: StudyResults) -> Context:
    trained = [result for result in results.methods if result.histories]
    figures = [
        (result.method, inline_svg(study_figures.training_drawing(result, f"curve{number}")))
        for number, result in enumerate(trained)
    ]
    endings = [ending for result in trained if (ending := convergence_row(result))]
    return {"figures": figures, "endings": endings, "tolerance": CONVERGED_AT} if figures else None


def _no_context(results: StudyResults) -> Context:
    return {}


for _section in (
    Section("test", "Test set", "sections/test_set.html.j2", _test_set),
    Section("methods", "Ranking", "sections/methods.html.j2", _methods),
    Section("pairs", "Differences", "sections/pairs.html.j2", _single_label(_pairs)),
    Section("classes", "Classes", "sections/classes.html.j2", _single_label(_classes)),
    Section("labels", "Labels", "sections/labels.html.j2", _multi_label(_labels)),
    Section("thresholds", "Thresholds", "sections/thresholds.html.j2", _multi_label(_thresholds)),
    Section("confusions", "Confusion matrices", "sections/confusions.html.j2", _single_label(_confusions)),
    Section("calibration", "Calibration", "sections/calibration.html.j2", _single_label(_calibration)),
    Section("operating", "Operating points", "sections/operating.html.j2", _single_label(_operating)),
    Section("subgroups", "Subgroups", "sections/subgroups.html.j2", _single_label(_subgroups)),
    Section(
        "images",
        "Images",
        "sections/images.html.j2",
        _single_label(lambda results: None if results.is_evaluation else {}),
    ),
    Section("curves", "Training", "sections/curves.html.j2", _curves),
    Section("data", "Data", "sections/data.html.j2", _no_context),
    Section("repeat", "Reproduce, cite", "sections/repeat.html.j2", _no_context),
    Section("reading", "How to read", "sections/reading.html.j2", _single_label(_no_context)),
    Section("reading-labels", "How to read", "sections/reading_labels.html.j2", _multi_label(_no_context)),
):
    register_report_section(_section)

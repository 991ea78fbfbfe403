"""The built-in sections of the page of a study, in the order in which they are shown. What is rarely read is folded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tametail.core.run_files import CONVERGED_AT
from tametail.evaluation.metric_registry import metric_facts
from tametail.predictions.by_group import IN_WORDS
from tametail.report.figures import class_curves, study_figures
from tametail.report.figures.reliability import reliability_drawing
from tametail.report.figures.svg import Drawing, inlined
from tametail.report.sections import Section, register_report_section
from tametail.report.study import matrices, narrative, tables
from tametail.report.study.checklist import YOURS, checklist_table
from tametail.report.study.convergence import convergence_table
from tametail.report.study.results import StudyResults
from tametail.report.table import Table

# In one kind of table; more methods are left out, the best first, so that a page stays below 5 MB.
MOST_CELLS = 6_000
_MOST_BY_CLASS = 8  # methods whose classes are compared with those of the best; metrics.json has all
_MOST_MATRICES = 3  # confusion matrices
_MOST_DIAGRAMS = 2  # reliability diagrams
_FIRST_ERRORS = 6  # images
_MINIMUM_REPEATS = 3  # of the test over runs: fewer hardly show how much a method varies
_RUNS_NOTE = (
    "Secondary: corrected resampled t test (Nadeau and Bengio) over repeats and folds. Would the method also be better with "
    "other training sets and seeds? With few folds the test has little power."
)
_LABEL_NOTE = (
    "Secondary: paired t tests of the average precision of each label, Holm-corrected over the labels of all tables. They count "
    "the positives at which the precision of one method is higher."
)
_CLASS_NOTE = (
    "Secondary: permutation tests of the recall of each class (McNemar’s exact test without groups and repeats), "
    "Holm-corrected over the classes of all tables. A class on which the models differ in fewer than six groups or images "
    "cannot reach significance."
)
_PRIMARY_NOTE = (
    "The primary test: {} on the same images. A difference is significant if "
    "p ≤ 0.05 and its 95 % interval excludes 0. It is about these trained models; a general claim needs several repeats."
)
Context = Mapping[str, Any] | None


def shown_methods(cells: int) -> int:
    """Number of methods to show where each takes so many cells."""
    return max(1, MOST_CELLS // cells)


def inline_svg(drawing: Drawing) -> str:
    """A drawing as SVG that a template does not escape."""
    from markupsafe import Markup

    return Markup(inlined(drawing))


def _ranked(context: Callable[[StudyResults], Context]) -> Callable[[StudyResults], Context]:
    """A section that is left out before any method is finished."""
    return lambda results: context(results) if results.ranking else None


def _single_label(context: Callable[[StudyResults], Context]) -> Callable[[StudyResults], Context]:
    """A section of studies with one class per image."""
    return _ranked(lambda results: None if results.multi_label else context(results))


def _test_set(results: StudyResults) -> Context:
    if results.is_evaluation or not results.counts.test_images:
        return None
    tested = [result for result in results.ranking if result.test is not None]
    shown = tested[: shown_methods(2 * len(results.class_names))]
    unit = "Labels" if results.multi_label else "Classes"
    models = tested[0].expected if tested else 0
    found = []
    for choose, which in (
        (tables.test_ensemble, f"ensemble of {models} fold models"),
        (tables.test_mean, f"mean over {models} fold models"),
    ):
        if tested:
            title = f"{which} on the test set"
            found += [
                tables.method_table(results, tested, choose, title=f"Methods: {title}"),
                tables.class_table(results, shown, choose, title=f"{unit}: {title}"),
            ]
    return {"tables": found, "best_only": _best_only(len(shown), len(tested))}


def _methods(results: StudyResults) -> Context:
    best = results.ranking[0].out_of_fold
    assert best is not None
    shown, pairs = results.shown, results.pairs
    title = "Methods that are shown first"
    table = tables.method_table(results, shown, title=title, in_print=True, compared=True)
    found = []
    everything = tables.method_table(results, results.ranking, title="All methods", compared=True)
    found.append(_folded("All methods, all metrics", [everything]))
    if pairs is not None:
        primary = _PRIMARY_NOTE.format(narrative.primary_test(results))
        found.append(_folded("The best against each other", [tables.pairs_table(results)], primary))
        repeats = 0 if results.is_evaluation else len(results.settings["seeds"])
        if results.across_runs:
            enough = repeats >= _MINIMUM_REPEATS
            too_few = f"This test is shown from {_MINIMUM_REPEATS} repeats on; this study has {repeats}."
            shown_runs = [tables.runs_table(results)] if enough else []
            found.append(_folded("Over repeats and folds", shown_runs, _RUNS_NOTE if enough else too_few))
        others = list(results.by_class)[:_MOST_BY_CLASS]
        by_class = [tables.class_tests_table(results, other) for other in others]
        unit_note = _LABEL_NOTE if results.multi_label else _CLASS_NOTE
        note = f"{unit_note} {_best_only(len(others), len(results.by_class))}"
        title = "Label by label" if results.multi_label else "Class by class"
        found.append(_folded(title, by_class, note))
    of_pairs = matrices.pairs(results)
    return {
        "table": table,
        "folded_tables": found,
        "compared": pairs is not None,
        "test": narrative.primary_test(results),
        "combined": IN_WORDS[results.predict_by] if results.predict_by != "image" else "",
        "count": len(results.ranking) * (len(results.ranking) - 1) // 2,
        "matrix": of_pairs.matrix if of_pairs else (),
        "names": of_pairs.names if of_pairs else (),
        "small": bool(of_pairs and of_pairs.small),
        "signs": matrices.SIGNS,
        "n": best.n,
        "groups": best.groups,
    }


def _best_only(shown: int, of: int) -> str:
    return f"Only the best {shown} of {of} are shown; metrics.json has all." if shown < of else ""


def _folded(title: str, shown: Sequence[Table | None], text: str = "") -> dict[str, Any]:
    return {"title": title, "text": text, "tables": [table for table in shown if table]}


def _classes(results: StudyResults) -> Context:
    classes, ranking = len(results.class_names), results.ranking
    best, *others = ranking
    unit = "Labels" if results.multi_label else "Classes"
    across = ranking[: shown_methods(2 * classes)]
    detailed = others[: max(shown_methods(7 * classes) - 1, 0)]
    metric = metric_facts("average_precision" if results.multi_label else "recall")
    drawn = classes <= study_figures.MOST_NAMED_CLASSES
    return {
        "table": tables.detail_table(results, best, title=best.method),
        "metric": metric.title,
        "figure": inline_svg(study_figures.class_drawing(results, results.shown, metric.name))
        if drawn
        else "",
        "others": [
            _folded(
                f"{unit} by method",
                [tables.class_table(results, across, title=f"{unit} by method")],
                _best_only(len(across), len(ranking)),
            ),
            _folded(
                f"{unit} under the other methods, all metrics",
                [
                    tables.detail_table(results, other, title=f"{unit} under {other.method}")
                    for other in detailed
                ],
                _best_only(len(detailed), len(others)),
            ),
        ],
    }


def _confusions(results: StudyResults) -> Context:
    classes = len(results.class_names)
    shown = results.shown[:_MOST_MATRICES] if classes <= matrices.MOST_CONFUSION_CLASSES else ()
    return {
        "confusions": [
            matrices.confusion(result.method, result.out_of_fold, results.in_order)
            for result in shown
            if result.out_of_fold is not None
        ]
    }


def _calibration(results: StudyResults) -> Context:
    return _label_calibration(results) if results.multi_label else _class_calibration(results)


def _label_calibration(results: StudyResults) -> Context:
    table = tables.label_calibration_table(results, results.shown)
    if table is None:
        return None
    more = len(results.ranking) > len(results.shown)
    return {
        "table": table,
        "everything": tables.label_calibration_table(results, results.ranking) if more else None,
        "labels": tables.label_quality_table(results, results.ranking[0]),
    }


def _class_calibration(results: StudyResults) -> Context:
    shown = [result for result in results.shown if result.calibration]
    table = tables.calibration_table(results, shown)
    if table is None or not shown:
        return None
    first = shown[0].calibration
    assert first is not None
    more = len(results.ranking) > len(shown)
    return {
        "table": table,
        "everything": tables.calibration_table(results, results.ranking) if more else None,
        "uniform": first.uniform_log_loss,
        "mapped": first.map is not None,
        "sets": tables.sets_table(results, shown[0]),
        "sets_note": tables.sets_in_words(shown[0]),
        "labels": None,
        "figures": [
            (result.method, inline_svg(reliability_drawing(result, f"reliability{number}")))
            for number, result in enumerate(shown[:_MOST_DIAGRAMS])
        ],
    }


def _class_curves(results: StudyResults) -> Context:
    names = class_curves.drawn_classes(results)
    if not names:
        return None
    figures = [
        ("ROC", inline_svg(class_curves.roc_drawing(results))),
        ("Precision and recall", inline_svg(class_curves.precision_recall_drawing(results))),
    ]
    decision = results.ranking[0].decision
    if decision is not None:
        drawn = inline_svg(class_curves.decision_drawing(results.shown[:_MOST_MATRICES]))
        figures.append((f"Net benefit: {decision.class_name}", drawn))
    few = len(names) if len(names) < len(results.class_names) else 0
    return {"figures": figures, "few": few, "decision": decision}


def _operating(results: StudyResults) -> Context:
    found = tables.operating_tables(results, results.ranking)
    elsewhere = bool(results.settings.get("thresholds_elsewhere"))
    return {"tables": found, "thresholds_elsewhere": elsewhere} if found else None


def _subgroups(results: StudyResults) -> Context:
    best, *others = results.ranking
    found = tables.subgroup_tables([best])
    contrasts = [(tables.contrast_table(one), narrative.worst_group_in_words(one)) for one in best.contrasts]
    others_found = tables.subgroup_tables(others)
    return {"tables": found, "contrasts": contrasts, "others": others_found} if found else None


def _images(results: StudyResults) -> Context:
    return None if results.is_evaluation else {"first_errors": _FIRST_ERRORS}


def _checklist(results: StudyResults) -> Context:
    if results.is_evaluation:
        return None
    table = checklist_table(results)
    return {"table": table, "filled": sum(row.cells[-1].text != YOURS for row in table.rows)}


def _curves(results: StudyResults) -> Context:
    trained = [  # of heads at their minimum the table says all
        one for one in results.shown or results.methods if one.histories and not one.endings
    ]
    figures = [
        (result.method, inline_svg(study_figures.training_drawing(result, f"curve{number}")))
        for number, result in enumerate(trained[:_MOST_MATRICES])
    ]
    table = convergence_table(results.methods)
    return {"figures": figures, "table": table, "tolerance": CONVERGED_AT} if figures or table else None


def _no_context(results: StudyResults) -> Context:
    return {}


for _section in (
    Section("methods", "Methods", "sections/methods.html.j2", _ranked(_methods)),
    Section("classes", "Classes", "sections/classes.html.j2", _ranked(_classes)),
    Section("confusions", "Confusion", "sections/confusions.html.j2", _single_label(_confusions)),
    Section("calibration", "Calibration", "sections/calibration.html.j2", _ranked(_calibration)),
    Section("class-curves", "Curves", "sections/class_curves.html.j2", _ranked(_class_curves)),
    Section("operating", "Operating points", "sections/operating.html.j2", _ranked(_operating)),
    Section("subgroups", "Subgroups", "sections/subgroups.html.j2", _ranked(_subgroups)),
    Section("images", "Errors", "sections/images.html.j2", _ranked(_images)),
    Section("test", "Test set", "sections/test_set.html.j2", _test_set),
    Section("data", "Data", "sections/data.html.j2", _no_context),
    Section("checklist", "Checklist", "sections/checklist.html.j2", _checklist),
    Section("curves", "Training", "sections/curves.html.j2", _curves),
    Section("repeat", "Reproduce", "sections/repeat.html.j2", _no_context),
    Section("reading", "How to read", "sections/reading.html.j2", _single_label(_no_context)),
    Section(
        "reading-labels",
        "How to read",
        "sections/reading_labels.html.j2",
        lambda results: {} if results.multi_label else None,
    ),
):
    register_report_section(_section)

"""report.html: one self-contained page that works offline, in light and dark, on a phone and on paper."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tametail.report import formatting
from tametail.report.figures import study_figures
from tametail.report.figures.reliability import calibration_rows, reliability
from tametail.report.render import render
from tametail.report.study import matrices, narrative, provenance
from tametail.report.study.best_versus_rest import best_versus_rest
from tametail.report.study.class_tables import class_table, details, method_table
from tametail.report.study.evaluation_page import evaluation_context, operating_tables, subgroup_tables
from tametail.report.study.gallery import Gallery
from tametail.report.study.results import StudyResults
from tametail.report.study.tuned_methods import tuned_in_words

# In one kind of table; beyond it only the best losses are shown, so that a page stays below 5 MB.
MOST_CELLS = 6_000


@dataclass(frozen=True)
class Tile:
    """A number of the first screen; ``kind`` is how its border is drawn."""

    term: str
    value: str
    more: str
    kind: str = ""


def results_html(results: StudyResults, pictures: Gallery | str = "No images were asked for.") -> str:
    """The report as HTML. It shows no group, and of the images neither names nor folders.

    Args:
        results: what is shown.
        pictures: images of the best loss, or, where there are none, why.
    """
    from markupsafe import Markup

    shown = pictures if isinstance(pictures, Gallery) else None
    context = {
        "pictures": shown,
        "no_pictures": "" if shown else pictures,
        "evaluated": results.evaluated,
        "words": narrative.narrative_of(results),
        "figures": _figures(results, Markup),
        **(_evaluation(results) if results.evaluated else _study(results)),
        **_evidence(results),
        **(_labels(results) if results.multi_label else _classes(results)),
    }
    template = "labels.html.j2" if results.multi_label else "report.html.j2"
    return render(template, contents=_contents(context, results), **context)


def _contents(context: dict[str, Any], results: StudyResults) -> list[tuple[str, str]]:
    """Ids and titles of the sections that the page has."""
    ranked, single = bool(results.ranking), not results.multi_label
    there = [
        ("test", "Test set", bool(context["tested"])),
        ("methods", formatting.sentence_case(narrative.narrative_of(results).methods), ranked),
        ("pairs", "Differences", ranked and context.get("pairs") is not None),
        ("classes", "Classes" if single else "Labels", ranked),
        ("thresholds", "Thresholds", ranked and not single),
        ("confusions", "Confusions", ranked and single),
        ("calibration", "Calibration", bool(context.get("calibrations"))),
        ("operating", "Operating points", bool(context.get("operating"))),
        ("subgroups", "Subgroups", bool(context.get("subgroups"))),
        ("images", "Images", ranked and single and not results.evaluated),
        ("curves", "Training", bool(context["figures"]["curves"])),
        ("data", "Data", True),
        ("repeat", "Repeat, cite", True),
        ("reading", "How to read", ranked),
    ]
    return [(section, title) for section, title, is_there in there if is_there]


def _study(results: StudyResults) -> dict[str, Any]:
    """What the study is, and the state of its test set."""
    settings = results.settings
    return {
        "name": settings["name"],
        "unit": "label" if results.multi_label else "class",
        "synthetic": narrative.SYNTHETIC if settings["synthetic"] else "",
        "tuned": tuned_in_words(settings),
        "classes": len(results.class_names),
        "imbalance_ratio": provenance.imbalance_ratio(results),
        "tiles": _tiles(results),
        "has_test_set": results.counts.test_images > 0,
        "test_set": [*narrative.state_of_test_set(results), *narrative.best_on_test(results)],
        "openings": [
            f"{str(entry.get('time', ''))[:10]}. {narrative.opening_in_words(entry)}"
            for entry in results.openings
        ],
        "openings_in_words": formatting.times(len(results.openings)),
        "folds": narrative.folds_in_words(settings),
        "held_out": narrative.held_out(results),
        "seeds": len(settings["seeds"]),
        "grouped": provenance.grouped(results),
        "data_facts": provenance.data_rows(results),
        "findings": settings.get("findings", []),
        "unreadable": provenance.unreadable(settings),
        "unreadable_count": len(settings["table"]["unreadable"]),
        "recipe_facts": provenance.recipe_rows(settings),
        "environment_facts": provenance.environment_rows(results),
        "command": provenance.command(settings),
        "citation": provenance.citation(results),
        "methods": provenance.methods(results),
    }


def _evaluation(results: StudyResults) -> dict[str, Any]:
    """What is evaluated, in the place of `_study`."""
    context = evaluation_context(results)
    return context | {"tiles": [Tile(*fact) for fact in context.pop("facts_in_short")]}


def _tiles(results: StudyResults) -> list[Tile]:
    settings, counts, seeds = results.settings, results.counts, len(results.settings["seeds"])
    images = counts.train_images + counts.test_images
    groups = (
        f"{settings['table']['groups']:,} groups" if provenance.grouped(results) else "every one by itself"
    )
    folds = narrative.count_of_folds(settings)
    unit = ("label", "labels") if results.multi_label else ("class", "classes")
    part = ("none", "") if not counts.test_images else ("sealed", "sealed")
    if results.opened:
        part = (f"opened {formatting.times(len(results.openings))}", "opened")
    fewest = min(counts.train.values())
    return [
        Tile("Images", f"{images:,}", groups),
        Tile(
            unit[1].capitalize(),
            f"{len(results.class_names)}",
            f"rarest: {fewest:,} training {'image' if fewest == 1 else 'images'}",
        ),
        Tile(
            "Cross-validation",
            f"{folds} {'fold' if folds == '1' else 'folds'}",
            f"{seeds} {'seed' if seeds == 1 else 'seeds'}, recipe {settings['recipe'].get('name', '')}",
        ),
        Tile(
            "Test set", part[0], formatting.images_and_groups(counts.test_images, counts.test_groups), part[1]
        ),
    ]


def _evidence(results: StudyResults) -> dict[str, Any]:
    """The answer, and which losses there are to show."""
    ranking = results.ranking
    best = ranking[0].log_posterior if ranking else None
    return {
        "answer": narrative.answer(results),
        "not_ranked": narrative.not_ranked(results),
        "ranking": ranking,
        "evidence_size": formatting.images_and_groups(best.n, best.groups) if best else "",
        "not_drawn": len(ranking) > study_figures.MOST_LOSSES,
        "most_losses": study_figures.MOST_LOSSES,
        "lower_figure": study_figures.lower_of_two(len(ranking), len(results.class_names)),
        "tested": [result for result in ranking if result.on_test is not None],
    }


def _classes(results: StudyResults) -> dict[str, Any]:
    classes, ranking = len(results.class_names), results.ranking
    shown = ranking[: _how_many(2 * classes)]
    tested = [result for result in ranking if result.test is not None][: len(shown)]
    table = class_table(
        results, shown, lambda result: result.out_of_fold, show_n=not narrative.all_held_out(results)
    )
    fit = classes <= matrices.MOST_CLASSES
    return {
        "shown": {
            "classes": len(shown),
            "details": _how_many(6 * classes),
            "confusions": 2 * _how_many(classes**2),
        },
        "loss_table": method_table(results) if ranking else None,
        "pairs": matrices.pairs(results),
        "beside": best_versus_rest(results),
        "out_of_fold_classes": table,
        "test_classes": class_table(results, tested, lambda result: result.test, show_n=True),
        "ensemble_classes": class_table(results, tested, lambda result: result.test_ensemble, show_n=True),
        "class_groups": len(table.class_groups) > 1,
        "details": details(ranking[: _how_many(6 * classes)], table),
        "confusions": [
            matrices.confusion(result.method, result.out_of_fold, results.class_order)
            for result in ranking[: 2 * _how_many(classes**2)]  # most cells are 0, which is short
            if fit and result.out_of_fold is not None
        ],
        "calibrations": calibration_rows(results),
        "tempered": any(result.calibration and result.calibration.after for result in ranking),
        "operating": operating_tables(results),
        "thresholds_elsewhere": bool(results.settings.get("thresholds_elsewhere")),
        "subgroups": subgroup_tables(results),
    }


def _how_many(cells: int) -> int:
    """Losses that are shown where each has so many cells."""
    return max(1, MOST_CELLS // cells)


def _labels(results: StudyResults) -> dict[str, Any]:
    """What labels.html.j2 shows: the labels in order, each with its name and training images."""
    names = results.class_names
    return {
        "shown": {"classes": _how_many(2 * len(names)), "details": _how_many(8 * len(names))},
        "order": [(index, names[index], results.counts.train[names[index]]) for index in results.class_order],
        "train_images": results.counts.train_images,
    }


def _figures(results: StudyResults, markup: Callable[[str], str]) -> dict[str, Any]:
    ranking = results.ranking
    by_class = bool(ranking) and len(results.class_names) <= study_figures.MOST_CLASSES
    trained = [result for result in results.methods if result.histories]
    by_method = study_figures.precision_by_label if results.multi_label else study_figures.recall_by_class
    calibrated = [result for result in ranking[: study_figures.MOST_LOSSES] if result.calibration is not None]
    return {
        "tail": markup(study_figures.tail(results)),
        "ranking": markup(study_figures.ranking(results)) if ranking else "",
        "recall": markup(by_method(results)) if by_class else "",
        "precision": markup(study_figures.precision_by_class(results))
        if by_class and not results.multi_label
        else "",
        "reliability": [
            (result.method, markup(reliability(result, number))) for number, result in enumerate(calibrated)
        ],
        "curves": [
            (result.method, markup(study_figures.training_curve(result, number)))
            for number, result in enumerate(trained)
        ],
    }

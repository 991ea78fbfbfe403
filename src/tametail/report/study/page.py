"""report.html: one self-contained page that works offline, in light and dark, on a phone and on paper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tametail.core.errors import TametailError
from tametail.report.figures import study_figures
from tametail.report.formatting import count_of, images_and_groups
from tametail.report.render import render, render_part
from tametail.report.sections import REPORT_SECTIONS, ReportSection, unavailable
from tametail.report.study import narrative, provenance
from tametail.report.study.convergence import not_converged
from tametail.report.study.gallery import Gallery
from tametail.report.study.results import StudyResults
from tametail.report.study.sections import inline_svg
from tametail.report.study.tuned_methods import tuned_in_words


@dataclass(frozen=True)
class Tile:
    """A fact at the top of the page; ``kind`` is the CSS class of its border."""

    term: str
    value: str
    more: str
    kind: str = ""


def results_html(results: StudyResults, pictures: Gallery | str = "No images were requested.") -> str:
    """The report as HTML. It shows no group, and neither names nor folders of images.

    Args:
        results: what is shown.
        pictures: images of the best method, or the reason why there are none.
    """
    shown = pictures if isinstance(pictures, Gallery) else None
    context = {
        "pictures": shown,
        "no_pictures": "" if shown else pictures,
        "is_evaluation": results.is_evaluation,
        "terms": narrative.comparison_terms(results),
        "unit": "label" if results.multi_label else "class",
        "classes": len(results.class_names),
        "imbalance_ratio": provenance.imbalance_ratio(results),
        "synthetic": narrative.SYNTHETIC if results.settings["synthetic"] else "",
        "class_groups": any(
            result.out_of_fold and result.out_of_fold.class_groups for result in results.ranking
        ),
        "headline": results.headline,
        "one_seed": narrative.repeats_in_words(results),
        "next_commands": narrative.next_commands(results),
        "unavailable": unavailable(),
        "data_warnings": narrative.data_warnings(results.settings),
        "not_converged": [
            line
            for each in results.methods
            for line in not_converged(each.method, each.endings, each.still_falling)
        ],
        "answer": narrative.first_screen(results),
        "grades": narrative.grades_in_words(results),
        "not_ranked": narrative.not_ranked(results),
        "ranking": results.ranking,
        "tail_figure": inline_svg(study_figures.tail_drawing(results)),
        "ranking_figure": inline_svg(study_figures.ranking_drawing(results)) if results.ranking else "",
        **(_evaluation(results) if results.is_evaluation else _study(results)),
    }
    sections = []
    for section in REPORT_SECTIONS:
        own = section.context(results)
        if own is not None:
            sections.append((section.id, section.title, _section_html(section, {**context, **own})))
    return render("report.html.j2", sections=sections, **context)


def _section_html(section: ReportSection, context: Mapping[str, Any]) -> str:
    try:
        return render_part(section.template, **{"section": section, **context})
    except (OSError, ModuleNotFoundError) as error:
        raise TametailError(
            f"the template {section.template} of the report section {section.id!r} cannot be read ({error}); "
            "check that the package which provides it contains that file"
        ) from error


def _study(results: StudyResults) -> dict[str, Any]:
    settings, counts = results.settings, results.counts
    grouped = provenance.grouped(results)
    fewest, repeats = min(counts.train.values()), len(settings["seeds"])
    folds = narrative.count_of_folds(settings)
    status = narrative.status_of_test_set(results)
    return {
        "name": settings["name"],
        "tuned": tuned_in_words(settings),
        "tiles": [
            Tile(
                "Images",
                f"{counts.train_images + counts.test_images:,}",
                f"{settings['table']['groups']:,} groups" if grouped else "not grouped",
            ),
            Tile(
                "Labels" if results.multi_label else "Classes",
                f"{len(results.class_names)}",
                f"rarest: {count_of(fewest, 'training image')}",
            ),
            Tile(
                "Cross-validation",
                f"{folds} {'fold' if folds == '1' else 'folds'}",
                f"{count_of(repeats, 'repeat')}, recipe {settings['recipe'].get('name', '')}",
            ),
            Tile(
                "Test set",
                status,
                images_and_groups(counts.test_images, counts.test_groups),
                {"none": "", "held out": "held-out"}.get(status, "attention"),
            ),
        ],
        "test_status": status,
        "test_set": [*narrative.state_of_test_set(results), *narrative.best_on_test(results)],
        "test_set_evaluations": [
            f"{str(entry.get('time', 'No date'))[:10]}. {narrative.describe_evaluation(entry)}"
            for entry in results.test_set_evaluations
        ],
        "folds": narrative.folds_in_words(settings),
        "repeats": repeats,
        "grouped": grouped,
        "flow": provenance.flow(results),
        "data_rows": provenance.data_rows(results),
        "findings": settings.get("findings", []),
        "unreadable": provenance.unreadable(settings),
        "unreadable_count": len(settings["table"]["unreadable"]),
        "recipe_rows": provenance.recipe_rows(settings),
        "environment_rows": provenance.environment_rows(results),
        "command": provenance.study_command(settings),
        "citation": provenance.citation(results),
        "protocol": provenance.methods(results),
    }


def _evaluation(results: StudyResults) -> dict[str, Any]:
    """The same for an evaluation, which has no recipe, folds or test set."""
    settings, counts = results.settings, results.counts
    images = counts.images
    size = images_and_groups(counts.train_images, counts.train_groups)
    absent = [name for name, count in images.items() if not count]
    grouped = f"{counts.train_groups:,} groups" if settings["grouped"] else "not grouped"
    version = settings["tametail"]
    protocol = [
        f"{count_of(len(results.methods), 'model')} {'was' if len(results.methods) == 1 else 'were'} evaluated on {size}; "
        "95 % confidence intervals describe the sampling of images.",
    ]
    if results.pairs is not None:
        protocol.append(
            f"Primary test: models were compared in pairs on the same images by {narrative.primary_test(results)}, with Holm’s "
            "correction over all pairs."
        )
    return {
        "name": settings["name"],
        "tuned": [],
        "tiles": [
            Tile("Images", f"{counts.train_images:,}", grouped),
            Tile(
                "Classes",
                f"{len(results.class_names)}",
                f"rarest: {count_of(min(images.values()), 'image')}",
            ),
            Tile("Models", f"{len(results.methods)}", "existing predictions"),
        ],
        "test_status": "none",
        "test_set": [],
        "test_set_evaluations": [],
        "folds": "",
        "repeats": max(result.finished for result in results.methods),
        "grouped": counts.train_groups != counts.train_images,
        "flow": [],
        "data_rows": [
            ("Images", size),
            *(tuple(fact) for fact in settings["facts"]),
            *([("Absent classes, excluded from means", ", ".join(absent))] if absent else []),
        ],
        "findings": [],
        "unreadable": [],
        "unreadable_count": 0,
        "recipe_rows": [],
        "environment_rows": [("tametail", version)],
        "command": settings["command"],
        "citation": f"tametail {version} (see its CITATION.cff); evaluation “{settings['name']}”.",
        "protocol": " ".join([*protocol, f"Computed with tametail {version}."]),
    }

"""report.html: one file that works offline, in light and in dark, on paper and on a phone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tametail.evaluation import Evaluation
from tametail.report import figures, wording
from tametail.report.study_results import LossResults, StudyResults


@dataclass(frozen=True)
class ClassTable:
    """A table in the paper's form: classes down, losses across, each with recall and F1.

    Attributes:
        title: heading of the table.
        note: one line below it.
        evaluated: losses with the evaluation that is shown.
    """

    title: str
    note: str
    evaluated: tuple[tuple[str, Evaluation], ...]


def results_html(results: StudyResults) -> str:
    """The whole report as one HTML document; all names from outside are escaped."""
    from jinja2 import Environment, PackageLoader
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("tametail.report", ""), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["svg"] = Markup  # figures are built here, with their text escaped
    return environment.get_template("template.html.j2").render(
        results=results,
        settings=results.settings,
        wording=wording,
        figures=_figures(results),
        matrices=_matrices(results),
        tables=_class_tables(results),
        order=_class_order(results),
        facts=_facts(results),
        recipe=_flat(results.settings["recipe"]),
        best=_best_by_class(results),
    )


def _figures(results: StudyResults) -> dict[str, str]:
    drawn = {"tail": figures.tail(results)}
    if results.ranking:
        drawn |= {"ranking": figures.ranking(results), "recall": figures.recall_by_class(results)}
    if any(result.histories for result in results.losses):
        drawn["curves"] = figures.training_curves(results)
    return drawn


def _matrices(results: StudyResults) -> list[tuple[str, str]]:
    if len(results.class_names) > figures.LARGEST_MATRIX:
        return []
    return [
        (result.loss, figures.confusion(result, result.out_of_fold, number))
        for number, result in enumerate(results.ranking)
        if result.out_of_fold is not None
    ]


def _class_order(results: StudyResults) -> list[int]:
    """Class indices, the most frequent in training first: the tail is at the bottom."""
    names = results.class_names
    return sorted(range(len(names)), key=lambda index: (-results.counts.train[names[index]], names[index]))


def _class_tables(results: StudyResults) -> list[ClassTable]:
    def table(title: str, note: str, choose: Callable[[LossResults], Evaluation | None]) -> ClassTable:
        chosen = [
            (result.loss, evaluation)
            for result in results.ranking
            if (evaluation := choose(result)) is not None
        ]
        return ClassTable(title, note, tuple(chosen))

    tables = [
        table(
            "Out of fold",
            "Each image is predicted by a model that did not train on it, nor on any image of its group.",
            lambda result: result.out_of_fold,
        ),
        table("Test part, mean over fold models", "The headline once opened.", lambda result: result.test),
        table(
            "Test part, ensemble",
            "The mean of the fold models' probabilities.",
            lambda result: result.test_ensemble,
        ),
    ]
    return [entry for entry in tables if entry.evaluated]


def _best_by_class(results: StudyResults) -> dict[int, float]:
    """Per class index the highest recall out of fold, to set in bold."""
    best: dict[int, float] = {}
    for result in results.ranking:
        for index, of_class in enumerate(result.out_of_fold.classes if result.out_of_fold else ()):
            best[index] = max(best.get(index, -1.0), of_class.recall.value)
    return best


def _facts(results: StudyResults) -> list[tuple[str, str]]:
    """What the study is made of, as names and values."""
    settings, counts = results.settings, results.counts
    images = sorted(counts.images.values())
    split = settings["splits"]
    given = "as given by the split column" if split["given"] else "drawn, stratified, no group divided"
    train, test = sum(counts.train.values()), sum(counts.test.values())
    facts = [
        ("Images", f"{train + test:,} in {len(results.class_names)} classes"),
        ("Imbalance ratio", f"{images[-1] / images[0]:.1f}" if images[0] else "infinite (a class is absent)"),
        ("Training part", wording.images_and_groups(train, counts.train_groups)),
        ("Test part", f"{wording.images_and_groups(test, counts.test_groups)}, {given}"),
        (
            "Folds and seeds",
            f"{split['folds']} folds, {len(settings['seeds'])} seed(s), split seed {split['seed']}",
        ),
        ("Backbone", f"{settings['backbone']} at {settings['image_size']} px, weights {settings['weights']}"),
        ("Table fingerprint", str(settings["table"]["fingerprint"])[:16]),
        ("Splits fingerprint", str(split["fingerprint"])[:16]),
        ("Training time", f"{results.seconds:,.0f} s over all runs"),
    ]
    return facts + [
        (f"Environment, {name}", str(value)) for each in results.environments for name, value in each.items()
    ]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in settings.items():
        rows += (
            _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(prefix + name, str(value))]
        )
    return rows

"""report.html: one self-contained page that works offline, in light and dark, on a phone and on paper."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import Any

from tametail.evaluation import Evaluation
from tametail.report import figures, wording
from tametail.report.study_results import LossResults, StudyResults
from tametail.study_file import folds_to_run

Facts = list[tuple[str, str]]

_CITATION = (
    "Cite tametail {version} by its CITATION.cff. ALPA: Kashyap et al., Taming the Tail: Leveraging Asymmetric Loss "
    "and Padé Approximation to Overcome Medical Image Long-Tailed Class Imbalance, BMVC 2024."
)


def results_html(results: StudyResults) -> str:
    """The report as HTML. It shows no group and, of the images, only the names of unreadable ones."""
    from markupsafe import Markup

    template = "multi_label.html.j2" if results.multi_label else "template.html.j2"
    return render(template, figures=_figures(results, Markup), **_context(results))


def render(template: str, **context: Any) -> str:
    """One of this room's templates as a page with the report's style; text is escaped."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup, escape

    room = resources.files("tametail.report")
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        loader=FunctionLoader(lambda name: room.joinpath(name).read_text(encoding="utf-8")),
    )
    environment.globals.update(
        percent=wording.percent,
        threshold=wording.threshold,
        score=wording.score,
        percent_interval=wording.percent_interval,
        score_interval=wording.score_interval,
    )
    environment.filters["breakable"] = lambda text: escape(text).replace(",", Markup(",<wbr>"))
    page = environment.get_template(template)
    style = Markup(room.joinpath("style.css").read_text(encoding="utf-8"))
    return page.render(style=style, **context) + "\n"


def _context(results: StudyResults) -> dict[str, Any]:
    ranking = results.ranking
    tested = [result for result in ranking if result.on_test is not None]
    settings = results.settings
    return {
        "name": settings["name"],
        "synthetic": wording.SYNTHETIC if settings["synthetic"] else "",
        "answer": wording.answer(results),
        "classes": len(results.class_names),
        "imbalance_ratio": _imbalance_ratio(results),
        "test_part": wording.state_of_test_part(results),
        "openings": [
            f"{str(entry.get('time', ''))[:10]}. {wording.opening_in_words(entry)}"
            for entry in results.openings
        ],
        "openings_in_words": wording.openings_in_words(len(results.openings)),
        "not_ranked": wording.not_ranked(results),
        "ranking": ranking,
        "numbered": len(results.class_names) <= figures.MOST_NUMBERED,
        "counted": len(results.class_names) <= figures.MOST_COUNTED,
        "not_drawn": len(ranking) > figures.MOST_LOSSES,
        "tested": tested,
        "folds": wording.folds_in_words(settings),
        "seeds": len(settings["seeds"]),
        "grouped": _groups(results) != _images(results),
        **(_label_tables(results) if results.multi_label else _class_tables(results, ranking, tested)),
        "data_facts": _data_facts(results),
        "findings": settings.get("findings", []),
        "unreadable": settings["table"]["unreadable"],
        "recipe_facts": _recipe_facts(settings),
        "environment_facts": _environment_facts(results),
        "command": _command(settings),
        "citation": _CITATION.format(version=settings["tametail"]),
    }


def _figures(results: StudyResults, markup: Callable[[str], str]) -> dict[str, Any]:
    ranking = results.ranking
    by_class = ranking if len(results.class_names) <= figures.MOST_CLASSES else ()
    trained = [result for result in results.losses if result.histories]
    by_loss = figures.precision_by_label if results.multi_label else figures.recall_by_class
    return {
        "tail": markup(figures.tail(results)),
        "ranking": markup(figures.ranking(results)) if ranking else "",
        "recall": markup(by_loss(results)) if by_class else "",
        "confusions": [
            (
                result.loss,
                markup(figures.confusion(result.loss, result.out_of_fold, results.class_order, number)),
            )
            for number, result in enumerate(by_class)
            if result.out_of_fold is not None
        ],
        "curves": [
            (result.loss, markup(figures.training_curve(result, number)))
            for number, result in enumerate(trained)
        ],
    }


def _class_tables(
    results: StudyResults, ranking: Sequence[LossResults], tested: Sequence[LossResults]
) -> dict[str, Any]:
    return {
        "out_of_fold_classes": _class_table(
            results, ranking, lambda result: result.out_of_fold, show_n=False
        ),
        "test_classes": _class_table(results, tested, lambda result: result.test, show_n=True),
        "ensemble_classes": _class_table(results, tested, lambda result: result.test_ensemble, show_n=True),
    }


def _label_tables(results: StudyResults) -> dict[str, Any]:
    """What multi_label.html.j2 shows: the labels in order, each with its name and training images."""
    names = results.class_names
    return {
        "order": [(index, names[index], results.counts.train[names[index]]) for index in results.class_order],
        "train_images": results.counts.train_images,
    }


def _class_table(
    results: StudyResults,
    losses: Sequence[LossResults],
    choose: Callable[[LossResults], Evaluation | None],
    *,
    show_n: bool,
) -> dict[str, Any]:
    """The paper's table: classes × losses, each with recall and F1."""
    evaluations = [evaluation for result in losses if (evaluation := choose(result)) is not None]
    rows = []
    for index in results.class_order if evaluations else ():
        name = results.class_names[index]
        of_class = [evaluation.classes[index] for evaluation in evaluations]
        recalls = _highest([one.recall.value for one in of_class])
        f1s = _highest([one.f1.value for one in of_class])
        cells = [
            {"recall": one.recall, "f1": one.f1, "best_recall": recall, "best_f1": f1}
            for one, recall, f1 in zip(of_class, recalls, f1s, strict=True)
        ]
        counted = {"train": results.counts.train[name], "n": of_class[0].n, "groups": of_class[0].groups}
        rows.append({"name": name, "cells": cells, **counted})
    return {
        "losses": [result.loss for result in losses],
        "evaluations": evaluations,
        "rows": rows,
        "show_n": show_n,
        "train": results.counts.train_images,
        "n": evaluations[0].n if evaluations else 0,
        "groups": evaluations[0].groups if evaluations else 0,
    }


def _highest(values: Sequence[float]) -> list[bool]:
    """Which values are the highest; none if all are equal, as where there is but one."""
    distinct = {value for value in values if value == value}
    return [len(distinct) > 1 and value == max(distinct) for value in values]


def _imbalance_ratio(results: StudyResults) -> str:
    images = results.counts.images.values()
    return f"{max(images) / min(images):.1f}" if min(images) else "infinite"


def _images(results: StudyResults) -> int:
    return results.counts.train_images + results.counts.test_images


def _groups(results: StudyResults) -> int:
    return int(results.settings["table"]["groups"])


def _data_facts(results: StudyResults) -> Facts:
    counts, splits = results.counts, results.settings["splits"]
    images = _images(results)
    ungrouped = _groups(results) == images
    return [
        ("Images", f"{images:,} readable, {len(results.settings['table']['unreadable']):,} unreadable"),
        (
            "Groups",
            "none: every image by itself"
            if ungrouped
            else f"{_groups(results):,}, never split between parts",
        ),
        (
            "Labels, several per image or none" if results.multi_label else "Classes",
            f"{len(results.class_names)}, imbalance ratio {_imbalance_ratio(results)}",
        ),
        ("Training part", wording.images_and_groups(counts.train_images, counts.train_groups)),
        ("Test part", wording.images_and_groups(counts.test_images, counts.test_groups)),
        ("Hold-out", "given with the data" if splits["given"] else f"drawn with seed {splits['seed']}"),
        (
            "Folds",
            f"{wording.folds_in_words(results.settings)}, stratified by {'label' if results.multi_label else 'class'}"
            + ("" if ungrouped else ", groups kept together"),
        ),
        ("Seeds", ", ".join(str(seed) for seed in results.settings["seeds"])),
        ("Fingerprints", f"table {_digest(results.settings['table'])}, splits {_digest(splits)}"),
    ]


def _digest(part: Mapping[str, Any]) -> str:
    return str(part["fingerprint"])[:12]


def _recipe_facts(settings: Mapping[str, Any]) -> Facts:
    recipe = dict(settings["recipe"])
    used = {"name": recipe.pop("name", ""), "backbone": settings["backbone"], "weights": _weights(settings)}
    used["image_size"] = settings["image_size"]
    recipe = used | {key: value for key, value in recipe.items() if key not in used}
    return [
        (key.replace("_", " "), _in_words(value)) for key, value in recipe.items() if value not in (None, "")
    ]


def _in_words(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key.replace('_', ' ')} {_in_words(inner)}" for key, inner in value.items())
    if isinstance(value, (list, tuple)):
        return " to ".join(_in_words(inner) for inner in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def _weights(settings: Mapping[str, Any]) -> str:
    """``auto``, ``offline`` or ``none``; of a weight file the name alone, as its folder is a private matter."""
    return str(settings["weights"]).replace("\\", "/").rsplit("/", 1)[-1]


def _environment_facts(results: StudyResults) -> Facts:
    facts = [("tametail", str(results.settings["tametail"]))]
    for environment in results.environments:
        facts.append(("Runs on" if len(facts) == 1 else "and on", _in_words(environment)))
    finished = sum(result.finished for result in results.losses)
    expected = sum(result.expected for result in results.losses)
    return [
        *facts,
        ("Runs", f"{finished} of {expected} finished"),
        ("Training time", f"{_duration(results.seconds)}, all runs added up"),
    ]


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _command(settings: Mapping[str, Any]) -> str:
    recipe = settings["recipe"]
    words: list[object] = ["tametail", "compare", "demo" if settings["synthetic"] else "DATA"]
    words += ["--multi-label"] if settings.get("multi_label") else []
    words += ["--losses", ",".join(settings["losses"]), "--recipe", str(recipe["name"])]
    words += ["--backbone", settings["backbone"], "--weights", _weights(settings)]
    words += ["--image-size", settings["image_size"], "--epochs", recipe["epochs"]]
    words += ["--batch-size", recipe["batch_size"], "--lr", recipe["optimizer"]["lr"]]
    words += ["--folds", settings["splits"]["folds"], "--seeds", len(settings["seeds"])]
    words += ["--seed", settings["splits"]["seed"]]
    folds = folds_to_run(settings)
    words += ["--only-folds", ",".join(map(str, folds))] if len(folds) < settings["splits"]["folds"] else []
    words += [word for text in settings.get("assignments", ()) for word in ("--set", text)]
    words += ["-o", "STUDY"]
    return " ".join(shlex.quote(str(word)) for word in words)

"""What a report says of data, recipe, environment and protocol: how to repeat a study, and how to cite it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from tametail.core.option import command_line
from tametail.core.options import CompareOptions, MethodsOptions
from tametail.report import formatting
from tametail.report.study import narrative
from tametail.report.study.results import StudyResults
from tametail.storage.study_file import folds_to_run

Rows = list[tuple[str, str]]
TRAINING_TIME = "Training time"


def imbalance_ratio(results: StudyResults) -> str:
    """Images of the largest class over those of the smallest, in words."""
    images = results.counts.images.values()
    return f"{max(images) / min(images):.1f}" if min(images) else "infinite"


def _images(results: StudyResults) -> int:
    return results.counts.train_images + results.counts.test_images


def grouped(results: StudyResults) -> bool:
    """Whether some images belong together, as those of one patient."""
    return _groups(results) != _images(results)


def _groups(results: StudyResults) -> int:
    return int(results.settings["table"]["groups"])


def data_rows(results: StudyResults) -> Rows:
    """Images, groups, parts, folds and fingerprints."""
    counts, splits = results.counts, results.settings["splits"]
    images = _images(results)
    ungrouped = not grouped(results)
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
            f"{len(results.class_names)}, imbalance ratio {imbalance_ratio(results)}",
        ),
        ("Training set", formatting.images_and_groups(counts.train_images, counts.train_groups)),
        ("Test set", formatting.images_and_groups(counts.test_images, counts.test_groups)),
        ("Hold-out", "given with the data" if splits["given"] else f"drawn with seed {splits['seed']}"),
        (
            "Folds",
            f"{narrative.folds_in_words(results.settings)}, stratified by {'label' if results.multi_label else 'class'}"
            + ("" if ungrouped else ", groups kept together"),
        ),
        ("Seeds", ", ".join(str(seed) for seed in results.settings["seeds"])),
        ("Fingerprints", f"table {_digest(results.settings['table'])}, splits {_digest(splits)}"),
    ]


def _digest(part: Mapping[str, Any]) -> str:
    return str(part["fingerprint"])[:12]


def recipe_rows(settings: Mapping[str, Any]) -> Rows:
    """Every field of the recipe that has a value."""
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


def environment_rows(results: StudyResults) -> Rows:
    """Versions and devices of the runs, how many there are, and how long they took."""
    facts = [("tametail", str(results.settings["tametail"]))]
    for environment in results.environments:
        facts.append(("Runs on" if len(facts) == 1 else "and on", _in_words(environment)))
    finished = sum(result.finished for result in results.methods)
    expected = sum(result.expected for result in results.methods)
    return [
        *facts,
        ("Runs", f"{finished} of {expected} finished"),
        (TRAINING_TIME, f"{_duration(results.seconds)}, all runs added up"),
    ]


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def command(settings: Mapping[str, Any]) -> str:
    """The command that repeats the study, without paths, which are private."""
    options = {"methods": settings["methods"]} | settings.get("options", {})
    folds, repeats = folds_to_run(settings), len(settings["seeds"])
    options |= {"repeats": repeats if repeats > 1 else None}
    options |= {"only_folds": folds if len(folds) < settings["splits"]["folds"] else None, "out": "STUDY"}
    data = "demo" if settings["synthetic"] else "DATA"
    return command_line("compare", [data], options, MethodsOptions, CompareOptions)


def unreadable(settings: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Why files could not be read, and how many each; without their names, which may tell who a patient is."""
    return Counter(str(entry["error"]) for entry in settings["table"]["unreadable"]).most_common()


def citation(results: StudyResults) -> str:
    """What to cite: the program, this study by its fingerprints, and the paper that ALPA is from."""
    settings = results.settings
    return (
        f"tametail {settings['tametail']} (see its CITATION.cff); study “{settings['name']}”, table "
        f"{_digest(settings['table'])}, splits {_digest(settings['splits'])}.\n"
        "Kashyap et al., Taming the Tail: Leveraging Asymmetric Loss and Padé Approximation to Overcome Medical Image "
        "Long-Tailed Class Imbalance, BMVC 2024."
    )


def methods(results: StudyResults) -> str:
    """The protocol in the words of a methods section."""
    settings, counts = results.settings, results.counts
    methods, seeds, unit = (
        len(settings["methods"]),
        len(settings["seeds"]),
        "label" if results.multi_label else "class",
    )
    best = results.ranking[0].log_posterior if results.ranking else None
    judged = formatting.images_and_groups(
        *((best.n, best.groups) if best else (counts.train_images, counts.train_groups))
    )
    together = "; images of one group were never split between parts or folds" if grouped(results) else ""
    said = [
        f"{methods} training {'loss was' if methods == 1 else 'losses were'} compared on {judged} by cross-validation "
        f"({narrative.folds_in_words(settings)}, stratified by {unit}, {seeds} {'seed' if seeds == 1 else 'seeds'} per fold"
        f"{together}).",
        f"All used the backbone {settings['backbone']} at {settings['image_size']} pixels and the recipe "
        f"“{settings['recipe'].get('name', '')}”; results are those of the last epoch.",
        f"Losses were ranked by {results.headline} of the pooled out-of-fold predictions; intervals are 95 % and speak of "
        "the images drawn.",
    ]
    if results.pairs is not None:
        said.append(
            "Losses were compared in pairs on the same images by sign-flip permutation"
            f"{' of groups' if grouped(results) else ''}, with Holm’s correction over all pairs."
        )
    if counts.test_images:
        size = formatting.images_and_groups(counts.test_images, counts.test_groups)
        opened = f"opened {formatting.times(len(results.openings))}" if results.opened else "never opened"
        said.append(f"A held-out test set ({size}) was {opened}.")
    return " ".join([*said, f"Computed with tametail {settings['tametail']}."])

"""Data, recipe, environment and protocol of a study, its command and its citation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from tametail.core.option import command_line, recorded
from tametail.core.options import CompareOptions, MethodsOptions
from tametail.data.reading import GREY_LEVELS, SourceReading, named_classes
from tametail.predictions.by_group import IN_WORDS
from tametail.report.formatting import count_of, duration, images_and_groups
from tametail.report.study import narrative
from tametail.report.study.results import StudyResults
from tametail.storage.study_file import folds_to_run

FactRows = list[tuple[str, str]]
TRAINING_TIME = "Training time"


def imbalance_ratio(results: StudyResults) -> str:
    """Training images of the largest class divided by those of the smallest, as text."""
    images = results.counts.train.values()
    return f"{max(images) / min(images):.1f}" if min(images) else "infinite"


def _images(results: StudyResults) -> int:
    return results.counts.train_images + results.counts.test_images


def grouped(results: StudyResults) -> bool:
    """Whether some images share a group, such as a patient."""
    return _groups(results) != _images(results)


def _groups(results: StudyResults) -> int:
    return int(results.settings["table"]["groups"])


def data_rows(results: StudyResults) -> FactRows:
    """Images, groups, sets, folds and fingerprints."""
    counts, splits = results.counts, results.settings["splits"]
    images = _images(results)
    ungrouped, others = not grouped(results), results.settings.get("other_splits")
    return [
        ("Images", f"{images:,} readable, {len(results.settings['table']['unreadable']):,} unreadable"),
        (
            "Groups",
            "none: images are independent"
            if ungrouped
            else f"{_groups(results):,}, never split between sets or folds",
        ),
        (
            "Labels (multi-label)" if results.multi_label else "Classes",
            f"{len(results.class_names)}, imbalance ratio {imbalance_ratio(results)}",
        ),
        ("Training set", images_and_groups(counts.train_images, counts.train_groups)),
        ("Test set", images_and_groups(counts.test_images, counts.test_groups)),
        ("Split", "given with the data" if splits["given"] else f"drawn with seed {splits['seed']}"),
        *([("Other splits", narrative.other_splits_in_words(others))] if others else []),
        (
            "Folds",
            f"{narrative.folds_in_words(results.settings)}, stratified by {'label' if results.multi_label else 'class'}"
            + ("" if ungrouped else ", groups intact"),
        ),
        *reading_rows(results.settings),
        ("Repeats (seeds)", ", ".join(str(seed) for seed in results.settings["seeds"])),
        ("Fingerprints", f"table {_digest(results.settings['table'])}, splits {_digest(splits)}"),
    ]


def flow(results: StudyResults) -> FactRows:
    """From the images that were found to those of the sets, as a diagram shows it."""
    counts, settings = results.counts, results.settings
    bad = len(settings["table"]["unreadable"])
    left_out = (settings.get("reading") or {}).get("left_out") or []
    removed = [*left_out, *([f"{bad:,} unreadable"] if bad else [])]
    folds = narrative.folds_in_words(settings)
    return [
        ("Found", f"{_images(results) + bad:,} images"),
        ("Left out", "; ".join(removed) or "none"),
        ("Training set", f"{images_and_groups(counts.train_images, counts.train_groups)}, {folds}"),
        (
            "Test set",
            f"{images_and_groups(counts.test_images, counts.test_groups)}, {narrative.status_of_test_set(results)}",
        ),
    ]


def reading_rows(settings: Mapping[str, Any]) -> FactRows:
    """What the classes, groups and split of the images were taken from, and what was left out."""
    if not settings.get("reading"):  # a study of an earlier version
        return []
    reading = SourceReading.from_dict(settings["reading"])
    return [
        ("Classes from", f"{reading.classes}: {named_classes(settings['class_names'])}"),
        ("Groups from", reading.groups),
        ("Split from", reading.split),
        ("Left out when read", "; ".join(reading.left_out) or "nothing"),
        *([("As read", "; ".join(reading.notes))] if reading.notes else []),
        *([(GREY_LEVELS, reading.grey)] if reading.grey else []),
    ]


def _digest(part: Mapping[str, Any]) -> str:
    return str(part["fingerprint"])[:12]


def recipe_rows(settings: Mapping[str, Any]) -> FactRows:
    """Every field of the recipe that has a value."""
    recipe = dict(settings["recipe"])
    used = {"name": recipe.pop("name", ""), "backbone": settings["backbone"], "weights": _weights(settings)}
    used |= {"image_size": settings["image_size"], "features": settings["features"]}
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
    """``auto``, ``offline`` or ``none``, or the name of a weight file without its folder, which may be private."""
    return str(settings["weights"]).replace("\\", "/").rsplit("/", 1)[-1]


def environment_rows(results: StudyResults) -> FactRows:
    """Versions and devices of the runs, their number and duration."""
    facts = [("tametail", str(results.settings["tametail"]))]
    for environment in results.environments:
        facts.append(("Runs on" if len(facts) == 1 else "and on", _in_words(environment)))
    finished = sum(result.finished for result in results.methods)
    expected = sum(result.expected for result in results.methods)
    return [
        *facts,
        ("Runs", f"{finished} of {expected} finished"),
        (TRAINING_TIME, f"{duration(results.seconds)}, total of all runs"),
    ]


def study_command(settings: Mapping[str, Any]) -> str:
    """The command that repeats the study, without paths, which are private."""
    options = {"methods": settings["methods"]} | recorded(
        settings.get("options", {}), MethodsOptions, CompareOptions
    )
    folds, repeats = folds_to_run(settings), len(settings["seeds"])
    options |= {"repeats": repeats if repeats > 1 else None}
    options |= {"only_folds": folds if len(folds) < settings["splits"]["folds"] else None, "out": "STUDY"}
    options |= {"class_order": settings.get("class_order") or None}
    data = settings["name"] if settings["synthetic"] else "DATA"
    return command_line("compare", [data], options, MethodsOptions, CompareOptions)


def unreadable(settings: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Reasons why files could not be read, with their counts; file names may identify patients and are not shown."""
    return Counter(str(entry["error"]) for entry in settings["table"]["unreadable"]).most_common()


def citation(results: StudyResults) -> str:
    """The citation: the program, this study with its fingerprints, and the ALPA paper."""
    settings = results.settings
    return (
        f"tametail {settings['tametail']} (see its CITATION.cff); study “{settings['name']}”, table "
        f"{_digest(settings['table'])}, splits {_digest(settings['splits'])}.\n"
        "Kashyap et al., Taming the Tail: Leveraging Asymmetric Loss and Padé Approximation to Overcome Medical Image "
        "Long-Tailed Class Imbalance, BMVC 2024."
    )


def methods(results: StudyResults) -> str:
    """The protocol as a paragraph for a methods section."""
    settings, counts = results.settings, results.counts
    best = results.ranking[0].out_of_fold if results.ranking else None
    images = (best.n, best.groups) if best else (counts.train_images, counts.train_groups)
    groups = grouped(results)
    methods = count_of(len(settings["methods"]), "method")
    features = f" (features: {settings['features']})" if settings["features"] else ""
    minimised = settings["recipe"].get("optimizer", {}).get("kind") == "lbfgs"
    ended = (
        "heads were trained to their minimum" if minimised else "the models of the last epoch were evaluated"
    )
    said = [
        f"{methods} {'was' if len(settings['methods']) == 1 else 'were'} compared on {images_and_groups(*images)} by "
        f"cross-validation ({narrative.folds_in_words(settings)}, stratified by {'label' if results.multi_label else 'class'}, "
        f"{count_of(len(settings['seeds']), 'repeat')}{'; images of one group were never split between sets or folds' if groups else ''}).",
        f"All used the backbone {settings['backbone']} at {settings['image_size']} pixels{features} and the recipe "
        f"“{settings['recipe'].get('name', '')}”; {ended}.",
        f"Methods were ranked by {results.headline} of the pooled out-of-fold predictions; 95 % confidence intervals describe "
        "the sampling of images.",
    ]
    if results.pairs is not None:
        said.append(
            f"Primary test: methods were compared in pairs on the same images by {narrative.primary_test(results)}"
            f"{' clustered by group' if groups else ''}, with Holm’s correction over all pairs."
        )
    if results.predict_by != "image":
        said.append(f"The evaluated predictions are of groups: {IN_WORDS[results.predict_by]}.")
    if counts.test_images:
        evaluated = narrative.status_of_test_set(results).replace("held out", "not evaluated")
        said.append(
            f"A held-out test set ({images_and_groups(counts.test_images, counts.test_groups)}) was {evaluated}."
        )
    return " ".join([*said, f"Computed with tametail {settings['tametail']}."])

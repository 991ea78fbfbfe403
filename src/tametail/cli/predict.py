"""tametail predict: class probabilities for images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from tametail.cli.command import command
from tametail.core.atomic import write_output
from tametail.core.console import Console
from tametail.core.errors import DataError, UsageError
from tametail.core.options import PredictOptions
from tametail.core.text import counted

if TYPE_CHECKING:
    import pandas as pd


@command(
    PredictOptions,
    arguments=("study", "image_paths"),
    example="tametail predict runs/skin new_images/ -o predictions.csv",
)
def predict(
    console: Console,
    /,
    study: str,
    image_paths: list[str],
    out: str,
    prevalence: str | None,
    group_from: str | None,
    coverage: float | None,
    sets: Literal["class", "prevalence"],
    **options: Any,
) -> None:
    """Write class probabilities for images, as the mean of a method's fold models.

    Every image is a row, once. One that cannot be read has its error in column error, and the exit code is 3 then.
    """
    from tametail.deployment.classifier import find_images, load, read_prevalence

    classifier = load(study, **options)
    found = find_images(image_paths, volumes=classifier.slices is not None)
    shares = None if prevalence is None else read_prevalence(prevalence, classifier.class_names)
    groups = _groups(found.images, group_from, classifier.predict_by, console)
    table = classifier.predict(
        found.images, console, prevalence=shares, groups=groups, coverage=coverage, sets=sets
    )
    write_output(Path(out), table.to_csv(index=False, float_format="%.9g"))
    row = "image" if groups is None else "group"
    failed = int((table["error"] != "").sum())
    saturated = int((table["saturated"] == True).sum())  # noqa: E712  (missing for an unreadable image)
    if saturated:
        console.warn(
            f"{saturated} of {counted(len(table), row)} reach the largest probability that {classifier.method} can give, "
            f"{classifier.ceiling:.3f} before scaling; see column saturated"
        )
    if failed:
        console.warn(f"{failed} of {counted(len(table), row)} could not be read; see column error")
    console.say(
        f"{counted(len(table) - failed, row)} predicted, {failed} failed, {found.duplicates} given more than once, "
        f"{counted(found.skipped, 'other file')} skipped; model {classifier.method} (mean of {len(classifier.fold_models)} fold models, "
        f"link {classifier.link}; calibration: {classifier.calibration.summary}):"
    )
    _explain_decisions(table, classifier.class_names, console)
    typer.echo(out)
    if failed:
        raise typer.Exit(DataError.exit_code)


def _groups(images: Sequence[Path], rule: str | None, predict_by: str, console: Console) -> list[str] | None:
    """The group of each image, if groups are predicted."""
    from tametail.data.group_from import groups_from
    from tametail.predictions.by_group import IN_WORDS

    if predict_by == "image":
        if rule is not None:
            raise UsageError(
                f"--group-from {rule} is for --predict-by group or group-max; give both, or neither"
            )
        return None
    groups, said = groups_from(
        [image.absolute().as_posix().lstrip("/") for image in images], rule or "folder"
    )
    console.say(f"Groups of images: {len(set(groups)):,}, from {said}; {IN_WORDS[predict_by]}")
    return groups


def _explain_decisions(table: pd.DataFrame, class_names: Sequence[str], console: Console) -> None:
    """Say how often the method decides for another class than the most probable one."""
    import numpy as np

    columns = [f"p_{name}" for name in class_names]
    if f"has_{class_names[0]}" in table:
        return  # several labels per image
    read = table[table["error"] == ""]
    probable = read[columns].to_numpy(dtype=float).argmax(axis=1)
    other = int((read["predicted"].to_numpy() != np.array(class_names)[probable]).sum())
    if other:
        console.say(
            f"For {other} of {len(read)} images the method's decision (column predicted, the highest score) is not the most probable "
            f"class (column most_probable): methods that adjust for the class frequencies favour rare classes, and calibration "
            f"changes probabilities, never decisions."
        )

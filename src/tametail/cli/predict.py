"""tametail predict: class probabilities for images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from tametail.cli.command import check_page_name, command
from tametail.core.atomic import write_output
from tametail.core.console import Console
from tametail.core.errors import DataError, UsageError
from tametail.core.option import read_operating
from tametail.core.options import PredictOptions
from tametail.core.text import counted

if TYPE_CHECKING:
    import pandas as pd

    from tametail.deployment.facts import ModelFacts
    from tametail.deployment.given_images import FoundImages


@command(
    PredictOptions,
    arguments=("study", "image_paths"),
    example="tametail predict runs/skin new_images/ -o predictions.csv --html predictions.html",
)
def predict(
    console: Console,
    /,
    study: str,
    image_paths: list[str],
    out: str,
    html: str | None,
    prevalence: str | None,
    adapt_prevalence: bool,
    group_from: str | None,
    coverage: float | None,
    sets: Literal["class", "prevalence"],
    operating: list[str] | None,
    **options: Any,
) -> None:
    """Write class probabilities for images, by the model of a study or an exported one.

    Every image is a row, once. One that cannot be read has its error in column error, and the exit code is 3 then.
    """
    from tametail.deployment.given_images import find_images
    from tametail.deployment.load import load
    from tametail.deployment.predictions_page import Thumbnails, predictions_html
    from tametail.deployment.prevalence import read_prevalence

    if html is not None:
        check_page_name(html, "--html")
        if Path(html).resolve() == Path(out).resolve():
            raise UsageError(
                f"expected two files, one for the table and one for the page, got {out} for both; give another file with --html"
            )
    classifier = load(study, **options)
    facts = classifier.facts
    found = find_images(image_paths, volumes=facts.slices is not None)
    for name, flag in ((out, "-o"), *([(html, "--html")] if html is not None else [])):
        _check_output(Path(name), flag, found.images, Path(study))
    shares = None if prevalence is None else read_prevalence(prevalence, facts.class_names)
    thumbnails = None
    with console.recorded() as said:
        groups = _groups(found.images, group_from, facts.predict_by, console)
        if html is not None:
            thumbnails = Thumbnails(
                None if groups is None else dict(zip(map(str, found.images), groups, strict=True))
            )
        table = classifier.predict_table(
            found.images,
            console,
            prevalence=shares,
            adapt_prevalence=adapt_prevalence,
            groups=groups,
            coverage=coverage,
            sets=sets,
            operating=dict(read_operating(operating or ())),
            on_image=thumbnails,
        )
    content = table.to_csv(index=False, float_format="%.9g")
    # Bytes of a file name that are no UTF-8 are written as \udcff.
    write_output(Path(out), content.encode("utf-8", "backslashreplace"))
    at = "estimated" if adapt_prevalence else None if shares is None else "given"
    rule = _rule(facts.several_labels, at, bool(operating))
    if html is not None:
        page = predictions_html(table, facts, rule, thumbnails=thumbnails or {}, said=said, prevalence=shares)
        write_output(Path(html), page)
    failed = _summarise(table, facts, found, "image" if groups is None else "group", console)
    if not facts.several_labels:
        _explain_decisions(table, rule, bool(operating), console)
    typer.echo(out)
    if html is not None:
        typer.echo(html)
    if failed:
        raise typer.Exit(DataError.exit_code)


def _summarise(table: pd.DataFrame, facts: ModelFacts, found: FoundImages, row: str, console: Console) -> int:
    """Say what was predicted, by which model, and what was not; returns how many rows could not be read."""
    failed = int((table["error"] != "").sum())
    saturated = int((table["saturated"] == True).sum())  # noqa: E712  (missing for an unreadable image)
    if saturated:
        console.warn(
            f"{saturated} of {counted(len(table), row)} reach the largest probability that {facts.method} can give, "
            f"{facts.ceiling:.3f} before scaling; see column saturated"
        )
    if failed:
        console.warn(f"{failed} of {counted(len(table), row)} could not be read; see column error")
    console.say(
        f"{counted(len(table) - failed, row)} predicted, {failed} failed, {found.duplicates} given more than once, "
        f"{counted(found.skipped, 'other file')} skipped; model {facts.method} ({facts.trained_as}, link {facts.link}; "
        f"calibration: {facts.calibration.summary})"
    )
    return failed


def _check_output(file: Path, flag: str, images: Sequence[Path], study: Path) -> None:
    """Refuse a file to write that is one of the images, in the folder of the model, or a folder."""
    place = file.resolve()
    if place.is_dir():
        raise UsageError(
            f"expected a file for {flag}, got the folder {file}; give a file in it, such as {file / 'predictions.csv'}"
        )
    if any(place == image.resolve() for image in images if image.name == place.name):
        raise UsageError(
            f"expected another file for {flag} than the images, got {file}, which is one of them"
        )
    if place.is_relative_to(study.resolve()):
        raise UsageError(
            f"expected a file outside of {study} for {flag}, as its files belong to the model, got {file}"
        )


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


def _rule(several_labels: bool, prevalence: str | None, operating: bool) -> str:
    """By which rule classes are decided, in words."""
    if several_labels:
        return "each label whose probability reaches its threshold"
    rule = (
        "the method's decision rule"
        if prevalence is None
        else f"the most probable class at the {prevalence} prevalence"
    )
    return f"the operating points, else {rule}" if operating else rule


def _explain_decisions(table: pd.DataFrame, rule: str, operating: bool, console: Console) -> None:
    """Say by which rule classes are decided, and how often the decision is not the most probable class."""
    read = table[table["error"] == ""]
    other = int((read["predicted"] != read["most_probable"]).sum())
    why = (
        "methods that adjust for the class frequencies favour rare classes, and calibration changes probabilities, never decisions"
        if not operating
        else "a class with a required sensitivity is predicted from its threshold on"
    )
    console.say(
        f"Column predicted (the highest score) is by {rule}; for {other} of {len(read)} images it is not the most probable class"
        + (f": {why}." if other else ".")
    )

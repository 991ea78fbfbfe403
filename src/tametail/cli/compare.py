"""tametail compare, resume and test-set: a study from its trainings to its held-out test set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from tametail.cli.command import RESUMABLE, command
from tametail.core.console import Console, printable
from tametail.core.errors import TametailError
from tametail.core.options import CompareOptions, MethodsOptions, ResumeOptions, TestSetOptions

if TYPE_CHECKING:
    from tametail.study.study import Study


@command(
    MethodsOptions,
    CompareOptions,
    arguments=("data",),
    example="tametail compare skin/ --methods alpa,asl,ce,ce+la --folds 5 -o runs/skin",
    interrupted=RESUMABLE,
)
def compare(console: Console, /, **options: Any) -> None:
    """Train every method on every fold and report cross-validation results; the test set stays held out.

    Repeat the command to continue after an interruption, or to add methods, repeats or folds.
    """
    from tametail.study import study

    if options["dry_run"]:
        _show_reading(options)
        return
    _show(study.compare(console=console, **options))


def _show_reading(options: dict[str, Any]) -> None:
    """Print how the data are read, after the checks of `compare`."""
    from tametail.core.option import pick
    from tametail.core.options import ReadImagesOptions
    from tametail.data import read_images, reading_facts
    from tametail.study import study

    table = read_images(options["data"], **pick(ReadImagesOptions, options))
    for term, text in reading_facts(table):
        typer.echo(printable(f"{term}: {text}"))
    study.compare(**options | {"data": table})
    images, groups = f"{len(table):,} images", f"{len(set(table.groups.tolist())):,} groups"
    typer.echo(f"{images}, {groups}; they can be split into {options['folds']} folds. Nothing was trained.")


@command(ResumeOptions, arguments=("study",), example="tametail resume runs/skin", interrupted=RESUMABLE)
def resume(console: Console, /, **options: Any) -> None:
    """Resume an interrupted study with its original settings."""
    from tametail.study import study

    _show(study.resume(console=console, **options))


@command(
    TestSetOptions,
    arguments=("study",),
    example="tametail test-set runs/skin",
    interrupted="An evaluation that had begun is recorded; repeat the command to continue.",
)
def test_set(console: Console, /, **options: Any) -> None:
    """Evaluate a study on its held-out test set. Every evaluation is recorded and counted in the report."""
    from tametail.study import study

    _show(study.evaluate_test_set(console=console, **options))


def _show(study: Study) -> None:
    from tametail.report import results_table

    if study.report.is_file():
        typer.echo(results_table(study.directory))
        typer.echo(f"Report: {study.report}")
    refuse_failures(study)


def refuse_failures(study: Study) -> None:
    """Raise TametailError if runs of the study have failed."""
    if study.failed:
        raise TametailError("these runs failed, and their methods have no result: " + "; ".join(study.failed))

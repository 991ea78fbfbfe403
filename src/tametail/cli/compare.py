"""tametail compare: the main job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from tametail.cli.command import command
from tametail.core.console import Console
from tametail.core.errors import TametailError
from tametail.core.options import CompareOptions, MethodsOptions

if TYPE_CHECKING:
    from tametail.study.study import Study

RESUMABLE = "Finished work is saved; repeat the command, or use tametail resume, to continue."


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

    show_study(study.compare(console=console, **options))


def show_study(study: Study) -> None:
    """Print a study's results and the path of its report.

    Raises:
        TametailError: runs have failed.
    """
    from tametail.report import results_table

    if study.report.is_file():
        typer.echo(results_table(study.directory))
        typer.echo(f"Report: {study.report}")
    refuse_failures(study)


def refuse_failures(study: Study) -> None:
    """Let the command fail if runs of the study have failed.

    Raises:
        TametailError: they have.
    """
    if study.failed:
        raise TametailError("these runs failed, and their methods have no result: " + "; ".join(study.failed))

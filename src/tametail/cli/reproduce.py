"""tametail reproduce: the paper's experiments."""

from __future__ import annotations

from typing import Any

import typer

from tametail.cli.command import RESUMABLE, command
from tametail.cli.compare import refuse_failures
from tametail.core.console import Console
from tametail.core.errors import UsageError
from tametail.core.options import ReproduceOptions, RootOptions

_FIGURE = "figure1"


@command(
    RootOptions,
    ReproduceOptions,
    arguments=("experiment",),
    example="tametail reproduce table3 --root ham10000/ -o runs/table3",
    interrupted=RESUMABLE,
    given=True,
)
def reproduce(console: Console, /, experiment: str, given: list[str], **options: Any) -> None:
    """Run one of the paper's experiments, and compare the results with the published ones.

    The tables follow the paper's protocol as far as it is published, and are evaluated on the test set, as in the paper;
    this evaluation is recorded. With --no-test-set the test set stays held out.
    """
    if experiment == _FIGURE:
        _draw(options["out"], given)
        return
    from tametail.reproduce import reproduce as run

    done = run(experiment, console=console, **options)
    typer.echo(done.text)
    typer.echo(f"\nTable: {done.markdown}\nReport: {done.study.report}")
    refuse_failures(done.study)


def _draw(out: str | None, given: list[str]) -> None:
    from tametail.reproduce.experiments import notes_on
    from tametail.reproduce.gradient_report import write_gradients

    refused = [flag for flag in given if flag not in {"--experiment", "--out", "--quiet", "--debug"}]
    if refused:
        raise UsageError(
            f"{_FIGURE} is drawn from formulas, without images or training: expected -o alone, got {', '.join(refused)}"
        )
    typer.echo(write_gradients(out or f"{_FIGURE}.svg"))
    for note in notes_on(_FIGURE):
        typer.echo(f"  - {note.text}")

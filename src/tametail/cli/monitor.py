"""tametail monitor: drift of new images over time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from tametail.cli.command import check_page_name, command
from tametail.core.atomic import write_output
from tametail.core.console import Console
from tametail.core.options import WatchOptions
from tametail.core.text import align_columns, counted


@command(
    WatchOptions,
    arguments=("study", "prediction_files"),
    example="tametail monitor model/ predictions-2026-*.csv -o monitor.html",
)
def monitor(
    console: Console, /, study: str, prediction_files: list[str], method: str | None, out: str, **options: Any
) -> None:
    """Watch new images for drift, from the files that tametail predict wrote: what is unlike the training images, confidence, prevalence.

    Each file is a batch, such as a week. Nothing is known of the labels: it is not seen whether predictions are right. The exit code
    is 0 also with alarms.
    """
    from tametail.deployment.load import load_facts
    from tametail.deployment.monitor import BLIND, monitored
    from tametail.deployment.monitor_page import monitor_html, stated_rate, summary_rows, warnings_of

    check_page_name(out, "-o")
    facts = load_facts(Path(study), method, trust_code=options["trust_code"])
    found = monitored(
        facts, prediction_files, baseline=options["baseline"], false_alarms=options["false_alarms"]
    )
    for warning in warnings_of(found):
        console.warn(warning)
    console.say(f"{counted(len(found.batches), 'batch', 'batches')}, ordered {found.order}")
    write_output(Path(out), monitor_html(found, facts))
    for line in align_columns([("signal", "latest (95 % interval)", "finding"), *summary_rows(found)]):
        typer.echo(line)
    typer.echo(stated_rate(found))
    console.say(BLIND)
    console.say("The exit code is 0 also with alarms.")
    typer.echo(out)

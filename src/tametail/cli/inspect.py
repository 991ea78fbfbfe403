"""tametail inspect: what is in a data set, and what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from tametail.cli.command import check_page_name, command, print_page
from tametail.core.atomic import write_output
from tametail.core.console import Console, printable
from tametail.core.errors import DataError, TametailError, UsageError
from tametail.core.options import InspectOptions

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tametail.audit import AuditResult
    from tametail.report.audit.labels import LabelInspection

_STYLES = {"unsafe": "bold red", "warning": "yellow", "note": ""}
_MOST_CLASSES = 30
_MEMBERS = 5  # members of a set of duplicates that are named
_MOST_SUSPECTS = 20
_WITH_LABELS = ("--labels", "--json", "--out", "--image-root", "--quiet", "--debug")


@command(
    InspectOptions,
    arguments=("data",),
    example="tametail inspect skin/ --label-col dx -o skin.html\ntametail inspect --labels runs/skin -o labels.html",
    given=True,
)
def inspect(
    console: Console,
    /,
    data: str | None,
    out: str | None,
    labels: str | None,
    given: list[str],
    **options: Any,
) -> None:
    """Describe a data set: how it was read, its class imbalance, and problems. Exit code 3 if training is unsafe.

    With --labels: rank suspected label errors of a finished study.
    """
    as_json = options.pop("json")
    if out is not None:
        check_page_name(out, "-o")
    if (data is None) == (labels is None):
        raise UsageError(
            f"expected either data or --labels STUDY, got {'neither' if data is None else 'both'}; give one of them"
        )
    if labels is not None:
        if others := [flag for flag in given if flag not in _WITH_LABELS]:
            raise UsageError(
                f"expected only --out, --json and --image-root with --labels, as the study determines the rest, got "
                f"{', '.join(others)}; leave them out"
            )
        _inspect_labels(console, labels, out, options["image_root"], as_json=as_json)
    else:
        assert data is not None
        _inspect_data(console, data, out, options, as_json=as_json)


def _inspect_data(
    console: Console, data: str, out: str | None, options: dict[str, Any], *, as_json: bool
) -> None:
    from tametail.audit import INSPECT_SCHEMA, audit
    from tametail.data import reading_facts

    with _said_as_json(INSPECT_SCHEMA, as_json=as_json):
        found = audit(data, console=console, **options)
    if as_json:
        typer.echo(json.dumps(found.as_dict(), indent=1, ensure_ascii=False))
    else:
        for term, text in reading_facts(found.table):
            typer.echo(printable(f"{term}: {text}"))
        print_page(_page(found))
    if out is not None:
        from tametail.report.audit.page import audit_html

        write_output(Path(out), audit_html(found))
        console.say(f"Page: {out}")
    if not found.safe:
        raise typer.Exit(DataError.exit_code)


def _inspect_labels(
    console: Console, study: str, out: str | None, image_root: str | None, *, as_json: bool
) -> None:
    from tametail.report.audit.labels import LABELS_SCHEMA, inspect_labels

    with _said_as_json(LABELS_SCHEMA, as_json=as_json):
        found = inspect_labels(study, image_root=image_root)
    if as_json:
        typer.echo(json.dumps(found.as_dict(), indent=1, ensure_ascii=False))
    else:
        print_page(_suspects(found))
    if out is not None:
        from tametail.report.audit.labels_page import labels_html

        write_output(Path(out), labels_html(found))
        console.say(f"Page: {out}")


@contextmanager
def _said_as_json(schema: str, *, as_json: bool) -> Iterator[None]:
    """Also print an error as JSON, so that a program that reads the output learns why it is empty."""
    try:
        yield
    except TametailError as error:
        if as_json:
            typer.echo(json.dumps({"schema": schema, "error": str(error)}, ensure_ascii=False))
        raise


def _suspects(found: LabelInspection) -> Iterator[RenderableType]:
    from rich import box
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    from tametail.report.audit.labels import CAVEAT
    from tametail.report.formatting import percent

    yield Text(f"{printable(found.name)}: {printable(found.summary())}", style="bold")
    for term, text in found.facts():
        yield Padding(Text.assemble((f"{term}: ", "dim"), text), (0, 0, 0, 2))
    names, suspects = found.class_names, found.errors.suspects
    if suspects:
        table = Table(box=box.SIMPLE_HEAD)
        table.add_column("Image", no_wrap=True)  # in one piece, to be copied
        for title in ("Given", "Suggested"):
            table.add_column(title, overflow="fold")
            table.add_column("%", justify="right")
        table.add_column("Group", justify="right")
        for one in suspects[:_MOST_SUSPECTS]:
            table.add_row(
                Text(printable(one.image)),
                Text(printable(names[one.given])),
                percent(one.p_given),
                Text(printable(names[one.suggested])),
                percent(one.p_suggested),
                f"{one.group_given}, {one.group_suggested} of {one.group_images}"
                if one.group_images > 1
                else "",
            )
        yield table
        yield Text(
            "%: probability. Group: images with the given label, and images predicted as the suggested class with confidence, of "
            "all images of the group; empty for one image.",
            style="dim",
        )
        if len(suspects) > _MOST_SUSPECTS:
            yield Text(f"and {len(suspects) - _MOST_SUSPECTS} more with -o PAGE.html or --json", style="dim")
    yield Text(f"{CAVEAT}.", style="dim")
    yield ""


def _page(audit: AuditResult) -> Iterator[RenderableType]:
    from rich.padding import Padding
    from rich.text import Text

    from tametail.report.audit.page import audit_facts, audit_summary

    yield Text(f"{printable(audit.table.name)}: {audit_summary(audit)}", style="bold")
    for term, text in audit_facts(audit):
        yield Padding(Text.assemble((f"{term}: ", "dim"), text), (0, 0, 0, 2))
    yield _classes(audit)
    for finding in audit.findings:
        yield Text.assemble((f"{finding.severity}: ", _STYLES[finding.severity]), printable(finding.message))
        if finding.advice:
            yield Padding(Text(finding.advice), (0, 0, 0, 4))
        reasons = finding.details if finding.code == "unreadable_files" else ()
        shown = zip_longest(finding.affected[:3], reasons[:3])
        examples = "; ".join(_sample(members) + (f": {why}" if why else "") for members, why in shown)
        if examples:
            more = ", ..." if len(finding.affected) > 3 else ""
            yield Padding(Text(examples + more, style="dim"), (0, 0, 0, 4))
    yield ""


def _sample(members: Sequence[str]) -> str:
    """The first members of a set."""
    more = f" and {len(members) - _MEMBERS:,} more" if len(members) > _MEMBERS else ""
    return printable(", ".join(members[:_MEMBERS])) + more


def _classes(audit: AuditResult) -> RenderableType:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("Class")
    table.add_column("Shot")
    shown = audit.distribution.classes[:_MOST_CLASSES]
    splits = list(shown[0].splits)
    for title in ("Images", *(name.capitalize() for name in splits), "Groups", "Share, %", "Effective"):
        table.add_column(title, justify="right")
    for one in shown:
        counts = (f"{count:,}" for count in (one.images, *one.splits.values(), one.groups))
        table.add_row(
            Text(printable(one.name)), one.shot, *counts, f"{100 * one.share:.1f}", f"{one.effective:,.0f}"
        )
    if len(audit.distribution.classes) > len(shown):
        table.add_row(f"and {len(audit.distribution.classes) - len(shown)} smaller ones")
    return table

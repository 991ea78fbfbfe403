"""The commands about data: what is in a set and what is wrong with it, and a long tail drawn from one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tametail.cli_options import (
    Data,
    Download,
    GroupCol,
    GroupDuplicates,
    ImageCol,
    ImageRoot,
    LabelCol,
    LabelCols,
    MultiLabel,
    Root,
    SplitCol,
    reading,
)
from tametail.cli_running import Debug, Quiet, run
from tametail.console import Console
from tametail.errors import DataError, TametailError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tametail.audit import Audit

_STYLES = {"unsafe": "bold red", "warning": "yellow", "note": ""}
_MOST_CLASSES = 30


def inspect(
    data: Data,
    folds: Annotated[int, typer.Option(help="k of the cross-validation that is to be possible.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Everything as JSON; docs/data.md has the schema.")] = False,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="HTML page to write, with pictures.", show_default=False)
    ] = None,
    image_col: ImageCol = None,
    label_col: LabelCol = None,
    group_col: GroupCol = None,
    split_col: SplitCol = None,
    image_root: ImageRoot = None,
    label_cols: LabelCols = None,
    multi_label: MultiLabel = False,
    root: Root = None,
    download: Download = False,
    group_duplicates: GroupDuplicates = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Say what is in a set, how long its tail is, and what is wrong with it. Exit code 3 where training is unsafe."""

    def work(console: Console) -> None:
        from tametail.audit import audit_table
        from tametail.data import read_images

        options = reading(
            image_col, label_col, group_col, split_col, image_root, label_cols, multi_label, root, download
        )
        table = read_images(data, **options, allow_leaks=True)
        with console.track("Images", len(table)) as advance:
            audit = audit_table(table, folds=folds, join_duplicates=group_duplicates, advance=advance)
        if as_json:
            typer.echo(json.dumps(audit.as_dict(), indent=1, ensure_ascii=False))
        else:
            _show(audit)
        if out is not None:
            _write_page(audit, out)
            console.say(f"Page: {out}")
        if not audit.safe:
            raise typer.Exit(DataError.exit_code)

    run(work, quiet=quiet, debug=debug)


def subsample(
    data: Data,
    ratio: Annotated[float, typer.Option(help="Images of the largest class per image of the smallest.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="CSV file to write.")] = Path("subsample.csv"),
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 0,
    image_col: ImageCol = None,
    label_col: LabelCol = None,
    group_col: GroupCol = None,
    split_col: SplitCol = None,
    image_root: ImageRoot = None,
    label_cols: LabelCols = None,
    root: Root = None,
    download: Download = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Draw an exponential long tail from a set, whole groups, as a CSV that every command reads."""

    def work(console: Console) -> None:
        from tametail.data import read_images
        from tametail.data.subsample import subsample as draw

        options = reading(
            image_col, label_col, group_col, split_col, image_root, label_cols, False, root, download
        )
        table = draw(read_images(data, **options), ratio, seed=seed)
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            table.frame.to_csv(out, index=False)
        except OSError as error:
            raise TametailError(
                f"{out} cannot be written ({error.strerror}); give another file with -o"
            ) from error
        counts = sorted(table.counts().items(), key=lambda one: -one[1])
        console.say(
            f"{len(table):,} images, ratio {table.imbalance_ratio:.1f}: "
            + ", ".join(f"{name} {count:,}" for name, count in counts)
        )
        console.say(f"Use it with --image-root {table.root}")
        typer.echo(out)

    run(work, quiet=quiet, debug=debug)


def _write_page(audit: Audit, out: Path) -> None:
    from tametail.report.audit_page import audit_html
    from tametail.study_file import write_atomically

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, audit_html(audit))
    except OSError as error:
        raise TametailError(
            f"{out} cannot be written ({error.strerror}); give another file with -o"
        ) from error


def _show(audit: Audit) -> None:
    """Print an audit; in colour on a terminal, plainly elsewhere."""
    from rich.console import Console as RichConsole
    from rich.padding import Padding
    from rich.text import Text

    from tametail.report.audit_page import facts_in_words, verdict

    terminal = RichConsole(highlight=False)
    with terminal.capture() as page:
        terminal.print(Text(f"{audit.table.name}: {verdict(audit)}", style="bold"))
        for term, text in facts_in_words(audit):
            terminal.print(Padding(Text.assemble((f"{term}: ", "dim"), text), (0, 0, 0, 2)))
        terminal.print(_classes(audit))
        for finding in audit.findings:
            lead = Text.assemble((f"{finding.severity}: ", _STYLES[finding.severity]), finding.what)
            terminal.print(lead)
            examples = "; ".join(", ".join(members) for members in finding.concerned[:3])
            if finding.advice:
                terminal.print(Padding(Text(finding.advice), (0, 0, 0, 4)))
            if examples:
                more = ", ..." if len(finding.concerned) > 3 else ""
                terminal.print(Padding(Text(examples + more, style="dim"), (0, 0, 0, 4)))
    for line in page.get().splitlines():
        typer.echo(line.rstrip())


def _classes(audit: Audit) -> RenderableType:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("Class")
    table.add_column("Part")
    for title in ("Images", "Groups", "Share, %", "Effective"):
        table.add_column(title, justify="right")
    shown = audit.tail.classes[:_MOST_CLASSES]
    for one in shown:
        numbers = (f"{one.images:,}", f"{one.groups:,}", f"{100 * one.share:.1f}", f"{one.effective:,.0f}")
        table.add_row(one.name, one.part, *numbers)
    if len(audit.tail.classes) > len(shown):
        table.add_row(f"and {len(audit.tail.classes) - len(shown)} smaller ones", "", "", "", "", "")
    return table

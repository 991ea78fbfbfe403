"""The commands about data: what is in a set and what is wrong with it, and a long tail drawn from one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tametail.cli.options import (
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
from tametail.cli.run_command import Debug, Quiet, run
from tametail.core.console import Console, printable
from tametail.core.errors import DataError, TametailError, UsageError, explain_write_error

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tametail.audit import AuditResult
    from tametail.data import ImageTable

_STYLES = {"unsafe": "bold red", "warning": "yellow", "note": ""}
_MOST_CLASSES = 30
_MEMBERS = 5  # of a set that are named
_FAR_OFF = 0.2  # of the ratio asked for, that the one reached may differ by unsaid


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
        from tametail.audit import INSPECT_SCHEMA, audit
        from tametail.data import read_images

        options = reading(
            image_col, label_col, group_col, split_col, image_root, label_cols, multi_label, root, download
        )
        if out is not None and out.suffix.lower() not in {".html", ".htm"}:
            raise UsageError(f"expected a page that ends in .html, got {out}; give another file with -o")
        try:
            table = read_images(data, **options, allow_leaks=True)
        except TametailError as error:
            if as_json:  # so that whoever reads the output knows why there is nothing in it
                typer.echo(json.dumps({"schema": INSPECT_SCHEMA, "error": str(error)}, ensure_ascii=False))
            raise
        with console.track("Images", len(table)) as advance:
            result = audit(table, folds=folds, group_duplicates=group_duplicates, advance=advance)
        if as_json:
            typer.echo(json.dumps(result.as_dict(), indent=1, ensure_ascii=False))
        else:
            _show(result)
        if out is not None:
            _write_page(result, out)
            console.say(f"Page: {out}")
        if not result.safe:
            raise typer.Exit(DataError.exit_code)

    run(work, quiet=quiet, debug=debug)


def subsample(
    data: Data,
    ratio: Annotated[float, typer.Option(help="Images of the largest class per image of the smallest.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="CSV file to write.")] = Path("subsample.csv"),
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 0,
    single_images: Annotated[
        bool, typer.Option("--single-images", help="Draw images one by one, not whole groups.")
    ] = False,
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
        from tametail.core.atomic import write_atomically
        from tametail.data import read_images
        from tametail.data.splitting.subsample import subsample as draw

        options = reading(
            image_col, label_col, group_col, split_col, image_root, label_cols, False, root, download
        )
        if out.suffix.lower() != ".csv":
            raise UsageError(f"expected a file that ends in .csv, got {out}; give another one with -o")
        if out.exists():
            raise UsageError(f"{out} is there already; remove it, or give another file with -o")
        whole = read_images(data, **options)
        if out.resolve().parent == whole.root.resolve() and out.stem in {"labels", "metadata"}:
            raise UsageError(f"{out} would change how {whole.root} is read; give another name with -o")
        table = draw(whole, ratio, seed=seed, single_images=single_images)
        with explain_write_error(out):
            write_atomically(out, table.frame.convert_dtypes().to_csv(index=False))
        _say_what_was_drawn(table, ratio, single_images, console)
        console.say(f"Use it with --image-root {table.root}")
        typer.echo(out)

    run(work, quiet=quiet, debug=debug)


def _say_what_was_drawn(table: ImageTable, ratio: float, single_images: bool, console: Console) -> None:
    drawn = table.take((table.frame["split"] != "test").to_numpy())
    counts = sorted(drawn.counts().items(), key=lambda one: -one[1])
    given = len(table) - len(drawn)
    kept = f", beside {given:,} of the given test set" if given else ""
    listed = ", ".join(f"{name} {count:,}" for name, count in counts)
    reached = f"{drawn.imbalance_ratio:.1f}"
    console.say(f"{len(drawn):,} images, ratio {reached}{kept}: {listed}")
    if abs(drawn.imbalance_ratio / ratio - 1) > _FAR_OFF:
        console.warn(
            f"the classes are too small to come nearer to a ratio of {ratio:g} than {reached}"
            if single_images
            else f"whole groups came no nearer to a ratio of {ratio:g} than {reached}; "
            f"--single-images leaves out images of a group, and no group is divided between two sets by that"
        )


def _write_page(audit: AuditResult, out: Path) -> None:
    from tametail.core.atomic import write_atomically
    from tametail.report.audit.page import audit_html

    page = audit_html(audit)
    with explain_write_error(out):
        write_atomically(out, page)


def _show(audit: AuditResult) -> None:
    """Print an audit; in colour on a terminal, plainly elsewhere."""
    from rich.console import Console as RichConsole
    from rich.padding import Padding
    from rich.text import Text

    from tametail.report.audit.page import facts_in_words, verdict

    terminal = RichConsole(highlight=False)
    with terminal.capture() as page:
        terminal.print(Text(f"{printable(audit.table.name)}: {verdict(audit)}", style="bold"))
        for term, text in facts_in_words(audit):
            terminal.print(Padding(Text.assemble((f"{term}: ", "dim"), text), (0, 0, 0, 2)))
        terminal.print(_classes(audit))
        for finding in audit.findings:
            lead = Text.assemble(
                (f"{finding.severity}: ", _STYLES[finding.severity]), printable(finding.message)
            )
            terminal.print(lead)
            examples = "; ".join(_some(members) for members in finding.affected[:3])
            if finding.advice:
                terminal.print(Padding(Text(finding.advice), (0, 0, 0, 4)))
            if examples:
                more = ", ..." if len(finding.affected) > 3 else ""
                terminal.print(Padding(Text(examples + more, style="dim"), (0, 0, 0, 4)))
    for line in page.get().split("\n"):
        typer.echo(line.rstrip())


def _some(members: Sequence[str]) -> str:
    """The first of a set's members."""
    more = f" and {len(members) - _MEMBERS:,} more" if len(members) > _MEMBERS else ""
    return printable(", ".join(members[:_MEMBERS])) + more


def _classes(audit: AuditResult) -> RenderableType:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("Class")
    table.add_column("Shot")
    for title in ("Images", "Groups", "Share, %", "Effective"):
        table.add_column(title, justify="right")
    shown = audit.distribution.classes[:_MOST_CLASSES]
    for one in shown:
        numbers = (f"{one.images:,}", f"{one.groups:,}", f"{100 * one.share:.1f}", f"{one.effective:,.0f}")
        table.add_row(Text(printable(one.name)), one.shot, *numbers)
    if len(audit.distribution.classes) > len(shown):
        table.add_row(f"and {len(audit.distribution.classes) - len(shown)} smaller ones", "", "", "", "", "")
    return table

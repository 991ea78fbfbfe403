"""The commands about losses themselves: what there is, what one is, and how they push a logit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tametail.cli.run_command import Debug, run
from tametail.core.console import Console
from tametail.core.errors import as_usage_error

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tametail.losses import LossDescription


def losses(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A loss as in --losses: alpa, alpa\\[variant=pade], my_package.module:MyLoss.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="The same as JSON; without NAME a list of all losses.")
    ] = False,
    debug: Debug = False,
) -> None:
    """List the losses, or say what one is: formula, parameters, link, when to use it.

    The keys of --json: loss, summary, formula, family (softmax, sigmoid), head (linear, normalised), link, exact_link,
    ceiling, uses_class_counts, stochastic, batchwise, parameters (each: name, type, required, default, value,
    meaning), use, notes, reference.
    """

    def work(_: Console) -> None:
        from tametail.losses import describe_loss, describe_losses, list_losses

        if name is None and not as_json:
            summaries = describe_losses()
            width = max(map(len, summaries))
            for known, summary in summaries.items():
                typer.echo(f"{known:{width}}  {summary}")
            return
        with as_usage_error():
            described = [describe_loss(text) for text in ([name] if name else list_losses())]
        if as_json:
            content: Any = [asdict(one) for one in described]
            typer.echo(json.dumps(content[0] if name else content, indent=1, ensure_ascii=False, default=str))
        else:
            _show(described[0])

    run(work, debug=debug)


def strategies(debug: Debug = False) -> None:
    """List the long-tail strategies that join any loss with a +: ce+la, ldam+drw, alpa+crt+la."""

    def work(_: Console) -> None:
        from tametail.training.strategies import list_strategies, strategy_summary

        names = list_strategies()
        for name in names:
            typer.echo(f"{name:{max(map(len, names))}}  {strategy_summary(name)}")

    run(work, debug=debug)


def gradients(
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", help="File to write: .svg, .png, .pdf, or .csv for the numbers. Default figure1.svg, "
            "with --losses gradients.svg.", show_default=False,
        ),
    ] = None,
    losses: Annotated[
        str | None,
        typer.Option(help="Losses to draw instead, by commas: alpa,asl\\[clip=0],ce.", show_default=False),
    ] = None,
    over: Annotated[str, typer.Option(help="Draw slopes over the probability p, the logit z, or both.")] = "both",
    debug: Debug = False,
) -> None:  # fmt: skip
    """Draw the slopes of losses by the logit: the paper's Figure 1, and how the losses behave in full.

    Figure 1 has the parameters of its caption: ALPA with γ- 4, ASL with m 0.01 and γ- 0.01, CE, focal with γ 0.5.
    """

    def work(_: Console) -> None:
        from tametail.reproduce.gradient_report import write_gradients

        typer.echo(write_gradients(out or ("gradients.svg" if losses else "figure1.svg"), losses, over=over))

    run(work, debug=debug)


def _show(loss: LossDescription) -> None:
    """Print what a loss is; in colour on a terminal, plainly elsewhere."""
    from rich.console import Console as RichConsole

    terminal = RichConsole(highlight=False)
    with terminal.capture() as page:
        for part in _page(loss):
            terminal.print(part)
    for line in page.get().splitlines():
        typer.echo(line.rstrip())


def _page(loss: LossDescription) -> Iterator[RenderableType]:
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    def heading(text: str) -> Padding:
        return Padding(Text(text, style="bold"), (1, 0, 0, 0))

    yield Text.assemble((loss.loss, "bold cyan"), "  ", loss.summary)
    facts = Table.grid(padding=(0, 2))
    for label, text in _facts(loss):
        facts.add_row(Text(label, style="bold"), Text(text))
    yield Padding(facts, (1, 0, 0, 2))
    for paragraph in filter(None, (*loss.notes, loss.use)):
        yield Padding(Text(paragraph), (1, 0, 0, 2))
    yield heading("Parameters")
    for parameter in loss.parameters:
        default = "required" if parameter.required else f"default {_written(parameter.default)}"
        used = "" if parameter.value == parameter.default else f", here {_written(parameter.value)}"
        yield Padding(
            Text.assemble((parameter.name, "bold"), f"  {parameter.type}; {default}{used}"), (0, 0, 0, 2)
        )
        yield Padding(Text(parameter.meaning), (0, 0, 0, 6))
    if not loss.parameters:
        yield Padding(Text("none"), (0, 0, 0, 2))
    if loss.reference:
        yield heading("Reference")
        yield Padding(Text(loss.reference), (0, 0, 0, 2))


def _facts(loss: LossDescription) -> list[tuple[str, str]]:
    posterior = (
        "gives posteriors at the loss's minimum" if loss.exact_link else "the usual reading, not exact"
    )
    ceiling = f", up to {loss.ceiling:.3f}" if loss.ceiling < 1 - 1e-6 else ""
    families = {"softmax": "one softmax over the classes", "sigmoid": "one sigmoid per class"}
    return [
        ("formula", loss.formula),
        ("family", families[loss.family]),
        ("head", loss.head),
        ("link", f"{loss.link} ({posterior}{ceiling})"),
        ("class counts", "used" if loss.uses_class_counts else "not used"),
        ("random", "yes, two calls on a batch may differ" if loss.stochastic else "no"),
        (
            "batch",
            "a sample's loss may depend on the others"
            if loss.batchwise
            else "samples do not matter to others",
        ),
    ]


def _written(value: object) -> str:
    """A value as it is written in brackets."""
    if isinstance(value, tuple):
        return "/".join(map(str, value))
    return (
        f"{value:g}" if isinstance(value, float) else value if isinstance(value, str) else str(value).lower()
    )

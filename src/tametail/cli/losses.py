"""tametail losses: the losses, and one of them in detail."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from tametail.cli.command import command, print_page, print_table
from tametail.core.console import Console
from tametail.core.errors import as_usage_error
from tametail.core.options import JsonOptions

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tametail.losses import LossDescription


@command(JsonOptions, arguments=("loss_name",), example="tametail losses\ntametail losses alpa[variant=code]")
def losses(console: Console, /, loss_name: str | None, **options: Any) -> None:
    """List the losses, or describe one: formula, parameters, link, when to use it.

    The keys of --json: loss, summary, formula, family (softmax, sigmoid), head (linear, normalised), link, exact_link,
    ceiling, uses_class_counts, stochastic, batchwise, parameters (each: name, type, required, default, value,
    meaning), use, notes, reference. Without NAME it is a list of all losses.
    """
    from tametail.losses import describe_loss, describe_losses, failed_losses, list_losses

    if loss_name is None and not options["json"]:
        print_table(describe_losses())
        for message in failed_losses():
            typer.echo(f"Warning: {message}", err=True)
        return
    with as_usage_error():
        described = [describe_loss(text) for text in ([loss_name] if loss_name else list_losses())]
    if options["json"]:
        content: Any = [asdict(one) for one in described]
        typer.echo(
            json.dumps(content[0] if loss_name else content, indent=1, ensure_ascii=False, default=str)
        )
    else:
        print_page(_page(described[0]))


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
        "posterior probabilities at the loss's minimum" if loss.exact_link else "conventional, not exact"
    )
    ceiling = f", up to {loss.ceiling:.3f}" if loss.ceiling < 1 - 1e-6 else ""
    families = {"softmax": "one softmax over the classes", "sigmoid": "one sigmoid per class"}
    return [
        ("formula", loss.formula),
        ("family", families[loss.family]),
        ("head", loss.head),
        ("link", f"{loss.link} ({posterior}{ceiling})"),
        ("class counts", "used" if loss.uses_class_counts else "not used"),
        ("random", "yes, two calls on the same batch may differ" if loss.stochastic else "no"),
        (
            "batch",
            "a sample's loss may depend on other samples" if loss.batchwise else "samples are independent",
        ),
    ]


def _written(value: object) -> str:
    """A value as in a method's brackets."""
    if isinstance(value, tuple):
        return "/".join(map(str, value))
    return (
        f"{value:g}" if isinstance(value, float) else value if isinstance(value, str) else str(value).lower()
    )

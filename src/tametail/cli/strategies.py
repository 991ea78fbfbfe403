"""tametail strategies: what can be added to a loss with a plus sign."""

from __future__ import annotations

from tametail.cli.command import command, print_table
from tametail.core.console import Console


@command(example="tametail strategies")
def strategies(console: Console, /) -> None:
    """List the long-tail strategies, which are added to a loss with +: ce+la, ldam+drw, alpa+crt+la."""
    from tametail.training.strategies import list_strategies, strategy_summary

    print_table({name: strategy_summary(name) for name in list_strategies()})

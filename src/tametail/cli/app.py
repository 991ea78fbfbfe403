"""The command line. Heavy imports happen inside the commands, so that --help is quick."""

from __future__ import annotations

import gc
import os
import sys
import warnings
from typing import Annotated

from tametail.core.ranks import let_main_end, process_rank
from tametail.core.version import __version__

try:
    import typer

    from tametail.cli.command import EXIT_CODES
    from tametail.cli.compare import compare, resume, test_set
    from tametail.cli.evaluate import evaluate
    from tametail.cli.export import export, train
    from tametail.cli.gradients import gradients
    from tametail.cli.inspect import inspect
    from tametail.cli.launch import launch
    from tametail.cli.losses import losses
    from tametail.cli.monitor import monitor
    from tametail.cli.pack import pack
    from tametail.cli.predict import predict
    from tametail.cli.rank import rank
    from tametail.cli.recipe import list_, show
    from tametail.cli.recommend import recommend
    from tametail.cli.report import report
    from tametail.cli.reproduce import reproduce
    from tametail.cli.search import search
    from tametail.cli.share import share
    from tametail.cli.strategies import strategies
    from tametail.cli.subsample import subsample
    from tametail.cli.unlock import unlock
    from tametail.cli.work import status, work
except ModuleNotFoundError as missing:
    raise SystemExit(f"The command line needs {missing.name}: pip install 'tametail[train]'") from missing

_RARELY = (100_000, 50, 100)  # thresholds of the garbage collector

COMMANDS = (
    compare, resume, launch, work, status, recommend, search, test_set, report, share, unlock, train, export, predict, monitor, evaluate, rank, inspect, subsample, pack,
    reproduce, losses, strategies, gradients,
)  # fmt: skip

app = typer.Typer(
    name="tametail",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Compare methods for long-tailed medical images, and get a model to use.",
    epilog=EXIT_CODES,
)
recipe = typer.Typer(
    no_args_is_help=True,
    help="List the recipes, or show one as YAML that can be edited and passed to --recipe FILE.yaml.",
)
app.add_typer(recipe, name="recipe")
for _group, _commands in ((app, COMMANDS), (recipe, (list_, show))):
    for _command in _commands:
        _name = _command.__name__.rstrip("_").replace("_", "-")
        _settings = getattr(_command, "context_settings", None)
        _group.command(_name, epilog=getattr(_command, "epilog", None), context_settings=_settings)(_command)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"tametail {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line."""
    # The libraries that a command imports are hundreds of thousands of objects, which stay: searching them for garbage again
    # and again takes a fifth of a short command.
    gc.set_threshold(*_RARELY)
    if process_rank() == 0:
        app()
    # The main one of several processes prints for all; errors of this one alone are printed by `tametail.cli.command`.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    warnings.simplefilter("ignore")
    try:
        code = app(standalone_mode=False)
    except Exception as error:
        code = getattr(error, "exit_code", None)  # wrong usage
        if code is None:
            raise
        let_main_end()
    sys.exit(code or 0)

"""What all commands share: how their work is run, and what becomes of its errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from tametail.core.console import Console, printable
from tametail.core.errors import TametailError

INTERRUPTED = 130

Quiet = Annotated[bool, typer.Option("--quiet", help="Say nothing but errors and results.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]


def run(
    work: Callable[[Console], None], *, quiet: bool = False, debug: bool = False, interrupted: str = ""
) -> None:
    """Do a command's work; turn what a user can mend into a message and an exit code."""
    try:
        work(Console(quiet))
    except typer.Exit:  # a command's own exit code, as that of inspect
        raise
    except TametailError as error:
        if debug:
            raise
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        if debug:
            raise
        _fail(f"Interrupted. {interrupted}".strip(), INTERRUPTED, "")
    except ModuleNotFoundError as error:
        if debug:
            raise
        _fail(f"{error.name} is not installed; pip install 'tametail[train]'", 1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:  # the last resort: no traceback reaches a user unasked
        if debug:
            raise
        _fail(
            f"an unexpected {type(error).__name__}: {error}. Repeat with --debug to see where, and please report it.",
            1,
        )


def _fail(message: str, code: int, lead: str = "Error: ") -> None:
    typer.echo(f"{lead}{printable(message)}", err=True)
    raise typer.Exit(code)

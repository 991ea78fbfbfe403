"""What all commands share: parameters from declared options, help, and what becomes of errors."""

from __future__ import annotations

import inspect
import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from tametail.core.console import Console, printable, set_current_console
from tametail.core.errors import TametailError, UsageError
from tametail.core.interruption import exit_code, interruption_message, raise_on_signals
from tametail.core.option import Option, declared
from tametail.core.options import Arguments, VerbosityOptions
from tametail.core.ranks import let_main_end, process_count, process_rank

EXIT_CODES = (
    "Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 bad or missing data, 129, 130 or 143 interrupted "
    "(SIGHUP, Ctrl-C, SIGTERM)."
)
RESUMABLE = "Finished work is saved; repeat the command to continue."
REPEAT = "Every file is complete or as it was before; repeat the command."


def command(
    *groups: type,
    arguments: tuple[str, ...] = (),
    example: str,
    interrupted: str = REPEAT,
    given: bool = False,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a command of a function that takes a console and the options of classes of `tametail.core.options`.

    Args:
        groups: the classes.
        arguments: options that are positional arguments, in their order.
        example: command lines for the help, separated by line breaks.
        interrupted: advice after Ctrl-C, SIGTERM or SIGHUP.
        given: also pass the flags that were written on the command line, as ``given``.
    """
    known = declared(Arguments, *groups)
    names = [*arguments, *(name for name in declared(*groups) if name not in arguments)]
    options = [*(known[name] for name in names), *declared(VerbosityOptions).values()]

    def decorate(body: Callable[..., None]) -> Callable[..., None]:
        @wraps(body)
        def call(context: typer.Context, quiet: bool, debug: bool, **values: Any) -> None:
            if given:
                values["given"] = [one.flag for one in options if _is_written(context, one)]
            console = Console(quiet or process_rank() > 0, warnings=process_rank() == 0)
            set_current_console(console)
            _run(lambda: body(console, **values), debug=debug, interrupted=interrupted)

        context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
        parameters = [context, *(_parameter(one, positional=one.name in arguments) for one in options)]
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {one.name: one.annotation for one in parameters}
        call.__doc__ = _escaped(inspect.getdoc(body) or "")
        call.epilog = _escaped("\n\n".join(["Example:", *example.splitlines(), EXIT_CODES]))  # type: ignore[attr-defined]
        return call

    return decorate


def check_page_name(path: str, flag: str) -> None:
    """Refuse a name for a page that is not one of HTML."""
    if Path(path).suffix.lower() not in {".html", ".htm"}:
        raise UsageError(f"expected a page that ends in .html, got {path}; give another file with {flag}")


def print_page(parts: Iterable[Any]) -> None:
    """Print parts of a page by rich, in colour on a terminal, without spaces at the ends of lines."""
    from rich.console import Console as RichConsole

    terminal = RichConsole(highlight=False)
    with terminal.capture() as page:
        for part in parts:
            terminal.print(part)
    for line in page.get().removesuffix("\n").split("\n"):
        typer.echo(line.rstrip())


def print_table(rows: Mapping[str, str]) -> None:
    """Print names in one column, with a text on each."""
    width = max(map(len, rows))
    for name, text in rows.items():
        typer.echo(f"{name:{width}}  {text}")


def _parameter(option: Option, *, positional: bool) -> inspect.Parameter:
    """An option as typer wants it."""
    required = option.default is ...
    kind: Any = bool if option.is_flag else str
    if option.plural and (option.repeated or positional):
        kind = list[str]
    elif option.types in ({int}, {float}):
        (kind,) = option.types
    default = inspect.Parameter.empty if required else option.default
    shown = not (required or default is None or default is False)
    metavar = option.metavar or (option.name.upper() if positional else "" if option.is_flag else None)
    text: dict[str, Any] = {"help": _escaped(option.help), "show_default": shown, "metavar": metavar}
    if option.choices:
        text["autocompletion"] = lambda: list(option.choices)
    if positional:
        info = typer.Argument(**text)
    else:
        info = typer.Option(*option.flags, rich_help_panel=option.panel, **text)
    annotation = Annotated[Optional[kind], info] if default is None else Annotated[kind, info]  # noqa: UP045
    return inspect.Parameter(
        option.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


def _is_written(context: typer.Context, option: Option) -> bool:
    """Whether an option was given on the command line, even with its default value."""
    source = context.get_parameter_source(option.name)
    return source is not None and source.name == "COMMANDLINE"


def _escaped(text: str) -> str:
    """Text in which brackets are no markup."""
    return text.replace("[", "\\[")


def _run(work: Callable[[], None], *, debug: bool, interrupted: str) -> None:
    """Do a command's work; turn errors into a message and an exit code."""
    try:
        with raise_on_signals(interrupted):
            work()
            _leave(failed=False)
    except typer.Exit:  # a command's own exit code, as that of inspect
        raise
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (KeyboardInterrupt, Exception) as error:  # the last resort: no traceback without --debug
        if debug and isinstance(error, Exception):
            raise
        message, code = _explained(error, interrupted)
        if _fails_first(error):
            typer.echo(printable(message), err=True)
        _leave(failed=True)
        raise typer.Exit(code) from None


def _fails_first(error: BaseException) -> bool:
    """Whether the message of an error is to be printed: several processes print one."""
    if process_count() == 1:
        return True
    if isinstance(error, KeyboardInterrupt) and "torch.distributed" not in sys.modules:
        return process_rank() == 0  # all have just begun
    from tametail.training.peers import fails_first

    return fails_first(unexpected=not isinstance(error, TametailError | KeyboardInterrupt))


def _leave(*, failed: bool) -> None:
    """Part from the other processes, if any."""
    if "tametail.training.peers" in sys.modules:
        from tametail.training.peers import leave_peers

        leave_peers(failed=failed)
    elif failed:
        let_main_end()


def _explained(error: BaseException, interrupted: str) -> tuple[str, int]:
    """The message and the exit code of an error."""
    if isinstance(error, KeyboardInterrupt):
        return interruption_message(interrupted), exit_code(getattr(error, "number", signal.SIGINT))
    if isinstance(error, TametailError):
        return f"Error: {error}", error.exit_code
    if isinstance(error, ModuleNotFoundError):
        return f"Error: {error.name} is not installed; pip install 'tametail[train]'", 1
    return (
        f"Error: an unexpected {type(error).__name__}: {error}. Repeat with --debug to see where, and please report it.",
        1,
    )

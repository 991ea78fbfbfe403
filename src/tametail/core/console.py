"""Progress bars and messages on standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rich.console import Console as RichConsole


Advance = Callable[[int], None]


class Message(NamedTuple):
    """A line that a console was given, whether or not it was printed."""

    text: str
    warning: bool


def printable(text: str) -> str:
    """Replace control characters and changes of text direction, as names from outside may contain them."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def current_console() -> Console:
    """The console of the command that runs, for what is deep inside of it; silent in Python."""
    return _current


def set_current_console(console: Console) -> None:
    """Make a console the one of the command that runs."""
    global _current
    _current = console


class Console:
    """Messages and progress on standard error; nothing if ``quiet``, except for warnings where ``warnings`` is set."""

    def __init__(self, quiet: bool = False, *, warnings: bool = False) -> None:
        self.quiet = quiet
        self.warnings = warnings
        self._rich: RichConsole | None = None
        self._recorded: list[Message] | None = None

    @property
    def rich(self) -> RichConsole:
        """The terminal, created on first use."""
        if self._rich is None:
            from rich.console import Console as RichConsole

            self._rich = RichConsole(stderr=True, quiet=self.quiet, highlight=False)
        return self._rich

    def say(self, text: str) -> None:
        """Print one line."""
        self._record(text, warning=False)
        self.rich.print(printable(text), markup=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """Print one warning."""
        self._record(text, warning=True)
        rich = Console().rich if self.quiet and self.warnings else self.rich
        rich.print(f"Warning: {printable(text)}", style="yellow", markup=False, soft_wrap=True)

    @contextmanager
    def recorded(self) -> Iterator[list[Message]]:
        """Yield a list to which the lines and warnings of this block are added, for a page that repeats them."""
        found: list[Message] = []
        self._recorded = found
        try:
            yield found
        finally:
            self._recorded = None

    def _record(self, text: str, *, warning: bool) -> None:
        if self._recorded is not None:
            self._recorded.append(Message(printable(text), warning))

    @contextmanager
    def track(self, description: str, total: int) -> Iterator[Advance]:
        """Show a progress bar with the remaining time; yields a function to call with the number of steps just done."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.progress import TimeRemainingColumn as TimeLeft

        columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
        times = [TimeElapsedColumn(), TextColumn("left"), TimeLeft()]
        with Progress(*columns, *times, console=self.rich, disable=self.quiet) as progress:
            task = progress.add_task(description, total=total)
            yield lambda done: progress.advance(task, done)


_current = Console(quiet=True)

"""What a person sees while work goes on: lines and progress bars on standard error, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console as RichConsole


Advance = Callable[[int], None]


def printable(text: str) -> str:
    """Names from outside without what steers a terminal: control characters and changes of direction."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


class Console:
    """Talks to a person on standard error; says nothing when ``quiet``."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self._rich: RichConsole | None = None

    @property
    def rich(self) -> RichConsole:
        """The terminal, made on first use."""
        if self._rich is None:
            from rich.console import Console as RichConsole

            self._rich = RichConsole(stderr=True, quiet=self.quiet, highlight=False)
        return self._rich

    def say(self, text: str) -> None:
        """Print one line."""
        self.rich.print(printable(text), markup=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """Print one line that should not be missed."""
        self.rich.print(f"Warning: {printable(text)}", style="yellow", markup=False, soft_wrap=True)

    @contextmanager
    def track(self, description: str, total: int) -> Iterator[Advance]:
        """A bar with the time left; yields what to call with the number of steps just done."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.progress import TimeRemainingColumn as TimeLeft

        columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
        times = [TimeElapsedColumn(), TextColumn("left"), TimeLeft()]
        with Progress(*columns, *times, console=self.rich, disable=self.quiet) as progress:
            task = progress.add_task(description, total=total)
            yield lambda done: progress.advance(task, done)

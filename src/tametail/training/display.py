"""Progress of training runs on the console: progress bars on a terminal, log lines elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from tametail.core.console import Console, printable

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

    from tametail.training.history import EpochRecord

_REFRESH_SECONDS = 0.2  # minimum between two refreshes on a terminal
_LOG_SECONDS = 5.0  # minimum between two log lines
_SMOOTHING = 0.1  # weight of the newest step in moving averages


@dataclass
class _CurrentRun:
    """The current run, or the heads trained at once; ``seen`` is the number of images in the current epoch."""

    title: str
    epochs: int
    steps_per_epoch: int
    measure: str
    runs: int
    since: float
    epoch: int = 1
    step: int = 0
    seen: int = 0
    loss: float = math.nan
    lr: float = math.nan
    images: float = 0.0
    seconds: float = 0.0
    first: tuple[float, int] | None = None
    validated: tuple[str, ...] = ()

    @property
    def steps(self) -> int:
        return self.epochs * self.steps_per_epoch

    @property
    def epochs_done(self) -> float:
        return self.step / max(self.steps_per_epoch, 1)


@contextmanager
def show_training(console: Console, runs: int, epochs: int) -> Iterator[TrainingDisplay]:
    """Show the progress of ``runs`` runs with ``epochs`` epochs in total."""
    display = TrainingDisplay(console, runs, epochs)
    if console.quiet or not console.rich.is_terminal or console.rich.is_dumb_terminal:
        yield display
        return
    from rich.live import Live

    with Live(console=console.rich, auto_refresh=False) as live:
        yield display.drawn_on(live)


class TrainingDisplay:
    """Displays the progress of all runs and of the current one.

    On a terminal: progress bars and values, refreshed at most five times a second. Elsewhere: one log line per epoch, but
    at most one every five seconds, and one at the end of each run. Nothing when quiet.

    Args:
        console: output.
        runs, epochs: total numbers.
        clock: returns the time in seconds.
    """

    def __init__(
        self, console: Console, runs: int, epochs: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console
        self._runs, self._epochs = runs, epochs
        self._clock = clock
        self._started = clock()
        self._runs_done, self._epochs_done = 0, 0
        self._run: _CurrentRun | None = None
        self._live: Live | None = None
        self._last = -math.inf

    def drawn_on(self, live: Live) -> TrainingDisplay:
        """Use a live display instead of log lines; returns self."""
        self._live = live
        self._draw(now=True)
        return self

    def begin(
        self,
        title: str,
        epochs: int,
        steps_per_epoch: int,
        *,
        measure: str = "balanced accuracy",
        runs: int = 1,
    ) -> None:
        """Start or resume a run; one without training has 0 epochs.

        Args:
            measure: name of the metric in ``val_balanced_accuracy``.
            runs: number of runs trained at once.
        """
        self._run = _CurrentRun(printable(title), epochs, steps_per_epoch, measure, runs, self._clock())
        self._draw(now=True)

    def step(self, epoch: int, step: int, loss: float, lr: float, images: int) -> None:
        """Show a step, see `tametail.training.trainer.Callback.step`."""
        run, now = self._run, self._clock()
        if run is None or self._console.quiet:
            return
        run.epoch, run.step, run.lr = epoch + 1, epoch * run.steps_per_epoch + step + 1, lr
        run.loss = (
            loss if math.isnan(run.loss) or math.isnan(loss) else run.loss + _SMOOTHING * (loss - run.loss)
        )
        run.images += _SMOOTHING * (images - run.seen - run.images)
        run.seconds += _SMOOTHING * (now - run.since - run.seconds)
        run.seen, run.since = images, now
        run.first = run.first or (now, run.step)
        self._draw()

    def epoch(self, record: EpochRecord) -> None:
        """Show an epoch and its validation."""
        run = self._run
        if run is None or self._console.quiet:
            return
        found = {run.measure: record.val_balanced_accuracy, "few-shot classes": record.val_few_shot_recall}
        run.validated = tuple(
            f"{name} {100 * value:.1f} %" for name, value in found.items() if value is not None
        )
        run.epoch, run.step = record.epoch, record.epoch * run.steps_per_epoch
        if self._live is None and (self._clock() - self._last >= _LOG_SECONDS or record.epoch == run.epochs):
            speed = _speed(record.images_per_second)
            self._write(
                f"epoch {record.epoch}/{run.epochs}", *_figures(record.loss, record.lr, speed), *run.validated
            )
        run.seen, run.since = 0, self._clock()
        self._draw()

    def done(self) -> None:
        """End the current run, whether it succeeded or not."""
        run = self._run
        if run is None:
            return
        self._runs_done += run.runs
        self._epochs_done += run.epochs * run.runs
        if self._live is None and not run.step:  # nothing was shown of it
            self._write("done")
        self._run = None
        self._draw(now=True)

    def _write(self, *parts: str) -> None:
        assert self._run
        self._last = self._clock()
        at = min(self._runs_done + self._run.runs, self._runs)
        self._console.say(" · ".join([self._run.title, *parts, f"run {at}/{self._runs}", *self._time_left()]))

    def _draw(self, now: bool = False) -> None:
        if self._live and (now or self._clock() - self._last >= _REFRESH_SECONDS):
            self._last = self._clock()
            self._live.update(self._picture(), refresh=True)

    def _picture(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        run, rows = self._run, Table.grid(padding=(0, 1))
        gone = _duration(self._clock() - self._started)
        figures = [f"{self._runs_done}/{self._runs} runs", gone, *self._time_left()]
        bar = ProgressBar(max(self._epochs, 1), min(self._all_epochs_done(), self._epochs), width=24)
        rows.add_row(Text("Training"), bar, Text(" · ".join(figures)))
        if run is None:
            return rows
        at = [f"epoch {run.epoch}/{run.epochs}"] if run.epochs else []
        if run.first and run.step > run.first[1]:
            pace = (self._clock() - run.first[0]) / (run.step - run.first[1])
            at.append(f"{_duration(pace * (run.steps - run.step))} left")
        bar = ProgressBar(max(run.steps, 1), run.step, width=24)
        rows.add_row(Text(run.title, overflow="ellipsis", no_wrap=True), bar, Text(" · ".join(at)))
        if not run.step:
            return rows
        speed = _speed(run.images / run.seconds if run.seconds else 0.0)
        step = f"step {run.step}/{run.steps}"
        return Group(rows, Text(" · ".join([step, *_figures(run.loss, run.lr, speed), *run.validated])))

    def _all_epochs_done(self) -> float:
        return self._epochs_done + (self._run.epochs_done * self._run.runs if self._run else 0.0)

    def _time_left(self) -> list[str]:
        done = self._all_epochs_done()
        if not done:
            return []
        pace = (self._clock() - self._started) / done
        return [f"{_duration(pace * max(self._epochs - done, 0))} left"]


def _figures(loss: float, lr: float, speed: list[str]) -> list[str]:
    # A head that is trained to its minimum has no learning rate, and no loss before it is there.
    known = [] if math.isnan(loss) else [f"loss {loss:.4g}"]
    return [*known, *([f"lr {lr:.3g}"] if lr else []), *speed]


def _speed(images_per_second: float) -> list[str]:
    return [f"{images_per_second:,.0f} images/s"] if images_per_second else []


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))

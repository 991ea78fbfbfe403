"""What is shown while a training goes on, on a terminal and in a log."""

from __future__ import annotations

import io

import pytest
from rich.console import Console as RichConsole
from rich.live import Live

from tametail.core.console import Console
from tametail.training.display import TrainingDisplay, show_training
from tametail.training.history import EpochRecord


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal:
    """A console that writes to a text, and how often it was drawn on."""

    def __init__(self, terminal: bool) -> None:
        self.text = io.StringIO()
        self.console = Console()
        self.console._rich = RichConsole(
            file=self.text, force_terminal=terminal, width=120, color_system=None, highlight=False
        )

    @property
    def lines(self) -> list[str]:
        return self.text.getvalue().splitlines()


def one_run(
    display: TrainingDisplay, clock: Clock, *, seconds: float, title: str = "ce seed 0 fold 1"
) -> None:
    """Three epochs of four steps of ten images."""
    display.begin(title, 3, 4)
    for epoch in range(3):
        for step in range(4):
            clock.now += seconds
            display.step(epoch, step, 1.0, 1e-3, 10 * (step + 1))
        display.epoch(
            EpochRecord(epoch + 1, 4 * (epoch + 1), 0.5, 1e-3, 4 * seconds, 10 / seconds, 0.625, 0.25)
        )
    display.done()


def test_a_log_has_a_line_per_epoch() -> None:
    seen, clock = Terminal(terminal=False), Clock()
    one_run(TrainingDisplay(seen.console, 2, 6, clock), clock, seconds=5)
    assert len(seen.lines) == 3
    assert seen.lines[1] == (
        "ce seed 0 fold 1 · epoch 2/3 · loss 0.5 · lr 0.001 · 2 images/s · balanced accuracy 62.5 % · few-shot classes 25.0 % "
        "· run 1/2 · 0:01:20 left"
    )


def test_a_log_of_quick_epochs_has_a_line_per_run() -> None:
    seen, clock = Terminal(terminal=False), Clock()
    display = TrainingDisplay(seen.console, 3, 9, clock)
    for number in range(3):
        one_run(display, clock, seconds=0.01, title=f"ce seed {number}")
    assert [line.split(" · ")[:2] for line in seen.lines] == [
        ["ce seed 0", "epoch 1/3"],  # that it has begun
        ["ce seed 0", "epoch 3/3"],
        ["ce seed 1", "epoch 3/3"],
        ["ce seed 2", "epoch 3/3"],
    ]


def test_a_run_without_steps_is_said_when_it_is_done() -> None:
    seen = Terminal(terminal=False)
    display = TrainingDisplay(seen.console, 1, 0)
    display.begin("ce+crt seed 0 fold 0", 0, 0)
    display.done()
    assert seen.lines == ["ce+crt seed 0 fold 0 · done · run 1/1"]


def test_a_terminal_is_drawn_on_at_most_five_times_a_second() -> None:
    seen, clock = Terminal(terminal=True), Clock()
    drawn = []

    class Counted(Live):
        def update(self, renderable: object, *, refresh: bool = False) -> None:
            drawn.append(clock.now)
            super().update(renderable, refresh=refresh)  # type: ignore[arg-type]

    with Counted(console=seen.console.rich, auto_refresh=False) as live:
        display = TrainingDisplay(seen.console, 1, 1, clock).drawn_on(live)
        display.begin("ce", 1, 1000)
        for step in range(1000):
            clock.now += 0.001
            display.step(0, step, 1.0, 1e-3, step + 1)
        assert 5 <= len(drawn) <= 8


def test_a_terminal_shows_all_runs_and_the_one_at_hand() -> None:
    seen, clock = Terminal(terminal=True), Clock()
    with Live(console=seen.console.rich, auto_refresh=False) as live:
        display = TrainingDisplay(seen.console, 2, 6, clock).drawn_on(live)
        one_run(display, clock, seconds=1)
        display.begin("ldam+drw seed 0 fold 1", 3, 4)
        display.step(0, 0, 2.0, 1e-3, 10)
        clock.now += 1
        seen.text.truncate(0)
        display.step(0, 1, 1.0, 2e-3, 20)
    picture = seen.text.getvalue()
    for part in (
        "1/2 runs · 0:00:13 · 0:00:09 left",
        "ldam+drw seed 0 fold 1",
        "epoch 1/3 · 0:00:10 left",
        "step 2/12 · loss 1.9 · lr 0.002 · 19 images/s",
    ):
        assert part in picture


def test_titles_cannot_steer_a_terminal_nor_be_taken_for_markup() -> None:
    for terminal in (False, True):
        seen, clock = Terminal(terminal), Clock()
        with Live(console=seen.console.rich, auto_refresh=False) as live:
            display = TrainingDisplay(seen.console, 1, 3, clock)
            one_run(
                display.drawn_on(live) if terminal else display, clock, seconds=9, title="a\x1b[31m[b]c[/b]"
            )
        assert "\x1b[31m" not in seen.text.getvalue()
        assert "[b]c[/b]" in seen.text.getvalue()


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with show_training(Console(quiet=True), 1, 3) as display:
        one_run(display, clock, seconds=9)
    assert capsys.readouterr() == ("", "")


def test_a_pipe_gets_lines_and_no_control_characters(capfd: pytest.CaptureFixture[str]) -> None:
    with show_training(Console(), 1, 3) as display:
        one_run(display, Clock(), seconds=0.5)
    assert "\x1b" not in (text := capfd.readouterr().err)
    assert text.splitlines()[-1].startswith("ce seed 0 fold 1 · epoch 3/3")

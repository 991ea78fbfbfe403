"""Ctrl-C, SIGTERM and SIGHUP at any time: one line, no traceback, exit code 128 + number, and what is done is saved."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from fixtures.forked import fork_server
from fixtures.tiny_study import STEP_BY_STEP, TINY, words

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
DELAYS = (0.01, 0.3, 1.0)  # before, during and after the imports of the command line
COMPARE = [*words(TINY), "--methods", "ce", "--folds", "2", "--epochs", "2", "--lr", "0.01"]
START = """
import signal
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored where the tests are started by nohup
import tametail.__main__ as command
print("started", flush=True)
command.main()
"""


@pytest.mark.slow
def test_while_it_starts_one_line_is_printed(image_folder: Path, tmp_path: Path) -> None:
    processes = []
    for number in SIGNALS:
        for delay in DELAYS:
            out = tmp_path / f"{number}-{delay}"
            call = [sys.executable, "-c", START, "compare", image_folder, "-o", out, *COMPARE]
            processes.append((number, delay, subprocess.Popen(call, stdout=-1, stderr=-1, text=True)))
    for number, delay, process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        time.sleep(delay)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 128 + number, errors
        assert "Traceback" not in errors
        assert errors.splitlines()[-1].startswith("Interrupted.")
        assert errors.count("Interrupted.") == 1


def during(place: str, body: str, *command: object, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command in which one function is replaced by others' doing."""
    module, _, name = place.rpartition(".")
    script = f"""
import os, signal, sys
from importlib import import_module
module = import_module({module!r})
real = getattr(module, {name!r})
def replaced(*given, **options):
{textwrap.indent(textwrap.dedent(body), "    ")}
    return real(*given, **options)
setattr(module, {name!r}, replaced)
{before}
sys.argv[1:] = {[str(word) for word in command]!r}
from tametail.__main__ import main
main()
"""
    return fork_server().run("-c", script, directory=Path.cwd())


@pytest.mark.parametrize(
    ("number", "place", "finished"),
    [
        (signal.SIGHUP, "tametail.study.inputs.cached_features", 0),
        (signal.SIGTERM, "tametail.report.study.write.read_results", 2),  # the statistics
        (signal.SIGINT, "tametail.report.study.write.metrics_json", 2),
    ],
)
def test_during_the_work_what_is_done_is_saved(
    image_folder: Path, tmp_path: Path, number: signal.Signals, place: str, finished: int
) -> None:
    out = tmp_path / "study"
    ended = during(place, f"os.kill(os.getpid(), {number:d})", "compare", image_folder, "-o", out, *COMPARE)
    assert ended.returncode == 128 + number, ended.stderr
    assert ended.stderr.splitlines()[-1] == (
        "Interrupted. Finished work is saved; repeat the command to continue."
    )
    assert "Traceback" not in ended.stderr
    assert len(list(out.glob("runs/ce/seed*/predictions.parquet"))) == finished
    assert not list(out.rglob("*.tmp"))


TWICE = """
    try:
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        os.kill(os.getpid(), signal.SIGINT)
"""


@pytest.mark.parametrize(
    ("place", "body"),
    [
        ("tametail.report.write_report", TWICE),
        ("typer.echo", "os.kill(os.getpid(), signal.SIGINT)"),  # again while the line is printed
    ],
)
def test_a_second_one_prints_one_line_too(study_folder: Path, place: str, body: str) -> None:
    stop = "def stop(*_, **__): os.kill(os.getpid(), signal.SIGINT)\n"
    before = f"{stop}sys.modules['tametail.report'].write_report = stop" if place == "typer.echo" else ""
    ended = during(place, body, "report", study_folder, before=before)
    assert ended.returncode == 130
    assert ended.stderr.startswith("Interrupted.")
    assert ended.stderr.count("\n") == 1


def test_an_import_that_hides_the_exception_cannot_go_on(tmp_path: Path, study_folder: Path) -> None:
    (tmp_path / "hides.py").write_text(
        "import os, signal\ntry:\n    os.kill(os.getpid(), signal.SIGTERM)\nexcept BaseException:\n    pass\n"
    )
    body = f"sys.path.insert(0, {str(tmp_path)!r})\nimport hides"
    ended = during("tametail.report.write_report", body, "report", study_folder)
    assert (ended.returncode, ended.stdout) == (143, "")
    assert ended.stderr.startswith("Interrupted.")


def test_with_nohup_the_hangup_is_ignored(study_folder: Path, tmp_path: Path) -> None:
    ended = during(
        "tametail.report.write_report",
        "os.kill(os.getpid(), signal.SIGHUP)",
        "report",
        study_folder,
        before="signal.signal(signal.SIGHUP, signal.SIG_IGN)",
    )
    assert (ended.returncode, ended.stdout) == (0, f"{study_folder / 'report.html'}\n"), ended.stderr


def test_in_python_no_further_handler_is_replaced() -> None:
    from tametail.training.checkpointing.checkpointer import stop_on_signals

    before = signal.getsignal(signal.SIGHUP)
    with stop_on_signals():
        assert signal.getsignal(signal.SIGHUP) is before


def test_where_the_terminal_is_gone_it_still_saves(image_folder: Path, tmp_path: Path) -> None:
    ended = during(
        "tametail.training.heads.head_training.save_or_stop",
        "if terminal:\n    os.close(terminal.pop())",  # the system sends SIGHUP, and to print is an error
        *("compare", image_folder, "-o", tmp_path / "study", *COMPARE, "--set", STEP_BY_STEP),
        before="""
import fcntl, termios
os.setsid()
terminal, end = os.openpty()
terminal = [terminal]
fcntl.ioctl(end, termios.TIOCSCTTY, 0)
for stream in (0, 1, 2):
    os.dup2(end, stream)
os.close(end)
""",
    )
    assert ended.returncode == 129
    assert list(tmp_path.glob("study/runs/ce/*/*"))

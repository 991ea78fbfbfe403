"""tametail launch: what it refuses, and that the processes' error and exit code are its own.

Studies of several processes are in tests/study/test_several_processes.py.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cli.test_app import run


def test_only_commands_for_several_processes_are_launched() -> None:
    code, _, errors = run("launch", "--processes", "2", "search", "demo", "--loss", "alpa")
    assert code == 2
    assert "expected compare or resume after the options of launch, got 'search'" in errors


@pytest.mark.parametrize(
    ("words", "message"), [([], "got none; give their number"), (["--processes", "0"], "at least 1, got 0")]
)
def test_a_number_of_processes_is_needed(
    monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    code, _, errors = run("launch", *words, "compare", "demo")
    assert code == 2
    assert message in errors


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["missing"], 3, "Error: expected a folder or a CSV file at missing, but nothing is there"),
        (["demo", "--lable-col", "dx"], 2, "--label-col"),
    ],
)
@pytest.mark.slow
def test_an_error_of_all_processes_is_printed_once(
    tmp_path: Path, words: list[str], code: int, message: str
) -> None:
    call = [sys.executable, "-m", "tametail", "launch", "--processes", "2", "compare", *words]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == code
    assert done.stdout == ""
    assert message in done.stderr
    assert done.stderr.count("Error") == 1

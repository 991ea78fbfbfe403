"""Help, bad usage and shell completion."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from cli.test_app import run
from tametail.cli.app import COMMANDS

NAMES = [command.__name__.replace("_", "-") for command in COMMANDS]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_an_example_and_the_exit_codes(name: str) -> None:
    code, output, _ = run(name, "--help")
    said = " ".join(output.split())
    assert code == 0
    assert f"tametail {name}" in said.partition("Example:")[2]
    assert "Exit codes: 0 done, 1 failed, 2 wrong usage" in said


def test_flags_are_shown_as_flags() -> None:
    _, output, _ = run("search", "--help")
    assert "--halving" in output
    assert "--no-halving" not in output
    assert "--no-validate" in run("compare", "--help")[1]


@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        (["compare", "demo", "--lable-col", "dx"], "--label-col"),
        (["compare", "demo", "--fold", "3"], "--folds"),
        (["comapre", "demo"], "compare"),
    ],
)
def test_bad_usage_ends_in_2_and_names_the_nearest(words: list[str], nearest: str) -> None:
    code, _, errors = run(*words)
    assert code == 2
    assert nearest in errors


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("tametail comp", "compare"),
        ("tametail compare --label", "--label-col"),
        ("tametail search --sampler ", "random"),
    ],
)
def test_a_shell_completes_commands_and_options(typed: str, expected: str) -> None:
    words = typed.split(" ")
    completion = {
        "_TAMETAIL_COMPLETE": "complete_bash",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(words) - 1),
    }
    script = "from tametail.cli.app import app; app(prog_name='tametail')"
    found = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | completion,
        capture_output=True,
        text=True,
        check=False,
    )
    assert expected in found.stdout.split()

"""tametail test-set: the held-out test set of a study."""

from __future__ import annotations

from typing import Any

from tametail.cli.command import command
from tametail.cli.compare import show_study
from tametail.core.console import Console
from tametail.core.options import TestSetOptions


@command(
    TestSetOptions,
    arguments=("study",),
    example="tametail test-set runs/skin",
    interrupted="The evaluation is recorded; repeat the command to continue.",
)
def test_set(console: Console, /, **options: Any) -> None:
    """Evaluate a study on its held-out test set. Every evaluation is recorded and counted in the report."""
    from tametail.study import study

    show_study(study.evaluate_test_set(console=console, **options))

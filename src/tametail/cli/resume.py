"""tametail resume: the rest of an interrupted study."""

from __future__ import annotations

from typing import Any

from tametail.cli.command import command
from tametail.cli.compare import RESUMABLE, show_study
from tametail.core.console import Console
from tametail.core.options import ResumeOptions


@command(ResumeOptions, arguments=("study",), example="tametail resume runs/skin", interrupted=RESUMABLE)
def resume(console: Console, /, **options: Any) -> None:
    """Resume an interrupted study with its original settings."""
    from tametail.study import study

    show_study(study.resume(console=console, **options))

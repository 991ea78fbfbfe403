"""The pytest option ``--loss``; pytest finds this module by the entry point ``pytest11`` of tametail."""

from __future__ import annotations

import contextlib

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--loss``, unless another plugin has an option of that name."""
    with contextlib.suppress(ValueError):
        parser.getgroup("tametail").addoption(
            "--loss",
            action="append",
            metavar="NAME",
            help="for --pyargs tametail.testing: a loss to test, a registered name or package.module:Class, with "
            "[parameter=value,...] or without; may be repeated (default: all registered losses)",
        )

"""A page in a browser with what it asked for and complained of, and names that would do harm on one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

HOSTILE = ("<script>alert(1)</script>", "=cmd()", '"><img src=x onerror=alert(2)>', "白血球 $x$ & y")


@dataclass
class Opened:
    """A page, and what it did that a report should not do."""

    page: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


Open = Callable[..., Opened]

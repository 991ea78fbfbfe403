"""What an audit found: one entry for each kind of trouble."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Severity = Literal["unsafe", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("unsafe", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One kind of trouble and all that it concerns.

    Attributes:
        code: stable name, such as ``exact_duplicates``.
        severity: ``unsafe``, training on this would give wrong or flattering numbers; ``warning``, look at it;
            ``note``, good to know.
        what: what was found, with numbers.
        advice: what to do; empty where there is nothing to be done.
        concerned: sets of what it is about: image ids, or class or column names. A set has one member where each
            stands alone.
        details: a word on each set, or nothing at all.
    """

    code: str
    severity: Severity
    what: str
    advice: str = ""
    concerned: tuple[tuple[str, ...], ...] = ()
    details: tuple[str, ...] = ()

    def in_short(self) -> dict[str, str | int]:
        """As a study keeps it: how many it concerns, not which."""
        return {
            "code": self.code,
            "severity": self.severity,
            "what": self.what,
            "advice": self.advice,
            "concerned": len(self.concerned),
        }


def in_order(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The gravest first, else in the order given."""
    return tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))


def singles(names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Each name as a set of its own."""
    return tuple((name,) for name in names)


def counted(number: int, one: str, many: str) -> str:
    """``1 image``, ``2 images``."""
    return f"{number:,} {one if number == 1 else many}"

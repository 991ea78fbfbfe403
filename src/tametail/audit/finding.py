"""Findings of an audit: one for each kind of problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Severity = Literal["unsafe", "warning", "note"]
LEAKS = frozenset(
    {
        "duplicates_cross_groups", "duplicates_cross_split", "groups_cross_split", "grouped_by_name", "names_cross_split",
        "possible_ids", "unused_ids",
    }
)  # fmt: skip
"""Codes of findings that the same patient may be in both the training set and the test set."""
SEVERITIES: tuple[Severity, ...] = ("unsafe", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One kind of problem and everything that it affects.

    Attributes:
        code: stable name, such as ``exact_duplicates``.
        severity: ``unsafe``, training would give wrong or optimistic results; ``warning``, to be checked; ``note``, for
            information.
        message: what was found, with numbers.
        advice: what to do; empty if nothing needs to be done.
        affected: sets of image ids, or of class or column names; sets of one where no others belong to it.
        details: a text on each set, or empty.
    """

    code: str
    severity: Severity
    message: str
    advice: str = ""
    affected: tuple[tuple[str, ...], ...] = ()
    details: tuple[str, ...] = ()

    def summary(self) -> dict[str, str | int]:
        """As JSON for study.json: the number of sets affected, not their members."""
        return {
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            "advice": self.advice,
            "affected": len(self.affected),
        }


def by_severity(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Sort by severity, the most severe first; equal ones keep their order."""
    return tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))


def singles(names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Each name as a set of one."""
    return tuple((name,) for name in names)

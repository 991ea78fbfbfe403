"""Sections of the page of a study, in a registry to which packages can add theirs.

A package adds a section by an entry point of the group ``tametail.report_sections``, or by calling
`register_report_section` with an object that has the attributes of `ReportSection`. Its section follows the built-in ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from tametail.core.registry import Registry
from tametail.evaluation import METRICS
from tametail.report.study.results import StudyResults


class ReportSection(Protocol):
    """A part of the page of a study or an evaluation.

    Attributes:
        id: unique; the ``id`` of its ``<section>``, which the contents link to.
        title: in the contents.
        template: name of a built-in template, or ``package:path/to/template.html.j2`` for a file in a package.
    """

    @property
    def id(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def template(self) -> str: ...

    def context(self, results: StudyResults) -> Mapping[str, Any] | None:
        """Variables of the template, besides those that all sections share; None to leave the section out."""


@dataclass(frozen=True)
class Section:
    """A section whose context is a function of the results; see `ReportSection`."""

    id: str
    title: str
    template: str
    make_context: Callable[[StudyResults], Mapping[str, Any] | None]

    def context(self, results: StudyResults) -> Mapping[str, Any] | None:
        """Call the function."""
        return self.make_context(results)


REPORT_SECTIONS: Registry[ReportSection] = Registry(
    "report_sections",
    built_in=("tametail.report.study.sections",),
    name_of=lambda section: section.id,
)
register_report_section = REPORT_SECTIONS.register


def unavailable() -> list[str]:
    """Why metrics or report sections of installed packages are missing, one message each."""
    return [message for registry in (METRICS, REPORT_SECTIONS) for message in registry.why_missing()]

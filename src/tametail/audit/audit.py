"""The audit of a table of images: `audit` runs all checks and returns an `AuditResult`."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from tametail.audit.class_distribution import ClassDistribution, class_distribution
from tametail.audit.duplicates import Duplicates, find_duplicates, merge_groups
from tametail.audit.finding import SEVERITIES, Finding, by_severity
from tametail.audit.image_checks import check_identifiers, check_images
from tametail.audit.image_stats import FileStats, ImageStats
from tametail.audit.patient_ids import check_names
from tametail.audit.stats_cache import cached_stats, recall_copies
from tametail.audit.table_checks import check_table
from tametail.core.console import Console
from tametail.core.option import pick, takes
from tametail.core.options import AuditOptions, ReadImagesOptions
from tametail.data.decoding.cache import table_contents
from tametail.data.reading import GIVEN
from tametail.data.table import ImageTable

INSPECT_SCHEMA = "tametail.inspect/3"


@dataclass(frozen=True, eq=False)
class AuditResult:
    """What `audit` found.

    Attributes:
        table: the table that was checked; with duplicates in one group if this was requested.
        folds: number of cross-validation folds that the classes were checked for.
        distribution: counts per class and measures of imbalance.
        stats: statistics of each file.
        duplicates: exact and near duplicates.
        findings: sorted by severity, the most severe first.
    """

    table: ImageTable
    folds: int
    distribution: ClassDistribution
    stats: ImageStats
    duplicates: Duplicates
    findings: tuple[Finding, ...]

    def __repr__(self) -> str:
        counts = Counter(finding.severity for finding in self.findings)
        found = ", ".join(f"{counts[severity]} {severity}" for severity in SEVERITIES)
        return f"AuditResult({self.table.name!r}, {len(self.table)} images, findings: {found})"

    @property
    def safe(self) -> bool:
        """Whether no finding makes training unsafe."""
        return all(finding.severity != "unsafe" for finding in self.findings)

    def formats(self) -> dict[str, int]:
        """Readable files by format and pixel mode, the most frequent first."""
        formats = (f"{file.kind or 'unknown'} {file.mode}".strip() for file in self._readable())
        return dict(Counter(formats).most_common())

    def sizes(self) -> dict[str, tuple[int, int, int]]:
        """Smallest, median and largest width and height of the readable files, in pixels."""
        files = self._readable()
        sizes = {}
        for side in ("width", "height"):
            values = np.array([getattr(file, side) for file in files] or [0])
            sizes[side] = (int(values.min()), int(np.median(values)), int(values.max()))
        return sizes

    def _readable(self) -> list[FileStats]:
        return [file for file in self.stats.files if file.error is None]

    def as_dict(self) -> dict[str, Any]:
        """As JSON; docs/data.md describes the schema."""
        labels = self.table.frame["label"].tolist()
        images = self.table.images

        def conflicting(sets: tuple[tuple[int, ...], ...]) -> int:
            return sum(len({labels[row] for row in rows}) > 1 for rows in sets)

        ratio = self.distribution.imbalance_ratio
        exact, near, merged = self.duplicates.exact, self.duplicates.near, self.duplicates.merged
        return {
            "schema": INSPECT_SCHEMA,
            "name": self.table.name,
            "fingerprint": self.table.fingerprint,
            "safe": self.safe,
            "folds": self.folds,
            "images": len(self.table),
            "readable": len(self._readable()),
            "groups": len(set(self.table.groups.tolist())),
            "groups_of_several_images": int((self.table.frame["group"].value_counts() > 1).sum()),
            "multi_label": self.table.multi_label,
            "reading": (self.table.reading or GIVEN).as_dict(),
            "splits": dict(Counter(self.table.frame["split"].tolist())),
            "imbalance_ratio": ratio if np.isfinite(ratio) else None,
            "gini": self.distribution.gini,
            "effective_classes": self.distribution.effective_classes,
            "classes": [dataclasses.asdict(one) for one in self.distribution.classes],
            "formats": self.formats(),
            "sizes": {side: list(values) for side, values in self.sizes().items()},
            "duplicates": {
                "exact_sets": len(exact),
                "exact_files": sum(map(len, exact)),
                "exact_conflicting": conflicting(exact),
                "near_pairs": len(near),
                "changed_pairs": dict(Counter(self.duplicates.changes)),
                "sets": len(merged),
                "conflicting": conflicting(merged),
                "members": [images[list(rows)].tolist() for rows in merged],
            },
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
        }


@takes(AuditOptions)
def audit(
    data: str | Path | ImageTable,
    *,
    stats: ImageStats | None = None,
    console: Console | None = None,
    **options: Unpack[AuditOptions],
) -> AuditResult:
    """Check a data set before training.

    It reads every image and reports duplicates across groups or splits, unreadable or blank images, text in the
    pixels, identifying DICOM headers, small classes, similar class names and unused patient ids.

    Args:
        data: what `tametail.read_images` takes, or a table; for all findings one read with ``allow_leaks=True``.
        stats: statistics of these images, if they are known already.
        console: where progress is shown; None for silence.
        options: see below.

    Returns:
        The findings, with the class distribution and the statistics they are based on. ``result.safe`` is False if
        training on the table would give wrong or optimistic results.

    Example:
        >>> result = tt.audit("skin/", label_col="dx")
        >>> [finding.message for finding in result.findings]
    """
    if isinstance(data, ImageTable):
        table = data
    else:
        from tametail.data import read_images

        table = read_images(data, **pick(ReadImagesOptions, options), allow_leaks=True)
    if stats is None:
        digests, bit_depth = table_contents(table)
        table = table.read_at(bit_depth)
        with (console or Console(quiet=True)).track("Images", len(table)) as advance:
            stats = cached_stats(table.paths, digests, bit_depth=table.bit_depth, advance=advance)
        duplicates = find_duplicates(stats, recall=partial(recall_copies, bit_depth=table.bit_depth))
    else:
        duplicates = find_duplicates(stats)
    # Before duplicates are grouped, which makes groups where none were given.
    by_name = list(check_names(table))
    if options["group_duplicates"]:
        table = merge_groups(table, duplicates)
    readable = table.take(stats.readable)
    findings = [
        *check_table(readable if len(readable) else table, options["folds"]),
        *by_name,
        *check_images(table, stats, duplicates),
        *check_identifiers(table, stats),
    ]
    return AuditResult(
        table, options["folds"], class_distribution(readable), stats, duplicates, by_severity(findings)
    )

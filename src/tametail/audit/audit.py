"""The audit of a table of images: what is in it, how long its tail is, and what is wrong with it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tametail.audit.duplicates import Duplicates, find_duplicates, group_duplicates
from tametail.audit.finding import Finding, in_order
from tametail.audit.identifiers import check_identifiers
from tametail.audit.image_checks import check_images
from tametail.audit.image_stats import ImageStats, collect
from tametail.audit.patient_ids import check_names
from tametail.audit.table_checks import check_table
from tametail.audit.tail import Tail, tail_of
from tametail.data.table import ImageTable

SCHEMA = "tametail.inspect/1"


@dataclass(frozen=True, eq=False)
class Audit:
    """What is known of a table.

    Attributes:
        table: as it would be trained on; with its duplicates in one group where that was asked for.
        folds: the cross-validation that it was checked for.
        tail: counts per class.
        facts: one look at each file.
        duplicates: exact and near.
        findings: the gravest first.
    """

    table: ImageTable
    folds: int
    tail: Tail
    facts: ImageStats
    duplicates: Duplicates
    findings: tuple[Finding, ...]

    @property
    def safe(self) -> bool:
        """Whether nothing was found that makes training unsafe."""
        return all(finding.severity != "unsafe" for finding in self.findings)

    def kinds(self) -> dict[str, int]:
        """Readable files by format and pixel mode, the most frequent first."""
        looks = (look for look in self.facts.looks if look.error is None)
        return dict(Counter(f"{look.kind or 'unknown'} {look.mode}".strip() for look in looks).most_common())

    def sizes(self) -> dict[str, tuple[int, int, int]]:
        """Smallest, median and largest width and height of the readable files, in pixels."""
        looks = [look for look in self.facts.looks if look.error is None]
        found = {}
        for side in ("width", "height"):
            values = np.array([getattr(look, side) for look in looks] or [0])
            found[side] = (int(values.min()), int(np.median(values)), int(values.max()))
        return found

    def as_dict(self) -> dict[str, Any]:
        """The JSON form; docs/data.md states its schema."""
        readable = sum(look.error is None for look in self.facts.looks)
        labels = self.table.frame["label"].tolist()
        images = self.table.images

        def conflicting(sets: tuple[tuple[int, ...], ...]) -> int:
            return sum(len({labels[row] for row in rows}) > 1 for rows in sets)

        exact, near, joined = self.duplicates.exact, self.duplicates.near, self.duplicates.joined
        return {
            "schema": SCHEMA,
            "name": self.table.name,
            "fingerprint": self.table.fingerprint,
            "safe": self.safe,
            "folds": self.folds,
            "images": len(self.table),
            "readable": readable,
            "groups": len(set(self.table.groups.tolist())),
            "groups_of_several_images": int((self.table.frame["group"].value_counts() > 1).sum()),
            "multi_label": self.table.multi_label,
            "splits": dict(Counter(self.table.frame["split"].tolist())),
            "imbalance_ratio": self.tail.ratio if np.isfinite(self.tail.ratio) else None,
            "gini": self.tail.gini,
            "effective_classes": self.tail.effective_classes,
            "classes": [dataclasses.asdict(one) for one in self.tail.classes],
            "formats": self.kinds(),
            "sizes": {side: list(values) for side, values in self.sizes().items()},
            "duplicates": {
                "exact_sets": len(exact),
                "exact_files": sum(map(len, exact)),
                "exact_conflicting": conflicting(exact),
                "near_pairs": len(near),
                "sets": len(joined),
                "conflicting": conflicting(joined),
                "members": [images[list(rows)].tolist() for rows in joined],
            },
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
        }


def audit_table(
    table: ImageTable,
    *,
    folds: int = 5,
    join_duplicates: bool = False,
    facts: ImageStats | None = None,
    advance: Callable[[int], None] | None = None,
) -> Audit:
    """Look at every image of a table and check it.

    Args:
        folds: k of the cross-validation that is to be possible.
        join_duplicates: put duplicates in one group first.
        facts: of these images, where they are known already.
        advance: called with the number of images done since the last call.
    """
    facts = collect(table.paths, advance=advance) if facts is None else facts
    duplicates = find_duplicates(facts)
    # Before duplicates are joined, which makes groups where none were given.
    by_name = list(check_names(table))
    if join_duplicates:
        table = group_duplicates(table, duplicates)
    readable = table.take(facts.readable)
    findings = [
        *check_table(readable if len(readable) else table, folds),
        *by_name,
        *check_images(table, facts, duplicates),
        *check_identifiers(table, facts),
    ]
    return Audit(table, folds, tail_of(readable), facts, duplicates, in_order(findings))

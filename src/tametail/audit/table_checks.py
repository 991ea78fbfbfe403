"""Checks of the table alone: leaks, classes that are too small, similar labels, and columns of ids."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations

from tametail.audit.finding import Finding, counted, singles
from tametail.audit.patient_ids import check_columns
from tametail.audit.spelling import same_word
from tametail.core.errors import DataError
from tametail.data.splitting.splits import check_folds
from tametail.data.table import ImageTable

_SMALL_CLASS = 30  # images; with fewer, confidence intervals of a class are wide


def check_table(table: ImageTable, folds: int) -> Iterator[Finding]:
    """All checks that need no image."""
    yield from _crossing_groups(table)
    yield from _too_small(table, folds)
    yield from _similar_labels(table)
    yield from check_columns(table)


def _crossing_groups(table: ImageTable) -> Iterator[Finding]:
    sides: dict[str, set[bool]] = defaultdict(set)
    for group, split in zip(table.groups.tolist(), table.frame["split"], strict=True):
        sides[group].add(split == "test")
    crossing = sorted(group for group, tested in sides.items() if len(tested) > 1)
    if crossing:
        images = table.frame.groupby("group")["image"].apply(tuple)
        yield Finding(
            "groups_cross_split",
            "unsafe",
            f"{counted(len(crossing), 'group has', 'groups have')} images both in the given test set and outside it",
            "put each group on one side, or remove the split column so that tametail splits the groups",
            tuple(images[group] for group in crossing),
            tuple(crossing),
        )


def _too_small(table: ImageTable, folds: int) -> Iterator[Finding]:
    if not table.multi_label:
        try:
            check_folds(table, folds)
        except DataError as error:
            yield Finding(
                "classes_too_small", "unsafe", str(error), "", singles(_with_fewer_groups(table, folds + 1))
            )
    small = [name for name, count in table.counts().items() if count < _SMALL_CLASS]
    if small:
        yield Finding(
            "small_classes",
            "note",
            f"{counted(len(small), 'class has', 'classes have')} fewer than {_SMALL_CLASS} images: "
            f"confidence intervals will be wide",
            "",
            singles(small),
        )


def _with_fewer_groups(table: ImageTable, groups: int) -> list[str]:
    held = table.frame.groupby("label")["group"].nunique()
    return [name for name in table.class_names if held.get(name, 0) < groups]


def _similar_labels(table: ImageTable) -> Iterator[Finding]:
    pairs = [(a, b) for a, b in combinations(table.class_names, 2) if same_word(a, b)]
    if pairs:
        listed = ", ".join(f"{a!r} and {b!r}" for a, b in pairs[:5])
        yield Finding(
            "similar_labels",
            "unsafe",
            f"{counted(len(pairs), 'pair of classes looks', 'pairs of classes look')} like one class in two "
            f"spellings: {listed}",
            "use one spelling, or more distinct names",
            tuple(pairs),
        )

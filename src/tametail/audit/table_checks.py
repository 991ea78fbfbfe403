"""What the table alone tells: labels that look alike, columns that look like patients, leaks, classes too small."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from tametail.audit.finding import Finding, counted, singles
from tametail.data.splits import check_folds
from tametail.data.table import COLUMNS, ImageTable
from tametail.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

# Whose images belong together, in the words of data dictionaries. Sites and scanners are no such thing.
_WHOSE = re.compile(
    r"(patient|subject|person|participant|donor|lesion|case|study|series|exam|visit|slide|specimen|animal|eye|mrn|pid)",
    re.IGNORECASE,
)
_SMALL_CLASS = 30  # images, below which an interval on a class says little


def check_table(table: ImageTable, folds: int) -> Iterator[Finding]:
    """Everything that can be told without opening an image."""
    yield from _crossing_groups(table)
    yield from _too_small(table, folds)
    yield from _alike(table)
    yield from _unused_ids(table)
    yield from _grouped_by_name(table)


def _crossing_groups(table: ImageTable) -> Iterator[Finding]:
    sides: dict[str, set[bool]] = defaultdict(set)
    for group, split in zip(table.groups.tolist(), table.frame["split"], strict=True):
        sides[group].add(split == "test")
    crossing = sorted(group for group, seen in sides.items() if len(seen) > 1)
    if crossing:
        images = table.frame.groupby("group")["image"].apply(tuple)
        yield Finding(
            "groups_cross_split",
            "unsafe",
            f"{counted(len(crossing), 'group has', 'groups have')} images both in the given test part and outside it",
            "put each group on one side, or leave the split column out and let the groups be split here",
            tuple(images[group] for group in crossing),
            tuple(crossing),
        )


def _too_small(table: ImageTable, folds: int) -> Iterator[Finding]:
    if not table.multi_label:
        try:
            check_folds(table, folds)
        except DataError as error:
            yield Finding("classes_too_small", "unsafe", str(error), "", singles(_smallest(table, folds + 1)))
    small = [name for name, count in table.counts().items() if count < _SMALL_CLASS]
    if small:
        yield Finding(
            "small_classes",
            "note",
            f"{counted(len(small), 'class has', 'classes have')} fewer than {_SMALL_CLASS} images: "
            f"intervals on {'it' if len(small) == 1 else 'them'} will be wide",
            "",
            singles(small),
        )


def _smallest(table: ImageTable, groups: int) -> list[str]:
    held = table.frame.groupby("label")["group"].nunique()
    return [name for name in table.class_names if held.get(name, 0) < groups]


def _alike(table: ImageTable) -> Iterator[Finding]:
    pairs = [(a, b) for a, b in combinations(table.class_names, 2) if _same_word(a, b)]
    if pairs:
        listed = ", ".join(f"{a!r} and {b!r}" for a, b in pairs[:5])
        yield Finding(
            "alike_labels",
            "unsafe",
            f"{counted(len(pairs), 'pair of classes looks', 'pairs of classes look')} like one class in two "
            f"spellings: {listed}",
            "give them one spelling, or names that differ",
            tuple(pairs),
        )


def _same_word(left: str, right: str) -> bool:
    a, b = _plain(left), _plain(right)
    if a == b:
        return True
    # One letter too many or two swapped; another digit or letter in its place may well be another class.
    if min(len(a), len(b)) < 6 or re.sub(r"[^0-9]", "", a) != re.sub(r"[^0-9]", "", b):
        return False
    short, long = sorted((a, b), key=len)
    if len(long) == len(short) + 1:
        dropped = any(long[:at] + long[at + 1 :] == short for at in range(len(long)))
        return dropped and not long.startswith(("non", "un", "in", "a"))
    swapped = [at for at in range(len(a)) if len(a) == len(b) and a[at] != b[at]]
    return len(swapped) == 2 and swapped[1] == swapped[0] + 1 and a[swapped[0]] == b[swapped[1]]


def _plain(label: str) -> str:
    """Without case, accents' encodings, blanks and signs between words."""
    return re.sub(r"[\s_\-./]+", "", unicodedata.normalize("NFKC", label).casefold())


def _unused_ids(table: ImageTable) -> Iterator[Finding]:
    named: list[str] = []
    other: list[str] = []
    for column in table.frame.columns[len(COLUMNS) :]:
        values = table.frame[column]
        if _splits_what_it_names(values, table):
            (named if _WHOSE.search(str(column)) else other).append(str(column))
    if named:
        yield Finding(
            "unused_ids",
            "unsafe",
            f"{counted(len(named), 'column looks', 'columns look')} like an id whose images belong together, but the "
            f"groups split them: {', '.join(named)}",
            f"name it with --group-col {named[0]}, so that no patient is both in training and in test",
            singles(named),
        )
    if other:
        yield Finding(
            "possible_ids",
            "note",
            f"{counted(len(other), 'column', 'columns')} with repeated codes, not used as groups: {', '.join(other)}",
            "if images with the same code belong together, name the column with --group-col",
            singles(other),
        )


def _splits_what_it_names(values: pd.Series, table: ImageTable) -> bool:
    """Whether a column has many codes, most of a few images, and images of one code are in different groups."""
    known = values.notna() & (values.astype(str).str.strip() != "")
    if known.mean() < 0.5 or values.dtype.kind in "fbc":
        return False
    text = values[known].astype(str).str.strip()
    codes = text.nunique()
    repeats = len(text) / codes
    many = codes >= max(2 * len(table.class_names) + 2, len(text) / 50)
    if not (many and 1 < repeats <= 50):
        return False
    numbers = values.dtype.kind in "iu"  # an age, a grade or a year, unless its name says more
    if not (_WHOSE.search(str(values.name)) or (text.str.contains(r"\d").mean() > 0.9 and not numbers)):
        return False
    groups = table.frame.loc[known, "group"].groupby(text).nunique()
    return bool((groups > 1).any())


def _grouped_by_name(table: ImageTable) -> Iterator[Finding]:
    """File names such as patient12_03.png, where no group is known."""
    if (table.frame["group"] != table.frame["image"]).any():
        return
    stems = [PurePosixPath(image).stem for image in table.frame["image"]]
    prefixes = [
        re.sub(r"[_\-. ]?(?:img|image|frame|slice|view|crop)?[_\-. ]?\d+$", "", stem) for stem in stems
    ]
    _, counts = np.unique([prefix for prefix in prefixes if re.search(r"\d", prefix)], return_counts=True)
    shared = counts[(counts > 1) & (counts <= 50)]
    if shared.sum() > len(table) / 2 and len(shared) >= 5:
        yield Finding(
            "grouped_by_name",
            "warning",
            f"no groups are given, but {int(shared.sum()):,} of {len(table):,} file names share a beginning with a few "
            f"others ({len(shared):,} beginnings), as images of one patient often do",
            "if so, add a column with the patient and name it with --group-col",
        )

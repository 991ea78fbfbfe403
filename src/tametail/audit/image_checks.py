"""Checks of the image files: unreadable, irregular, with text on them, duplicates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tametail.audit.duplicates import Duplicates
from tametail.audit.finding import Finding, Severity, singles
from tametail.audit.image_stats import BLANK, TINY, FileStats, ImageStats
from tametail.core.arrays import BoolArray
from tametail.core.text import counted
from tametail.data.table import ImageTable

_LONG = 5.0  # ratio of the longer side to the shorter side
_MANY_UNREADABLE = 0.1  # fraction of unreadable files above which the rest may not represent the data set

# Shares of images touched from which a leak is unsafe: it raises accuracy by at most this share.
_UNSAFE_ACROSS_GROUPS = 0.01
_UNSAFE_IN_TEST = 0.005  # of the given test set, whose result is final and which no grouping can mend

_Test = Callable[[FileStats], bool]
# code, severity, (one, many), what they are, advice, test of a readable image
_IRREGULARITIES: tuple[tuple[str, Severity, tuple[str, str], str, str, _Test], ...] = (
    (
        "blank_images", "warning", ("image is", "images are"), "of one grey level", "remove them",
        lambda file: file.std < BLANK,
    ),
    (
        "burned_in_text", "warning", ("image has", "images have"), "what looks like text on it",
        "check whether it identifies a patient or reveals the diagnosis; a model can learn to read either",
        lambda file: file.text,
    ),
    (
        "tiny_images", "warning", ("image is", "images are"), f"smaller than {TINY} pixels",
        "check that these are not thumbnails", lambda file: 0 < min(file.width, file.height) < TINY,
    ),
    (
        "long_images", "note", ("image is", "images are"), f"more than {_LONG:g} times as long as wide",
        "only the centre square is used",
        lambda file: max(file.width, file.height) > _LONG * max(min(file.width, file.height), 1),
    ),
    (
        "several_frames", "note", ("file has", "files have"), "several frames",
        "one frame is used: the first, of DICOM the middle one", lambda file: file.frames,
    ),
    (
        "wrong_extension", "note", ("file is", "files are"), "of another format than the extension says",
        "they are read by their content; other programs may fail", lambda file: file.wrong_extension,
    ),
)  # fmt: skip


def check_images(table: ImageTable, stats: ImageStats, duplicates: Duplicates) -> Iterator[Finding]:
    """Findings about files and about duplicates."""
    yield from _unreadable(table, stats)
    yield from _noted(table, stats)
    yield from _duplicates(table, duplicates)
    images = table.images
    for code, severity, (one, many), described, advice, test in _IRREGULARITIES:
        rows = [
            row for row, file in enumerate(stats.files) if file.error is None and file.kind and test(file)
        ]
        if rows:
            found = singles(images[rows].tolist())
            yield Finding(code, severity, f"{counted(len(rows), one, many)} {described}", advice, found)


def _unreadable(table: ImageTable, stats: ImageStats) -> Iterator[Finding]:
    images = table.images.tolist()
    bad = [(images[row], file.error) for row, file in enumerate(stats.files) if file.error is not None]
    if bad:
        yield Finding(
            "unreadable_files",
            "unsafe" if len(bad) > _MANY_UNREADABLE * len(images) else "warning",
            f"{counted(len(bad), 'file', 'files')} of {len(images):,} cannot be read",
            "fix or remove them; training excludes them with a warning",
            singles([image for image, _ in bad]),
            tuple(str(error) for _, error in bad),
        )


def _noted(table: ImageTable, stats: ImageStats) -> Iterator[Finding]:
    noted = [
        (image, file.note)
        for image, file in zip(table.images.tolist(), stats.files, strict=True)
        if file.note
    ]
    if noted:
        kinds = ", ".join(
            f"{count:,} × {note}" for note, count in Counter(n for _, n in noted).most_common(3)
        )
        yield Finding(
            "odd_jpegs",
            "note",
            f"{counted(len(noted), 'JPEG file is', 'JPEG files are')} read whole, with a warning ({kinds})",
            "other programs may refuse them; write them again if they do",
            singles([image for image, _ in noted]),
            tuple(note for _, note in noted),
        )


@dataclass(frozen=True)
class _Touched:
    """How much of a table some sets of its rows touch.

    Attributes:
        images, of: images in these sets, and in all.
        by_class: share of the images of a class that are touched, averaged over classes.
        sets: number of sets.
    """

    images: int
    of: int
    by_class: float
    sets: int

    @classmethod
    def by(cls, sets: Sequence[Sequence[int]], labels: BoolArray, considered: BoolArray) -> _Touched:
        """Count the rows of sets among the considered ones.

        Args:
            labels: (N, C) classes of each row.
        """
        touched = np.zeros(len(labels), dtype=np.bool_)
        touched[[row for rows in sets for row in rows]] = True
        touched &= considered
        per_class = labels[considered].sum(axis=0)
        present = per_class > 0
        share = labels[touched].sum(axis=0)[present] / per_class[present]
        by_class = float(share.mean()) if len(share) else 0.0
        return cls(int(touched.sum()), int(considered.sum()), by_class, len(sets))

    def severity(self, unsafe_from: float) -> Severity:
        """Unsafe if the accuracy, or the balanced accuracy because of several sets, can be wrong by this share."""
        by_class = self.by_class if self.sets > 1 else 0.0
        touched = max(self.images / max(self.of, 1), by_class)
        return "unsafe" if touched >= unsafe_from else "warning"

    def __str__(self) -> str:
        return f"{self.images:,} of {counted(self.of, 'image', 'images')}, {100 * self.images / max(self.of, 1):.2g} %"


def _duplicates(table: ImageTable, duplicates: Duplicates) -> Iterator[Finding]:
    labels, groups, splits = (table.frame[column].tolist() for column in ("label", "group", "split"))

    def with_several(values: Sequence[str]) -> tuple[tuple[int, ...], ...]:
        return tuple(rows for rows in duplicates.merged if len({values[row] for row in rows}) > 1)

    def finding(
        code: str,
        severity: Severity,
        sets: Sequence[tuple[int, ...]],
        message: str,
        advice: str,
        changes: Sequence[str] = (),
    ) -> Iterator[Finding]:
        if sets:
            images = table.images
            ids = tuple(tuple(images[list(rows)].tolist()) for rows in sets)
            details = tuple(", ".join(dict.fromkeys(labels[row] for row in rows)) for rows in sets)
            if changes:
                details = tuple(f"{how}; {of}" for how, of in zip(changes, details, strict=True))
            yield Finding(code, severity, message, advice, ids, details)

    exact, near, changed = duplicates.exact, duplicates.near, duplicates.changed
    crossing_groups = with_several(groups)
    keep = "keep one of each set, unless the copies are intended"
    if not crossing_groups:
        keep = f"each set is in one group, so that none crosses a split; {keep}"
    files = sum(len(rows) for rows in exact)
    message = f"{counted(len(exact), 'set', 'sets')} of byte-identical files ({files:,} files)"
    yield from finding("exact_duplicates", "note", exact, message, keep)
    message = f"{counted(len(near), 'pair', 'pairs')} of near-identical images in different files "
    message += "(correlation above 0.99 at 64 × 64)"
    yield from finding("near_duplicates", "note", near, message, keep)
    kinds = ", ".join(f"{count:,} {how}" for how, count in Counter(duplicates.changes).most_common())
    message = f"{counted(len(changed), 'pair', 'pairs')} of which one image is a changed copy of the other ({kinds})"
    yield from finding("changed_copies", "note", changed, message, keep, duplicates.changes)

    everywhere = np.ones(len(table), dtype=np.bool_)
    tested = np.array([split == "test" for split in splits], dtype=np.bool_)

    def touched(sets: Sequence[tuple[int, ...]], considered: BoolArray) -> _Touched:
        return _Touched.by(sets, table.labels, considered)

    conflicting = with_several(labels)
    share = touched(conflicting, everywhere)
    message = f"{counted(len(conflicting), 'set', 'sets')} of duplicates with different labels ({share})"
    advice = "at least one label of each set is wrong: check with the annotators"
    yield from finding("conflicting_labels", "warning", conflicting, message, advice)
    crossing = tuple(rows for rows in duplicates.merged if len({bool(tested[row]) for row in rows}) > 1)
    sets = counted(len(crossing), "set", "sets")
    share = touched(crossing, tested)
    message = f"{sets} of duplicates with images both in the given test set and outside it ({share} of the test set)"
    advice = "the test set is not independent: remove them from one side, or remove the split column"
    yield from finding("duplicates_cross_split", share.severity(_UNSAFE_IN_TEST), crossing, message, advice)
    sets = counted(len(crossing_groups), "set", "sets")
    share = touched(crossing_groups, everywhere)
    message = f"{sets} of duplicates in different groups ({share}): they can be in both the training set and the test set"
    advice = "repeat with --group-duplicates, which puts them in one group"
    severity = share.severity(_UNSAFE_ACROSS_GROUPS)
    yield from finding("duplicates_cross_groups", severity, crossing_groups, message, advice)


def check_identifiers(table: ImageTable, stats: ImageStats) -> Iterator[Finding]:
    """DICOM files whose header names a person, or declares text in the pixels."""
    rows = [row for row, file in enumerate(stats.files) if file.kind == "DICOM"]
    if not rows:
        return
    images = table.images.tolist()
    tags = {row: found for row in rows if (found := stats.files[row].identifying)}
    if tags:
        named = Counter(tag for found in tags.values() for tag in found).most_common()
        yield Finding(
            "identifying_headers",
            "warning",
            f"{counted(len(tags), 'DICOM file identifies', 'DICOM files identify')} a person in the header "
            f"({', '.join(f'{tag} in {count:,}' for tag, count in named[:5])})",
            "the decoded images contain none of it; de-identify the files before you share them",
            singles([images[row] for row in tags]),
            tuple(", ".join(found) for found in tags.values()),
        )
    burned = [row for row in rows if stats.files[row].burned_in]
    if burned:
        yield Finding(
            "burned_in_annotation",
            "warning",
            f"{counted(len(burned), 'DICOM file says', 'DICOM files say')} that text is burned into the pixels",
            "check them: a model can learn to read, and names must not be shared",
            singles([images[row] for row in burned]),
        )

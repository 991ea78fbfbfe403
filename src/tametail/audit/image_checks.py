"""What the files tell: unreadable, odd, written upon, the same twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tametail.audit.duplicates import Duplicates, Rows
from tametail.audit.finding import Finding, Severity, counted, singles
from tametail.audit.image_stats import FileStats, ImageStats
from tametail.data.table import ImageTable

_TINY = 32  # pixels of the shorter side
_LONG = 5.0  # longer side over shorter side
_BLANK = 1.0  # grey levels
_MANY_BAD = 0.1  # share of unreadable files from which what is left may be another set than was meant

_Test = Callable[[FileStats], bool]
# code, severity, (one, many), advice, test of a readable image
_ODD: tuple[tuple[str, Severity, tuple[str, str], str, _Test], ...] = (
    (
        "blank_images", "warning", ("image is", "images are"), "take them out: there is nothing to learn from",
        lambda look: look.spread < _BLANK,
    ),
    (
        "burned_in_text", "warning", ("image has", "images have"),
        "look whether it identifies a patient or gives the diagnosis away; a model can learn to read either",
        lambda look: look.text,
    ),
    (
        "tiny_images", "warning", ("image is", "images are"), "check that these are no thumbnails",
        lambda look: 0 < min(look.width, look.height) < _TINY,
    ),
    (
        "long_images", "note", ("image is", "images are"), "only the centre square is used",
        lambda look: max(look.width, look.height) > _LONG * max(min(look.width, look.height), 1),
    ),
    (
        "several_frames", "note", ("file has", "files have"), "one of them is used: the first, of DICOM the middle one",
        lambda look: look.frames,
    ),
    (
        "wrong_extension", "note", ("file is", "files are"), "they are read by what they are; other programs may not",
        lambda look: look.wrong_extension,
    ),
)  # fmt: skip
_SAID = {
    "blank_images": "of one grey level",
    "burned_in_text": "what looks like writing on the picture",
    "tiny_images": f"smaller than {_TINY} pixels",
    "long_images": f"more than {_LONG:g} times as long as wide",
    "several_frames": "several frames",
    "wrong_extension": "of another format than the name says",
}


def check_images(table: ImageTable, facts: ImageStats, duplicates: Duplicates) -> Iterator[Finding]:
    """Findings about files and about duplicates."""
    yield from _unreadable(table, facts)
    yield from _duplicates(table, duplicates)
    images = table.images
    for code, severity, (one, many), advice, test in _ODD:
        rows = [
            row for row, look in enumerate(facts.looks) if look.error is None and look.kind and test(look)
        ]
        if rows:
            found = singles(images[rows].tolist())
            yield Finding(code, severity, f"{counted(len(rows), one, many)} {_SAID[code]}", advice, found)


def _unreadable(table: ImageTable, facts: ImageStats) -> Iterator[Finding]:
    images = table.images.tolist()
    bad = [(images[row], look.error) for row, look in enumerate(facts.looks) if look.error is not None]
    if bad:
        yield Finding(
            "unreadable_files",
            "unsafe" if len(bad) > _MANY_BAD * len(images) else "warning",
            f"{counted(len(bad), 'file', 'files')} of {len(images):,} cannot be read",
            "mend or remove them; training leaves them out, and says so",
            singles([image for image, _ in bad]),
            tuple(str(error) for _, error in bad),
        )


def _duplicates(table: ImageTable, duplicates: Duplicates) -> Iterator[Finding]:
    labels, groups, splits = (table.frame[column].tolist() for column in ("label", "group", "split"))

    def several(values: Sequence[str]) -> tuple[Rows, ...]:
        return tuple(rows for rows in duplicates.joined if len({values[row] for row in rows}) > 1)

    def say(code: str, severity: Severity, sets: Sequence[Rows], what: str, advice: str) -> Iterator[Finding]:
        if sets:
            images = table.images
            ids = tuple(tuple(images[list(rows)].tolist()) for rows in sets)
            details = tuple(", ".join(dict.fromkeys(labels[row] for row in rows)) for rows in sets)
            yield Finding(code, severity, what, advice, ids, details)

    exact, near = duplicates.exact, duplicates.near
    apart = several(groups)
    keep = "keep one of each, unless they are meant to be there"
    if not apart:
        keep = f"each lies in one group, so that none crosses a split; {keep}"
    files = sum(len(rows) for rows in exact)
    yield from say(
        "exact_duplicates", "note", exact,
        f"{counted(len(exact), 'set', 'sets')} of byte-identical files ({files:,} files)",
        keep,
    )  # fmt: skip
    yield from say(
        "near_duplicates", "note", near,
        f"{counted(len(near), 'pair', 'pairs')} of near-identical pictures in different files "
        f"(correlation above 0.99 at 64 × 64)",
        keep,
    )  # fmt: skip
    conflicting = several(labels)
    yield from say(
        "conflicting_labels", "warning", conflicting,
        f"{counted(len(conflicting), 'set', 'sets')} of duplicates with different labels",
        "one label of each set is wrong: ask whoever labelled them",
    )  # fmt: skip
    crossing = tuple(rows for rows in duplicates.joined if len({splits[row] == "test" for row in rows}) > 1)
    yield from say(
        "duplicates_cross_split", "unsafe", crossing,
        f"{counted(len(crossing), 'set', 'sets')} of duplicates with images both in the given test set and outside it",
        "the test set is not unseen: take them out of one side, or leave the split column out",
    )  # fmt: skip
    yield from say(
        "duplicates_apart", "unsafe", apart,
        f"{counted(len(apart), 'set', 'sets')} of duplicates in different groups: "
        f"they can be in training and in test at once",
        "repeat with --group-duplicates, which puts them in one group",
    )  # fmt: skip

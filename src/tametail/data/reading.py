"""How a source was read: what its classes, groups and split were taken from, and what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tametail.core.console import Console

if TYPE_CHECKING:
    from tametail.data.decoding.bit_depth import BitDepth
    from tametail.data.table import ImageTable

NO_GROUPS = "none: every image counts as its own patient"
NO_SPLIT = "none"
GREY_LEVELS = "Grey levels"
LEFT_OUT, NOTHING = "Left out", "nothing"
_NAMED = 30  # classes that are named


@dataclass(frozen=True)
class SourceReading:
    """What the columns of an `ImageTable` were taken from. Texts without file names, as reports show them.

    Attributes:
        classes: ``folder level 2 below skin/``, ``column 'dx' of labels.csv``.
        groups: ``column 'patient'``, or why there are none.
        split: ``folders train/, test/``, ``column 'split'``, or ``none``.
        left_out: one text for each kind of file, row, column or folder level that was not used, with its number:
            ``12 .txt files``.
        grey: the bit depth of grey images that are stored in more than 8 bits; empty if there are none, or before the
            images were opened.
        notes: one text for each choice in reading that the columns do not show: how files were found that are not where
            the table says, how cells were split, which rows were joined.
    """

    classes: str
    groups: str = NO_GROUPS
    split: str = NO_SPLIT
    left_out: tuple[str, ...] = ()
    grey: str = ""
    notes: tuple[str, ...] = ()

    def without(self, *notes: str) -> SourceReading:
        """The same with further texts on what was left out; empty ones are ignored."""
        return replace(self, left_out=(*self.left_out, *filter(None, notes)))

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> SourceReading:
        """The reading of a saved study."""
        return cls(
            content["classes"],
            content["groups"],
            content["split"],
            tuple(content["left_out"]),
            content.get("grey", ""),
            tuple(content.get("notes", ())),
        )

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "classes": self.classes,
            "groups": self.groups,
            "split": self.split,
            "left_out": list(self.left_out),
            "grey": self.grey,
            "notes": list(self.notes),
        }


def read_by(name: str) -> SourceReading:
    """For a table of a reader that does not say how it read: its name stands for everything."""
    text = f"read by the reader {name}"
    return SourceReading(text, text, text)


GIVEN = SourceReading("as given in Python", "as given in Python", "as given in Python")
"""For a table that was not read from a source."""


def reading_facts(table: ImageTable) -> list[tuple[str, str]]:
    """How a table was read, as pairs of a term and its text, with the names and numbers that came of it."""
    reading = table.reading or GIVEN
    groups = len(set(table.frame["group"]))
    counts = Counter(table.frame["split"])
    splits = ", ".join(
        f"{counts[name]:,} {name or 'without'}" for name in ("train", "val", "test", "") if counts[name]
    )
    return [
        ("Class", f"{reading.classes}: {named_classes(table.class_names)}"),
        ("Groups", reading.groups + (f" ({groups:,} groups)" if groups < len(table) else "")),
        ("Split", reading.split + (f" ({splits})" if set(counts) != {""} else "")),
        (LEFT_OUT, "; ".join(reading.left_out) or NOTHING),
        *([("As read", "; ".join(reading.notes))] if reading.notes else []),
        ("Images read", f"{len(table):,}"),
        *([(GREY_LEVELS, reading.grey)] if reading.grey else []),
    ]


def named_classes(names: Sequence[str], most: int = _NAMED) -> str:
    """The first class names and their number: ``cecum, polyps, ... (23 classes)``."""
    more = ", ..." if len(names) > most else ""
    return f"{', '.join(names[:most])}{more} ({len(names)} classes)"


def say_reading(table: ImageTable, console: Console) -> None:
    """Print how a table was read, the first lines of every command that reads data.

    If the console is quiet, what was left out is a warning.
    """
    for term, text in reading_facts(table):
        doubtful = term == LEFT_OUT and text != NOTHING
        (console.warn if doubtful and console.quiet else console.say)(f"{term}: {text}")


def say_new_depth(depth: BitDepth, studied: int | None, console: Console) -> None:
    """Print how grey levels of new images are read, and warn if they exceed the depth of the study they are predicted by.

    Args:
        depth: from `BitDepth.for_study`, or as given; nothing is printed if no image is of more than 8 bits.
        studied: see `BitDepth.for_study`.
        console: where to.
    """
    if depth.bits is None:
        return
    console.say(f"{GREY_LEVELS}: {depth}")
    if studied is not None and depth.exceeds(studied):
        console.warn(
            f"expected grey values below {2**studied:,}, as the study was read as {studied} bits, but found values up to "
            f"{depth.largest:,}: read as {depth.bits} bits, the same tissue may have another grey than in the study; check "
            f"that the images were made and stored as the study's were"
        )

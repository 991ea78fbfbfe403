"""Readers: each reads one kind of source of labelled images into an `ImageTable`, and they are asked in turn."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar, Literal

from tametail.core.errors import UsageError
from tametail.core.registry import Registry
from tametail.core.text import sample_of
from tametail.data.decoding.slices import check_rule
from tametail.data.table import ImageTable


class Reader(ABC):
    """Reads one kind of source of labelled images.

    To add a kind, register a subclass with the decorator, or name it in an entry point ``tametail.readers`` of your
    package. `read_images` and all commands that read images then accept its sources:

        @register_reader
        class SlideReader(Reader):
            name = "slides"

            def matches(self, source):
                return str(source).endswith(".slides")

            def read(self, source, options):
                frame = ...  # columns image, label, group, split
                reading = SourceReading("annotations in the slide file", groups="slide")  # shown by every command
                return ImageTable.from_frame(frame, Path(source).parent, Path(source).stem, reading=reading)

    Attributes:
        name: unique among the readers.
        priority: readers with a higher priority are asked first. Built-in readers of names have 20, those of files and
            folders 0 or less.
        takes_root: whether `read` uses ``options.root`` and ``options.download``; otherwise they are refused. A reader
            without table columns calls `ReadOptions.refuse_table_options` itself.
        takes_folder_options: whether `read` uses ``options.class_level`` and the other options on folders.
    """

    name: ClassVar[str]
    priority: ClassVar[int] = 10
    takes_root: ClassVar[bool] = False
    takes_folder_options: ClassVar[bool] = False

    @abstractmethod
    def matches(self, source: str | Path) -> bool:
        """Whether the source is of this kind. Quick: it looks at names and at the first bytes of files only."""

    @abstractmethod
    def read(self, source: str | Path, options: ReadOptions) -> ImageTable:
        """Read a source that matches.

        Raises:
            UsageError: options that do not apply to the source.
            DataError: the source cannot be read; the message says what was expected, what was found and what to do.
        """


_BUILT_IN = (
    "known_sets",
    "medmnist",
    "packed",
    "webdataset",
    "zip_archives",
    "parquet_images",
    "hdf5_images",
    "tables",
    "table_folders",
    "dicom_folder",
    "class_folders",
)
readers: Registry[type[Reader]] = Registry("readers", [f"tametail.data.readers.{name}" for name in _BUILT_IN])
"""The registered readers."""


def register_reader(reader: type[Reader]) -> type[Reader]:
    """Class decorator: add a reader under its ``name``.

    Raises:
        ValueError: the name is taken by another reader.
    """
    return readers.register(reader)


def find_reader(source: str | Path, *, after: type[Reader] | None = None) -> Reader | None:
    """The first reader that matches a source, among all or those of a lower priority than ``after``; None if none does."""
    for kind in sorted(readers, key=lambda reader: -reader.priority):
        if after is None or kind.priority < after.priority:
            reader = kind()
            if reader.matches(source):
                return reader
    return None


@dataclass(frozen=True)
class ReadOptions:
    """The options of `tametail.data.read_images`, where each is explained."""

    image_col: str | None = None
    label_col: str | None = None
    group_col: str | None = None
    split_col: str | None = None
    image_root: Path | None = None
    label_cols: tuple[str, ...] = ()
    multi_label: bool = False
    label_sep: str | None = None
    header: bool = True
    metadata: Path | None = None
    missing: Literal["error", "skip"] = "error"
    blank_groups: Literal["error", "single"] = "error"
    join_rows: Literal["no", "union", "majority"] = "no"
    reader_col: str | None = None
    split_values: tuple[str, ...] = ()
    split_files: tuple[str, ...] = ()
    fold_col: str | None = None
    uncertain: Literal["error", "ignore", "zero", "one"] = "error"
    blank: Literal["error", "ignore", "zero"] = "error"
    root: Path | None = None
    download: bool = False
    bit_depth: int | None = None
    group_from: str | None = None
    class_level: int | str | None = None
    keep_masks: bool = False
    skip_empty_classes: bool = False
    slices: str | None = None
    allow_leaks: bool = False

    def __post_init__(self) -> None:
        if self.reader_col is not None and self.join_rows != "majority":
            raise UsageError(
                "expected --reader-col with --join-rows majority; add it or leave the column out"
            )
        if self.slices is not None:
            check_rule(self.slices)
        if self.bit_depth is not None and not 1 <= self.bit_depth <= 16:
            raise UsageError(f"expected --bit-depth from 1 to 16, got {self.bit_depth}")
        if "," in (given := self._given("group_col", "group_from")):
            raise UsageError(f"expected one source of groups, got {given}; leave out all but one")
        if self.split_files and (given := self._given("split_col", "split_values")):
            raise UsageError(
                f"expected one source of the split, got {given} and --split-files; leave one out"
            )
        if self.label_cols and self.label_col is not None:
            raise UsageError("expected --label-col or --label-cols, got both; leave one of them out")
        if self.label_cols and (len(self.label_cols) < 2 or len(set(self.label_cols)) < len(self.label_cols)):
            raise UsageError(
                f"expected two or more distinct columns in --label-cols, got {', '.join(self.label_cols)}; "
                f"for one column that holds the classes' names use --label-col"
            )

    @property
    def group_level(self) -> int | None:
        """The folder level that ``group_from`` takes groups from: counted from the top, or negative from the image; None for
        another rule."""
        named = re.fullmatch(r"folder(?::(-?[1-9]\d?))?", self.group_from or "")
        return int(named[1] or -1) if named else None

    def refuse_table_options(self, why: str) -> None:
        """For sources without columns to choose from.

        Raises:
            UsageError: an option that names columns or their folder was given.
        """
        if given := self._given(*_OF_TABLES, *(() if self.split_files else ("missing",))):
            raise UsageError(
                f"{given} can only be given for a CSV or another table, but {why}; leave it out or give the table"
            )

    def refuse(self, why: str, *names: str) -> None:
        """For options that do not apply to what is read.

        Raises:
            UsageError: one of the named options was given.
        """
        if given := self._given(*names):
            raise UsageError(f"{given} does not apply here, as {why}; leave it out")

    def refuse_folder_options(self, why: str) -> None:
        """For sources whose classes are not folders.

        Raises:
            UsageError: an option on folders was given.
        """
        if given := self._given("class_level", "keep_masks", "skip_empty_classes"):
            raise UsageError(
                f"{given} can only be given for a folder of class folders, but {why}; leave it out"
            )

    def refuse_root(self, known: Sequence[str]) -> None:
        """For sources that are not known sets.

        Raises:
            UsageError: ``root`` or ``download`` was given.
        """
        if given := self._given("root", "download"):
            raise UsageError(
                f"{given} can only be given with the name of a known set ({sample_of(known)}); "
                f"for a table use --image-root"
            )

    def _given(self, *names: str) -> str:
        """Those of the named options that differ from their default, as the command line spells them."""
        defaults = {field.name: field.default for field in fields(self)}
        given = [name for name in names if getattr(self, name) != defaults[name]]
        return ", ".join(f"--{_FLAGS.get(name, name.replace('_', '-'))}" for name in given)


_FLAGS = {"header": "no-header"}
_OF_TABLES = (
    "image_col", "label_col", "group_col", "split_col", "image_root", "label_cols", "multi_label", "label_sep", "header",
    "metadata", "blank_groups", "join_rows", "reader_col", "split_values", "fold_col", "uncertain", "blank",
)  # fmt: skip


def column_names(columns: Sequence[str] | str | None) -> tuple[str, ...]:
    """Split ``"MEL, NV"`` at its commas; a sequence of names stays as it is.

    Raises:
        UsageError: a name is empty.
    """
    if columns is None:
        return ()
    listed = columns.split(",") if isinstance(columns, str) else columns
    names = tuple(name.strip() for name in listed)
    if not all(names):
        raise UsageError(f"expected names of columns in --label-cols, got {columns!r}")
    return names

"""Folders with a table that names their images: one for all, or one in each of train, val and test."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from tametail.core.errors import DataError, UsageError
from tametail.core.text import counted, sample_of
from tametail.data.readers.image_entries import is_kind, list_folder
from tametail.data.readers.label_columns import warn_of_absent
from tametail.data.readers.reader import Reader, ReadOptions, find_reader, register_reader
from tametail.data.readers.table_file import IMAGE_COLUMNS, read_table_file
from tametail.data.readers.tables import read_rows, table_of_images, unnamed_images
from tametail.data.reading import SourceReading
from tametail.data.table import LABEL_SEPARATOR, RESERVED, SPLIT_WORDS, UNKNOWN_COLUMN, ImageTable

if TYPE_CHECKING:
    import pandas as pd

LABELS_FILE = "labels.csv"
# Files of the first row come before those of the second; of each row a folder may have one.
_TABLES = (
    (LABELS_FILE, "labels.tsv", "labels.parquet", "labels.jsonl"),
    ("metadata.csv", "metadata.jsonl", "metadata.parquet"),
)
TABLE_NAMES = frozenset(name for names in _TABLES for name in names)
"""Names of the tables that are looked for in folders."""


@register_reader
class TableFolderReader(Reader):
    """Reads a folder with a table named ``labels`` or ``metadata``."""

    name = "table_folder"
    priority = -10
    takes_folder_options = True

    def matches(self, source: str | Path) -> bool:
        return _has_table(Path(source).expanduser())

    def read(self, source: str | Path, options: ReadOptions) -> ImageTable:
        folder = Path(source).expanduser()
        table = labels_file(folder, options.image_col, header=options.header)
        if table is None:
            return _read_as_another_kind(folder, options, type(self))
        options.refuse_folder_options(f"{table} names the classes")
        return table_of_images(table, options, folder_name(folder))


@register_reader
class SplitTablesReader(Reader):
    """Reads a folder with sub-folders named train, val and test, each with a table."""

    name = "split_tables"
    priority = -20
    takes_folder_options = True

    def matches(self, source: str | Path) -> bool:
        folder = Path(source).expanduser()
        return folder.is_dir() and any(map(_has_table, _split_folders(folder)))

    def read(self, source: str | Path, options: ReadOptions) -> ImageTable:
        folder = Path(source).expanduser()
        tables = labels_files_by_split(folder, options.image_col, header=options.header)
        if tables is None:
            return _read_as_another_kind(folder, options, type(self))
        options.refuse_folder_options(
            f"{sample_of([str(path) for path in tables], most=1)} names the classes"
        )
        root, multi_label = options.image_root or folder, options.multi_label
        where = f"folders {', '.join(f'{path.parent.name}/' for path in tables)}"
        frame, reading = read_split_tables(tables, options, root, where)
        name, allow_leaks = folder_name(folder), options.allow_leaks
        return ImageTable.from_frame(
            frame, root, name, multi_label=multi_label, allow_leaks=allow_leaks, reading=reading
        )


@register_reader
class NamedTablesReader(Reader):
    """Reads several tables, one per split: ``train=a.csv,test=b.csv``."""

    name = "named_tables"
    priority = 5

    def matches(self, source: str | Path) -> bool:
        return isinstance(source, str) and bool(_NAMED_TABLE.match(source)) and not Path(source).exists()

    def read(self, source: str | Path, options: ReadOptions) -> ImageTable:
        tables: dict[Path, str] = {}
        for part in str(source).split(","):
            split, sign, name = (text.strip() for text in part.partition("="))
            path = Path(name).expanduser()
            if not sign or split.lower() not in SPLIT_WORDS or path in tables:
                raise UsageError(
                    f"expected different tables, each with its split, such as train=a.csv,test=b.csv, got {source}"
                )
            if not path.is_file():
                raise DataError(f"expected a table at {path} (of {split}), but there is none")
            tables[path] = SPLIT_WORDS[split.lower()]
        options.refuse("each table is a split", "split_col", "split_values")
        root = options.image_root or Path(os.path.commonpath([path.absolute().parent for path in tables]))
        where = f"tables {', '.join(f'{path.name} ({split})' for path, split in tables.items())}"
        frame, reading = read_split_tables(tables, options, root, where, options.image_root)
        return ImageTable.from_frame(
            frame,
            root,
            folder_name(root),
            multi_label=options.multi_label,
            allow_leaks=options.allow_leaks,
            reading=reading,
        )


_NAMED_TABLE = re.compile(rf"({'|'.join(word for word in SPLIT_WORDS if word)})=", re.IGNORECASE)


def folder_name(folder: Path) -> str:
    """Name of the images in a folder, for titles."""
    return folder.resolve().name or "images"


def _has_table(folder: Path) -> bool:
    return any((folder / name).is_file() for name in TABLE_NAMES)


def _split_folders(root: Path) -> list[Path]:
    inside = [Path(item.path) for item in list_folder(root) if is_kind(item, os.DirEntry.is_dir)]
    return [folder for folder in inside if folder.name.lower() in SPLIT_WORDS]


def _read_as_another_kind(folder: Path, options: ReadOptions, after: type[Reader]) -> ImageTable:
    """Read a folder whose tables name no images by the next reader that matches."""
    reader = find_reader(folder, after=after)
    assert reader is not None  # the reader of class folders matches every folder
    return reader.read(folder, options)


def labels_file(folder: Path, image_col: str | None = None, *, header: bool = True) -> Path | None:
    """Find the table in a folder that names its images: ``labels.csv``, or ``metadata.csv`` as of Hugging Face.

    Tables of other things are often named metadata too, so such a table counts only if it has a column of images:
    ``image_col``, ``file_name`` or ``image``.

    Raises:
        DataError: there are several, or one cannot be read.
    """
    for names in _TABLES:
        found = [folder / name for name in names if (folder / name).is_file()]
        if len(found) > 1:
            raise DataError(
                f"expected one table of labels in {folder}, found {', '.join(file.name for file in found)}; "
                f"give the path of the one to read"
            )
        if found and (names is _TABLES[0] or not header or _names_images(found[0], image_col)):
            return found[0]
    return None


def _names_images(path: Path, image_col: str | None) -> bool:
    columns = read_table_file(path).columns
    if image_col is not None or any(column.lower() in IMAGE_COLUMNS for column in columns):
        return True
    message = (
        "%s has no column file_name or image, so it is not read; to read it name the column with --image-col"
    )
    logging.getLogger(__name__).warning(message, path)
    return False


def labels_files_by_split(
    root: Path, image_col: str | None = None, *, header: bool = True
) -> dict[Path, str] | None:
    """Find the tables in sub-folders named train, val and test: table → split; None where there are none.

    Raises:
        DataError: some of these sub-folders have a table and some have not.
    """
    folders = _split_folders(root)
    tables = {folder: labels_file(folder, image_col, header=header) for folder in folders}
    bare = [folder.name for folder, table in tables.items() if table is None]
    if len(bare) == len(folders):
        return None
    if bare:
        raise DataError(
            f"expected a table such as metadata.csv in every sub-folder of {root} named train, val or test, but "
            f"{sample_of(bare)} has none; add it or take the folder out"
        )
    return {table: SPLIT_WORDS[folder.name.lower()] for folder, table in tables.items() if table is not None}


def read_split_tables(
    tables: dict[Path, str], options: ReadOptions, root: Path, where: str, base: Path | None = None
) -> tuple[pd.DataFrame, SourceReading]:
    """Read one table per split into one frame, and say how.

    Args:
        root: folder that the image ids are relative to.
        where: what the splits were taken from, such as ``folders train/, test/``.
        base: folder that the image entries are relative to; by default that of their table.

    Raises:
        DataError: a table is not valid, or its split column contradicts its split.
    """
    import pandas as pd

    parts, readings = [], []
    unnamed: set[str] = set()
    for path, split in tables.items():
        part, reading, others = read_rows(path, options, root, base=base or path.parent, part=split)
        wrong = sorted(set(part["split"]) - {"", split})
        if wrong:
            raise DataError(
                f"{path} is of the split {split!r}, but its split column says {sample_of(wrong)}; "
                f"take the column out"
            )
        part["split"] = split
        parts.append(part)
        readings.append(reading)
        unnamed |= others
    frame = pd.concat(parts, ignore_index=True)
    for name in RESERVED:
        if name in frame:  # a table without an unknown label has no such column
            frame[name] = frame[name].fillna("")
    images = set(frame["image"])
    frame, unlabelled = _with_known_labels(frame, options, root)
    twice = sorted(set(frame.loc[frame["image"].duplicated(), "image"]))
    if twice:
        listed = sample_of(twice)
        raise DataError(f"{len(twice)} images of {root} are listed in two splits ({listed}); keep one")
    named = [f"{path.parent.name}/{path.name}" for path in tables]
    left_out, notes = (
        tuple(
            f"{text} ({name})"
            for name, reading in zip(named, readings, strict=True)
            for text in getattr(reading, kind)
        )
        for kind in ("left_out", "notes")
    )
    return frame, SourceReading(
        "; ".join(dict.fromkeys(reading.classes for reading in readings)),
        "; ".join(dict.fromkeys(reading.groups for reading in readings)),
        where,
        left_out,
        notes=notes,
    ).without(unlabelled, unnamed_images(frozenset(unnamed) - images))


def _with_known_labels(frame: pd.DataFrame, options: ReadOptions, root: Path) -> tuple[pd.DataFrame, str]:
    """The rows of all tables of which some label is known, and how many are left out; classes without an image are said."""
    if not options.label_cols:
        return frame, ""
    sign = LABEL_SEPARATOR if options.multi_label else None
    classes = {name for label in set(frame["label"]) for name in (label.split(sign) if sign else [label])}
    seen = {name.lower() for name in classes}
    warn_of_absent([column for column in options.label_cols if column.lower() not in seen], root)
    if UNKNOWN_COLUMN not in frame:
        return frame, ""
    known = ~frame[UNKNOWN_COLUMN].map(lambda names: classes - {""} <= set(names.split(LABEL_SEPARATOR)))
    if not known.all() and options.missing != "skip":
        raise DataError(
            f"every label of {counted(int((~known).sum()), 'image')} of {root} is unknown ({sample_of(frame.loc[~known, 'image'].tolist())}); "
            f"remove them, or leave them out with --missing skip"
        )
    count = int((~known).sum())
    return frame[known], f"{counted(count, 'image')} without a known label" if count else ""

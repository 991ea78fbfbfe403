"""A second table about the same images: joined by image, and noticed where it lies beside the first one."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tametail.core.errors import DataError
from tametail.core.text import counted, sample_of
from tametail.data.readers.table_file import (
    JSONL_SUFFIXES,
    PARQUET_SUFFIXES,
    TableFile,
    read_table_file,
)

_BESIDE = (".csv", ".tsv", *PARQUET_SUFFIXES, *JSONL_SUFFIXES)
_MOST_FILES, _MOST_BYTES = 8, 1 << 25  # of tables beside that are looked at


def join_metadata(file: TableFile, image: str, path: Path) -> TableFile:
    """Add the columns of a second table to the rows of the first one, by image.

    Images are matched as written or, if more match that way, by file name without folder and extension. A column that both
    tables have is named ``metadata_...``. Rows without a match get empty cells.

    Args:
        image: column of image entries in the first table.
        path: of the second table. Its column of images is the one that matches most images of the first.

    Raises:
        DataError: the second table cannot be read, has no such column, or several different rows for one image.
    """
    if not path.is_file():
        raise DataError(f"expected a second table at {path} (--metadata), but there is none")
    second = read_table_file(path)
    wanted = file.text(image)
    column, key = _matching(second, wanted)
    if column is None:
        raise DataError(
            f"expected a column of {path} with the images of {file.path} ({sample_of(wanted)}), found "
            f"{sample_of(second.columns, most=40)}; is it the right table?"
        )
    if len({key(entry) for entry in wanted}) < len(set(wanted)):
        raise DataError(
            f"expected the same image paths in {path} and {file.path}, but only file names match, and some occur in several "
            f"folders; write the paths into the column {column!r} of {path}"
        )
    rows: dict[str, int] = {}
    others = second.typed.drop(columns=column).astype(object)
    content = others.where(others.notna(), None).to_numpy().tolist()
    for row, entry in enumerate(second.text(column)):
        first = rows.setdefault(key(entry), row)
        if content[first] != content[row]:
            raise DataError(
                f"expected one row per image in {path}, found several for {entry} that differ; keep one of them"
            )
    at = [rows.get(key(entry), -1) for entry in wanted]
    names = {
        name: name if name not in file.columns else f"metadata_{name}"
        for name in second.columns
        if name != column
    }
    added = second.typed[list(names)].reindex(at).reset_index(drop=True).rename(columns=names)
    without, unused = at.count(-1), len(rows) - len(set(at) - {-1})
    sources = {new: name for name, new in names.items()}

    def cells(name: str) -> list[Any]:
        if name not in sources:
            return file.cells(name)
        every = second.cells(sources[name])
        return [None if row < 0 else every[row] for row in at]

    notes = (
        f"columns {sample_of(list(names.values()), most=8)} joined from {path.name} by its column {column!r}",
        f"{counted(without, 'image has', 'images have')} no row in {path.name}" if without else "",
        f"{counted(unused, 'row')} of {path.name} for other images" if unused else "",
    )
    import pandas as pd

    typed = pd.concat([file.typed, added], axis=1)
    return replace(file, typed=typed, cells=cells, notes=(*file.notes, *filter(None, notes)))


def tables_beside(file: TableFile, image: str) -> tuple[str, ...]:
    """A text for each table in the folder of a table that is about most of its images and has other columns."""
    wanted = file.text(image)
    found = []
    listed = sorted(
        item
        for item in file.path.parent.iterdir()
        if item.suffix.lower() in _BESIDE and item.is_file() and not item.samefile(file.path)
    )
    for path in listed[:_MOST_FILES]:
        try:
            if path.stat().st_size > _MOST_BYTES:
                continue
            second = read_table_file(path)
        except (DataError, OSError):  # whatever it is, it is no table of images
            continue
        column, key = _matching(second, wanted)
        others = [name for name in second.columns if name != column and name not in file.columns]
        if column is None or not others:
            continue
        count = len({key(entry) for entry in wanted} & set(map(key, second.text(column))))
        if 2 * count >= len(set(wanted)):
            found.append(
                f"{path.name}, with the columns {sample_of(others, most=6)} of {count:,} of the images (--metadata joins it)"
            )
    return tuple(found)


_Key = Callable[[str], str]


def _matching(file: TableFile, wanted: Sequence[str]) -> tuple[str | None, _Key]:
    """The column with the most of the wanted images, and how they are compared; None if no image is in any."""
    best: tuple[int, str | None, _Key] = (0, None, _full)
    for column in file.columns:
        try:
            entries = file.text(column)
        except DataError:  # nested values
            continue
        for key in (_full, _stem):
            count = len(
                {key(entry) for entry in wanted if entry} & {key(entry) for entry in entries if entry}
            )
            if count > best[0]:
                best = count, column, key
    return best[1], best[2]


def _full(entry: str) -> str:
    return entry.replace("\\", "/").removeprefix("./")


def _stem(entry: str) -> str:
    name = os.path.splitext(_full(entry).rpartition("/")[2])[0]
    return unicodedata.normalize("NFC", name).casefold()

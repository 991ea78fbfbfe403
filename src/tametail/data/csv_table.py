"""A CSV of labelled images → a frame of image, label, group, split and the columns carried along.

Whatever is wrong with the file is said with its rows, columns and names; nothing is guessed or left out in silence.
"""

from __future__ import annotations

import csv
import io
import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tametail.data.table import COLUMNS
from tametail.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

IMAGE_SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".png",
    ".tif",
    ".tiff",
    ".bmp",
    ".webp",
    ".gif",
    ".jp2",
    ".ppm",
    ".pgm",
    ".jfif",
)
SPLIT_WORDS = {
    "": "",
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing", "holdout"), "test"),
}
_MISSING = {"", "nan", "NaN", "NAN", "<NA>", "#N/A"}  # "None" and "NA" may be names of classes
_OUTSIDE = ".."


def read_csv(path: Path, named: Mapping[str, str | None], root: Path) -> pd.DataFrame:
    """Read a CSV of images that lie below ``root``.

    Args:
        named: for each of image, label, group, split the column of the CSV, or None for the column of that name
            (in any case). Group and split may be absent: then the group is the image, the split empty.

    Returns:
        Columns image (POSIX path of an existing file, relative to ``root``), label, group, split (train, val, test or
        empty), then all others as pandas reads them; one row per image.

    Raises:
        DataError: the file, a column, a cell or an image is missing or contradicts another.
    """
    text, carried = _parse_csv(path)
    columns = {role: _find_column(text.columns.tolist(), role, named[role], path) for role in COLUMNS}
    frame = text.iloc[:, :0].copy()
    frame["image"] = _filled(text, columns["image"], "image", path)
    frame["label"] = _filled(text, columns["label"], "label", path)
    frame["image"] = _resolve(frame["image"].tolist(), root, path)
    frame["group"] = _filled(text, columns["group"], "group", path) if columns["group"] else frame["image"]
    frame["split"] = _splits(text[columns["split"]].tolist(), path) if columns["split"] else ""
    frame = frame[list(COLUMNS)].astype(object)
    for column in carried.columns.tolist():
        if column not in columns.values() and not column.startswith("Unnamed:"):
            frame[f"csv_{column}" if column in COLUMNS else column] = carried[column]
    return _without_duplicates(frame, path)


def _parse_csv(path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The CSV twice: every cell as text, and with the types pandas sees. Header names are stripped of blanks."""
    import pandas as pd

    text = _text(path)
    header = next((line for line in text.splitlines() if line.strip()), "")
    separator = max(",;\t", key=header.count)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            raw = pd.read_csv(
                io.StringIO(text), sep=separator, index_col=False, dtype=str, keep_default_na=False
            )
            typed = pd.read_csv(io.StringIO(text), sep=separator, index_col=False, low_memory=False)
    except pd.errors.EmptyDataError as error:
        raise DataError(
            f"expected a table with the columns image and label in {path}, but it is empty"
        ) from error
    except pd.errors.ParserWarning as error:
        raise DataError(
            f"{path} has rows with more fields than its header; quote the fields that hold commas"
        ) from error
    except (pd.errors.ParserError, csv.Error, ValueError) as error:
        raise DataError(f"{path} cannot be read as CSV: {str(error).strip()}") from error
    if raw.empty:
        raise DataError(f"expected at least one row per image in {path}, but it has a header only")
    names = [str(column).strip() for column in raw.columns]
    if len(set(names)) < len(names):
        raise DataError(f"expected every column of {path} to have its own name, found {', '.join(names)}")
    raw.columns = typed.columns = pd.Index(names)
    return raw, typed


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from error
    try:
        # Spreadsheets save "Unicode text" as UTF-16; others put the same mark in front of UTF-8.
        text = data.decode("utf-16" if data[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig")
    except UnicodeDecodeError:
        logging.getLogger(__name__).warning("%s is not UTF-8; it was read as Latin-1", path)
        text = data.decode("latin-1")
    if "\0" in text:
        raise DataError(f"expected a CSV file at {path}, but it is not text")
    return text


def _find_column(columns: Sequence[str], role: str, named: str | None, path: Path) -> str | None:
    wanted = named or role
    if wanted in columns:
        return wanted
    alike = [column for column in columns if column.lower() == wanted.lower()]
    if len(alike) > 1:
        raise DataError(
            f"{path} has several columns for {role}: {', '.join(alike)}; name one with --{role}-col"
        )
    if not alike and (named is not None or role in {"image", "label"}):
        raise DataError(
            f"expected a column {wanted!r} for the {role} in {path}, found {', '.join(columns)}; name one with --{role}-col"
        )
    return alike[0] if alike else None


def _filled(text: pd.DataFrame, column: str | None, role: str, path: Path) -> list[str]:
    """One column, stripped, of which no cell may be empty."""
    values = [str(value).strip() for value in text[column]]
    empty = [row for row, value in enumerate(values, start=1) if value in _MISSING]
    if empty:
        raise DataError(
            f"{len(empty)} of {len(values)} rows of {path} have no {role} in column {column!r} "
            f"(rows {first(empty)} below the header); fill them in or take the rows out"
        )
    return values


def _splits(values: Sequence[str], path: Path) -> list[str]:
    words = ["" if value.strip() in _MISSING else value.strip().lower() for value in values]
    unknown = sorted(set(words) - set(SPLIT_WORDS))
    if unknown:
        raise DataError(
            f"expected train, val, test or nothing in the split column of {path}, found {first(unknown)}"
        )
    return [SPLIT_WORDS[word] for word in words]


def _resolve(entries: Sequence[str], root: Path, path: Path) -> list[str]:
    """Image entries as written → POSIX paths of files, relative to ``root``."""
    base = os.path.abspath(root)
    found = [_locate(entry, base) for entry in entries]
    outside = [entry for entry, image in zip(entries, found, strict=True) if image == _OUTSIDE]
    if outside:
        raise DataError(
            f"{len(outside)} of {len(entries)} images of {path} lie outside {base} ({first(outside)}); "
            f"name a folder above them with --image-root"
        )
    missing = [entry for entry, image in zip(entries, found, strict=True) if image is None]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(entries)} images of {path} are not in {base} ({first(missing)}); "
            f"name the folder they are relative to with --image-root"
        )
    return [image for image in found if image is not None]


def _locate(entry: str, base: str) -> str | None:
    for spelling in (entry, entry.replace("\\", "/")):
        full = os.path.normpath(os.path.join(base, spelling))
        for extension in ("", *IMAGE_SUFFIXES, *(extension.upper() for extension in IMAGE_SUFFIXES)):
            if os.path.isfile(full + extension):
                file = Path(full + extension)
                return file.relative_to(base).as_posix() if file.is_relative_to(base) else _OUTSIDE
    return None


def _without_duplicates(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    frame = frame.drop_duplicates(ignore_index=True)
    repeated = frame[frame["image"].duplicated(keep=False)]
    if len(repeated):
        images = sorted(set(repeated["image"]))
        rows = repeated[repeated["image"] == images[0]]
        differing = [str(column) for column in rows if rows[column].nunique(dropna=False) > 1]
        raise DataError(
            f"{len(images)} images stand in {path} more than once with different values ({first(images)}; the first "
            f"differs in {', '.join(differing)}); keep one row per image"
        )
    return frame


def first(items: Sequence[object], most: int = 3) -> str:
    """The first few of many, for a message."""
    return ", ".join(str(item) for item in items[:most]) + (", ..." if len(items) > most else "")

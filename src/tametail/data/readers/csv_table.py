"""A table of labelled images → a frame of image, label, group, split and the columns carried along.

Whatever is wrong with the file is said with its rows, columns and names; nothing is guessed or left out in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tametail.core.errors import DataError
from tametail.core.text import sample_of
from tametail.data.readers.image_entries import DICOM_SUFFIXES, locate_images
from tametail.data.readers.label_columns import (
    MISSING,
    check_class_names,
    one_hot_labels,
    proposed_one_hot,
    split_labels,
)
from tametail.data.readers.read_options import ReadOptions
from tametail.data.readers.table_file import IMAGE_COLUMNS, TableFile, read_table_file
from tametail.data.table import COLUMNS, SPLIT_WORDS

if TYPE_CHECKING:
    import pandas as pd


def read_table(
    path: Path,
    options: ReadOptions,
    root: Path,
    *,
    base: Path | None = None,
    locate: Callable[[Sequence[str]], list[str]] | None = None,
) -> pd.DataFrame:
    """Read a table of images that lie below ``root``.

    Args:
        path: CSV, TSV, Parquet or JSON Lines file.
        options: which columns are image, label, group and split; None for the column of that name (in any case).
            Group and split may be absent: then the group is the image (of DICOM the patient), the split empty.
        base: folder that the image entries are relative to, ``root`` by default.
        locate: finds the images by other means: N entries → N ids.

    Returns:
        Columns image (POSIX path of an existing file, relative to ``root``), label, group, split (train, val, test or
        empty), then all others, as numbers where every cell is one, else as written; one row per image.

    Raises:
        DataError: the file, a column, a cell or an image is missing or contradicts another.
    """
    file = read_table_file(path)
    image = _image_column(file, options)
    group = _find_column(file, "group", options.group_col)
    split = _find_column(file, "split", options.split_col)
    labels, label_columns = _labels(file, options, (image, group, split))
    check_class_names(labels)

    entries = _filled(file, image, "image")
    frame = file.typed.iloc[:, :0].copy()
    frame["image"] = locate(entries) if locate else locate_images(entries, base or root, root, path)
    frame["label"] = labels
    frame["group"] = _filled(file, group, "group") if group else _own_groups(frame["image"].tolist(), root)
    frame["split"] = _splits(file.text(split), path) if split else ""
    frame = frame[list(COLUMNS)].astype(object)
    taken = {image, group, split, *label_columns}
    carried: dict[str, pd.Series] = {}
    for column in file.columns:
        if column not in taken:
            name = column
            while name in COLUMNS or name in carried or (name != column and name in file.columns):
                name = f"csv_{name}"
            carried[name] = file.typed[column]
    return _without_duplicates(frame.assign(**carried), path)


def _own_groups(images: list[str], root: Path) -> list[str]:
    """Each image by itself; DICOM files by the patient that they name."""
    if not all(image.lower().endswith(DICOM_SUFFIXES) for image in images):
        return images
    from tametail.data.readers.dicom_patients import patient_codes

    return patient_codes([root / image for image in images])


def _image_column(file: TableFile, options: ReadOptions) -> str:
    if options.image_col is None and _find_column(file, "image", None) is None:
        named = [column for column in file.columns if column.lower() in IMAGE_COLUMNS]
        if len(named) == 1:
            return named[0]
    return _needed(file, "image", options.image_col)


def _labels(
    file: TableFile, options: ReadOptions, others: Sequence[str | None]
) -> tuple[list[str], list[str]]:
    """(R labels, the columns they come from)."""
    if options.label_cols:
        columns = [_needed(file, "label", column, "--label-cols") for column in options.label_cols]
        return one_hot_labels(file, columns, multi_label=options.multi_label), columns
    column = _find_column(file, "label", options.label_col)
    if column is None:
        raise DataError(_absent("label", None, file) + _way_out(proposed_one_hot(file, others)))
    if options.multi_label:
        return split_labels(file, column), [column]
    return _filled(file, column, "label"), [column]


def _way_out(proposed: Sequence[str]) -> str:
    if not proposed:
        return ""
    return f", or, as these look like one column per class, give --label-cols {','.join(proposed)}"


def _find_column(file: TableFile, role: str, named: str | None, flag: str | None = None) -> str | None:
    """The column of a role; None where it is absent and the role can do without."""
    wanted = named or role
    if wanted in file.columns:
        return wanted
    alike = [column for column in file.columns if column.lower() == wanted.lower()]
    if len(alike) > 1:
        raise DataError(
            f"{file.path} has several columns for {role}: {', '.join(alike)}; name one with --{role}-col"
        )
    if not alike and named is not None:
        raise DataError(_absent(role, named, file, flag))
    return alike[0] if alike else None


def _needed(file: TableFile, role: str, named: str | None, flag: str | None = None) -> str:
    column = _find_column(file, role, named, flag)
    if column is None:
        raise DataError(_absent(role, named, file, flag))
    return column


def _absent(role: str, named: str | None, file: TableFile, flag: str | None = None) -> str:
    return (
        f"expected a column {named or role!r} for the {role} in {file.path}, found {sample_of(file.columns, most=40)}; "
        f"name one with {flag or f'--{role}-col'}"
    )


def _filled(file: TableFile, column: str, role: str) -> list[str]:
    """One column as text, of which no cell may be empty."""
    values = file.text(column)
    empty = [row for row, value in enumerate(values, start=1) if value in MISSING]
    if empty:
        raise DataError(
            f"{len(empty)} of {len(values)} rows of {file.path} have no {role} in column {column!r} "
            f"(rows {sample_of(empty)}{file.rows_are}); fill them in or take the rows out"
        )
    return values


def _splits(values: Sequence[str], path: Path) -> list[str]:
    words = ["" if value in MISSING else value.lower() for value in values]
    unknown = sorted(set(words) - set(SPLIT_WORDS))
    if unknown:
        raise DataError(
            f"expected train, val, test or nothing in the split column of {path}, found {sample_of(unknown)}"
        )
    return [SPLIT_WORDS[word] for word in words]


def _without_duplicates(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    frame = frame.drop_duplicates(ignore_index=True)
    repeated = frame[frame["image"].duplicated(keep=False)]
    if len(repeated):
        images = sorted(set(repeated["image"]))
        rows = repeated[repeated["image"] == images[0]]
        differing = [str(column) for column in rows if rows[column].nunique(dropna=False) > 1]
        raise DataError(
            f"{len(images)} images stand in {path} more than once with different values ({sample_of(images)}; the first "
            f"differs in {', '.join(differing)}); keep one row per image"
        )
    return frame

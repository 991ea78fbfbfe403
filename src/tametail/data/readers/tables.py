"""Tables of labelled images: a file → columns image, label, group, split, and all others as they are.

Errors name the rows, columns and values that are wrong; nothing is guessed or dropped silently.
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
from tametail.data.readers.reader import Reader, ReadOptions, register_reader
from tametail.data.readers.table_file import IMAGE_COLUMNS, TABLE_SUFFIXES, TableFile, read_table_file
from tametail.data.table import COLUMNS, SPLIT_WORDS, ImageTable

if TYPE_CHECKING:
    import pandas as pd


@register_reader
class TableReader(Reader):
    """Reads a CSV, TSV, Parquet or JSON Lines file."""

    name = "table"
    priority = 0

    def matches(self, source: str | Path) -> bool:
        path = Path(source).expanduser()
        return path.suffix.lower() in TABLE_SUFFIXES and path.exists() and not path.is_dir()

    def read(self, source: str | Path, options: ReadOptions) -> ImageTable:
        path = Path(source).expanduser()
        return table_of_images(path, options, path.stem)


def table_of_images(path: Path, options: ReadOptions, name: str) -> ImageTable:
    """Read a table whose images are relative to ``options.image_root`` or to its own folder.

    Raises:
        DataError: the folder of the images does not exist, or the table is not valid.
    """
    root = path.parent if options.image_root is None else options.image_root
    if not root.is_dir():
        raise DataError(f"expected the folder of the images at {root} (--image-root), but there is none")
    return ImageTable.from_frame(
        read_table(path, options, root),
        root,
        name,
        multi_label=options.multi_label,
        allow_leaks=options.allow_leaks,
    )


def read_table(
    path: Path,
    options: ReadOptions,
    root: Path,
    *,
    base: Path | None = None,
    locate: Callable[[Sequence[str]], list[str]] | None = None,
) -> pd.DataFrame:
    """Read a table of images below ``root``.

    Args:
        path: CSV, TSV, Parquet or JSON Lines file.
        options: which columns are image, label, group and split; None for the column of that name (in any case).
            Group and split are optional: by default the group is the image (of DICOM the patient) and the split empty.
        base: folder that the image entries are relative to, ``root`` by default.
        locate: finds the images in another way: N entries → N ids.

    Returns:
        Columns image (POSIX path of an existing file, relative to ``root``), label, group, split (train, val, test or
        empty), then all others, as numbers where every cell is one, else as written; one row per image.

    Raises:
        DataError: the file, a column, a cell or an image is missing, or rows contradict each other.
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
    frame["group"] = (
        _filled(file, group, "group") if group else _default_groups(frame["image"].tolist(), root)
    )
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


def _default_groups(images: list[str], root: Path) -> list[str]:
    """Default groups: the patient of a DICOM file, else each image by itself."""
    if not all(image.lower().endswith(DICOM_SUFFIXES) for image in images):
        return images
    from tametail.data.readers.dicom_headers import patient_codes

    return patient_codes([root / image for image in images])


def _image_column(file: TableFile, options: ReadOptions) -> str:
    if options.image_col is None and _find_column(file, "image", None) is None:
        named = [column for column in file.columns if column.lower() in IMAGE_COLUMNS]
        if len(named) == 1:
            return named[0]
    return _required_column(file, "image", options.image_col)


def _labels(
    file: TableFile, options: ReadOptions, others: Sequence[str | None]
) -> tuple[list[str], list[str]]:
    """R labels, and the columns they are from."""
    if options.label_cols:
        columns = [_required_column(file, "label", column, "--label-cols") for column in options.label_cols]
        return one_hot_labels(file, columns, multi_label=options.multi_label), columns
    column = _find_column(file, "label", options.label_col)
    if column is None:
        raise DataError(_no_column("label", None, file) + _one_hot_hint(proposed_one_hot(file, others)))
    if options.multi_label:
        return split_labels(file, column), [column]
    return _filled(file, column, "label"), [column]


def _one_hot_hint(proposed: Sequence[str]) -> str:
    if not proposed:
        return ""
    return f", or, as these look like one column per class, give --label-cols {','.join(proposed)}"


def _find_column(file: TableFile, role: str, named: str | None, flag: str | None = None) -> str | None:
    """The column of a role; None where it is absent and was not named."""
    wanted = named or role
    if wanted in file.columns:
        return wanted
    found = [column for column in file.columns if column.lower() == wanted.lower()]
    if len(found) > 1:
        raise DataError(
            f"{file.path} has several columns for {role}: {', '.join(found)}; name one with --{role}-col"
        )
    if not found and named is not None:
        raise DataError(_no_column(role, named, file, flag))
    return found[0] if found else None


def _required_column(file: TableFile, role: str, named: str | None, flag: str | None = None) -> str:
    column = _find_column(file, role, named, flag)
    if column is None:
        raise DataError(_no_column(role, named, file, flag))
    return column


def _no_column(role: str, named: str | None, file: TableFile, flag: str | None = None) -> str:
    return (
        f"expected a column {named or role!r} for the {role} in {file.path}, found {sample_of(file.columns, most=40)}; "
        f"name one with {flag or f'--{role}-col'}"
    )


def _filled(file: TableFile, column: str, role: str) -> list[str]:
    """One column as text, without empty cells."""
    values = file.text(column)
    empty = [row for row, value in enumerate(values, start=1) if value in MISSING]
    if empty:
        raise DataError(
            f"{len(empty)} of {len(values)} rows of {file.path} have no {role} in column {column!r} "
            f"(rows {sample_of(empty)}{file.rows_are}); fill them in or remove the rows"
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
            f"{len(images)} images are listed in {path} more than once with different values ({sample_of(images)}; the first "
            f"differs in {', '.join(differing)}); keep one row per image"
        )
    return frame

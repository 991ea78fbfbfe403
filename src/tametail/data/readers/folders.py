"""Folders of images → a frame: the class is the folder an image lies in, or a table in the folder says it."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tametail.core.errors import DataError
from tametail.core.text import sample_of
from tametail.data.readers.csv_table import read_table
from tametail.data.readers.image_entries import DICOM_SUFFIXES, IMAGE_SUFFIXES, is_kind, list_folder
from tametail.data.readers.read_options import ReadOptions
from tametail.data.readers.table_file import IMAGE_COLUMNS, TABLE_SUFFIXES, read_table_file
from tametail.data.table import SPLIT_WORDS

if TYPE_CHECKING:
    import pandas as pd

LABELS_FILE = "labels.csv"
# The first row comes before the second; within one there may be only one file.
_TABLES = (
    (LABELS_FILE, "labels.tsv", "labels.parquet", "labels.jsonl"),
    ("metadata.csv", "metadata.jsonl", "metadata.parquet"),
)


def labels_file(folder: Path, image_col: str | None = None) -> Path | None:
    """The table in a folder that names its images: ``labels.csv``, or what Hugging Face calls ``metadata.csv``.

    The second name is common for tables of other things, so it counts only with a column of images: ``image_col``,
    ``file_name`` or ``image``.

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
        if found and (names is _TABLES[0] or _names_images(found[0], image_col)):
            return found[0]
    return None


def _names_images(path: Path, image_col: str | None) -> bool:
    columns = read_table_file(path).columns
    if image_col is not None or any(column.lower() in IMAGE_COLUMNS for column in columns):
        return True
    logging.getLogger(__name__).warning(
        "%s has no column file_name or image, so it is not read; to read it name the column with --image-col",
        path,
    )
    return False


def labels_files_by_split(root: Path, image_col: str | None = None) -> dict[Path, str] | None:
    """Tables in sub-folders named train, val and test → their splits; None where there are none.

    Raises:
        DataError: some of these sub-folders have a table and some have not.
    """
    inside = [Path(item.path) for item in list_folder(root) if is_kind(item, os.DirEntry.is_dir)]
    folders = [folder for folder in inside if folder.name.lower() in SPLIT_WORDS]
    tables = {folder: labels_file(folder, image_col) for folder in folders}
    bare = [folder.name for folder, table in tables.items() if table is None]
    if len(bare) == len(folders):
        return None
    if bare:
        raise DataError(
            f"expected a table such as metadata.csv in every sub-folder of {root} named train, val or test, but "
            f"{sample_of(bare)} has none; add it or take the folder out"
        )
    return {table: SPLIT_WORDS[folder.name.lower()] for folder, table in tables.items() if table is not None}


def read_split_tables(tables: dict[Path, str], options: ReadOptions, root: Path) -> pd.DataFrame:
    """One frame of a table per split; image entries are relative to the table's own folder.

    Raises:
        DataError: a table does not pass, or its split column contradicts the folder.
    """
    import pandas as pd

    parts = []
    for path, split in tables.items():
        part = read_table(path, options, root, base=path.parent)
        others = sorted(set(part["split"]) - {"", split})
        if others:
            raise DataError(
                f"{path} lies in the folder of the split {split!r}, but its split column says {sample_of(others)}; "
                f"take the column out"
            )
        part["split"] = split
        parts.append(part)
    frame = pd.concat(parts, ignore_index=True)
    twice = sorted(set(frame.loc[frame["image"].duplicated(), "image"]))
    if twice:
        raise DataError(
            f"{len(twice)} images of {root} are listed in two splits ({sample_of(twice)}); keep one"
        )
    return frame


def read_class_folders(root: Path, files: Sequence[Path]) -> pd.DataFrame:
    """Columns image, label, group, split of the images among ``files`` (relative to ``root``).

    Raises:
        DataError: no image, or an image that lies in no folder of a class.
    """
    import pandas as pd

    images = image_files(files)
    if not images:
        raise DataError(_nothing_found(root, files))
    by_split = all(file.parts[0].lower() in SPLIT_WORDS for file in images)
    depth = 2 if by_split else 1
    stray = [file.as_posix() for file in images if len(file.parts) <= depth]
    if stray:
        raise DataError(
            f"expected every image of {root} in the folder of its class, but {len(stray)} of {len(images)} lie outside "
            f"({sample_of(stray)}); move them, or add a {LABELS_FILE} with the columns image and label"
        )
    ids = [file.as_posix() for file in images]
    return pd.DataFrame(
        {
            "image": ids,
            "label": [file.parts[depth - 1].strip() for file in images],
            "group": ids,
            "split": [SPLIT_WORDS[file.parts[0].lower()] if by_split else "" for file in images],
        },
        dtype=object,
    )


def image_files(files: Sequence[Path]) -> list[Path]:
    """Those whose name is that of an image."""
    return [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]


def holds_dicom(root: Path, files: Sequence[Path]) -> bool:
    """Whether a file is named ``.dcm``, or has no extension but perhaps a number and begins as a DICOM file does."""
    if any(file.suffix.lower() in DICOM_SUFFIXES for file in files):
        return True
    # Exports are named by their UID: 1.2.840.10008.5 has no extension, whatever follows its last point.
    unnamed = (file for file in files if not file.suffix or file.suffix[1:].isdigit())
    return any(_has_dicom_mark(root / file) for file in unnamed)


def _has_dicom_mark(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _nothing_found(root: Path, files: Sequence[Path]) -> str:
    expected = f"expected sub-folders with images, one per class, or a {LABELS_FILE} in {root}"
    if not files:
        return f"{expected}, but it is empty"
    # A .txt is more often a note than a table.
    tables = [
        file.as_posix() for file in files if file.suffix.lower() in TABLE_SUFFIXES and file.suffix != ".txt"
    ]
    if tables:
        return f"{expected}, but found neither; there is {sample_of(tables)}: give the path of the CSV itself"
    kinds = Counter(file.suffix.lower() or "no extension" for file in files)
    found = ", ".join(f"{count} × {kind}" for kind, count in kinds.most_common(5))
    return f"{expected}, but none of its {len(files)} files looks like an image ({found})"

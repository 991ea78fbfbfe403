"""Folders whose sub-folders are the classes, or train, val and test with the classes in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tametail.core.errors import DataError
from tametail.core.text import sample_of
from tametail.data.readers.image_entries import IMAGE_SUFFIXES, walk
from tametail.data.readers.reader import Reader, ReadOptions, register_reader
from tametail.data.readers.table_file import TABLE_SUFFIXES
from tametail.data.readers.table_folders import LABELS_FILE, folder_name
from tametail.data.table import SPLIT_WORDS, ImageTable

if TYPE_CHECKING:
    import pandas as pd


@register_reader
class ClassFolderReader(Reader):
    """Reads any folder, by its sub-folders; asked last."""

    name = "class_folders"
    priority = -40

    def matches(self, source: str | Path) -> bool:
        return Path(source).expanduser().is_dir()

    def read(self, source: str | Path, options: ReadOptions) -> ImageTable:
        folder = Path(source).expanduser()
        options.refuse_table_options(f"{folder} is a folder without {LABELS_FILE}")
        return ImageTable.from_frame(read_class_folders(folder, walk(folder)), folder, folder_name(folder))


def read_class_folders(root: Path, files: Iterable[Path]) -> pd.DataFrame:
    """Columns image, label, group, split of the images among ``files`` (relative to ``root``).

    Raises:
        DataError: there is no image, or an image is not in the folder of a class.
    """
    import pandas as pd

    listed = list(files)
    images = image_files(listed)
    if not images:
        raise DataError(_nothing_found(root, listed))
    labels, splits = labels_from_folders(root, images, "image")
    ids = [file.as_posix() for file in images]
    return pd.DataFrame({"image": ids, "label": labels, "group": ids, "split": splits}, dtype=object)


def labels_from_folders(root: Path, files: Sequence[Path], kind: str) -> tuple[list[str], list[str]]:
    """Labels and splits of N files (relative to ``root``) by the folders that they are in.

    Args:
        kind: what the files are, for the message.

    Raises:
        DataError: a file is not in the folder of a class.
    """
    by_split = all(file.parts[0].lower() in SPLIT_WORDS for file in files)
    depth = 2 if by_split else 1
    stray = [file.as_posix() for file in files if len(file.parts) <= depth]
    if stray:
        raise DataError(
            f"expected every {kind} of {root} in the folder of its class, but {len(stray)} of {len(files)} lie outside "
            f"({sample_of(stray)}); move them, or add a {LABELS_FILE} with the columns image and label"
        )
    labels = [file.parts[depth - 1].strip() for file in files]
    return labels, [SPLIT_WORDS[file.parts[0].lower()] if by_split else "" for file in files]


def image_files(files: Iterable[Path]) -> list[Path]:
    """The files with the extension of an image."""
    return [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]


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

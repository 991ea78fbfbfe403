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
from tametail.data.reading import NO_SPLIT, SourceReading
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
        frame, reading = read_class_folders(folder, walk(folder))
        return ImageTable.from_frame(frame, folder, folder_name(folder), reading=reading)


def read_class_folders(root: Path, files: Iterable[Path]) -> tuple[pd.DataFrame, SourceReading]:
    """Columns image, label, group, split of the images among ``files`` (relative to ``root``), and how they were read.

    Raises:
        DataError: there is no image, or an image is not in the folder of a class.
    """
    import pandas as pd

    listed = list(files)
    images = image_files(listed)
    if not images:
        raise DataError(_nothing_found(root, listed))
    labels, splits, reading = labels_from_folders(root, images, "image")
    ids = [file.as_posix() for file in images]
    frame = pd.DataFrame({"image": ids, "label": labels, "group": ids, "split": splits}, dtype=object)
    others = Counter(file.suffix.lower() or "without extension" for file in set(listed) - set(images))
    return frame, reading.without(*(f"{count:,} files {kind}" for kind, count in others.most_common()))


def labels_from_folders(
    root: Path, files: Sequence[Path], kind: str
) -> tuple[list[str], list[str], SourceReading]:
    """Labels and splits of N files (relative to ``root``) by the folders that they are in, and how they were read.

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
    splits = [SPLIT_WORDS[file.parts[0].lower()] if by_split else "" for file in files]
    folders = sorted({file.parts[0] for file in files}) if by_split else []
    return (
        labels,
        splits,
        SourceReading(
            f"folder level {depth} below {root.resolve().name}/",
            split=f"folders {', '.join(f'{name}/' for name in folders)}" if folders else NO_SPLIT,
        ),
    )


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

"""Folders of images whose sub-folders are the classes, possibly below folders of train, val and test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tametail.core.errors import DataError
from tametail.core.text import counted, sample_of
from tametail.data.decoding.decode import is_dicom
from tametail.data.decoding.file_kinds import count_kinds, describe_kinds, is_image, kind_of, unread_among
from tametail.data.decoding.slices import is_nifti
from tametail.data.readers.companions import find_companions
from tametail.data.readers.folder_levels import Folder, FolderLevels, describe_levels, find_levels
from tametail.data.readers.image_entries import DICOM_SUFFIXES, IMAGE_SUFFIXES, first_bytes, walk
from tametail.data.readers.reader import Reader, ReadOptions, register_reader
from tametail.data.readers.split_names import UNLABELLED, split_folders
from tametail.data.readers.table_file import TABLE_SUFFIXES, read_table_file
from tametail.data.readers.table_folders import LABELS_FILE, folder_name
from tametail.data.reading import SourceReading
from tametail.data.table import ImageTable

if TYPE_CHECKING:
    import pandas as pd


@register_reader
class ClassFolderReader(Reader):
    """Reads any folder, by its sub-folders; asked last."""

    name = "class_folders"
    priority = -40
    takes_folder_options = True

    def matches(self, source: str | Path) -> bool:
        return Path(source).expanduser().is_dir()

    def read(self, source: str | Path, options: ReadOptions) -> ImageTable:
        folder = Path(source).expanduser()
        options.refuse_table_options(f"{folder} is a folder without {LABELS_FILE}")
        empty: list[Path] = []
        frame, reading = read_class_folders(folder, list(walk(folder, empty)), options, empty)
        return ImageTable.from_frame(
            frame, folder, folder_name(folder), allow_leaks=options.allow_leaks, reading=reading
        )


def read_class_folders(
    root: Path, files: Sequence[Path], options: ReadOptions, empty: Sequence[Path] = ()
) -> tuple[pd.DataFrame, SourceReading]:
    """Columns image, label, group, split of the images among ``files`` (relative to ``root``), and how they were read.

    Args:
        empty: folders without any file.

    Raises:
        DataError: there is no image, the folders can be read in several ways, or a class folder has no image.
    """
    import pandas as pd

    images, others = _sort_files(root, files, volumes=options.slices is not None)
    if not images:
        raise DataError(_nothing_found(root, files))
    if options.class_level is None:
        _refuse_unread_labels(root, images, others)
    masks = set() if options.keep_masks else find_companions(images)
    chosen = [file for file in images if file not in masks]
    tree = read_folders(root, chosen, "image", options, others=others, empty=empty)
    if masks and len(set(tree.labels)) < 2:
        raise DataError(
            f"expected at least two classes in {root}, found only {tree.labels[0]!r} beside {len(masks):,} files that look "
            f"like masks; if these are images, read them with --keep-masks"
        )
    ids = [file.as_posix() for file in tree.files]
    columns = {"image": ids, "label": tree.labels, "group": ids, "split": tree.splits}
    reading = tree.reading.without(
        f"{counted(len(masks), 'mask')} of other images (--keep-masks reads them as images)" if masks else "",
        *describe_kinds(_named_kinds(root, others)),
    )
    return pd.DataFrame(columns, dtype=object), reading


def _refuse_unread_labels(root: Path, images: Sequence[Path], others: Sequence[Path]) -> None:
    """Refuse a tree beside a table that names its images: the classes may be in the table.

    Raises:
        DataError: a column of a table directly in ``root`` names at least half of the images, and the table does not know the
            names of the folders.
    """
    folders = {part for image in images for part in image.parts[:-1]}
    named = {form for image in images for form in (image.name.lower(), image.stem.lower())}
    for table in others:
        if len(table.parts) > 1 or table.suffix.lower() not in TABLE_SUFFIXES:
            continue
        try:
            file = read_table_file(root / table)
        except DataError:
            continue  # another kind of text
        texts = {column: list(map(str, file.cells(column))) for column in file.columns}
        if folders & {*texts, *(cell for column in texts.values() for cell in column)}:
            continue  # it describes the folders
        for column, written in texts.items():
            cells = {cell.replace("\\", "/").rsplit("/", 1)[-1].lower() for cell in written}
            if 2 * len(cells & named) >= len(images):
                raise DataError(
                    f"expected the classes of {root} in its folders alone, but {table} names its images in column {column!r}: "
                    f"if the classes are there, give {root / table} --image-col {column}; if they are the folders, add "
                    f"--class-level with their level, such as 1 or deepest"
                )


class FolderReading:
    """N files of a tree by the folders that they lie in."""

    def __init__(self, files: list[Path], levels: FolderLevels, reading: SourceReading) -> None:
        folders = [file.parts[:-1] for file in files]
        self.files = files
        self.labels = [levels.label(folder) for folder in folders]
        self.splits = [levels.split(folder) for folder in folders]
        self.reading = reading


def read_folders(
    root: Path,
    files: Sequence[Path],
    kind: str,
    options: ReadOptions,
    *,
    others: Iterable[Path] = (),
    empty: Iterable[Path] = (),
) -> FolderReading:
    """Labels and splits of files (relative to ``root``) by the folders that they are in.

    Args:
        kind: what the files are, for messages.
        others: files that are not read.
        empty: folders without any file.

    Raises:
        DataError: see `find_levels`; or no file of a class folder is read.
    """
    counts = Counter(file.parts[:-1] for file in files)
    levels = find_levels(root, files, kind, options.class_level, options.group_level)
    unlabelled = {folder for folder in counts if levels.split(folder) == UNLABELLED}
    labelled = Counter({folder: n for folder, n in counts.items() if folder not in unlabelled})
    reading = describe_levels(root, labelled, levels)
    without = _folders_without_images(
        root, counts, levels, list(others), list(empty), options.skip_empty_classes
    )
    dropped = sum(counts[folder] for folder in unlabelled)
    kept = [file for file in files if file.parts[:-1] not in unlabelled] if unlabelled else list(files)
    return FolderReading(
        kept,
        levels,
        reading.without(counted(dropped, f"unlabelled {kind}") if dropped else "", *without),
    )


def _folders_without_images(
    root: Path,
    counts: Counter[Folder],
    levels: FolderLevels,
    others: Sequence[Path],
    empty: Sequence[Path],
    skip: bool,
) -> list[str]:
    """Notes on folders of which nothing is read; refused are classes, and splits with files, that would vanish."""
    read = {folder[:depth] for folder in counts for depth in range(len(folder) + 1)}
    labels = {levels.label(folder) for folder in counts if levels.split(folder) != UNLABELLED}
    bare: dict[Folder, list[Path]] = {}
    for file in others:
        for depth in range(1, len(file.parts)):
            bare.setdefault(file.parts[:depth], []).append(file)
    for path in empty:
        for depth in range(1, len(path.parts) + 1):
            bare.setdefault(path.parts[:depth], [])
    refused, notes = [], []
    for folder, held in sorted(bare.items()):
        if folder in read or folder[:-1] not in read:
            continue  # of nested folders the highest is named
        kinds = ", ".join(describe_kinds(_named_kinds(root, held))) or "empty"
        if _would_vanish(folder, held, levels, labels):
            refused.append((f"folder {'/'.join(folder)}/", kinds, counted(len(held), "file")))
        elif not held or len(folder) == levels.class_level:
            notes.append(f"folder {'/'.join(folder)}/ ({kinds})")
    if refused and not skip:
        raise DataError(
            f"expected images in every class folder of {root}, but of {len(refused)} no file is read: "
            f"{sample_of([f'{folder} ({kinds})' for folder, kinds, _ in refused], most=5)}; convert the files, or leave these folders out with --skip-empty-classes"
        )
    return [*notes, *(f"{folder} ({count})" for folder, _, count in refused)]


def _would_vanish(folder: Folder, held: Sequence[Path], levels: FolderLevels, labels: set[str]) -> bool:
    """Whether a class, a split or a folder above class folders is lost with a folder of which nothing is read."""
    if len(folder) == levels.split_level:
        return bool(held) and bool(split_folders([folder[-1]]))
    if levels.class_level is None or len(folder) == levels.class_level:
        return folder[-1].strip() not in labels
    return len(folder) < levels.class_level and any(len(file.parts) > levels.class_level for file in held)


def image_files(files: Iterable[Path]) -> list[Path]:
    """The files with the extension of an image."""
    return [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]


def _sort_files(root: Path, files: Iterable[Path], *, volumes: bool) -> tuple[list[Path], list[Path]]:
    """Images by their extension, or without one by their first bytes, and NIfTI ``volumes``; and all other files."""
    images: list[Path] = []
    others: list[Path] = []
    for file in files:
        suffix = file.suffix.lower()
        image = suffix in IMAGE_SUFFIXES or (not kind_of(file) and is_image(first_bytes(root / file)))
        (images if image or (volumes and is_nifti(file.name)) else others).append(file)
    return images, others


def _named_kinds(root: Path, files: Iterable[Path]) -> Counter[str]:
    """Number of files by kind, where DICOM files without extension count as such."""
    kinds: Counter[str] = Counter()
    for file in files:
        kind = kind_of(file)
        if kind in DICOM_SUFFIXES or (not kind and is_dicom(first_bytes(root / file))):
            kind = "DICOM"
        kinds[kind or "without extension"] += 1
    return kinds


def _nothing_found(root: Path, files: Sequence[Path]) -> str:
    expected = f"expected sub-folders with images, one per class, or a {LABELS_FILE} in {root}"
    if not files:
        return f"{expected}, but it is empty"
    if unread := unread_among(file.as_posix() for file in files):
        return f"{expected}, but found {unread}"
    # A .txt is more often a note than a table.
    tables = [
        file.as_posix() for file in files if file.suffix.lower() in TABLE_SUFFIXES and file.suffix != ".txt"
    ]
    if tables:
        return f"{expected}, but found neither; there is {sample_of(tables)}: give the path of the CSV itself"
    found = ", ".join(f"{count} × {kind}" for kind, count in count_kinds(files).most_common(5))
    return f"{expected}, but none of its {len(files)} files looks like an image ({found})"

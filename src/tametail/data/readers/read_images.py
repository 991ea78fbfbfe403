"""Images on disk → `ImageTable`: class folders, tables, MedMNIST files, DICOM folders, sets known by name, the demo."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tametail.core.errors import DataError
from tametail.core.registry import nearest
from tametail.data.readers.checked_table import checked_table
from tametail.data.readers.csv_table import read_table
from tametail.data.readers.folders import (
    LABELS_FILE,
    holds_dicom,
    image_files,
    labels_file,
    labels_files_by_split,
    read_class_folders,
    read_split_tables,
)
from tametail.data.readers.image_entries import walk
from tametail.data.readers.known_sets import KNOWN_SETS, read_known_set
from tametail.data.readers.medmnist import read_medmnist
from tametail.data.readers.read_options import ReadOptions, column_names
from tametail.data.readers.table_file import TABLE_SUFFIXES
from tametail.data.table import ImageTable

if TYPE_CHECKING:
    import pandas as pd


def read_images(
    source: str | Path,
    *,
    image_col: str | None = None,
    label_col: str | None = None,
    group_col: str | None = None,
    split_col: str | None = None,
    image_root: str | Path | None = None,
    label_cols: Sequence[str] | str | None = None,
    multi_label: bool = False,
    root: str | Path | None = None,
    download: bool = False,
    allow_leaks: bool = False,
) -> ImageTable:
    """Read a table of labelled images. The images themselves are not opened, but for DICOM and MedMNIST files.

    Args:
        source: one of

            - a folder whose sub-folders are the classes (or are ``train``, ``val``, ``test`` with the classes in them);
            - a folder with a table named ``labels`` (.csv, .tsv, .parquet, .jsonl) or, as Hugging Face has it,
              ``metadata`` (.csv, .jsonl, .parquet), or with one of these in each of ``train``, ``val``, ``test``;
            - a table: CSV or TSV (comma, semicolon or tab), Parquet, or JSON Lines with an object per line;
            - a folder of DICOM files;
            - a MedMNIST file (.npz, 2D), whose images are written out once, as PNG, to the cache folder;
            - the name of a known set, see `KNOWN_SETS`: ``"ham10000"``, ``"dermamnist_224"``, ...;
            - the word ``"demo"``, the built-in synthetic set.

            A folder that has the name of a set is given as ``./demo`` or as a `Path`.
        image_col, label_col, group_col, split_col: columns of the table, when not named image (or file_name), label,
            group, split. Group and split may be absent. All others are carried along.
        image_root: folder that the table's image entries are relative to; the table's own folder by default. The
            extension may be left out of an entry.
        label_cols: columns of 0 and 1, one per class, in place of a label column: names, or one text with commas.
        multi_label: images may have several classes or none: the label column holds names joined by ``|`` (or ``;``
            or ``,``) or lists of them, or ``label_cols`` have several ones or none in a row.
        root: folder of a known set as it was downloaded.
        download: fetch a MedMNIST set that is not on this machine.
        allow_leaks: read a table although groups cross its test set, to look into it; never for training.

    Raises:
        UsageError: options that the source has no use for, or that contradict each other.
        DataError: the source is absent or holds no images, a column or label or file is missing, rows contradict
            each other, there is a single class, or a group lies on both sides of the given test set.
        TametailError: the download failed, or the cache folder cannot be written.
    """
    options = ReadOptions(
        image_col,
        label_col,
        group_col,
        split_col,
        _folder(image_root),
        column_names(label_cols),
        multi_label,
        _folder(root),
        download,
        allow_leaks,
    )
    if isinstance(source, str) and source in KNOWN_SETS:
        options.refuse_table_options(f"{source} has fixed columns")
        return read_known_set(source, options)
    options.refuse_set_options(tuple(KNOWN_SETS))
    if source == "demo":
        return _read_demo(options)
    path = Path(source).expanduser()
    if not path.exists():
        raise DataError(
            f"expected a folder or a CSV file at {path}, but nothing is there{_known(source, path)}"
        )
    return _read_folder(path, options) if path.is_dir() else _read_file(path, options)


def _folder(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given).expanduser()


def _known(source: str | Path, path: Path) -> str:
    """A hint where the path could have been meant as the name of a set."""
    is_word = isinstance(source, str) and path.name == source and not path.suffix
    return f"; of the sets known by name, {nearest(path.name, [*KNOWN_SETS, 'demo'])}" if is_word else ""


def _read_demo(options: ReadOptions) -> ImageTable:
    from tametail.data.decoding.cache import cache_dir
    from tametail.data.demo.demo import demo_directory, write_demo

    options.refuse_table_options("the demo set has fixed columns")
    directory = demo_directory(cache_dir(), 0)
    write_demo(directory, seed=0)
    return checked_table(
        read_table(directory / LABELS_FILE, ReadOptions(), directory), directory, "demo", synthetic=True
    )


def _read_file(path: Path, options: ReadOptions) -> ImageTable:
    suffix = path.suffix.lower()
    if suffix == ".npz":
        options.refuse_table_options(f"{path} is a MedMNIST file")
        return read_medmnist(path)
    if suffix not in TABLE_SUFFIXES:
        raise DataError(
            f"expected a folder of images, a .csv, .tsv, .parquet or .jsonl file or a MedMNIST .npz, got the file {path}"
        )
    return _read_table(path, options, path.stem)


def _read_folder(folder: Path, options: ReadOptions) -> ImageTable:
    name = folder.resolve().name or "images"
    table = labels_file(folder, options.image_col)
    if table is not None:
        return _read_table(table, options, name)
    by_split = labels_files_by_split(folder, options.image_col)
    if by_split is not None:
        frame = read_split_tables(by_split, options, options.image_root or folder)
        return _checked(frame, options.image_root or folder, name, options)

    options.refuse_table_options(f"{folder} is a folder without {LABELS_FILE}")
    files = walk(folder)
    if not image_files(files) and holds_dicom(folder, files):
        from tametail.data.readers.dicom_folder import read_dicom_folder

        return _checked(read_dicom_folder(folder), folder, name, options)
    return _checked(read_class_folders(folder, files), folder, name, options)


def _read_table(path: Path, options: ReadOptions, name: str) -> ImageTable:
    root = path.parent if options.image_root is None else options.image_root
    if not root.is_dir():
        raise DataError(f"expected the folder of the images at {root} (--image-root), but there is none")
    return _checked(read_table(path, options, root), root, name, options)


def _checked(frame: pd.DataFrame, root: Path, name: str, options: ReadOptions) -> ImageTable:
    return checked_table(frame, root, name, multi_label=options.multi_label, allow_leaks=options.allow_leaks)

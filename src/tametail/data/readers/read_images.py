"""`read_images`: every source of labelled images by one function."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tametail.core.errors import DataError
from tametail.core.registry import nearest
from tametail.data.readers.known_sets import KNOWN_SETS
from tametail.data.readers.reader import ReadOptions, column_names, find_reader, readers
from tametail.data.table import ImageTable


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
    """Read a table of labelled images. The images themselves are not opened, except DICOM and MedMNIST files.

    Args:
        source: one of

            - a folder whose sub-folders are the classes (or are ``train``, ``val``, ``test`` with the classes in them);
            - a folder with a table named ``labels`` (.csv, .tsv, .parquet, .jsonl) or, as in Hugging Face data sets,
              ``metadata`` (.csv, .jsonl, .parquet), or with one of these in each of ``train``, ``val``, ``test``;
            - a table: CSV or TSV (comma, semicolon or tab), Parquet, or JSON Lines with an object per line;
            - a folder of DICOM files;
            - a MedMNIST file (.npz, 2D), whose images are written once, as PNG, to the cache folder;
            - the name of a known set, see `KNOWN_SETS`: ``"ham10000"``, ``"dermamnist_224"``, ...;
            - the word ``"demo"``, the built-in synthetic set;
            - a source of a reader that another package registered, see `Reader`.

            To read a folder that has the name of a set, give ``./demo`` or a `Path`.
        image_col, label_col, group_col, split_col: columns of the table, where they are not named image (or file_name),
            label, group and split. Group and split are optional. The other columns are kept as they are.
        image_root: folder that the image paths in the table are relative to; by default the folder of the table.
            A path may omit the extension.
        label_cols: columns of 0 and 1, one per class, instead of a label column: names, or one text with commas.
        multi_label: an image may have several classes or none. The label column then holds names joined by ``|`` (or
            ``;`` or ``,``) or lists of names; with ``label_cols`` a row may have any number of ones.
        root: folder of a known set as it was downloaded.
        download: download a MedMNIST set that is not on this machine.
        allow_leaks: accept groups that are both in the test set and outside it. For inspection; never for training.

    Returns:
        The images with their labels, groups and splits, sorted by image id.

    Raises:
        UsageError: options that do not apply to the source, or that contradict each other.
        DataError: the source does not exist or holds no images; a column, a label or a file is missing; rows contradict
            each other; there is a single class; or a group is both in the given test set and outside it.
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
    reader = find_reader(source)
    if reader is None or not reader.takes_root:
        options.refuse_root(tuple(KNOWN_SETS))
    if reader is None:
        raise DataError(_no_reader(source))
    return reader.read(source, options)


def _folder(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given).expanduser()


def _no_reader(source: str | Path) -> str:
    """What was expected and found where no reader matches, with the readers that could not be loaded."""
    path = Path(source).expanduser()
    failures = "".join(f"; {failure}" for failure in readers.failures.values())
    if path.exists():
        return (
            f"expected a folder of images, a .csv, .tsv, .parquet or .jsonl file or a MedMNIST .npz, got the file "
            f"{path}{failures}"
        )
    # A single word without an extension may be meant as the name of a set.
    is_word = isinstance(source, str) and path.name == source and not path.suffix
    hint = f"; of the sets known by name, {nearest(path.name, [*KNOWN_SETS, 'demo'])}" if is_word else ""
    return f"expected a folder or a CSV file at {path}, but nothing is there{hint}{failures}"

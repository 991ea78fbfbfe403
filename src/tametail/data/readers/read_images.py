"""`read_images`: every source of labelled images by one function."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from tametail.core.errors import DataError
from tametail.core.option import takes
from tametail.core.options import ReadImagesOptions
from tametail.core.registry import nearest
from tametail.data.decoding.file_kinds import UNREAD_KINDS, kind_of
from tametail.data.group_from import groups_from
from tametail.data.readers.given_splits import split_files, with_split_files
from tametail.data.readers.known_sets import KNOWN_SETS
from tametail.data.readers.reader import ReadOptions, column_names, find_reader, readers
from tametail.data.readers.slices import with_slices
from tametail.data.reading import read_by
from tametail.data.table import ImageTable


@takes(ReadImagesOptions)
def read_images(
    source: str | Path, *, allow_leaks: bool = False, **options: Unpack[ReadImagesOptions]
) -> ImageTable:
    """Read a table of labelled images. The images themselves are not opened, except DICOM and MedMNIST files.

    Args:
        source: one of

            - a folder whose sub-folders are the classes (or are ``train``, ``val``, ``test`` with the classes in them);
            - a folder with a table named ``labels`` (.csv, .tsv, .parquet, .jsonl) or, as in Hugging Face data sets,
              ``metadata`` (.csv, .jsonl, .parquet), or with one of these in each of ``train``, ``val``, ``test``;
            - a table: CSV or TSV (comma, semicolon, tab or, in .txt, blanks), the first sheet of an Excel file, Parquet, or
              JSON Lines with an object per line;
            - several tables, one per split: ``"train=a.csv,test=b.csv"``;
            - a folder of DICOM files;
            - with ``slices``, a folder or table of NIfTI or DICOM volumes, whose slices are written once to the cache folder;
            - an HDF5 file of images, or a folder of such files, whose images are written once to the cache folder;
            - a MedMNIST file (.npz, 2D), whose images are written once, as PNG, to the cache folder;
            - a folder that ``tametail pack`` wrote, or its URL (``"s3://bucket/folder"``); shards at a URL are copied to the
              cache folder when their images are needed;
            - tar archives as of WebDataset, a file or a folder of them, or its URL;
            - a zip archive of such a folder (of class folders, or with a table), or a folder of nothing but zip archives, such
              as ``train.zip`` and ``test.zip``;
            - the name of a known set, see `KNOWN_SETS`: ``"ham10000"``, ``"dermamnist_224"``, ...;
            - the word ``"demo"`` or ``"demo-multilabel"``, the built-in synthetic sets;
            - a source of a reader that another package registered, see `Reader`.

            A folder that has the name of a set is read as ``./demo`` or a `Path`.
        allow_leaks: accept groups that are both in the test set and outside it. For inspection; never for training.
        options: see below. Columns need no option where they are named image (or file_name), label, group and split; group
            and split are optional, and other columns are kept. Image paths are relative to ``image_root``, by default the
            folder of the table, and may omit the extension; an image that is not there is looked for by its name in the
            folders below. With ``multi_label`` the label column holds names joined by ``|`` (or ``;`` or ``,``) or lists of
            names. ``group_from`` takes groups from paths, see `groups_from`. Whatever was chosen or left out is in
            ``reading``.

    Returns:
        The images with their labels, groups and splits, sorted by image id, and how they were read.

    Raises:
        UsageError: options that do not apply to the source, or that contradict each other.
        DataError: the source does not exist or holds no images; a column, a label or a file is missing; rows contradict
            each other; there is a single class; or a group is both in the given test set and outside it.
        TametailError: the download failed, or the cache folder cannot be written.
    """
    given: dict[str, Any] = dict(options)
    given["label_cols"] = column_names(given["label_cols"])
    for path in ("image_root", "root", "metadata"):
        given[path] = None if given[path] is None else Path(given[path]).expanduser()
    for pairs in ("split_values", "split_files"):
        given[pairs] = tuple(given[pairs] or ())
    read_options = ReadOptions(**given, allow_leaks=allow_leaks)
    reader = find_reader(source)
    if reader is None or not reader.takes_root:
        read_options.refuse_root(tuple(KNOWN_SETS))
    if reader is not None and not reader.takes_folder_options:
        read_options.refuse_folder_options(f"{source} is read by the reader {reader.name}")
    if reader is None:
        raise DataError(_no_reader(source))
    # Groups and splits of the reader's are replaced below, so that leaks between them do not matter.
    rule, lists = read_options.group_from, split_files(read_options.split_files)
    replaced = allow_leaks or rule is not None or bool(lists)
    table = reader.read(source, replace(read_options, allow_leaks=replaced))
    table = replace(table, reading=table.reading or read_by(reader.name), bit_depth=read_options.bit_depth)
    if rule is not None:
        groups, words = groups_from(table.frame["image"].tolist(), rule)
        table = table.with_groups(groups, words, allow_leaks=allow_leaks or bool(lists))
    if lists:
        skip = read_options.missing == "skip"
        table = with_split_files(table, lists, skip=skip, allow_leaks=allow_leaks)
    return table if read_options.slices is None else with_slices(table, read_options.slices)


def _no_reader(source: str | Path) -> str:
    """What was expected and found where no reader matches, with the readers that could not be loaded."""
    path = Path(source).expanduser()
    failures = "".join(f"; {failure}" for failure in readers.failures.values())
    if path.exists():
        kind = UNREAD_KINDS.get(kind_of(path), "")
        advice = f": {kind}" if kind else ""
        return (
            f"expected a folder of images, a .csv, .tsv, .parquet or .jsonl file, a .tar or .zip archive, an .h5 or a MedMNIST .npz, got the file "
            f"{path}{advice}{failures}"
        )
    # A single word without an extension may be meant as the name of a set.
    is_word = isinstance(source, str) and path.name == source and not path.suffix
    hint = f"; of the sets known by name, {nearest(path.name, [*KNOWN_SETS, 'demo'])}" if is_word else ""
    return f"expected a folder or a CSV file at {path}, but nothing is there{hint}{failures}"

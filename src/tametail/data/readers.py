"""Images on disk → `ImageTable`: a folder of class folders, a folder with labels.csv, a CSV, or the demo set."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tametail.data.csv_table import IMAGE_SUFFIXES, SPLIT_WORDS, first, read_csv
from tametail.data.table import COLUMNS, ImageTable
from tametail.errors import DataError, UsageError

if TYPE_CHECKING:
    import pandas as pd

LABELS_FILE = "labels.csv"


def read_images(
    source: str | Path,
    *,
    image_col: str | None = None,
    label_col: str | None = None,
    group_col: str | None = None,
    split_col: str | None = None,
    image_root: str | Path | None = None,
) -> ImageTable:
    """Read a table of labelled images. The images themselves are not opened.

    Args:
        source: a folder whose sub-folders are the classes (or are ``train``, ``val``, ``test`` with the classes in
            them); a folder with a ``labels.csv``; a CSV file (comma, semicolon or tab); or the word ``"demo"``,
            the built-in synthetic set (a folder of that name is given as ``./demo`` or as a `Path`).
        image_col, label_col, group_col, split_col: columns of the CSV, when not named image, label, group, split.
            Group and split may be absent. All others are carried along.
        image_root: folder that the CSV's image entries are relative to; the CSV's own folder by default.
            The extension may be left out of an entry.

    Raises:
        UsageError: options that name columns, for a source without any.
        DataError: the source is absent or holds no images, a column or label or file is missing, rows contradict
            each other, there is a single class, or a group lies on both sides of the given test part.
    """
    named = {"image": image_col, "label": label_col, "group": group_col, "split": split_col}
    if source == "demo":
        return _read_demo(named, image_root)
    path = Path(source).expanduser()
    if not path.exists():
        raise DataError(f"expected a folder or a CSV file at {path}, but nothing is there")
    if path.is_dir() and not (path / LABELS_FILE).is_file():
        _refuse_csv_options(named, image_root, f"{path} is a folder without {LABELS_FILE}")
        return _table(_read_class_folders(path), path, _name(path))
    if path.is_dir():
        return _read_csv_table(path / LABELS_FILE, named, image_root, _name(path))
    if path.suffix.lower() not in {".csv", ".tsv", ".txt"}:
        raise DataError(f"expected a folder of images or a .csv file, got the file {path}")
    return _read_csv_table(path, named, image_root, path.stem)


def _read_demo(named: Mapping[str, str | None], image_root: str | Path | None) -> ImageTable:
    from tametail.data.cache import cache_dir
    from tametail.data.demo import demo_directory, write_demo

    _refuse_csv_options(named, image_root, "the demo set has fixed columns")
    directory = demo_directory(cache_dir(), 0)
    write_demo(directory, seed=0)
    frame = read_csv(directory / LABELS_FILE, dict.fromkeys(COLUMNS), directory)
    return _table(frame, directory, "demo", synthetic=True)


def _refuse_csv_options(named: Mapping[str, str | None], image_root: str | Path | None, why: str) -> None:
    given = [f"--{role}-col" for role, column in named.items() if column is not None]
    given += ["--image-root"] if image_root is not None else []
    if given:
        raise UsageError(
            f"{', '.join(given)} can only be given for a CSV, but {why}; leave it out or give the CSV"
        )


def _name(folder: Path) -> str:
    return folder.resolve().name or "images"


def _table(frame: pd.DataFrame, root: Path, name: str, *, synthetic: bool = False) -> ImageTable:
    """What every source must pass: two classes or more, names that can be written, no leak into a given test part."""
    classes = tuple(sorted(set(frame["label"])))
    if len(classes) < 2:
        raise DataError(
            f"expected at least two classes, found only {classes[0]!r} on all {len(frame)} images"
        )
    for image in frame["image"]:
        try:
            image.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"expected file names in UTF-8, found {image!r}; rename the file") from error
    tested = frame["split"] == "test"
    leaks = sorted(set(frame.loc[tested, "group"]) & set(frame.loc[~tested, "group"]))
    if leaks:
        raise DataError(
            f"the split column leaks: {len(leaks)} groups have images both in test and outside it "
            f"({first(leaks)}); put each group on one side, or leave the split out (rename the column)"
        )
    return ImageTable(frame.sort_values("image", ignore_index=True), root, classes, name, synthetic)


def _read_class_folders(root: Path) -> pd.DataFrame:
    """Columns image, label, group, split of every image below ``root``; the class is the folder it lies in."""
    import pandas as pd

    files = [file.relative_to(root) for file in _walk(root)]
    images = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
    if not images:
        raise DataError(_nothing_found(root, files))
    by_split = all(file.parts[0].lower() in SPLIT_WORDS for file in images)
    depth = 2 if by_split else 1
    stray = [file.as_posix() for file in images if len(file.parts) <= depth]
    if stray:
        raise DataError(
            f"expected every image of {root} in the folder of its class, but {len(stray)} of {len(images)} lie outside "
            f"({first(stray)}); move them, or add a {LABELS_FILE} with the columns image and label"
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


def _walk(root: Path) -> Iterator[Path]:
    """Files below ``root`` in sorted order, through links but never in circles; hidden ones are passed over."""
    seen = set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith((".", "__MACOSX")))
        yield from (Path(folder, name) for name in sorted(files) if not name.startswith("."))


def _nothing_found(root: Path, files: Sequence[Path]) -> str:
    expected = f"expected sub-folders with images, one per class, or a {LABELS_FILE} in {root}"
    if not files:
        return f"{expected}, but it is empty"
    tables = [file.as_posix() for file in files if file.suffix.lower() == ".csv"]
    if tables:
        return f"{expected}, but found neither; there is {first(tables)}: give the path of the CSV itself"
    kinds = Counter(file.suffix.lower() or "no extension" for file in files)
    found = ", ".join(f"{count} × {kind}" for kind, count in kinds.most_common(5))
    return f"{expected}, but none of its {len(files)} files looks like an image ({found})"


def _read_csv_table(
    path: Path, named: Mapping[str, str | None], image_root: str | Path | None, name: str
) -> ImageTable:
    root = path.parent if image_root is None else Path(image_root).expanduser()
    if not root.is_dir():
        raise DataError(f"expected the folder of the images at {root} (--image-root), but there is none")
    return _table(read_csv(path, named, root), root, name)

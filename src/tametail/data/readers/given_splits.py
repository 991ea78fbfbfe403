"""Splits and folds as published: a column of words or of 0 and 1, lists of images, a column of folds.

Shape legend: R rows.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tametail.core.errors import DataError, UsageError
from tametail.core.text import counted, quoted, sample_of
from tametail.data.readers.image_search import search_images
from tametail.data.readers.table_columns import MISSING
from tametail.data.readers.table_file import TableFile, read_text, whole_number
from tametail.data.reading import SourceReading
from tametail.data.table import FOLD_COLUMN, SPLIT_WORDS, ImageTable

_TRUE, _FALSE = {"1", "1.0", "true", "yes"}, {"0", "0.0", "false", "no"}
# A bare "valid" may as well say that an image is of use.
_YES_NO = re.compile(
    r"(?:(?:is|in)[ _-]?)?(train|training|val|validation|test|testing|holdout)(?:[ _-]?set)?", re.IGNORECASE
)


def split_column(file: TableFile, column: str, values: Mapping[str, str]) -> tuple[list[str], str]:
    """R splits (train, val, test or empty) of a column, and how they were read.

    Args:
        values: value of the column → split; for values that are not split words.

    Raises:
        DataError: a value is neither a split word nor in ``values``.
    """
    cells = ["" if cell in MISSING else cell for cell in file.text(column)]
    meanings = dict(values)
    words = {cell.lower() for cell in cells if cell not in meanings}
    how = f"column {column!r}"
    if unknown := words - set(SPLIT_WORDS):
        guessed = {} if meanings or not words - {""} <= _TRUE | _FALSE else _by_name(column)
        if not guessed:
            raise DataError(
                f"expected train, val, test or nothing in the split column {column!r} of {file.path}, found "
                f"{sample_of(sorted(unknown))}; say what they mean, such as --split-values "
                f"{','.join(f'{value}={split}' for value, split in zip(sorted(unknown), ('train', 'test', 'val'), strict=False))}"
            )
        meanings = {cell: guessed[cell.lower() in _TRUE] for cell in cells if cell}
    if meanings:
        how += f" ({', '.join(f'{value} = {split}' for value, split in sorted(meanings.items()))})"
    return [meanings[cell] if cell in meanings else SPLIT_WORDS[cell.lower()] for cell in cells], how


def _by_name(column: str) -> dict[bool, str]:
    """What yes and no mean in a column such as is_train; nothing if its name does not say."""
    named = _YES_NO.fullmatch(column)
    if named is None:
        return {}
    split = SPLIT_WORDS[named[1].lower()]
    return {True: split, False: "test" if split == "train" else "train"}


def split_values(pairs: Sequence[str]) -> dict[str, str]:
    """``["0=train", "1=test"]`` as a dictionary.

    Raises:
        UsageError: a text of another form, or a value twice.
    """
    parts = _pairs(pairs)
    _refuse_repeats([value for _, value, _ in parts], "value", "--split-values")
    return {value: _split_word(pair, split, "--split-values 0=train,1=test") for pair, value, split in parts}


def split_files(pairs: Sequence[str]) -> dict[Path, str]:
    """``["train=a.txt", "test=b.txt"]`` as file → split.

    Raises:
        UsageError: a text of another form, or a file twice.
    """
    parts = _pairs(pairs)
    _refuse_repeats([path for _, _, path in parts], "file", "--split-files")
    return {
        Path(path).expanduser(): _split_word(pair, split, "--split-files train=a.txt,test=b.txt")
        for pair, split, path in parts
    }


def _refuse_repeats(keys: Sequence[str], what: str, flag: str) -> None:
    if twice := sorted(key for key, count in Counter(keys).items() if count > 1):
        raise UsageError(f"expected each {what} once in {flag}, got several splits for {sample_of(twice)}")


def _pairs(pairs: Sequence[str]) -> list[tuple[str, str, str]]:
    parts = [(pair, *pair.partition("=")) for pair in pairs]
    return [(pair, key.strip(), value.strip()) for pair, key, _, value in parts]


def _split_word(pair: str, word: str, example: str) -> str:
    if not word or word.lower() not in SPLIT_WORDS:
        raise UsageError(f"expected pairs with train, val or test, such as {example}, got {pair!r}")
    return SPLIT_WORDS[word.lower()]


def with_split_files(
    table: ImageTable, files: Mapping[Path, str], *, skip: bool, allow_leaks: bool
) -> ImageTable:
    """A table with the split of lists of images, one per line; other fields of a line are not used.

    Images in no list are in training if no list for it is given.

    Args:
        files: file → split.
        skip: leave out images in no list, and names in a list without an image, instead of refusing them.

    Raises:
        DataError: a list cannot be read, names an image that is not in the table, or an image is in several; or images are in
            no list.
    """
    images = table.images.tolist()
    split: dict[str, str] = {}
    left_out: list[str] = []
    notes: list[str] = []
    for path, name in files.items():
        found, absent, header = _listed(path, images)
        if absent and not (skip and found):
            raise DataError(
                f"{len(absent)} of {len(absent) + len(found)} lines of {path} name no image of {table.name} "
                f"({sample_of(absent)}); correct the list, or leave them out with --missing skip"
            )
        if twice := sorted(image for image in found if split.get(image, name) != name):
            raise DataError(
                f"{len(twice)} images are in several lists of --split-files ({sample_of(twice)}); keep one"
            )
        split |= dict.fromkeys(found, name)
        if header:
            notes.append(f"the first line of {path.name}, {quoted(repr(header))}, is taken for its header")
        if absent:
            left_out.append(f"{counted(len(absent), 'line')} of {path.name} without an image")
    unlisted = [image for image in images if image not in split]
    if unlisted and "train" in files.values():
        if not skip:
            raise DataError(
                f"{len(unlisted)} of {len(images)} images of {table.name} are in no list of --split-files "
                f"({sample_of(unlisted)}); add them to one, or leave them out with --missing skip"
            )
        left_out.append(f"{counted(len(unlisted), 'image')} in no list")
    frame = table.frame.assign(split=[split.get(image, "train") for image in images])
    if "train" in files.values():
        frame = frame[frame["image"].isin(split)].copy()
    if FOLD_COLUMN in frame:
        frame[FOLD_COLUMN] = frame[FOLD_COLUMN].mask(frame["split"] == "test", "")
    checked = ImageTable.from_frame(
        frame, table.root, table.name, multi_label=table.multi_label, allow_leaks=allow_leaks
    )
    reading = table.reading or SourceReading("")
    how = f"lists {', '.join(f'{path.name} ({split})' for path, split in files.items())}"
    return replace(
        table,
        frame=checked.frame,
        class_names=checked.class_names,
        reading=replace(reading, split=how, notes=(*reading.notes, *notes)).without(*left_out),
    )


def _listed(path: Path, images: Sequence[str]) -> tuple[list[str], list[str], str]:
    """The images that a list names, the lines that name none, and its header, if it has one."""
    lines = [line.strip() for line in read_text(path, "a list of images").splitlines() if line.strip()]
    if not lines:
        raise DataError(f"expected an image per line in {path}, but it is empty")
    found, absent, ambiguous = _search(lines, images)
    if absent:  # other fields follow the image
        first = {line: line.replace(",", " ").replace(";", " ").split()[0].strip('"') for line in absent}
        again, _, unclear = _search(list(first.values()), images)
        ambiguous |= unclear
        found |= {line: again[entry] for line, entry in first.items() if entry in again}
        absent = [line for line in absent if line not in found]
    if ambiguous:
        line, several = next(iter(ambiguous.items()))
        raise DataError(
            f"{line!r} of {path} may be several images ({sample_of(several)}); write its path there"
        )
    header = lines[0] if found and lines[0] in absent and _is_header(lines[0]) else ""
    return list(found.values()), [line for line in absent if line != header], header


def _is_header(line: str) -> bool:
    """Whether a line cannot name an image: it has no number, no extension and no folder."""
    return not re.search(r"[\d/\\]|\.\w", line)


def _search(
    lines: Sequence[str], images: Sequence[str]
) -> tuple[dict[str, str], list[str], dict[str, Sequence[str]]]:
    known = set(images)
    found = {line: line for line in lines if line in known}
    searched = search_images([line for line in lines if line not in found], images, set(found))
    found |= searched.found
    absent = [line for line in lines if line not in found and line not in searched.ambiguous]
    return found, absent, dict(searched.ambiguous)


def fold_cells(file: TableFile, column: str, splits: Sequence[str]) -> list[str]:
    """R folds as text; empty in the test set, and where none is given, which `given_folds` refuses."""
    cells = ["" if cell in MISSING else cell for cell in map(whole_number, file.text(column))]
    return ["" if split == "test" else cell for cell, split in zip(cells, splits, strict=True)]


def folds_in_words(cells: Sequence[str]) -> str:
    """The folds and their numbers of images, for a note."""
    counts = Counter(cell for cell in cells if cell)
    without = f"; {counted(cells.count(''), 'row')} without one" if "" in cells else ""
    return f"{len(counts)} given folds ({', '.join(f'{name}: {count:,}' for name, count in sorted(counts.items())[:10])}{without})"

"""Read one file of predictions of images that may have several labels: for each label what is true, and one number.

Shape legend: N images, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tametail.core.arrays import BoolArray, FloatArray, IntArray, TextArray
from tametail.core.errors import DataError
from tametail.core.text import quoted, sample_of
from tametail.data.readers.table_blocks import TableBlocks, read_table_blocks
from tametail.data.readers.table_columns import MISSING
from tametail.data.readers.table_file import PARQUET_SUFFIXES
from tametail.external.class_columns import FARTHEST, LOGIT, PROBABILITY, by_prefix, rows_in_words
from tametail.external.prediction_table import LABEL, find_column, keys_of_rows
from tametail.predictions.multi_label import LabelPredictions, read_label_predictions
from tametail.predictions.parquet import read_metadata

LABEL_PREFIX, _UNKNOWN, _THRESHOLD = "label_", "unknown_", "threshold_"
_TINY = float(np.finfo(np.float32).tiny)
_WORDS = {"true": 1.0, "false": 0.0}


@dataclass(frozen=True, eq=False)
class LabelTable:
    """Predictions of one model, read from a file.

    Attributes:
        path: the file.
        rows: the predictions, sorted by image.
        grouped: whether the file has groups; otherwise every image is its own group.
        thresholds: (C,) of the labels, as the file has them; empty if it has none.
    """

    path: Path
    rows: LabelPredictions
    grouped: bool = True
    thresholds: tuple[float, ...] = ()

    @property
    def labels(self) -> TextArray:
        """(N,) the labels of each image as text, such as ``mass|scar?``, where scar is unknown."""
        names = np.array(self.rows.class_names)
        order = np.argsort(names)  # the same text whatever the order of the columns
        cells = np.where(self.rows.labels, names, np.where(self.rows.known, "", np.char.add(names, "?")))
        return np.array(["|".join(filter(None, row)) for row in cells[:, order].tolist()], dtype=np.str_)

    def predictions(self, names: Sequence[str], groups: TextArray) -> LabelPredictions:
        """The predictions with the labels in this order and these groups (N,)."""
        order = [self.rows.class_names.index(name) for name in names]
        matrices = ("labels", "logits", "posterior", "unknown")
        ordered = {name: getattr(self.rows, name)[:, order] for name in matrices}
        return replace(self.rows, group=groups, class_names=tuple(names), **ordered)

    def thresholds_of(self, names: Sequence[str]) -> tuple[float, ...]:
        """The thresholds of the labels in this order."""
        of_label = dict(zip(self.rows.class_names, self.thresholds, strict=False))
        return tuple(of_label[name] for name in names) if of_label else ()


def has_several_labels(path: Path) -> bool:
    """Whether a file of predictions is of images that may have several labels: it has ``label_<name>`` and no ``label``.

    Raises:
        DataError: the file cannot be read.
    """
    if path.suffix.lower() in PARQUET_SUFFIXES and (described := read_metadata(path)) is not None:
        return described.get("kind") == "multi_label"
    file = read_table_blocks(path)
    return find_column(file, LABEL) is None and bool(by_prefix(file.columns, (LABEL_PREFIX,)))


def read_label_table(path: Path) -> LabelTable:
    """Read a CSV, TSV, JSON Lines or Parquet file with the columns image, and for each label what is true and predicted.

    ``label_<name>`` is 1 or 0, and blank where it is unknown; as a study writes it, unknown labels may also be 1 in
    ``unknown_<name>``. ``p_<name>`` (or ``prob_<name>``) is the probability of the label, ``logit_<name>`` its log-odds: with both
    images are ranked by the log-odds. Columns ``group``, ``fold`` and ``threshold_<name>`` (the same in all rows) are optional. A
    ``predictions.parquet`` of a study can be read as well.

    Raises:
        DataError: the file cannot be read, a column is missing, a cell is not of this form, or an image is duplicated.
    """
    if path.suffix.lower() in PARQUET_SUFFIXES and read_metadata(path) is not None:
        return LabelTable(path, read_label_predictions(path).sorted_by_image())
    file = read_table_blocks(path)
    keys = keys_of_rows(file)
    truth = by_prefix(file.columns, (LABEL_PREFIX,))
    kinds = {"p": by_prefix(file.columns, PROBABILITY), "logit": by_prefix(file.columns, LOGIT)}
    names = tuple(sorted(truth))
    _check_columns(file, names, kinds)
    labels, unknown = _truth(file, names, keys.place)
    posterior, logits = _numbers(file, names, kinds, keys.place)
    rows = LabelPredictions(
        keys.images,
        keys.groups if keys.groups is not None else keys.images,
        labels,
        keys.folds,
        logits.astype(np.float32),
        names,
        posterior.astype(np.float32),
        unknown,
    )
    return LabelTable(path, rows, keys.groups is not None, _thresholds(file, names))


def _check_columns(file: TableBlocks, names: Sequence[str], kinds: dict[str, dict[str, str]]) -> None:
    if len(names) < 2:
        raise DataError(
            f"expected columns label_NAME of two labels or more in {file.path}, found {sample_of(names)} only; for one label per image "
            f"name the column label, and give a number for each class"
        )
    found = {name for of_kind in kinds.values() for name in of_kind}
    if not found:
        raise DataError(
            f"expected a column p_NAME or logit_NAME for each label in {file.path}, found "
            f"{sample_of(file.columns, most=20)}; add the predictions"
        )
    for kind, of_kind in kinds.items():
        missing, more = sorted(set(names) - set(of_kind)), sorted(set(of_kind) - set(names))
        if of_kind and (missing or more):
            raise DataError(
                f"expected the same labels in the columns label_NAME and {kind}_NAME of {file.path}, but {sample_of(missing) or 'none'} "
                f"have no prediction and {sample_of(more) or 'none'} no true label; remove those columns, or leave cells of "
                f"label_NAME blank where it is unknown"
            )


def _truth(file: TableBlocks, names: Sequence[str], place: IntArray) -> tuple[BoolArray, BoolArray]:
    """Which labels the images have, and which are unknown, (N, C) each."""
    values = _cells(file, [LABEL_PREFIX + name for name in names], place)
    marked = by_prefix(file.columns, (_UNKNOWN,))
    unknown = np.isnan(values)
    if marked:
        columns = [marked[name] for name in names if name in marked]
        of_names = [index for index, name in enumerate(names) if name in marked]
        unknown[:, of_names] |= _cells(file, columns, place) == 1
    return (values == 1) & ~unknown, unknown


def _cells(file: TableBlocks, columns: Sequence[str], place: IntArray) -> FloatArray:
    """Cells (N, K) of 0 and 1 (or true and false), nan where blank, in the order of the images."""
    found = _read(file, columns)
    for index in np.flatnonzero(np.isnan(found).any(axis=0)).tolist():
        cells = file.texts([columns[index]])[columns[index]]
        for row in np.flatnonzero(np.isnan(found[:, index])).tolist():
            found[row, index] = np.nan if cells[row] in MISSING else _WORDS.get(cells[row].lower(), np.inf)
    wrong = ~(np.isnan(found) | (found == 0) | (found == 1))
    if wrong.any():
        column = columns[int(wrong.any(axis=0).argmax())]
        rows = np.flatnonzero(wrong[:, list(columns).index(column)]).tolist()
        raise DataError(
            f"expected 1, 0 or, where it is unknown, a blank cell in column {column!r} of {file.path}, found "
            f"{quoted(file.texts([column])[column][rows[0]])} in {rows_in_words(file, rows)}; write one of these"
        )
    ordered = np.empty_like(found)
    ordered[place] = found
    return ordered


def _numbers(
    file: TableBlocks, names: Sequence[str], kinds: dict[str, dict[str, str]], place: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Probabilities and log-odds (N, C) in the order of the images; one is computed from the other if the file lacks it."""
    given: dict[str, FloatArray] = {}
    for kind, (low, high) in (("p", (0.0, 1.0)), ("logit", (-FARTHEST, FARTHEST))):
        if not kinds[kind]:
            continue
        columns = [kinds[kind][name] for name in names]
        values = _read(file, columns)
        wrong = ~((values >= low) & (values <= high))  # nan too
        if wrong.any():
            column = columns[int(wrong.any(axis=0).argmax())]
            rows = np.flatnonzero(wrong[:, columns.index(column)]).tolist()
            cell = file.texts([column])[column][rows[0]]
            raise DataError(
                f"expected {'probabilities in 0..1' if kind == 'p' else 'finite logits'} in column {column!r} of {file.path}, found "
                f"{quoted(cell) if cell else 'an empty cell'} in {rows_in_words(file, rows)}; "
                f"{'divide percentages by 100, and call logits logit_NAME' if kind == 'p' else 'fix them'}"
            )
        given[kind] = np.empty_like(values)
        given[kind][place] = values
    if "logit" not in given:
        p = given["p"]
        given["logit"] = np.log(np.maximum(p, _TINY)) - np.log(np.maximum(1 - p, _TINY))
    if "p" not in given:
        given["p"] = np.exp(-np.logaddexp(0.0, -given["logit"]))
    return given["p"], given["logit"]


def _thresholds(file: TableBlocks, names: Sequence[str]) -> tuple[float, ...]:
    """The thresholds (C,) in the columns of the file; empty if it has none."""
    found = by_prefix(file.columns, (_THRESHOLD,))
    if not found:
        return ()
    if missing := sorted(set(names) - set(found)):
        raise DataError(
            f"expected a column threshold_NAME for each label or for none in {file.path}, but {sample_of(missing)} have none; "
            f"add them, or remove all"
        )
    columns = [found[name] for name in names]
    values = _read(file, columns)
    for column, of_column in zip(columns, values.T, strict=True):
        if not ((of_column == of_column[0]) & (of_column >= 0) & (of_column <= 1)).all():
            raise DataError(
                f"expected one threshold in 0..1 in all rows of column {column!r} of {file.path}, found others; give one number, or "
                f"remove the columns threshold_NAME"
            )
    return tuple(values[0].tolist())


def _read(file: TableBlocks, columns: Sequence[str]) -> FloatArray:
    return np.concatenate(list(file.numbers(columns)))

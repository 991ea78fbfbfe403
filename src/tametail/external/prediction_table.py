"""Read one file of predictions: images, labels and one number per class.

Shape legend: N images, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from tametail.core.arrays import IntArray, TextArray
from tametail.core.errors import DataError
from tametail.core.text import sample_of
from tametail.data.readers.table_blocks import TableBlocks, read_table_blocks
from tametail.data.readers.table_columns import MISSING
from tametail.data.readers.table_file import PARQUET_SUFFIXES
from tametail.evaluation.class_order import with_class_order
from tametail.external.class_columns import class_columns, rows_in_words
from tametail.predictions.parquet import read_metadata
from tametail.predictions.single_label import Predictions, read_predictions

IMAGE, LABEL, GROUP, FOLD = ("image", "file_name"), ("label",), ("group",), ("fold",)


@dataclass(frozen=True, eq=False)
class PredictionTable:
    """Predictions of one model, read from a file.

    Attributes:
        path: the file.
        rows: the predictions, sorted by image, with the classes in the given order or sorted.
        grouped: whether the file has groups; otherwise every image is its own group.
        subgroup_columns: those of the requested columns that exist, (N,) text.
        others: names of all other columns.
    """

    path: Path
    rows: Predictions
    grouped: bool = True
    subgroup_columns: Mapping[str, TextArray] = field(default_factory=dict)
    others: tuple[str, ...] = ()

    @property
    def labels(self) -> TextArray:
        """(N,) names of the classes of the images."""
        return np.array(self.rows.class_names)[self.rows.target]

    def predictions(self, names: Sequence[str], groups: TextArray) -> Predictions:
        """The predictions with the classes in this order and these groups (N,)."""
        return replace(with_class_order(self.rows, names), group=groups)


def read_prediction_table(
    path: Path, *, by: Sequence[str] = (), classes: Sequence[str] = ()
) -> PredictionTable:
    """Read a CSV, TSV, JSON Lines or Parquet file with the columns image, label, and one number per class.

    A class's column is named ``prob_<class>`` or ``p_<class>``, ``logit_<class>``, or like the class itself; see
    `class_columns`. Columns ``group`` (such as the patient) and ``fold`` (of the cross-validation) are optional. A
    ``predictions.parquet`` of a study can be read as well.

    Args:
        by: columns that define subgroups.
        classes: all class names; empty for those of the columns and labels.

    Raises:
        DataError: the file cannot be read, a column is missing, a cell is empty or not a number, an image is duplicated,
            a label has no class, or probabilities do not sum to one.
    """
    own = _own(path, classes) if path.suffix.lower() in PARQUET_SUFFIXES else None
    return own or _read(read_table_blocks(path), by, classes)


def _own(path: Path, classes: Sequence[str]) -> PredictionTable | None:
    """Read a file that a study wrote; None for other files."""
    described = read_metadata(path)
    if described is None:
        return None
    table = read_predictions(path).sorted_by_image()
    if classes and set(classes) != set(table.class_names):
        raise DataError(
            f"expected the classes of {path} ({sample_of(table.class_names, most=20)}) with --classes, got "
            f"{sample_of(classes, most=20)}; leave it out, or name these in their order"
        )
    return PredictionTable(path, table)


@dataclass(frozen=True, eq=False)
class RowKeys:
    """What identifies the N rows of a file, sorted by image.

    Attributes:
        images: (N,) distinct names.
        groups: (N,) text; None if the file has none.
        folds: (N,) codes; all 0 if the file has none.
        order: (N,) the row of the file for each image.
        place: (N,) the place of each row of the file among the sorted images.
        cells: by column the cells (N) of other columns, in the order of the file.
    """

    images: TextArray
    groups: TextArray | None
    folds: IntArray
    order: IntArray
    place: IntArray
    cells: Mapping[str, Sequence[str]]


def keys_of_rows(file: TableBlocks, needed: Sequence[str] = (), others: Sequence[str] = ()) -> RowKeys:
    """Read images, groups and folds of a file, and the cells of other columns, of which the ``needed`` ones are not empty.

    Raises:
        DataError: there is no column of images, a cell is empty, or an image is there twice.
    """
    image = needed_column(file, IMAGE)
    group, fold = (find_column(file, names) for names in (GROUP, FOLD))
    full = [column for column in (image, *needed, group, fold) if column]
    cells = file.texts([*full, *others])
    for column in full:
        _refuse_empty(file, column, cells[column])
    images = np.array(cells.pop(image), dtype=np.str_)
    order = np.argsort(images, kind="stable")
    images = images[order]
    _refuse_repeated(file, images)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return RowKeys(
        images,
        np.array(cells[group], dtype=np.str_)[order] if group else None,
        _codes(cells[fold])[order] if fold else np.zeros(len(images), dtype=np.int64),
        order,
        place,
        {column: cells[column] for column in (*needed, *others)},
    )


def _read(file: TableBlocks, by: Sequence[str], classes: Sequence[str]) -> PredictionTable:
    image, label = (needed_column(file, names) for names in (IMAGE, LABEL))
    taken = {image, label, *(find_column(file, names) for names in (GROUP, FOLD))}
    others = [column for column in file.columns if column not in taken]
    values = [column for column in others if column in by]
    keys = keys_of_rows(file, [label], values)
    labels, cells, order, images = keys.cells[label], keys.cells, keys.order, keys.images
    # Numbers are put in their place as they are read: sorting a table of them would need it twice.
    numbers = class_columns(file, set(labels), [c for c in others if c not in by], classes, place=keys.place)
    code = {name: index for index, name in enumerate(numbers.names)}
    rows = Predictions(
        images,
        images if keys.groups is None else keys.groups,
        np.array([code[name] for name in labels], dtype=np.int64)[order],
        keys.folds,
        numbers.logits,
        numbers.names,
        "softmax",
        numbers.posterior,
    )
    subgroup_columns = {
        column: np.array(["" if cell in MISSING else cell for cell in cells[column]], dtype=np.str_)[order]
        for column in values
    }
    unused = tuple(column for column in others if column not in numbers.columns)
    return PredictionTable(file.path, rows, keys.groups is not None, subgroup_columns, unused)


def _refuse_repeated(file: TableBlocks, images: TextArray) -> None:
    twice = np.unique(images[1:][images[1:] == images[:-1]]).tolist()
    if twice:
        raise DataError(
            f"expected each image once in {file.path}, found {len(twice)} more than once ({sample_of(twice)}); keep one "
            f"row per image, and one model per file"
        )


def find_column(file: TableBlocks, names: Sequence[str]) -> str | None:
    """The column of one of these names, in any case; None if there is none, and a `DataError` for several."""
    alike = [column for column in file.columns if column.lower() in names]
    if len(alike) > 1:
        raise DataError(
            f"expected one column for the {names[0]} in {file.path}, found {sample_of(alike)}; rename the others"
        )
    return alike[0] if alike else None


def needed_column(file: TableBlocks, names: Sequence[str]) -> str:
    """The column of one of these names; a `DataError` if there is none, or several."""
    column = find_column(file, names)
    if column is None:
        raise DataError(
            f"expected a column {names[0]!r} in {file.path}, found {sample_of(file.columns, most=20)}; the columns are image, "
            f"label, group (may be left out), and one per class (prob_NAME, logit_NAME or NAME); for several labels per image "
            f"label_NAME and p_NAME or logit_NAME"
        )
    return column


def _refuse_empty(file: TableBlocks, column: str, cells: Sequence[str]) -> None:
    empty = [row for row, cell in enumerate(cells) if cell in MISSING]
    if empty:
        raise DataError(
            f"expected a value in every row of column {column!r} of {file.path}, found none in "
            f"{rows_in_words(file, empty)} ({len(empty)} of {len(cells)} rows); fill them in or remove the rows"
        )


def _codes(cells: Sequence[str]) -> IntArray:
    code = {value: index for index, value in enumerate(sorted(set(cells)))}
    return np.array([code[cell] for cell in cells], dtype=np.int64)

"""Labels as tables hold them: one name, several names in one cell, or one column of 0 and 1 per class.

Shape legend: R rows, C classes.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tametail.core.arrays import BoolArray
from tametail.core.errors import DataError, UsageError
from tametail.core.text import counted, quoted, sample_of
from tametail.data.readers.reader import ReadOptions
from tametail.data.readers.table_columns import MISSING, find_column, no_column, required_column
from tametail.data.readers.table_file import TableFile, whole_number
from tametail.data.table import LABEL_SEPARATOR

_ONE = {"1", "1.0", "true"}
_ZERO = {"0", "0.0", "false"}
_UNCERTAIN = {"-1", "-1.0"}
_SEPARATORS = "|;,"
_LONGEST = 200  # characters of a class name, which is used in tables, plots and file names
_QUOTED = r"""'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)\""""
_QUOTED_ITEMS = re.compile(rf"\s*(?:{_QUOTED})(?:\s*,?\s*(?:{_QUOTED}))*\s*,?\s*")


@dataclass(frozen=True)
class RowLabels:
    """The classes of R rows.

    Attributes:
        present: classes that each row has.
        unknown: classes of which a row does not say whether it has them.
        missing: (R,) rows without a label, where every image needs one.
        columns: the columns that they are from.
        reading: how they were read: ``column 'dx'``.
        notes: what was guessed or chosen.
    """

    present: tuple[frozenset[str], ...]
    unknown: tuple[frozenset[str], ...]
    missing: BoolArray
    columns: tuple[str, ...]
    reading: str
    notes: tuple[str, ...] = ()

    def take(self, rows: BoolArray) -> RowLabels:
        """Those of a mask (R,)."""
        chosen = np.flatnonzero(rows).tolist()
        present, unknown = (tuple(sets[row] for row in chosen) for sets in (self.present, self.unknown))
        return replace(self, present=present, unknown=unknown, missing=self.missing[rows])


def row_labels(
    file: TableFile, options: ReadOptions, others: Sequence[str | None], *, part: bool = False
) -> RowLabels:
    """The labels of a table, by its options.

    Args:
        others: columns that are no labels.
        part: whether the table is one of several, so that a class without an image here may have some in another.

    Raises:
        UsageError: an option that does not apply to labels of this form.
        DataError: no column of labels is found, or a cell is not valid.
    """
    if options.label_cols:
        options.refuse("one column of 0 and 1 per class is read", "label_sep")
        columns = [required_column(file, "label", column, "--label-cols") for column in options.label_cols]
        return _of_columns(file, columns, options, part=part)
    options.refuse("only --label-cols has cells that may be uncertain or blank", "uncertain", "blank")
    column = find_column(file, "label", options.label_col)
    if column is None:
        proposed = ",".join(proposed_one_hot(file, others, multi_label=options.multi_label))
        hint = (
            f", or, as these look like one column per class, give --label-cols {proposed}" if proposed else ""
        )
        raise DataError(no_column("label", None, file) + hint)
    if options.multi_label:
        return _of_lists(file, column, options.label_sep)
    options.refuse("only images with several labels (--multi-label) have a separator", "label_sep")
    names = [whole_number(name) for name in file.text(column)]
    _check_class_names(names)
    return RowLabels(
        tuple(frozenset([name]) for name in names),
        (frozenset(),) * len(names),
        np.array([name in MISSING for name in names], dtype=np.bool_),
        (column,),
        f"column {column!r}",
    )


def _of_lists(file: TableFile, column: str, separator: str | None) -> RowLabels:
    """Several labels in each cell; an empty cell is an image without a class.

    Lists are used as they are, also those that are written as text: ``['a', 'b']``. Other text is split at ``separator``, by
    default at the first of ``|``, ``;``, ``,`` that occurs in the column, so that class names may contain the later ones.
    """
    cells: list[Any] = file.cells(column)
    texts = [cell for cell in cells if isinstance(cell, str) and not _is_list(cell)]
    found = next((mark for mark in _SEPARATORS if any(mark in text for text in texts)), None)
    sign = separator or found or LABEL_SEPARATOR
    labels = [_names(cell, sign, file, column, row) for row, cell in enumerate(cells)]
    invalid = sorted({name for names in labels for name in names if LABEL_SEPARATOR in name})
    if invalid:
        raise DataError(
            f"expected class names without {LABEL_SEPARATOR!r} in column {column!r} of {file.path}, found "
            f"{sample_of(invalid)}; rename them"
        )
    if not any(labels):
        raise DataError(f"expected classes in column {column!r} of {file.path}, but every cell is empty")
    names = sorted({name for each in labels for name in each})
    _check_class_names(names)
    lists = len(cells) - len([cell for cell in cells if cell is None or cell != cell]) - len(texts)
    ways = ["lists"] if lists else []
    notes = []
    if separator or found:
        ways.append(f"several labels, separated by {sign!r}")
        divided = next((text for text in texts if sign in text), None)
        if divided is not None and not separator:
            parts = " + ".join(_names(divided, sign, file, column, 0))
            # No name may hold a bar, other signs may be part of one.
            advice = (
                ""
                if sign == LABEL_SEPARATOR
                else "; if it is part of a name, give another sign: --label-sep '|'"
            )
            notes.append(f"labels were split at {sign!r}: {quoted(divided)} → {parts}{advice}")
    none: tuple[frozenset[str], ...] = (frozenset(),) * len(cells)
    return RowLabels(
        tuple(map(frozenset, labels)),
        none,
        np.zeros(len(cells), dtype=np.bool_),
        (column,),
        f"column {column!r} ({' or '.join(ways) or 'one label each'})",
        tuple(notes),
    )


def _names(cell: object, separator: str, file: TableFile, column: str, row: int) -> list[str]:
    if isinstance(cell, str) and _is_list(cell):
        parts: Sequence[object] = _list_items(cell, file, column, row)
    elif isinstance(cell, str):
        parts = cell.split(separator)
    else:
        parts = cell if isinstance(cell, list) else [cell]
    names = ["" if part is None or part != part else whole_number(str(part).strip()) for part in parts]
    return [name for name in names if name not in MISSING]


def looks_like_list(text: str) -> bool:
    """Whether a text is written as a list: ``['a', 'b']``, ``["D"]``, ``[]``."""
    return _is_list(text) and (text.strip() == "[]" or bool(_QUOTED_ITEMS.fullmatch(text.strip()[1:-1])))


def _is_list(text: str) -> bool:
    stripped = text.strip()
    return stripped.startswith("[") and stripped.endswith("]")


def _list_items(text: str, file: TableFile, column: str, row: int) -> list[str]:
    inner = text.strip()[1:-1]
    if not re.search(r"""['"]""", inner):
        return inner.split(",")
    if not _QUOTED_ITEMS.fullmatch(inner):
        raise DataError(
            f"expected a list such as ['a', 'b'] in column {column!r} of {file.path}, found {quoted(text)} in row "
            f"{file.numbers[row]}{file.rows_are}; write it with every name in quotes"
        )
    return [re.sub(r"\\(.)", r"\1", one or other) for one, other in re.findall(_QUOTED, inner)]


def _of_columns(file: TableFile, columns: Sequence[str], options: ReadOptions, *, part: bool) -> RowLabels:
    """One column of 0 and 1 per class, as of ISIC; the columns are named after the classes."""
    if options.multi_label and any(LABEL_SEPARATOR in column for column in columns):
        raise DataError(
            f"expected column names without {LABEL_SEPARATOR!r}, got {sample_of(columns, most=20)}"
        )
    if not options.multi_label and "ignore" in (options.uncertain, options.blank):
        raise UsageError(
            "expected --multi-label with --uncertain ignore and --blank ignore: an image with one class has no unknown label"
        )
    kinds = np.stack([_kinds(file, column) for column in columns], axis=1)  # (R, C)
    uncertain, blank = kinds == "uncertain", kinds == "blank"
    if problems := [
        f"{mask.sum():,} cells in {mask.any(axis=1).sum():,} rows {found} (such as {_place(file, columns, mask)}; {advice})"
        for mask, chosen, found, advice in (
            (uncertain, options.uncertain, "hold -1", "--uncertain ignore, zero or one"),
            (blank, options.blank, "are blank", "--blank ignore or zero"),
        )
        if mask.any() and chosen == "error"
    ]:
        few = "" if options.multi_label else "; ignore needs --multi-label"
        raise DataError(
            f"expected 0 or 1 in every row of {sample_of(columns, most=20)} of {file.path}, but {' and '.join(problems)}"
            f"{few}; say what they mean"
        )
    ones = (kinds == "one") | (uncertain & (options.uncertain == "one"))
    unknown = (uncertain & (options.uncertain == "ignore")) | (blank & (options.blank == "ignore"))
    used: BoolArray = ones.any(axis=0) | part
    warn_of_absent([column for column, seen in zip(columns, used, strict=True) if not seen], file.path)
    notes = [
        f"{counted(int(mask.sum()), f'{what} label is', f'{what} labels are')} {_MEANINGS[chosen]}"
        for mask, what, chosen in (
            (uncertain, "uncertain (-1)", options.uncertain),
            (blank, "blank", options.blank),
        )
        if mask.any()
    ]
    per_row = ones.sum(axis=1)
    # Without --multi-label a row without a 1 has no label; one with several is wrong.
    if not options.multi_label:
        _check_single(file, columns, per_row, skip=options.missing == "skip")
    return RowLabels(
        _sets(columns, ones),
        _sets(columns, unknown),
        # An image of which nothing is known is in no loss and in no metric.
        unknown[:, used].all(axis=1) if options.multi_label else per_row == 0,
        tuple(columns),
        f"columns of 0 and 1 {sample_of(columns, most=4)}",
        tuple(notes),
    )


def warn_of_absent(classes: Sequence[str], path: Path) -> None:
    """Warn of classes that no image of a table or folder has; nothing if there is none."""
    if classes:
        message = "%s: no image has the class %s; it is ignored"
        logging.getLogger(__name__).warning(message, path, ", ".join(classes))


_MEANINGS = {
    "ignore": "unknown, and left out of losses and metrics",
    "zero": "taken as 0",
    "one": "taken as 1",
}


def _check_single(file: TableFile, columns: Sequence[str], per_row: NDArray[np.int64], *, skip: bool) -> None:
    wrong = per_row > 1 if skip else per_row != 1
    if wrong.any():
        none, several = int((per_row == 0).sum()), int((per_row > 1).sum())
        raise DataError(
            f"expected exactly one 1 in {', '.join(columns)} in every row of {file.path}, but {none} rows have none and "
            f"{several} have several ({file.rows(np.flatnonzero(wrong).tolist())}); fix them, or use --multi-label for "
            f"images with several classes or none"
        )


def _sets(columns: Sequence[str], mask: BoolArray) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(compress(columns, row)) for row in mask)


def _kinds(file: TableFile, column: str) -> NDArray[np.str_]:
    """(R,) ``one``, ``zero``, ``uncertain`` or ``blank``."""
    words = {
        **dict.fromkeys(_ONE, "one"),
        **dict.fromkeys(_ZERO, "zero"),
        **dict.fromkeys(_UNCERTAIN, "uncertain"),
        **dict.fromkeys((word.lower() for word in MISSING), "blank"),
    }
    cells = [text.lower() for text in file.text(column)]
    wrong = [row for row, cell in enumerate(cells) if cell not in words]
    if wrong:
        raise DataError(
            f"expected 0 or 1 in every row of column {column!r} of {file.path}, found {quoted(repr(cells[wrong[0]]))} "
            f"in row {file.numbers[wrong[0]]}{file.rows_are} ({len(wrong)} such rows)"
        )
    return np.array([words[cell] for cell in cells], dtype="U9")


def _place(file: TableFile, columns: Sequence[str], mask: BoolArray) -> str:
    row, at = (int(index[0]) for index in np.nonzero(mask))
    return f"{columns[at]} in row {file.numbers[row]}{file.rows_are}"


def proposed_one_hot(file: TableFile, taken: Sequence[str | None], *, multi_label: bool = False) -> list[str]:
    """Columns other than ``taken`` that look like one class each: 0 and 1, with one 1 in every row.

    With ``multi_label`` rows may have any number of them, and cells may be blank or -1.
    """
    binary: dict[str, BoolArray] = {}
    for column in file.columns:
        values = file.typed[column]
        if column in taken or values.dtype.kind not in "biuf":
            continue
        if (values.isin([0, 1]) | (multi_label & (values.isna() | (values == -1)))).all():
            binary[column] = values.to_numpy() == 1
    if len(binary) < 2:
        return []
    per_row = np.sum(list(binary.values()), axis=0)
    return list(binary) if multi_label or (per_row == 1).all() else []


def _check_class_names(labels: Sequence[str]) -> None:
    long = [label for label in Counter(labels) if len(label) > _LONGEST]
    if long:
        raise DataError(
            f"expected class names, found {len(long)} labels of more than {_LONGEST} characters "
            f"({sample_of(long, most=1)}); if this is not the label column, name it with --label-col"
        )

"""Find the columns of a file with one number per class, and read logits and probabilities from them.

Shape legend: N images, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tametail.core.arrays import FloatArray
from tametail.core.errors import DataError
from tametail.core.text import quoted, sample_of
from tametail.data.readers.table_file import TableFile
from tametail.predictions.single_label import exclusive

LOGIT, PROBABILITY = ("logit_",), ("prob_", "p_")
TOLERANCE = 0.01  # of the sum of a row of rounded probabilities
_TINY = float(np.finfo(np.float32).tiny)
_FARTHEST = 1e37  # well within float32


@dataclass(frozen=True, eq=False)
class ClassColumns:
    """C classes in the order of their columns.

    Attributes:
        names: of the classes.
        columns: columns of the file that were used.
        logits: (N, C); the logarithms if the file has probabilities.
        posterior: (N, C) probabilities that sum to one; None if the file has logits only.
    """

    names: tuple[str, ...]
    columns: frozenset[str]
    logits: NDArray[np.float32]
    posterior: NDArray[np.float32] | None


def class_columns(
    file: TableFile, labels: Sequence[str], others: Sequence[str], classes: Sequence[str] = ()
) -> ClassColumns:
    """Read one number per class and image.

    Columns with a prefix have priority over columns named like the classes, which may repeat the labels. If a file has
    ``logit_`` and ``prob_`` or ``p_`` columns, the logits define the decision. Without a prefix the numbers are
    probabilities if all are in 0..1, and logits otherwise.

    Args:
        labels: (N,) of the images.
        others: the columns without another meaning.
        classes: all class names; empty for those of the prefixed columns, or else of the labels.

    Raises:
        DataError: a class has no column, or a column has invalid values.
    """
    chosen = _columns(file, set(labels), others, tuple(classes))
    names = tuple(next(iter(chosen.values())))
    read = {kind: _Numbers(file, [of_kind[name] for name in names]) for kind, of_kind in chosen.items()}
    used = frozenset(column for numbers in read.values() for column in numbers.columns)
    if "bare" in read:
        bare = read["bare"]
        bare.refuse_percent()
        read = {"p" if bare.outside is None else "logit": bare}
    posterior = read["p"].probabilities() if "p" in read else None
    if "logit" in read:
        logits = read["logit"].logits()
    else:
        assert posterior is not None
        logits = np.log(np.maximum(posterior, _TINY)).astype(np.float32)
    return ClassColumns(names, used, logits, None if posterior is None else posterior.astype(np.float32))


def _columns(
    file: TableFile, used: set[str], others: Sequence[str], classes: tuple[str, ...]
) -> Mapping[str, Mapping[str, str]]:
    """Class → column for each kind (``logit``, ``p`` or ``bare``); the same classes in all."""
    wanted = set(classes) or used
    named = {
        "logit": _suffixes(others, LOGIT),
        "p": _suffixes(others, PROBABILITY),
        "bare": {column: column for column in others if column in wanted},
    }
    kinds = [kind for kind in named if wanted <= set(named[kind])]
    kinds = kinds if kinds == ["bare"] else [kind for kind in kinds if kind != "bare"]
    if not kinds:
        raise _without_column(file.path, named, wanted, others, given=bool(classes))
    names = classes or tuple(named[kinds[0]])
    if used - set(names):
        raise DataError(
            f"expected labels of {sample_of(names, most=20)} in {file.path}, found {sample_of(sorted(used - set(names)))} too; fix "
            f"them, or give the model a column for each class"
        )
    if len(names) < 2:
        raise DataError(
            f"expected columns of two classes or more in {file.path}, found {sample_of(list(named[kinds[0]].values()))}; a "
            f"class that no image has needs its column too (call it prob_NAME, or name all classes with --classes)"
        )
    if any(set(names) - set(named[kind]) for kind in kinds):
        raise DataError(
            f"expected logits and probabilities of the same classes in {file.path}, found "
            f"{sample_of(list(named['logit'].values()), most=20)} and {sample_of(list(named['p'].values()), most=20)}; give both "
            f"for each class, or one kind alone"
        )
    return {kind: {name: named[kind][name] for name in names} for kind in kinds}


def _suffixes(columns: Sequence[str], prefixes: Sequence[str]) -> dict[str, str]:
    """Class → column, for the first prefix that occurs."""
    for prefix in prefixes:
        found = {c[len(prefix) :]: c for c in columns if c.startswith(prefix) and len(c) > len(prefix)}
        if found:
            return found
    return {}


def _without_column(
    path: Path,
    named: Mapping[str, Mapping[str, str]],
    wanted: set[str],
    others: Sequence[str],
    *,
    given: bool,
) -> DataError:
    best = max(named.values(), key=lambda of_kind: len(wanted & set(of_kind)))
    missing = sorted(wanted - set(best))
    return DataError(
        f"expected one column per class in {path} (prob_NAME, logit_NAME, or the NAME of the class as "
        f"{'--classes' if given else 'the label column'} writes it), but {len(missing)} of {len(wanted)} classes have none "
        f"({sample_of(missing)}); found {sample_of(others, most=20) or 'no further column'}. Rename the columns, or write the "
        f"labels as the columns are called"
    )


class _Numbers:
    """Numbers (N, C) of some columns, validated as logits or probabilities."""

    def __init__(self, file: TableFile, columns: Sequence[str]) -> None:
        self.file = file
        self.columns = columns
        self.values = np.stack([self._column(column) for column in columns], axis=1)
        self.named = f"{sample_of(columns, most=20)} of {file.path}"

    def _column(self, column: str) -> FloatArray:
        typed = self.file.typed[column]
        if typed.dtype.kind in "iuf":
            values = typed.to_numpy(dtype=np.float64, na_value=np.nan)
        else:
            values = np.array([_number(cell) for cell in self.file.text(column)])
        odd = np.flatnonzero(~np.isfinite(values))
        if len(odd):
            cell = self.file.text(column)[odd[0]]
            raise DataError(
                f"expected a finite number in every row of column {column!r} of {self.file.path}, found "
                f"{quoted(repr(cell)) if cell else 'an empty cell'} in {rows_in_words(self.file, odd)}; fix them, or remove those images "
                f"from every file"
            )
        return values

    @property
    def outside(self) -> NDArray[np.int64] | None:
        """Rows with a number outside 0..1; None if there are none."""
        rows = np.flatnonzero(((self.values < 0) | (self.values > 1)).any(axis=1))
        return rows if len(rows) else None

    def refuse_percent(self) -> None:
        """Raise `DataError` if the rows sum to 100."""
        if (self.values >= 0).all() and (np.abs(self.values.sum(axis=1) - 100) < 100 * TOLERANCE).all():
            raise DataError(
                f"expected probabilities in 0..1 in {self.named}, found percentages; divide by 100"
            )

    def probabilities(self) -> FloatArray:
        """Probabilities (N, C); a `DataError` if a row does not sum to one."""
        self.refuse_percent()
        p = self.values
        if self.outside is not None:
            row = p[self.outside[0]]
            raise DataError(
                f"expected probabilities in 0..1 in {self.named}, found "
                f"{row[(row < 0) | (row > 1)][0]:g} in {rows_in_words(self.file, self.outside)}; if these are logits, call the columns "
                f"logit_NAME"
            )
        odd = np.flatnonzero(np.abs(p.sum(axis=1) - 1) > TOLERANCE)
        if len(odd):
            raise DataError(
                f"expected the probabilities {self.named} to sum to one in every row, found "
                f"{p[odd[0]].sum():.4g} in {rows_in_words(self.file, odd)} ({len(odd)} of {len(p)} rows). If a class is missing, name "
                f"all with --classes, or call its column prob_NAME as the others; if the classes have independent "
                f"probabilities, give the logits (logit_NAME)"
            )
        return exclusive(p)

    def logits(self) -> NDArray[np.float32]:
        """Logits (N, C); a `DataError` if one is too large."""
        far = np.flatnonzero((np.abs(self.values) > _FARTHEST).any(axis=1))
        if len(far):
            raise DataError(
                f"expected logits up to {_FARTHEST:g} in {self.named}, found larger ones in "
                f"{rows_in_words(self.file, far)}; fix them"
            )
        return self.values.astype(np.float32)


def rows_in_words(file: TableFile, rows: NDArray[np.int64]) -> str:
    """``rows 1, 2, 3, ... below the header``."""
    return f"{'row' if len(rows) == 1 else 'rows'} {sample_of((rows + 1).tolist())}{file.rows_are}"


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")

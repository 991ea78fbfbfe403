"""Find the columns of a file with one number per class, and read logits and probabilities from them.

Shape legend: N images, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tametail.core.arrays import BoolArray, FloatArray, IntArray
from tametail.core.errors import DataError
from tametail.core.text import quoted, sample_of
from tametail.data.readers.table_blocks import TableBlocks
from tametail.predictions.single_label import exclusive

LOGIT, PROBABILITY = ("logit_",), ("prob_", "p_")
TOLERANCE = 0.01  # of the sum of a row of rounded probabilities
_TINY = float(np.finfo(np.float32).tiny)
FARTHEST = 1e37  # well within float32


@dataclass(frozen=True, eq=False)
class ClassColumns:
    """Numbers of C classes.

    Attributes:
        names: of the classes, in the given order or sorted.
        columns: columns of the file that were used.
        logits: (N, C); the logarithms if the file has probabilities.
        posterior: (N, C) probabilities that sum to one; None if the file has logits only.
    """

    names: tuple[str, ...]
    columns: frozenset[str]
    logits: NDArray[np.float32]
    posterior: NDArray[np.float32] | None


def class_columns(
    file: TableBlocks,
    labels: AbstractSet[str],
    others: Sequence[str],
    classes: Sequence[str] = (),
    *,
    place: IntArray,
) -> ClassColumns:
    """Read one number per class and image.

    Columns with a prefix have priority over columns named like the classes, which may repeat the labels. If a file has
    ``logit_`` and ``prob_`` or ``p_`` columns, the logits define the decision. Without a prefix the numbers are
    probabilities if all are in 0..1, and logits otherwise.

    Args:
        labels: of the images.
        others: the columns without another meaning.
        classes: all class names; empty for those of the prefixed columns, or else of the labels.
        place: (N,) the row of the result for each row of the file.

    Raises:
        DataError: a class has no column, or a column has invalid values.
    """
    chosen = _columns(file, labels, others, tuple(classes))
    names = tuple(classes) or tuple(sorted(next(iter(chosen.values()))))
    used = frozenset(column for of_kind in chosen.values() for column in of_kind.values())
    read = {kind: _Numbers(file, of_kind, names, place) for kind, of_kind in chosen.items()}
    if "bare" in read:
        is_logit = read["bare"].has_values_outside()
        read = {"logit" if is_logit else "p": read["bare"]}
    logits = posterior = None
    if "p" in read:
        posterior, logits = read["p"].probabilities(with_logits="logit" not in read)
    if "logit" in read:
        logits = read["logit"].logits()
    assert logits is not None
    return ClassColumns(names, used, logits, posterior)


def _columns(
    file: TableBlocks, used: AbstractSet[str], others: Sequence[str], classes: tuple[str, ...]
) -> Mapping[str, Mapping[str, str]]:
    """Class → column for each kind (``logit``, ``p`` or ``bare``); the same classes in all."""
    wanted = set(classes) or used
    named = {
        "logit": by_prefix(others, LOGIT),
        "p": by_prefix(others, PROBABILITY),
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


def by_prefix(columns: Sequence[str], prefixes: Sequence[str]) -> dict[str, str]:
    """Class → column ``<prefix><class>``, for the first prefix that occurs."""
    for prefix in prefixes:
        found = {c[len(prefix) :]: c for c in columns if c.startswith(prefix) and len(c) > len(prefix)}
        if found:
            return found
    return {}


def _without_column(
    path: Path,
    named: Mapping[str, Mapping[str, str]],
    wanted: AbstractSet[str],
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
    """Numbers of some columns, one per class, read by blocks and validated as logits or probabilities."""

    def __init__(
        self, file: TableBlocks, of_class: Mapping[str, str], names: Sequence[str], place: IntArray
    ) -> None:
        self.file, self.place = file, place
        self.columns = list(of_class.values())
        self.order = [list(of_class).index(name) for name in names]
        self.named = f"{sample_of(self.columns, most=20)} of {file.path}"

    def has_values_outside(self) -> bool:
        """Whether a number is outside 0..1; a `DataError` if the numbers are percentages."""
        problems = _Problems()
        for block in self.file.numbers(self.columns):
            problems.note(block)
        self._refuse_invalid(problems)
        self._refuse_percent(problems)
        return len(problems.outside.rows) > 0

    def probabilities(self, *, with_logits: bool) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Probabilities (N, C), and their logarithms if wanted; a `DataError` if a row does not sum to one."""
        found = self._empty()
        logits = self._empty() if with_logits else None
        problems = _Problems()
        for block in self.file.numbers(self.columns):
            problems.note(block)
            if problems.invalid.rows or problems.outside.rows or problems.sums.rows:
                continue
            rows, p = self.place[problems.rows - len(block) : problems.rows], exclusive(block)[:, self.order]
            found[rows] = p
            if logits is not None:
                logits[rows] = np.log(np.maximum(p, _TINY))
        self._refuse_invalid(problems)
        self._refuse_percent(problems)
        outside, sums = problems.outside, problems.sums
        if outside.rows:
            raise DataError(
                f"expected probabilities in 0..1 in {self.named}, found "
                f"{outside.first:g} in {self._rows(outside)}; if these are logits, call the columns logit_NAME"
            )
        if sums.rows:
            raise DataError(
                f"expected the probabilities {self.named} to sum to one in every row, found "
                f"{sums.first:.4g} in {self._rows(sums)} ({len(sums.rows)} of {problems.rows} rows). If a class is missing, name "
                f"all with --classes, or call its column prob_NAME as the others; if the classes have independent "
                f"probabilities, give the logits (logit_NAME)"
            )
        return found, logits

    def logits(self) -> NDArray[np.float32]:
        """Logits (N, C); a `DataError` if one is too large."""
        found, problems = self._empty(), _Problems()
        for block in self.file.numbers(self.columns):
            problems.note(block)
            if not (problems.invalid.rows or problems.far.rows):
                found[self.place[problems.rows - len(block) : problems.rows]] = block[:, self.order]
        self._refuse_invalid(problems)
        if problems.far.rows:
            raise DataError(
                f"expected logits up to {FARTHEST:g} in {self.named}, found larger ones in "
                f"{self._rows(problems.far)}; fix them"
            )
        return found

    def _empty(self) -> NDArray[np.float32]:
        return np.empty((len(self.place), len(self.columns)), dtype=np.float32)

    def _rows(self, found: _Found) -> str:
        return rows_in_words(self.file, found.rows)

    def _refuse_invalid(self, problems: _Problems) -> None:
        if problems.invalid.rows:
            column = self.columns[problems.column]
            cell = self.file.texts([column])[column][problems.invalid.rows[0]]
            raise DataError(
                f"expected a finite number in every row of column {column!r} of {self.file.path}, found "
                f"{quoted(repr(cell)) if cell else 'an empty cell'} in {self._rows(problems.invalid)}; fix them, or remove those "
                f"images from every file"
            )

    def _refuse_percent(self, problems: _Problems) -> None:
        if problems.all_percent:
            raise DataError(
                f"expected probabilities in 0..1 in {self.named}, found percentages; divide by 100"
            )


@dataclass(eq=False)
class _Found:
    """Rows with a problem, and the number that is wrong in the first one."""

    rows: list[int] = field(default_factory=list)
    first: float = float("nan")


class _Problems:
    """What is wrong with the numbers of a file, collected over its blocks.

    Attributes:
        rows: number of rows so far.
        column: the first column with a cell that is no finite number.
        invalid: rows in which it has one.
        outside: rows with a number outside 0..1.
        sums: rows that do not sum to one.
        far: rows with a number that is too large for a logit.
        all_percent: whether all rows sum to 100.
    """

    def __init__(self) -> None:
        self.rows, self.column, self.all_percent = 0, -1, True
        self.invalid, self.outside, self.sums, self.far = (_Found() for _ in range(4))

    def note(self, block: FloatArray) -> None:
        """Check the next rows (B, K)."""
        with np.errstate(over="ignore", invalid="ignore"):
            total, low, high = block.sum(axis=1), block.min(axis=1), block.max(axis=1)
        if not np.isfinite(total).all():
            self._note_invalid(~np.isfinite(block))
        self._note(self.outside, (low < 0) | (high > 1), np.where(low < 0, low, high))
        self._note(self.sums, np.abs(total - 1) > TOLERANCE, total)
        self._note(self.far, np.maximum(-low, high) > FARTHEST, high)
        percent = (low >= 0) & (np.abs(total - 100) < 100 * TOLERANCE)
        self.all_percent = self.all_percent and bool(percent.all())
        self.rows += len(block)

    def _note_invalid(self, invalid: BoolArray) -> None:
        columns = np.flatnonzero(invalid.any(axis=0))
        if len(columns) and (self.column < 0 or columns[0] < self.column):
            self.column, self.invalid = int(columns[0]), _Found()
        if len(columns):
            self._note(self.invalid, invalid[:, self.column], np.full(len(invalid), np.nan))

    def _note(self, found: _Found, wrong: BoolArray, values: FloatArray) -> None:
        rows = np.flatnonzero(wrong)
        if len(rows) and not found.rows:
            found.first = float(values[rows[0]])
        found.rows += (self.rows + rows).tolist()


def rows_in_words(file: TableBlocks, rows: Sequence[int]) -> str:
    """``rows 1, 2, 3, ... below the header``, for positions from 0."""
    return f"{'row' if len(rows) == 1 else 'rows'} {sample_of([row + 1 for row in rows])}{file.rows_are}"

"""One file of predictions made elsewhere → its images, labels and one number per class.

Shape legend: N images, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tametail.data.label_columns import MISSING
from tametail.data.messages import first, shown
from tametail.data.table_file import PARQUET_SUFFIXES, TableFile, read_table_file
from tametail.errors import DataError
from tametail.predictions import Link, Predictions, exclusive, read_predictions
from tametail.predictions_file import described_as

IMAGE, LABEL, GROUP, FOLD = ("image", "file_name"), ("label",), ("group",), ("fold",)
LOGIT, PROBABILITY = ("logit_",), ("prob_", "p_")
TOLERANCE = 0.01  # of the sum of a row of probabilities, as files round them
_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, eq=False)
class Sheet:
    """N predictions of one model, sorted by image.

    Attributes:
        path: the file.
        images, labels: (N,), each image once.
        groups: (N,), or None where the file does not say.
        folds: (N,); zeros where the file does not say.
        classes: C names in the order of the columns.
        logits, posterior: (N, C) as those of `Predictions`.
        link: of the logits.
        carried: the columns asked for that are there, (N,) text.
        others: names of all further columns.
    """

    path: Path
    images: NDArray[np.str_]
    labels: NDArray[np.str_]
    groups: NDArray[np.str_] | None
    folds: NDArray[np.int64]
    classes: tuple[str, ...]
    logits: NDArray[np.float32]
    posterior: NDArray[np.float32] | None
    link: Link
    carried: Mapping[str, NDArray[np.str_]]
    others: tuple[str, ...]

    def predictions(self, names: Sequence[str], groups: NDArray[np.str_]) -> Predictions:
        """The project's own table, with the classes in this order and the images in these groups (N,)."""
        at = [self.classes.index(name) for name in names]
        code = {name: index for index, name in enumerate(names)}
        return Predictions(
            self.images,
            groups,
            np.array([code[label] for label in self.labels.tolist()], dtype=np.int64),
            self.folds,
            np.ascontiguousarray(self.logits[:, at]),
            tuple(names),
            self.link,
            None if self.posterior is None else np.ascontiguousarray(self.posterior[:, at]),
        )


def read_sheet(path: Path, *, by: Sequence[str] = (), classes: Sequence[str] = ()) -> Sheet:
    """Read a CSV, TSV, JSON Lines or Parquet file with the columns image, label, and one number per class.

    A class's column is called ``prob_<class>`` or ``p_<class>`` (probabilities), ``logit_<class>`` (logits; where both
    are there, logits decide), or as the class itself: then the numbers are probabilities if all lie in 0..1, else logits.
    Columns ``group`` (what must not be split, such as a patient) and ``fold`` (of cross-validation) may be there too.
    A ``predictions.parquet`` of a study is read as it is.

    Args:
        by: further columns to carry along.
        classes: all classes by name; empty for those that have a column with a prefix, or else those of the labels.

    Raises:
        DataError: the file cannot be read, a column is missing, a cell is empty or no number, an image comes twice, a
            label is of no class, or probabilities do not sum to one.
    """
    own = _own(path, by, classes) if path.suffix.lower() in PARQUET_SUFFIXES else None
    return own or _Reading(read_table_file(path)).sheet(by, classes)


def _own(path: Path, by: Sequence[str], classes: Sequence[str]) -> Sheet | None:
    """A file that a study wrote; None for any other."""
    described = described_as(path)
    if described is None:
        return None
    if described.get("kind") == "multi_label":
        raise DataError(
            f"expected predictions of images with one label each, but those of {path} have several or none; tametail "
            f"report shows the study that they are from"
        )
    table = read_predictions(path).sorted_by_image()
    if classes and set(classes) != set(table.class_names):
        raise DataError(
            f"expected the classes {first(classes, most=20)} in {path}, found {first(table.class_names, most=20)}"
        )
    names = np.array(table.class_names)
    return Sheet(
        path, table.image, names[table.target], table.group, table.fold, table.class_names, table.logits,
        table.posterior, table.link, {}, (),
    )  # fmt: skip


class _Reading:
    """The cells of one file, checked as they are taken."""

    def __init__(self, file: TableFile) -> None:
        self.file = file

    def sheet(self, by: Sequence[str], classes: Sequence[str]) -> Sheet:
        image, label = (self._needed(names) for names in (IMAGE, LABEL))
        group, fold = (self._found(names) for names in (GROUP, FOLD))
        images = self._filled(image, "image")
        self._check_once(images)
        labels = self._filled(label, "label")
        reserved = {image, label, group, fold}
        others = [column for column in self.file.columns if column not in reserved]
        names, columns = self._class_columns(labels, others, classes)
        logits, posterior = self._numbers(names, columns)
        order = np.argsort(images, kind="stable")
        carried = {c: np.array(self.file.text(c), dtype=np.str_)[order] for c in by if c in others}
        return Sheet(
            self.file.path,
            images[order],
            labels[order],
            self._filled(group, "group")[order] if group else None,
            self._folds(fold)[order],
            tuple(names),
            logits[order],
            None if posterior is None else posterior[order],
            "softmax",
            {c: np.where(np.isin(values, sorted(MISSING)), "", values) for c, values in carried.items()},
            tuple(c for c in others if not any(c in of_kind for of_kind in columns.values())),
        )

    def _found(self, names: Sequence[str]) -> str | None:
        alike = [column for column in self.file.columns if column.lower() in names]
        if len(alike) > 1:
            raise DataError(
                f"expected one column for the {names[0]} in {self.file.path}, found {first(alike)}; rename the others"
            )
        return alike[0] if alike else None

    def _needed(self, names: Sequence[str]) -> str:
        column = self._found(names)
        if column is None:
            raise DataError(
                f"expected a column {names[0]!r} in {self.file.path}, found {first(self.file.columns, most=20)}; the "
                f"columns are image, label, group (may be left out), and one per class (prob_NAME, logit_NAME or NAME)"
            )
        return column

    def _filled(self, column: str, role: str) -> NDArray[np.str_]:
        values = np.array(self.file.text(column), dtype=np.str_)
        empty = np.flatnonzero(np.isin(values, sorted(MISSING)))
        if len(empty):
            raise DataError(
                f"{len(empty)} of {len(values)} rows of {self.file.path} have no {role} in column {column!r} "
                f"({self._rows(empty)}); fill them in or take the rows out"
            )
        return values

    def _rows(self, rows: NDArray[np.int64]) -> str:
        return f"{'row' if len(rows) == 1 else 'rows'} {first((rows + 1).tolist())}{self.file.rows_are}"

    def _check_once(self, images: NDArray[np.str_]) -> None:
        names, counts = np.unique(images, return_counts=True)
        twice = names[counts > 1]
        if len(twice):
            raise DataError(
                f"expected each image once in {self.file.path}, found {len(twice)} more than once "
                f"({first(twice.tolist())}); keep one row per image, with one model to a file"
            )

    def _class_columns(
        self, labels: NDArray[np.str_], others: Sequence[str], classes: Sequence[str]
    ) -> tuple[list[str], dict[str, list[str]]]:
        """Class names, and the columns of each kind (``logit``, ``p``, or ``bare``) in the same order."""
        used = set(labels.tolist())
        named = {
            "logit": _suffixes(others, LOGIT),
            "p": _suffixes(others, PROBABILITY),
            "bare": {column: column for column in others if column in (classes or used)},
        }
        wanted = set(classes) or used
        kinds = [kind for kind in ("logit", "p") if wanted and wanted <= set(named[kind])]
        kinds = kinds or [kind for kind in ("bare",) if wanted <= set(named[kind])]
        if not kinds:
            self._refuse_classes(named, wanted, others, given=bool(classes))
        chosen = named[kinds[0]]
        names = list(classes) or list(chosen)
        unknown = used - set(names)
        if unknown:
            raise DataError(
                f"expected labels of {first(names, most=20)} in {self.file.path}, found {first(sorted(unknown))} too; mend "
                f"them, or give the model a column for each class"
            )
        if len(names) < 2:
            raise DataError(
                f"expected columns of two classes or more in {self.file.path}, found {first(list(chosen.values()))}"
            )
        if any(set(named[kind]) != set(chosen) and not classes for kind in kinds):
            raise DataError(
                f"expected logits and probabilities of the same classes in {self.file.path}, found "
                f"{first(list(named['logit'].values()), most=20)} and {first(list(named['p'].values()), most=20)}"
            )
        return names, {kind: [named[kind][name] for name in names] for kind in kinds}

    def _refuse_classes(
        self, named: Mapping[str, Mapping[str, str]], wanted: set[str], others: Sequence[str], *, given: bool
    ) -> None:
        best = max(named.values(), key=lambda of_kind: len(wanted & set(of_kind)))
        missing = sorted(wanted - set(best))
        raise DataError(
            f"expected one column per class in {self.file.path} (prob_NAME, logit_NAME, or the NAME of the class as the "
            f"{'option --classes' if given else 'label column'} writes it), but {len(missing)} of {len(wanted)} classes "
            f"have none ({first(missing)}); found {first(others, most=20) or 'no further column'}. Rename the columns, or "
            f"write the labels as the columns are called"
        )

    def _numbers(
        self, names: Sequence[str], columns: Mapping[str, Sequence[str]]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Logits (N, C), and probabilities (N, C) where the file has them."""
        values = {kind: np.stack([self._column(c) for c in of_kind], axis=1) for kind, of_kind in columns.items()}
        if "bare" in values:
            bare = values["bare"]
            is_share = bool(((bare >= 0) & (bare <= 1)).all())
            self._refuse_percent(bare, columns["bare"])
            values = {"p" if is_share else "logit": bare}
            columns = {"p" if is_share else "logit": columns["bare"]}
        posterior = None
        if "p" in values:
            self._check_shares(values["p"], columns["p"])
            posterior = exclusive(values["p"])
        logits = values["logit"] if "logit" in values else np.log(np.maximum(posterior, _TINY))  # type: ignore[type-var]
        return self._in_float32(logits, names), None if posterior is None else posterior.astype(np.float32)

    def _column(self, column: str) -> NDArray[np.float64]:
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
                f"{shown(repr(cell)) if cell else 'an empty cell'} in row {odd[0] + 1}{self.file.rows_are} ({len(odd)} such "
                f"rows); mend them, or take those images out of every file"
            )
        return values

    def _refuse_percent(self, values: NDArray[np.float64], columns: Sequence[str]) -> None:
        if (values >= 0).all() and (np.abs(values.sum(axis=1) - 100) < 100 * TOLERANCE).all():
            raise DataError(
                f"expected probabilities in 0..1 in {first(columns, most=20)} of {self.file.path}, found per cent; divide "
                f"them by 100"
            )

    def _check_shares(self, p: NDArray[np.float64], columns: Sequence[str]) -> None:
        self._refuse_percent(p, columns)
        outside = np.flatnonzero(((p < 0) | (p > 1)).any(axis=1))
        if len(outside):
            value = p[outside[0]][(p[outside[0]] < 0) | (p[outside[0]] > 1)][0]
            raise DataError(
                f"expected probabilities in 0..1 in {first(columns, most=20)} of {self.file.path}, found {value:g} in "
                f"{self._rows(outside)}; call the columns logit_NAME if these are logits"
            )
        odd = np.flatnonzero(np.abs(p.sum(axis=1) - 1) > TOLERANCE)
        if len(odd):
            raise DataError(
                f"expected the probabilities {first(columns, most=20)} of {self.file.path} to sum to one in every row, found "
                f"{p[odd[0]].sum():.4g} in {self._rows(odd)} ({len(odd)} of {len(p)} rows). If a class is missing, name "
                f"all with --classes or call its column prob_NAME; if each class has a probability of its own, give the "
                f"logits (logit_NAME)"
            )

    def _in_float32(self, logits: NDArray[np.float64], names: Sequence[str]) -> NDArray[np.float32]:
        limit = float(np.finfo(np.float32).max)
        far = np.flatnonzero((np.abs(logits) > limit).any(axis=1))
        if len(far):
            raise DataError(
                f"expected logits of {first(names, most=20)} up to {limit:.2g} in {self.file.path}, found larger ones in "
                f"{self._rows(far)}; divide them all by one number, which changes no ranking of classes"
            )
        return logits.astype(np.float32)

    def _folds(self, column: str | None) -> NDArray[np.int64]:
        if column is None:
            return np.zeros(len(self.file.typed), dtype=np.int64)
        names = self._filled(column, "fold")
        return np.asarray(np.unique(names, return_inverse=True)[1], dtype=np.int64)


def _suffixes(columns: Sequence[str], prefixes: Sequence[str]) -> dict[str, str]:
    """Class → column, of the first prefix that any column has."""
    for prefix in prefixes:
        found = {c[len(prefix) :]: c for c in columns if c.startswith(prefix) and len(c) > len(prefix)}
        if found:
            return found
    return {}


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")

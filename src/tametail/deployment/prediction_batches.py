"""Read files that `tametail predict` wrote, each a batch of new images. Shape legend: N readable images, C classes."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tametail.core.arrays import BoolArray, FloatArray
from tametail.core.errors import DataError
from tametail.core.regular_file import regular
from tametail.core.text import quoted, sample_of
from tametail.data.table import LABEL_SEPARATOR
from tametail.deployment.decision import HAS, SET, P
from tametail.deployment.facts import ModelFacts
from tametail.deployment.quality import QUALITY
from tametail.deployment.unlikeness import UNLIKE
from tametail.evaluation.subgroups import natural_order

_SUM_ERROR = 1e-4  # of probabilities with nine digits, with room
_DATE = re.compile(r"(?<!\d)(\d{4})-?(\d{2})-?(\d{2})(?!\d)")
_AGAIN = "predict the images again with this model"


@dataclass(frozen=True)
class Batch:
    """The predictions of one file.

    Attributes:
        name: of the file, without its ending.
        path: of the file.
        day: the date in its name; None for no date.
        rows: images in the file.
        p: (N, C) probabilities of the images that could be read.
        unlike: (N,) whether they are unlike the training images; None if the model does not know.
        flagged: (N,) whether they have a quality flag.
    """

    name: str
    path: Path
    day: date | None
    rows: int
    p: FloatArray
    unlike: BoolArray | None
    flagged: BoolArray

    @property
    def unreadable(self) -> int:
        """Number of images that could not be read."""
        return self.rows - len(self.p)


class Batches(NamedTuple):
    """Batches in their order, and that order in words."""

    batches: tuple[Batch, ...]
    order: str


def read_batches(paths: Sequence[str | Path], facts: ModelFacts) -> Batches:
    """Read files of predictions of one model, in the order of the dates in their names, or of the names if one has no date.

    Raises:
        DataError: no file; a file that is damaged, empty, given twice, or of another model.
    """
    if not paths:
        raise DataError("expected at least one CSV file of tametail predict, got none")
    found: list[Batch] = []
    seen: dict[str, Path] = {}
    for path in map(Path, paths):
        try:
            data = regular(path).read_bytes()
        except OSError as error:
            raise DataError(
                f"expected a CSV file of tametail predict at {path}, but it cannot be read: {error}; check the path"
            ) from error
        digest = hashlib.sha256(data).hexdigest()
        if digest in seen:
            raise DataError(
                f"expected files of different images, but {path} has the same content as {seen[digest]}; give it once"
            )
        seen[digest] = path
        found.append(_batch(path, data, facts))
    if all(batch.day is not None for batch in found):
        order = "by the dates in their names"
        found.sort(key=lambda batch: (batch.day or date.min, natural_order(batch.name)))
    else:
        order = "by name, as not every name has one date such as 2026-11-03"
        found.sort(key=lambda batch: (natural_order(batch.name), str(batch.path)))
    return Batches(tuple(found), order)


def _batch(path: Path, data: bytes, facts: ModelFacts) -> Batch:
    header, rows = _rows(path, data)
    _check_model(path, header, rows, facts)
    at = {name: number for number, name in enumerate(header)}
    read = [row for row in rows if not row[at["error"]]]
    p = _probabilities(path, [[row[at[P + name]] for name in facts.class_names] for row in read], facts)
    unlike = None
    if not facts.likeness.reason:
        values = [row[at[UNLIKE]] for row in read]
        if wrong := set(values) - {"0", "1"}:
            raise DataError(
                f"expected 0 or 1 in column {UNLIKE} of {path}, found {sample_of(sorted(wrong))}: it is damaged or of another model; "
                f"{_AGAIN}"
            )
        unlike = np.array([value == "1" for value in values], dtype=np.bool_)
    if SET in at:
        _check_prevalence(path, [row[at[SET]] for row in read], p, facts)
    flagged = np.array([bool(row[at[QUALITY]]) for row in read], dtype=np.bool_)
    return Batch(path.stem, path, _day(path.stem), len(rows), p, unlike, flagged)


def _rows(path: Path, data: bytes) -> tuple[list[str], list[list[str]]]:
    """The header and the rows of a CSV file, all of the same length."""
    try:
        lines = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        header, *rows = (line for line in lines if line)
    except (ValueError, csv.Error) as error:
        reason = "it is empty" if not data.strip() else f"it cannot be read: {quoted(str(error))}"
        raise DataError(
            f"expected a CSV file of tametail predict at {path}, but {reason}; {_AGAIN}"
        ) from error
    if not rows:
        raise DataError(f"expected a row for each image in {path}, found a header only; leave it out")
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise DataError(
                f"expected {len(header)} columns in row {number} of {path}, found {len(row)}: it is damaged; {_AGAIN}"
            )
    return header, rows


def _check_model(path: Path, header: list[str], rows: list[list[str]], facts: ModelFacts) -> None:
    """Refuse a file of another model, or of no model."""
    if len(set(header)) < len(header):
        raise DataError(f"expected each column of {path} once, found one twice: it is damaged; {_AGAIN}")
    if any(name.startswith(HAS) for name in header) and "most_probable" not in header:
        raise DataError(
            f"expected predictions of exactly one class per image in {path}, found those of several labels; they cannot be monitored"
        )
    needed = ["image", "method", "link", "error", QUALITY, *([] if facts.likeness.reason else [UNLIKE])]
    absent = [name for name in needed if name not in header]
    if absent:
        raise DataError(
            f"expected a CSV file of tametail predict at {path}, but it has no column {', '.join(absent)}; {_AGAIN}"
        )
    classes = [name.removeprefix(P) for name in header if name.startswith(P)]
    if classes != list(facts.class_names):
        raise DataError(
            f"expected probabilities of {sample_of(facts.class_names)} ({len(facts.class_names)} classes) in {path}, found those of "
            f"{sample_of(classes) or 'none'} ({len(classes)}): it is of another model; leave it out, or {_AGAIN}"
        )
    for column, own in (("method", facts.method), ("link", facts.link)):
        at = header.index(column)
        if others := {row[at] for row in rows} - {own}:
            raise DataError(
                f"expected {column} {own} in {path}, found {sample_of(sorted(others))}: it is of another model; leave it out, or {_AGAIN}"
            )


def _probabilities(path: Path, texts: list[list[str]], facts: ModelFacts) -> FloatArray:
    classes = len(facts.class_names)
    try:
        p = np.array(texts, dtype=np.float64).reshape(-1, classes)
    except ValueError as error:
        raise DataError(
            f"expected numbers in the columns {P}... of {path}, but it is damaged: {quoted(str(error))}; {_AGAIN}"
        ) from error
    # nan compares as false
    if not (((p >= 0) & (p <= 1)).all() and (np.abs(p.sum(axis=1) - 1) <= _SUM_ERROR).all()):
        raise DataError(
            f"expected probabilities in 0..1 that sum to one for each image in {path}, found others: it is damaged; {_AGAIN}"
        )
    return p


def _check_prevalence(path: Path, sets: list[str], p: FloatArray, facts: ModelFacts) -> None:
    """Refuse predictions for a given prevalence, as far as they tell: sets are in the order of the probabilities without one."""
    at = {name: number for number, name in enumerate(facts.class_names)}
    for names, row in zip(sets, p, strict=True):
        try:
            inside = [row[at[name]] for name in names.split(LABEL_SEPARATOR) if name]
        except KeyError as error:
            raise DataError(
                f"expected classes of the model in column {SET} of {path}, found {error}: it is damaged; {_AGAIN}"
            ) from error
        if any(later > earlier + _SUM_ERROR for earlier, later in pairwise(inside)):
            raise DataError(
                f"expected predictions without --prevalence and --adapt-prevalence in {path}, as these hide a new prevalence; {_AGAIN} "
                f"without them"
            )


def _day(name: str) -> date | None:
    """The date in a name, if there is exactly one."""
    days = []
    for year, month, day in _DATE.findall(name):
        try:
            days.append(date(int(year), int(month), int(day)))
        except ValueError:
            continue
    return days[0] if len(days) == 1 else None

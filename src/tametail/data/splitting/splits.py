"""Hold-out and k folds: stratified, group-aware, a function of the table and the seed alone.

Legend: N images, C classes, G groups, P parts (the folds, or the two sides of the hold-out).
"""

from __future__ import annotations

import csv
import hashlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tametail.core.arrays import IntArray
from tametail.core.atomic import atomic_path
from tametail.core.errors import DataError, UsageError, explain_save_error
from tametail.data.splitting.multi_label import label_divisions, label_strata
from tametail.data.splitting.stratified_groups import best_partition, images_by_group
from tametail.data.table import ImageTable

# Divisions are made from up to 5 seeds, of which the best balanced is taken; many groups balance at once.
_ATTEMPTS, _MANY = 5, 20_000
_HOLD_OUT, _FOLDS = range(2)  # independent random streams of one seed


@dataclass(frozen=True, eq=False)
class Splits:
    """Which images are held out for the test, and in which fold each of the others lies.

    Attributes:
        image: (N,) image ids, sorted.
        part: (N,) ``train`` or ``test``.
        fold: (N,) fold in which the image is held out, 0 to folds - 1; -1 on the test set.
        folds, seed: what they were made with.
        given: the test set came with the table.
        fingerprint: SHA-256 hex digest of the saved CSV.
    """

    image: NDArray[np.str_]
    part: NDArray[np.str_]
    fold: IntArray
    folds: int
    seed: int
    given: bool
    fingerprint: str


def make_splits(table: ImageTable, *, folds: int = 5, test_fraction: float = 0.2, seed: int = 0) -> Splits:
    """Hold a test set out and divide the rest into folds; no group is divided, every class is everywhere.

    Rows of the table that are given as ``test`` are the test set, and all its other rows go to the folds. Without
    any, a part near ``test_fraction`` is drawn. Of several drawn divisions the best balanced is taken; where a rare
    class is still missing somewhere, a small group that holds it is moved there. In a multi-label table an image
    counts for each of its labels, and those without any are divided as evenly as a label is.

    Raises:
        UsageError: fewer than 2 folds, a fraction outside (0, 0.5], or a negative seed.
        DataError: a class has too few groups for the folds, and for the test set where that is drawn.
    """
    if not 0 < test_fraction <= 0.5:
        raise UsageError(f"expected a test fraction above 0 and up to 0.5, got {test_fraction}")
    if seed < 0:
        raise UsageError(f"expected a seed of 0 or more, got {seed}")
    check_folds(table, folds)
    test = _given_test(table)
    given = bool(test.any())
    if not given:
        test = _draw_test(table, folds, test_fraction, seed)
    fold = np.full(len(table), -1, dtype=np.int64)
    fold[~test] = _draw_folds(table.take(~test), folds, seed)
    part = np.where(test, "test", "train").astype(np.str_)
    fingerprint = _sha256(_to_csv(table.images, part, fold))
    return Splits(table.images, part, fold, folds, seed, given, fingerprint)


def save_splits(splits: Splits, path: Path) -> None:
    """Write a CSV (image, part, fold) that is there wholly or not at all, and read-only: it is not to be edited.

    Raises:
        TametailError: it cannot be written.
    """
    with explain_save_error(path), atomic_path(path) as temporary:
        temporary.write_bytes(_to_csv(splits.image, splits.part, splits.fold))
        temporary.chmod(0o444)


def load_splits(path: Path, *, folds: int, seed: int, given: bool, fingerprint: str) -> Splits:
    """Read what `save_splits` wrote.

    Raises:
        DataError: the file is absent, or is not the one of this fingerprint.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"expected the splits of the study at {path} ({error.strerror or error})") from error
    if _sha256(data) != fingerprint:
        raise DataError(
            f"{path} is not the file the study was begun with: its fingerprint differs. Results of other splits cannot "
            f"be compared; put the file back, or begin a new study in another folder"
        )
    rows = list(csv.DictReader(io.StringIO(data.decode("utf-8"), newline="")))
    return Splits(
        np.array([row["image"] for row in rows], dtype=np.str_),
        np.array([row["part"] for row in rows], dtype=np.str_),
        np.array([row["fold"] for row in rows], dtype=np.int64),
        folds,
        seed,
        given,
        fingerprint,
    )


def _to_csv(image: NDArray[np.str_], part: NDArray[np.str_], fold: IntArray) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("image", "part", "fold"))
    writer.writerows(zip(image.tolist(), part.tolist(), fold.tolist(), strict=True))
    return text.getvalue().encode("utf-8")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _given_test(table: ImageTable) -> NDArray[np.bool_]:
    return np.asarray(table.frame["split"].to_numpy() == "test")


def check_folds(table: ImageTable, folds: int) -> None:
    """Refuse more folds than a class has groups for: one in each, and one more for a test set yet to be drawn.

    Raises:
        UsageError: fewer than 2 folds.
        DataError: a class has too few groups; the message says how many folds are possible.
    """
    if folds < 2:
        raise UsageError(f"expected at least 2 folds, got {folds}")
    test = _given_test(table)
    given = bool(test.any())
    table = table.take(~test)
    reserved = 0 if given else 1
    labelled, group = zip(table.class_names, table.labels.T, strict=True), table.groups
    counted = {name: len(np.unique(group[rows])) for name, rows in labelled}
    short = {name: groups for name, groups in counted.items() if groups < folds + reserved}
    if not short:
        return
    listed = ", ".join(f"{name!r} has {groups}" for name, groups in short.items())
    most = min(short.values()) - reserved
    advice = (
        f"use at most {most} folds"
        if most >= 2
        else "add images, or join it with another class or leave it out"
    )
    where = "outside the given test set" if given else "(one for the test set, one for each fold)"
    raise DataError(
        f"expected every class to have at least {folds + reserved} groups {where} for {folds} folds, but {listed}; {advice}"
    )


def _draw_test(table: ImageTable, folds: int, fraction: float, seed: int) -> NDArray[np.bool_]:
    """(N,) mask of the hold-out: the part nearest to its share of every class."""
    groups = _Groups(table)
    minimum = np.array([[folds], [1]]).repeat(len(table.class_names), axis=1)
    if table.multi_label:
        share = np.array([1 - fraction, fraction])
        candidates = groups.label_divisions(share, seed, _HOLD_OUT)
    else:
        # Some parts of a finer division. scikit-learn makes no more parts than there are groups, or images in the
        # largest class.
        simple = _share(fraction, min(groups.count, int(np.bincount(table.targets).max())))
        share = np.array([1 - float(simple), float(simple)])
        candidates = [
            np.isin(division, chosen).astype(np.int64)
            for division in groups.class_divisions(simple.denominator, seed, _HOLD_OUT)
            for chosen in combinations(range(simple.denominator), simple.numerator)
        ]
    sides = best_partition(candidates, groups.strata, minimum, share, table.class_names)
    return np.asarray(sides[groups.member] == 1)


def _share(fraction: float, parts: int) -> Fraction:
    """A simple fraction near the wanted one, of at most ``parts`` parts."""
    most = min(max(10, round(1 / fraction)), parts)
    return Fraction(fraction).limit_denominator(most) or Fraction(1, most)


def _draw_folds(table: ImageTable, folds: int, seed: int) -> IntArray:
    """(N,) fold of each image."""
    groups = _Groups(table)
    minimum, share = np.ones((folds, len(table.class_names)), dtype=np.int64), np.full(folds, 1 / folds)
    candidates = (
        groups.label_divisions(share, seed, _FOLDS)
        if table.multi_label
        else list(groups.class_divisions(folds, seed, _FOLDS))
    )
    return best_partition(candidates, groups.strata, minimum, share, table.class_names)[groups.member]


class _Groups:
    """The groups of a table: how many, the one of each image (N,), and the images of each by stratum (G, K)."""

    def __init__(self, table: ImageTable) -> None:
        self._table = table
        _, self._first, member = np.unique(table.groups, return_index=True, return_inverse=True)
        self.count, self.member = len(self._first), member.astype(np.int64)
        self.strata = images_by_group(self.member, label_strata(table))

    def label_divisions(self, share: NDArray[np.float64], seed: int, stream: int) -> list[IntArray]:
        """(G,) part of each group of a multi-label table."""
        return list(label_divisions(self.strata, share, (seed, stream), self._attempts))

    def class_divisions(self, parts: int, seed: int, stream: int) -> Iterator[IntArray]:
        """(G,) part of each group, by scikit-learn, from a few seeds derived from one."""
        from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

        target, group = self._table.targets, self.member
        splitter = StratifiedKFold if self.count == len(group) else StratifiedGroupKFold
        for attempt in range(self._attempts):
            sequence = np.random.SeedSequence([seed, stream, attempt])
            # The order of the rows decides where scikit-learn puts the odd members of each class.
            order = np.random.default_rng(sequence).permutation(len(target))
            divide = splitter(n_splits=parts, shuffle=True, random_state=int(sequence.generate_state(1)[0]))
            division = np.zeros(len(target), dtype=np.int64)
            with warnings.catch_warnings():
                # Classes smaller than the number of parts: `best_partition` sees to them.
                warnings.simplefilter("ignore", UserWarning)
                for part, (_, held) in enumerate(divide.split(order, target[order], group[order])):
                    division[order[held]] = part
            yield division[self._first]

    @property
    def _attempts(self) -> int:
        return min(_ATTEMPTS, max(1, _MANY // self.count))

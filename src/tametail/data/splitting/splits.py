"""Test set and k folds: stratified, by groups, and determined by the table and the seed alone.

Shape legend: N images, C classes, G groups, P parts (the folds, or training and test set).
"""

from __future__ import annotations

import csv
import hashlib
import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import numpy as np

from tametail.core.arrays import BoolArray, FloatArray, IntArray, TextArray
from tametail.core.atomic import atomic_path
from tametail.core.errors import DataError, UsageError, explain_save_error
from tametail.core.regular_file import regular
from tametail.data.splitting.given_folds import given_folds, has_given_folds
from tametail.data.splitting.stratification import (
    best_partition,
    images_by_group,
    label_strata,
    stratify_labels,
)
from tametail.data.table import ImageTable

# The best balanced of up to 5 random divisions is used; one is enough for many groups.
_ATTEMPTS, _MANY = 5, 20_000
_TEST_SET, _FOLDS = range(2)  # independent random streams of one seed


@dataclass(frozen=True, eq=False)
class Splits:
    """Test set and cross-validation folds of a table.

    Attributes:
        image: (N,) image ids, sorted.
        part: (N,) ``train`` or ``test``.
        fold: (N,) fold in which the image is held out, 0 to folds - 1; -1 in the test set.
        folds, seed: arguments of `make_splits`.
        given: whether the test set was given by the table.
        fingerprint: SHA-256 hex digest of image, part and fold as CSV.
        redrawn: for each repeat of the cross-validation after the first, (N,) new folds of the same training set.
    """

    image: TextArray
    part: TextArray
    fold: IntArray
    folds: int
    seed: int
    given: bool
    fingerprint: str
    redrawn: tuple[IntArray, ...] = ()

    def fold_in(self, repeat: int) -> IntArray:
        """(N,) fold of each image in a repeat, from 0; -1 in the test set."""
        return self.redrawn[repeat - 1] if repeat else self.fold

    def with_images(self, image: TextArray) -> Splits:
        """The same splits of images with other ids (N,), in the same order."""
        return replace(self, image=image, fingerprint=_sha256(_to_csv(image, self.part, self.fold)))

    @property
    def redrawn_fingerprints(self) -> list[str]:
        """Digests of the redrawn folds, as ``fingerprint`` for the first ones."""
        return [_sha256(_to_csv(self.image, self.part, fold)) for fold in self.redrawn]


def make_splits(
    table: ImageTable, *, folds: int = 5, test_fraction: float = 0.2, seed: int = 0, repeats: int = 1
) -> Splits:
    """Split a table into a test set and cross-validation folds, stratified by class and without dividing groups.

    Rows with the split ``test`` form the test set; if there are none, it is drawn at random. All other rows are assigned
    to the folds; those that the table gives are used as they are. Of several random divisions the best balanced one is used; if a rare class is missing in a part, a
    small group with that class is moved there. In a multi-label table an image counts for each of its labels.

    Args:
        table: N images.
        folds: number of folds, at least 2.
        test_fraction: approximate fraction of the images in the test set, in (0, 0.5], if it is not given.
        seed: of the random divisions, at least 0.
        repeats: of the cross-validation, at least 1: each has its own folds of the one training set, if none are given.

    Returns:
        The part and the fold of each image; the same on every machine for the same table and seed.

    Raises:
        UsageError: fewer than 2 folds, a fraction outside (0, 0.5], or a negative seed.
        DataError: a class has too few groups for the folds and, unless it is given, the test set.

    Example:
        >>> splits = make_splits(read_images("demo"), folds=5, seed=0)
        >>> held_out = splits.fold == 0
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
    drawn = [given_folds(table, test, folds)] * repeats if has_given_folds(table) else []
    for repeat in range(len(drawn), repeats):
        fold = np.full(len(table), -1, dtype=np.int64)
        fold[~test] = _draw_folds(table.take(~test), folds, seed, repeat)
        drawn.append(fold)
    part = np.where(test, "test", "train").astype(np.str_)
    fingerprint = _sha256(_to_csv(table.images, part, drawn[0]))
    return Splits(table.images, part, drawn[0], folds, seed, given, fingerprint, tuple(drawn[1:]))


def save_splits(splits: Splits, path: Path) -> None:
    """Write a CSV (image, part, fold, and a column per redrawn fold) atomically, and read-only: it must not be edited.

    Raises:
        TametailError: it cannot be written.
    """
    with explain_save_error(path), atomic_path(path) as temporary:
        temporary.write_bytes(_to_csv(splits.image, splits.part, splits.fold, *splits.redrawn))
        temporary.chmod(0o444)


def load_splits(
    path: Path, *, folds: int, seed: int, given: bool, fingerprint: str, redrawn: Sequence[str] = ()
) -> Splits:
    """Read the CSV of `save_splits`.

    Args:
        path: of the CSV.
        folds, seed, given, fingerprint: see `Splits`.
        redrawn: the `Splits.redrawn_fingerprints` that are needed; the file may hold more.

    Raises:
        DataError: the file is absent, or has other fingerprints.
    """
    try:
        data = regular(path).read_bytes()
    except OSError as error:
        raise DataError(f"expected the splits of the study at {path} ({error.strerror or error})") from error
    try:
        rows = list(csv.DictReader(io.StringIO(data.decode("utf-8"), newline="")))
        image, part = (np.array([row[name] for row in rows], dtype=np.str_) for name in ("image", "part"))
        columns = ["fold", *(_redrawn_name(number) for number in range(1, len(redrawn) + 1))]
        first, *others = (np.array([row[name] for row in rows], dtype=np.int64) for name in columns)
    except (ValueError, KeyError, TypeError, csv.Error):
        image = part = np.array([], dtype=np.str_)
        first, others = np.array([], dtype=np.int64), []
    splits = Splits(image, part, first, folds, seed, given, fingerprint, tuple(others))
    if _sha256(_to_csv(image, part, first)) != fingerprint or splits.redrawn_fingerprints != list(redrawn):
        raise DataError(
            f"{path} is not the file the study was started with: its fingerprint differs. Results of other splits cannot "
            f"be compared; restore the file, or start a new study in another folder"
        )
    return splits


def _redrawn_name(repeat: int) -> str:
    return f"fold_repeat{repeat}"


def _to_csv(image: TextArray, part: TextArray, fold: IntArray, *redrawn: IntArray) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("image", "part", "fold", *(_redrawn_name(at) for at in range(1, len(redrawn) + 1))))
    columns = (image, part, fold, *redrawn)
    writer.writerows(zip(*(column.tolist() for column in columns), strict=True))
    return text.getvalue().encode("utf-8")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _given_test(table: ImageTable) -> BoolArray:
    return np.asarray(table.frame["split"].to_numpy() == "test")


def check_folds(table: ImageTable, folds: int) -> None:
    """Check that every class has a group for each fold, and one more for a test set that is not given.

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
    by_class, group = zip(table.class_names, table.labels.T, strict=True), table.groups
    counts = {name: len(np.unique(group[rows])) for name, rows in by_class}
    short = {name: groups for name, groups in counts.items() if groups < folds + reserved}
    if not short:
        return
    listed = ", ".join(f"{name!r} has {groups}" for name, groups in short.items())
    most = min(short.values()) - reserved
    add = "add images, or merge the class with another one or remove it"
    advice = f"use at most {most} folds" if most >= 2 else add
    where = "outside the given test set" if given else "(one for the test set, one for each fold)"
    raise DataError(
        f"expected every class to have at least {folds + reserved} groups {where} for {folds} folds, but {listed}; {advice}"
    )


def _draw_test(table: ImageTable, folds: int, fraction: float, seed: int) -> BoolArray:
    """(N,) mask of the test set: the part nearest to its share of every class."""
    groups = _Groups(table)
    minimum = np.array([[folds], [1]]).repeat(len(table.class_names), axis=1)
    if table.multi_label:
        share = np.array([1 - fraction, fraction])
        candidates = groups.label_divisions(share, seed, _TEST_SET)
    else:
        # The union of some parts of a finer division, as the test set is a simple fraction near the given one.
        # scikit-learn makes at most as many parts as there are groups, and images in the largest class.
        parts = min(max(10, round(1 / fraction)), groups.count, max(table.counts().values()))
        simple = Fraction(fraction).limit_denominator(parts) or Fraction(1, parts)
        share = np.array([1 - float(simple), float(simple)])
        candidates = [
            np.isin(division, chosen).astype(np.int64)
            for division in groups.class_divisions(simple.denominator, seed, _TEST_SET)
            for chosen in combinations(range(simple.denominator), simple.numerator)
        ]
    sides = best_partition(candidates, groups.strata, minimum, share, table.class_names)
    return np.asarray(sides[groups.member] == 1)


def _draw_folds(table: ImageTable, folds: int, seed: int, repeat: int) -> IntArray:
    """(N,) fold of each image in a repeat."""
    groups = _Groups(table)
    minimum, share = np.ones((folds, len(table.class_names)), dtype=np.int64), np.full(folds, 1 / folds)
    if table.multi_label:
        candidates = groups.label_divisions(share, seed, _FOLDS, repeat)
    else:
        candidates = list(groups.class_divisions(folds, seed, _FOLDS, repeat))
    return best_partition(candidates, groups.strata, minimum, share, table.class_names)[groups.member]


def _entropy(seed: int, stream: int, attempt: int, repeat: int) -> list[int]:
    """What determines a random division; the first repeat is that of a single cross-validation."""
    return [seed, stream, attempt, *([repeat] if repeat else [])]


class _Groups:
    """The groups of a table: their number, the group of each image (N,), and the images of each by stratum (G, K)."""

    def __init__(self, table: ImageTable) -> None:
        self._table = table
        _, self._first, member = np.unique(table.groups, return_index=True, return_inverse=True)
        self.count, self.member = len(self._first), member.astype(np.int64)
        self._attempts = min(_ATTEMPTS, max(1, _MANY // self.count))
        self.strata = images_by_group(self.member, label_strata(table))

    def label_divisions(self, share: FloatArray, seed: int, stream: int, repeat: int = 0) -> list[IntArray]:
        """(G,) part of each group of a multi-label table, by iterative stratification, from a few seeds."""
        return [
            stratify_labels(
                self.strata, share, np.random.default_rng(_entropy(seed, stream, attempt, repeat))
            )
            for attempt in range(self._attempts)
        ]

    def class_divisions(self, parts: int, seed: int, stream: int, repeat: int = 0) -> Iterator[IntArray]:
        """(G,) part of each group, by scikit-learn, from a few seeds derived from one."""
        from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

        target, group = self._table.targets, self.member
        splitter = StratifiedKFold if self.count == len(group) else StratifiedGroupKFold
        for attempt in range(self._attempts):
            sequence = np.random.SeedSequence(_entropy(seed, stream, attempt, repeat))
            # The order of the rows determines where scikit-learn puts the remaining members of each class.
            order = np.random.default_rng(sequence).permutation(len(target))
            divide = splitter(n_splits=parts, shuffle=True, random_state=int(sequence.generate_state(1)[0]))
            division = np.zeros(len(target), dtype=np.int64)
            with warnings.catch_warnings():
                # About classes smaller than the number of parts, which `best_partition` handles.
                warnings.simplefilter("ignore", UserWarning)
                for part, (_, held) in enumerate(divide.split(order, target[order], group[order])):
                    division[order[held]] = part
            yield division[self._first]

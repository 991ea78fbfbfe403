"""Hold-out and k folds: stratified, group-aware, a function of the table and the seed alone.

Legend: N images, C classes, G groups, P parts (the folds, or the two sides of the hold-out).
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tametail.data.table import ImageTable
from tametail.errors import DataError, TametailError, UsageError

# Divisions are made from up to 5 seeds, of which the best balanced is taken; many groups balance at once.
_ATTEMPTS, _MANY = 5, 20_000
_MENDED = 20  # candidates tried before a division is called impossible
_HOLD_OUT, _FOLDS = range(2)  # independent random streams of one seed

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Splits:
    """Which images are held out for the test, and in which fold each of the others lies.

    Attributes:
        image: (N,) image ids, sorted.
        part: (N,) ``train`` or ``test``.
        fold: (N,) fold in which the image is held out, 0 to folds - 1; -1 on the test part.
        folds, seed: what they were made with.
        given: the test part came with the table.
        fingerprint: SHA-256 hex digest of the saved CSV.
    """

    image: NDArray[np.str_]
    part: NDArray[np.str_]
    fold: Ints
    folds: int
    seed: int
    given: bool
    fingerprint: str


def make_splits(table: ImageTable, *, folds: int = 5, test_fraction: float = 0.2, seed: int = 0) -> Splits:
    """Hold a test part out and divide the rest into folds; no group is divided, every class is everywhere.

    Rows of the table that are given as ``test`` are the test part, and all its other rows go to the folds. Without
    any, a part near ``test_fraction`` is drawn. Of several drawn divisions the best balanced is taken; where a rare
    class is still missing somewhere, a small group that holds it is moved there.

    Raises:
        UsageError: fewer than 2 folds, a fraction outside (0, 0.5], or a negative seed.
        DataError: a class has too few groups for the folds, and for the test part where that is drawn.
    """
    if not 0 < test_fraction <= 0.5:
        raise UsageError(f"expected a test fraction above 0 and up to 0.5, got {test_fraction}")
    if seed < 0:
        raise UsageError(f"expected a seed of 0 or more, got {seed}")
    check_folds(table, folds)
    test = _given_test(table)
    given = bool(test.any())
    target = table.targets
    group = np.unique(table.groups, return_inverse=True)[1].astype(np.int64)
    if not given:
        test = _draw_test(target, group, folds, test_fraction, seed, table.class_names)
    fold = np.full(len(table), -1, dtype=np.int64)
    fold[~test] = _draw_folds(target[~test], group[~test], folds, seed, table.class_names)
    part = np.where(test, "test", "train").astype(np.str_)
    fingerprint = _sha256(_to_csv(table.images, part, fold))
    return Splits(table.images, part, fold, folds, seed, given, fingerprint)


def save_splits(splits: Splits, path: Path) -> None:
    """Write a CSV (image, part, fold) that is there wholly or not at all, and read-only: it is not to be edited.

    Raises:
        TametailError: it cannot be written.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        temporary.write_bytes(_to_csv(splits.image, splits.part, splits.fold))
        temporary.chmod(0o444)
        os.replace(temporary, path)
    except OSError as error:
        raise TametailError(f"the splits cannot be written to {path} ({error.strerror or error})") from error


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


def _to_csv(image: NDArray[np.str_], part: NDArray[np.str_], fold: Ints) -> bytes:
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
    """Refuse more folds than a class has groups for: one in each, and one more for a test part yet to be drawn.

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
    pairs = set(zip(table.frame["label"], table.frame["group"], strict=True))
    short = {name: sum(label == name for label, _ in pairs) for name in table.class_names}
    short = {name: groups for name, groups in short.items() if groups < folds + reserved}
    if not short:
        return
    listed = ", ".join(f"{name!r} has {groups}" for name, groups in short.items())
    most = min(short.values()) - reserved
    advice = (
        f"use at most {most} folds"
        if most >= 2
        else "add images, or join it with another class or leave it out"
    )
    where = "outside the given test part" if given else "(one for the test part, one for each fold)"
    raise DataError(
        f"expected every class to have at least {folds + reserved} groups {where} for {folds} folds, but {listed}; {advice}"
    )


def _draw_test(
    target: Ints, group: Ints, folds: int, fraction: float, seed: int, names: tuple[str, ...]
) -> NDArray[np.bool_]:
    """(N,) mask of the hold-out: some parts of a finer division, together nearest to their share of every class."""
    # scikit-learn makes no more parts than there are groups, or images in the largest class.
    share = _share(fraction, min(len(np.unique(group)), int(np.bincount(target).max())))
    candidates = [
        np.isin(division, chosen).astype(np.int64)
        for division in _divisions(target, group, share.denominator, seed, _HOLD_OUT)
        for chosen in combinations(range(share.denominator), share.numerator)
    ]
    minimum = np.array([[folds], [1]]).repeat(len(names), axis=1)
    sides = _best(candidates, target, group, minimum, np.array([1 - float(share), float(share)]), names)
    return np.asarray(sides == 1)


def _share(fraction: float, parts: int) -> Fraction:
    """A simple fraction near the wanted one, of at most ``parts`` parts."""
    most = min(max(10, round(1 / fraction)), parts)
    return Fraction(fraction).limit_denominator(most) or Fraction(1, most)


def _draw_folds(target: Ints, group: Ints, folds: int, seed: int, names: tuple[str, ...]) -> Ints:
    candidates = list(_divisions(target, group, folds, seed, _FOLDS))
    minimum = np.ones((folds, len(names)), dtype=np.int64)
    return _best(candidates, target, group, minimum, np.full(folds, 1 / folds), names)


def _divisions(target: Ints, group: Ints, parts: int, seed: int, stream: int) -> Iterator[Ints]:
    """(N,) part of each image, by scikit-learn, from a few seeds derived from one."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    groups = len(np.unique(group))
    splitter = StratifiedKFold if groups == len(group) else StratifiedGroupKFold
    for attempt in range(min(_ATTEMPTS, max(1, _MANY // groups))):
        sequence = np.random.SeedSequence([seed, stream, attempt])
        # The order of the rows decides where scikit-learn puts the odd members of each class.
        order = np.random.default_rng(sequence).permutation(len(target))
        divide = splitter(n_splits=parts, shuffle=True, random_state=int(sequence.generate_state(1)[0]))
        division = np.zeros(len(target), dtype=np.int64)
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", UserWarning
            )  # classes smaller than the number of parts: `_best` sees to them
            for part, (_, held) in enumerate(divide.split(order, target[order], group[order])):
                division[order[held]] = part
        yield division


def _best(
    candidates: list[Ints],
    target: Ints,
    group: Ints,
    minimum: Ints,
    share: NDArray[np.float64],
    names: tuple[str, ...],
) -> Ints:
    """The candidate (N,) with the fewest missing groups, and of these the best balanced; mended if need be.

    Args:
        minimum: (P, C) groups of each class that each part must have.
        share: (P,) fraction of all images that each part should have.

    Raises:
        DataError: no candidate can be mended, as groups of several classes can stand in each other's way.
    """
    _, first, member = np.unique(group, return_index=True, return_inverse=True)
    images = np.zeros((len(first), len(names)), dtype=np.int64)  # (G, C)
    np.add.at(images, (member, target), 1)
    parts = [candidate[first] for candidate in candidates]
    scores = [(_missing(part, images, minimum).sum(), _imbalance(part, images, share)) for part in parts]
    for best in sorted(range(len(scores)), key=scores.__getitem__)[:_MENDED]:
        part = _mend(parts[best], images, minimum, share)
        if not _missing(part, images, minimum).any():
            return np.asarray(part[member], dtype=np.int64)
    lacking = np.flatnonzero(_missing(part, images, minimum).sum(axis=0))
    listed = ", ".join(repr(names[c]) for c in lacking)
    raise DataError(
        f"the groups of {listed} cannot be spread over the test part and every fold, as they hold images of other "
        f"classes too; use fewer folds, or check the group column"
    )


def _mend(part: Ints, images: Ints, minimum: Ints, share: NDArray[np.float64]) -> Ints:
    """Move groups, (G,) by (G,), to where their class is missing, as long as that leaves less missing than before."""
    part = part.copy()
    while (missing := _missing(part, images, minimum)).any():
        trials = []
        for to, c in np.argwhere(missing):
            for g in np.flatnonzero((images[:, c] > 0) & (part != to)):
                trial = part.copy()
                trial[g] = to
                trials.append(
                    (_missing(trial, images, minimum).sum(), _imbalance(trial, images, share), g, to)
                )
        if not trials or min(trials)[0] >= missing.sum():
            break
        _, _, g, to = min(trials)
        part[g] = to
    return part


def _missing(part: Ints, images: Ints, minimum: Ints) -> Ints:
    """(P, C) groups of each class that each part still lacks."""
    have = np.zeros_like(minimum)
    np.add.at(have, part, (images > 0).astype(np.int64))
    return np.asarray(np.maximum(minimum - have, 0), dtype=np.int64)


def _imbalance(part: Ints, images: Ints, share: NDArray[np.float64]) -> float:
    """Chi-square distance of the parts from their shares of each class and of all images."""
    counts = np.zeros((len(share), images.shape[1]), dtype=np.int64)
    np.add.at(counts, part, images)
    counts = np.column_stack([counts, counts.sum(axis=1)])
    expected = share[:, None] * counts.sum(axis=0)
    return float(((counts - expected) ** 2 / expected).sum())

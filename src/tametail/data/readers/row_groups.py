"""Several rows of one image, as of one per label, reader or box, joined into one.

Shape legend: R rows, N images.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tametail.core.errors import DataError
from tametail.core.text import counted, sample_of
from tametail.data.table import FOLD_COLUMN

if TYPE_CHECKING:
    import pandas as pd

JoinRows = Literal["no", "union", "majority"]
_SINGLE = ("group", "split", FOLD_COLUMN)  # columns in which the rows of an image must agree


@dataclass(frozen=True)
class JoinedRows:
    """N images, sorted by id.

    Attributes:
        frame: the columns of the rows; those in which rows of an image differ are empty for it.
        present, unknown: classes of each image.
        left_out: which rows and values were left out.
        notes: how rows were joined.
    """

    frame: pd.DataFrame
    present: tuple[frozenset[str], ...]
    unknown: tuple[frozenset[str], ...]
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def join_rows(
    frame: pd.DataFrame,
    present: Sequence[frozenset[str]],
    unknown: Sequence[frozenset[str]],
    readers: Sequence[str] | None,
    *,
    how: JoinRows,
    multi_label: bool,
    skip: bool,
    path: Path,
) -> JoinedRows:
    """Make one row of all rows of an image. Equal rows always count as one.

    Args:
        frame: R rows with the columns image, group, split and others.
        present, unknown: R sets of classes.
        readers: R readers, who have one vote each; None if every row is a vote.
        how: ``union`` gives an image all classes of its rows; ``majority`` those of more than half of its readers that know;
            ``no`` refuses images with several different rows.
        multi_label: whether an image may have several classes. Otherwise ``majority`` chooses the most frequent one.
        skip: leave out images without a majority instead of refusing them.

    Raises:
        DataError: rows differ in group or split, or in their classes, as far as ``how`` does not resolve it.
    """
    rows: dict[str, list[int]] = defaultdict(list)
    for row, image in enumerate(frame["image"]):
        rows[image].append(row)
    several = {image: of_image for image, of_image in rows.items() if len(of_image) > 1}
    if not several:
        return JoinedRows(frame, tuple(present), tuple(unknown))
    columns: dict[str, list[object]] = {
        str(name): frame[name].astype(object).where(frame[name].notna(), None).tolist() for name in frame
    }
    differing = {
        image: found
        for image, of_image in several.items()
        if (found := _differing(columns, present, unknown, of_image))
    }
    if how == "no" and differing:
        raise DataError(_refusal(differing, path, multi_label=multi_label))
    if wrong := [image for image, names in differing.items() if set(names) & set(_SINGLE)]:
        names = sorted(set(_SINGLE) & {name for image in wrong for name in differing[image]})
        raise DataError(
            f"{len(wrong)} images of {path} have rows that differ in {', '.join(names)} ({sample_of(wrong)}); "
            f"give all rows of an image the same"
        )
    kept, positives, unsure, undecided = [], [], [], []
    for image, of_image in rows.items():
        positive, open_ = _joined(of_image, present, unknown, readers, how=how, multi_label=multi_label)
        if not multi_label and len(positive) != 1:
            undecided.append(image)
            continue
        kept.append(image)
        positives.append(positive)
        unsure.append(open_)
    if undecided and not (skip and how == "majority"):
        advice = (
            "--join-rows majority, or --multi-label" if how == "union" else "--missing skip leaves them out"
        )
        raise DataError(
            f"{len(undecided)} images of {path} have rows with several labels and "
            f"{'one label is expected' if how == 'union' else 'no most frequent one'} ({sample_of(undecided)}); {advice}"
        )
    joined = frame.iloc[[rows[image][0] for image in kept]].reset_index(drop=True)
    for name in frame:
        if empty := {image for image, names in differing.items() if name in names}:
            joined[name] = joined[name].mask(joined["image"].isin(empty))
    left_out = _left_out(several, differing, undecided)
    notes = _notes(rows, differing, readers, how)
    return JoinedRows(joined, tuple(positives), tuple(unsure), left_out, notes)


def _differing(
    columns: dict[str, list[object]],
    present: Sequence[frozenset[str]],
    unknown: Sequence[frozenset[str]],
    rows: Sequence[int],
) -> list[str]:
    found = [name for name, values in columns.items() if len({repr(values[row]) for row in rows}) > 1]
    return [*(["label"] if len({(present[row], unknown[row]) for row in rows}) > 1 else []), *found]


def _joined(
    rows: Sequence[int],
    present: Sequence[frozenset[str]],
    unknown: Sequence[frozenset[str]],
    readers: Sequence[str] | None,
    *,
    how: JoinRows,
    multi_label: bool,
) -> tuple[frozenset[str], frozenset[str]]:
    """Classes of one image, and those that remain unknown."""
    votes: dict[object, tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
    for row in rows:
        positive, open_ = votes[row if readers is None else readers[row]]
        positive |= present[row]
        open_ |= unknown[row]
    positives = Counter(name for positive, _ in votes.values() for name in positive)
    unsure = Counter(name for positive, open_ in votes.values() for name in open_ - positive)
    if how != "majority":
        return frozenset(positives), frozenset(unsure) - frozenset(positives)
    if not multi_label:
        most = max(positives.values(), default=0)
        return frozenset(name for name, count in positives.items() if count == most), frozenset()
    known = {name: len(votes) - unsure[name] for name in {*positives, *unsure}}
    return (
        frozenset(name for name, count in positives.items() if 2 * count > known[name]),
        frozenset(name for name, count in known.items() if not count),
    )


def _refusal(differing: dict[str, list[str]], path: Path, *, multi_label: bool) -> str:
    images = sorted(differing)
    in_label = any("label" in names for names in differing.values())
    if in_label and not multi_label:
        advice = "--multi-label --join-rows union for several labels per image, or --join-rows majority for the most frequent one"
    elif in_label:
        advice = "--join-rows union for all labels of an image, or --join-rows majority (with --reader-col) for those most agree on"
    else:
        advice = "--join-rows union"
    return (
        f"{len(images)} images are listed in {path} more than once with different values ({sample_of(images)}; the first "
        f"differs in {', '.join(differing[images[0]])}); keep one row per image, or join them with {advice}"
    )


def _left_out(
    several: dict[str, list[int]], differing: dict[str, list[str]], undecided: Sequence[str]
) -> tuple[str, ...]:
    repeated = sum(len(of_image) - 1 for image, of_image in several.items() if image not in differing)
    emptied = sorted({name for names in differing.values() for name in names} - {"label"})
    texts = (
        counted(repeated, "repeated row") if repeated else "",
        f"values of {sample_of(emptied, most=8)} where the rows of an image differ" if emptied else "",
        f"{counted(len(undecided), 'image')} without a most frequent label" if undecided else "",
    )
    return tuple(filter(None, texts))


def _notes(
    rows: dict[str, list[int]], differing: dict[str, list[str]], readers: Sequence[str] | None, how: JoinRows
) -> tuple[str, ...]:
    if not differing:
        return ()
    joined = sum(len(rows[image]) for image in differing)
    votes = f" of the {'rows' if readers is None else 'readers'}" if how == "majority" else ""
    return (f"{joined:,} rows of {counted(len(differing), 'image')} joined: {how}{votes} for each label",)

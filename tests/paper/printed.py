"""The paper's tables as printed, and what whole numbers of images could stand behind a printed number.

A column of a table gives each class its recall in percent (the paper's "Acc") and its F1. With n test images of the
class, k of them found and p images given that label, recall is k / n and F1 is 2k / (n + p), with k <= p.
"""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor
from typing import NamedTuple

from tametail.reproduce.printed import APTOS_TRAIN, printed_facts

_FACTS = printed_facts()
DATASETS = _FACTS["datasets"]
TABLES = _FACTS["tables"]


class Cell(NamedTuple):
    """One class in one column: the two numbers as printed, and the class's test images."""

    table: str
    column: str
    label: str
    recall: str
    f1: str
    n: int


def train_images(dataset: str) -> dict[str, int]:
    """Training images by class."""
    if dataset == "APTOS2019":
        return dict(APTOS_TRAIN)
    return {label: row["train"] for label, row in DATASETS[dataset]["classes"].items()}


def held_out_images(dataset: str) -> dict[str, int]:
    """Test images by class: the whole public set without the training images."""
    train = train_images(dataset)
    return {label: row["total"] - train[label] for label, row in DATASETS[dataset]["classes"].items()}


def cells(table: str, column: str) -> list[Cell]:
    """A column from top to bottom."""
    facts = TABLES[table]
    n, at = held_out_images(facts["dataset"]), facts["columns"].index(column)
    return [
        Cell(table, column, label, *row[at].split(), n[label]) for label, row in facts["recall_f1"].items()
    ]


def columns() -> list[tuple[str, str]]:
    """All (table, column)."""
    return [(table, column) for table, facts in TABLES.items() for column in facts["columns"]]


def agrees(exact: Fraction, printed: str) -> bool:
    """Whether a number rounds to the printed one; a half may go either way."""
    return abs(exact - Fraction(printed)) <= half_unit(printed)


def half_unit(printed: str) -> Fraction:
    """Half of the last printed place."""
    return Fraction(1, 2 * 10 ** len(printed.partition(".")[2]))


def found(recall: str, n: int) -> range:
    """The k whose recall rounds to the printed percentage."""
    low, high = (n * (Fraction(recall) + sign * half_unit(recall)) / 100 for sign in (-1, 1))
    return range(max(ceil(low), 0), min(floor(high), n) + 1)


def given(k: int, f1: str, n: int, images: int) -> range:
    """The p, of a test part of that many images, whose F1 rounds to the printed one."""
    possible = range(k, k + images - n + 1)
    low, high = (Fraction(f1) + sign * half_unit(f1) for sign in (-1, 1))
    if k == 0:  # F1 is 0 whatever p is
        return possible if low <= 0 else range(0)
    last = floor(2 * k / low) - n if low > 0 else possible[-1]
    return range(max(k, ceil(2 * k / high) - n), min(last, possible[-1]) + 1)


def balanced_accuracy(table: str, column: str, *, without: str | None = None) -> Fraction:
    """The mean of a column's printed recalls, in percent."""
    recalls = [Fraction(cell.recall) for cell in cells(table, column) if cell.label != without]
    return sum(recalls, Fraction(0)) / len(recalls)

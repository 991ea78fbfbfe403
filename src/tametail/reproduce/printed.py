"""The paper's Tables 2 to 5 as printed, with the images that stand behind each class."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

APTOS_TRAIN = {"No DR": 1454, "Mild": 302, "Moderate": 786, "Severe": 157, "Proliferative DR": 230}
"""The paper sorts APTOS's training counts by size; this is whose they are (docs/paper.md)."""


@dataclass(frozen=True)
class PrintedSet:
    """A data set of the paper.

    Attributes:
        samples: images in all.
        train: images per class in the training set; for APTOS beside the classes that they belong to.
        total: images per class in the public set.
    """

    samples: int
    train: Mapping[str, int]
    total: Mapping[str, int]

    @property
    def test(self) -> dict[str, int]:
        """Images per class in the test set: the whole set without the training images."""
        return {name: self.total[name] - count for name, count in self.train.items()}

    @property
    def imbalance_ratio(self) -> float:
        """Images of the largest class per image of the smallest, in the whole set."""
        return max(self.total.values()) / min(self.total.values())


@dataclass(frozen=True)
class PrintedTable:
    """One table. Numbers are text, as their decimals say how they were rounded.

    Attributes:
        number: ``"2"`` to ``"5"``.
        images: the data set.
        columns: the methods, from left to right.
        classes: from top to bottom.
        recall: (column, class) → percent; the paper's "Acc".
        f1: (column, class) → F1 in 0..1.
        balanced_accuracy: column → share in 0..1; Table 2 prints none.
    """

    number: str
    images: PrintedSet
    columns: tuple[str, ...]
    classes: tuple[str, ...]
    recall: Mapping[tuple[str, str], str]
    f1: Mapping[tuple[str, str], str]
    balanced_accuracy: Mapping[str, str]

    def mean_recall(self, column: str) -> float:
        """The balanced accuracy, in 0..1, that the recalls of a column give."""
        return sum(float(self.recall[column, name]) for name in self.classes) / len(self.classes) / 100


def printed_facts() -> dict[str, Any]:
    """The content of tables.json, as printed: APTOS's training counts stand beside the wrong classes there."""
    text = (resources.files("tametail.reproduce") / "tables.json").read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


def printed_table(number: str) -> PrintedTable:
    """One of the tables ``"2"`` to ``"5"``."""
    facts = printed_facts()
    table = facts["tables"][number]
    described = facts["datasets"][table["dataset"]]
    train = {name: row["train"] for name, row in described["classes"].items()}
    if table["dataset"] == "APTOS2019":
        train = dict(APTOS_TRAIN)
    total = {name: row["total"] for name, row in described["classes"].items()}
    cells = {
        (column, name): cell.split()
        for name, row in table["recall_f1"].items()
        for column, cell in zip(table["columns"], row, strict=True)
    }
    return PrintedTable(
        number=number,
        images=PrintedSet(described["samples"], train, total),
        columns=tuple(table["columns"]),
        classes=tuple(table["recall_f1"]),
        recall={key: recall for key, (recall, _) in cells.items()},
        f1={key: f1 for key, (_, f1) in cells.items()},
        balanced_accuracy=dict(zip(table["columns"], table["balanced_accuracy"], strict=False)),
    )

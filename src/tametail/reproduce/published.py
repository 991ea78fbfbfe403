"""The paper's Tables 2 to 5 as published, with the number of images of each class."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

APTOS_TRAIN = {"No DR": 1454, "Mild": 302, "Moderate": 786, "Severe": 157, "Proliferative DR": 230}
"""Training images of APTOS 2019, which the paper sorts by size, by their class (docs/paper.md)."""


@dataclass(frozen=True)
class PublishedSet:
    """A data set of the paper.

    Attributes:
        samples: number of images.
        train: images per class in the training set; for APTOS by the classes they belong to.
        total: images per class in the public set.
    """

    samples: int
    train: Mapping[str, int]
    total: Mapping[str, int]

    @property
    def test(self) -> dict[str, int]:
        """Images per class in the test set: the public set without the training images."""
        return {name: self.total[name] - count for name, count in self.train.items()}

    @property
    def imbalance_ratio(self) -> float:
        """Images of the largest class per image of the smallest, in the public set."""
        return max(self.total.values()) / min(self.total.values())


@dataclass(frozen=True)
class PublishedTable:
    """One table, with numbers as text to preserve their rounding.

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
    images: PublishedSet
    columns: tuple[str, ...]
    classes: tuple[str, ...]
    recall: Mapping[tuple[str, str], str]
    f1: Mapping[tuple[str, str], str]
    balanced_accuracy: Mapping[str, str]

    def mean_recall(self, column: str) -> float:
        """The balanced accuracy in 0..1 computed from the recalls of a column."""
        return sum(float(self.recall[column, name]) for name in self.classes) / len(self.classes) / 100


def published_facts() -> dict[str, Any]:
    """The content of tables.json, as published: there, APTOS's training counts are assigned to the wrong classes."""
    text = (resources.files("tametail.reproduce") / "tables.json").read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


def published_table(number: str) -> PublishedTable:
    """One of the tables ``"2"`` to ``"5"``."""
    facts = published_facts()
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
    return PublishedTable(
        number=number,
        images=PublishedSet(described["samples"], train, total),
        columns=tuple(table["columns"]),
        classes=tuple(table["recall_f1"]),
        recall={key: recall for key, (recall, _) in cells.items()},
        f1={key: f1 for key, (_, f1) in cells.items()},
        balanced_accuracy=dict(zip(table["columns"], table["balanced_accuracy"], strict=False)),
    )

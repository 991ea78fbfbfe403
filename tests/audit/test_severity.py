"""Duplicates are unsafe by the share of images that they touch, of all, of the test set, or of the classes on average."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tametail.audit import ImageStats
from tametail.audit.duplicates import Duplicates
from tametail.audit.finding import Finding
from tametail.audit.image_checks import check_images
from tametail.audit.image_stats import FileStats
from tametail.data import ImageTable

Pairs = list[tuple[int, int]]


def _table(counts: dict[str, int], tested: int = 0) -> ImageTable:
    """Images of classes one after the other, each a group of its own; the first of them are the test set."""
    labels = [name for name, count in counts.items() for _ in range(count)]
    rows = range(len(labels))
    frame = pd.DataFrame(
        {
            "image": [f"{row:05}.png" for row in rows],
            "label": labels,
            "group": [f"p{row}" for row in rows],
            "split": [("test" if row < tested else "train") if tested else "" for row in rows],
        },
        dtype=object,
    )
    return ImageTable(frame, Path(), tuple(sorted(counts)), "t")


def _findings(table: ImageTable, near: Pairs) -> dict[str, Finding]:
    stats = ImageStats(
        [FileStats(kind="PNG", width=64, height=64, std=9)] * len(table),
        np.zeros((len(table), 64, 64), np.uint8),
    )
    found = Duplicates((), tuple(near), tuple(near))
    return {finding.code: finding for finding in check_images(table, stats, found)}


BALANCED = {"a": 756, "b": 756}


@pytest.mark.parametrize(
    ("counts", "near", "severity"),
    [
        (BALANCED, [(0, 1)], "warning"),
        (BALANCED, [(row, row + 100) for row in range(7)], "warning"),  # 14 of 1,512
        (BALANCED, [(row, row + 100) for row in range(8)], "unsafe"),  # 16 of 1,512
        ({"a": 20, "b": 20}, [(0, 1)], "unsafe"),  # 2 of 40
        ({"a": 1500, "b": 12}, [(1500, 1501)], "warning"),  # one pair, though of a rare class
        ({"a": 1500, "b": 12}, [(1500, 1501), (1502, 1503)], "unsafe"),  # a sixth of the mean of the classes
    ],
)
def test_across_groups(counts: dict[str, int], near: Pairs, severity: str) -> None:
    finding = _findings(_table(counts), near)["duplicates_cross_groups"]
    assert finding.severity == severity
    assert len(finding.affected) == len(near)


def test_the_message_has_the_share() -> None:
    message = _findings(_table(BALANCED), [(0, 1)])["duplicates_cross_groups"].message
    assert "1 set" in message
    assert "2 of 1,512 images, 0.13 %" in message


@pytest.mark.parametrize(("crossing", "severity"), [(1, "warning"), (2, "unsafe")])
def test_across_a_given_split_the_test_set_counts(crossing: int, severity: str) -> None:
    table = _table(BALANCED, tested=300)
    near = [(row, row + 400) for row in range(crossing)]
    finding = _findings(table, near)["duplicates_cross_split"]
    assert finding.severity == severity
    assert f"{crossing} of 300 images" in finding.message
    assert "duplicates_cross_split" not in _findings(table, [(0, 1), (400, 401)]), "within one side"


def test_changed_copies_are_listed_with_the_change() -> None:
    table = _table(BALANCED)
    stats = ImageStats(
        [FileStats(kind="PNG", width=64, height=64, std=9)] * len(table),
        np.zeros((len(table), 64, 64), np.uint8),
    )
    changed = ((0, 1), (2, 800))
    found = Duplicates((), (), changed, changed=changed, changes=("mirrored", "cropped"))
    finding = next(one for one in check_images(table, stats, found) if one.code == "changed_copies")
    assert (finding.severity, len(finding.affected)) == ("note", 2)
    assert "1 mirrored, 1 cropped" in finding.message
    assert finding.details == ("mirrored; a", "cropped; a, b")

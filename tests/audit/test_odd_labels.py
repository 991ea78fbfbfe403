"""Labels that stand for a missing one, and classes that are the union of the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tametail.audit import Finding
from tametail.audit.table_checks import check_table
from tametail.data import ImageTable


def found(labels: list[str], *, multi_label: bool = False) -> dict[str, Finding]:
    images = [f"{number:03}.png" for number in range(len(labels))]
    frame = pd.DataFrame({"image": images, "label": labels}, dtype=object)
    table = ImageTable.from_frame(frame, Path(), "drawn", multi_label=multi_label)
    return {finding.code: finding for finding in check_table(table, 2)}


@pytest.mark.parametrize("name", ["unknown", "Unknown", "?", "-1", "-1.0", "TBD", "null", "N/A", "missing"])
def test_the_place_of_a_missing_label_is_a_finding(name: str) -> None:
    finding = found(["nevus", "melanoma", name] * 40)["placeholder_labels"]
    assert finding.severity == "warning"
    assert finding.affected == ((name,),)
    assert f"{name!r} (40 images)" in finding.message


@pytest.mark.parametrize("names", [["-1", "1"], ["none", "mild"], ["normal", "other"], ["0", "1", "2"]])
def test_names_of_real_classes_are_not(names: list[str]) -> None:
    assert "placeholder_labels" not in found(names * 40)


def bleeding(union: bool) -> list[str]:
    """As in RSNA's haemorrhages: five kinds, some images with none, and a column for any of them."""
    rng = np.random.default_rng(0)
    kinds = ["epidural", "subdural", "subarachnoid"]
    drawn = [[kind for kind in kinds if rng.random() < 0.3] for _ in range(200)]
    drawn[0], drawn[1] = kinds[:1], []
    return ["|".join(sorted([*some, *(["any"] if bool(some) == union else [])])) for some in drawn]


def test_a_class_that_is_the_union_of_the_others_is_a_finding() -> None:
    finding = found(bleeding(union=True), multi_label=True)["union_classes"]
    assert (finding.severity, finding.affected) == ("warning", (("any",),))


def test_a_complement_or_two_equal_classes_are_no_union() -> None:
    assert "union_classes" not in found(bleeding(union=False), multi_label=True)
    assert "union_classes" not in found(["a|b", "", "a|b", "c"] * 30, multi_label=True)
    assert "union_classes" not in found(
        ["a|b", "a|b|c", ""] * 30, multi_label=True
    )  # a is b, not the union of several
    assert "union_classes" not in found(["a", "b", "c"] * 30)


def test_no_finding_together_with_a_finding_is_a_contradiction() -> None:
    labels = ["No Finding", "effusion", "effusion|mass", ""] * 20 + ["No Finding|mass", "No Finding|effusion"]
    finding = found(labels, multi_label=True)["contradicting_labels"]
    assert finding.severity == "warning"
    assert finding.message.startswith("2 images of 22 with 'No Finding'")
    assert len(finding.affected) == 2
    assert "contradicting_labels" not in found(labels[:-2], multi_label=True)
    assert "contradicting_labels" not in found(["normal", "mass"] * 30)

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tametail.core.errors import DataError, UsageError
from tametail.data import ImageTable
from tametail.external.class_mapping import map_classes, map_labels, read_mapping

OURS = ("bcc", "mel", "nv")


def make_table(labels: list[str], *, multi_label: bool = False) -> ImageTable:
    images = [f"{number:03}.png" for number in range(len(labels))]
    frame = pd.DataFrame({"image": images, "label": labels, "group": images, "split": "", "site": "x"})
    return ImageTable(frame, Path(), tuple(sorted(set(labels))), "other", multi_label=multi_label)


def test_labels_by_name_and_as_mapped() -> None:
    table = make_table(["nv", "melanoma", "Nevus", "nv", "melanoma"])
    found = map_classes(table, OURS, {"melanoma": "mel", "Nevus": "nv"})
    assert found.table.frame["label"].tolist() == ["nv", "mel", "nv", "nv", "mel"]
    assert found.table.class_names == OURS
    assert found.table.targets.tolist() == [2, 1, 2, 2, 1]
    assert found.renamed == {"melanoma": ("mel", 2), "Nevus": ("nv", 1)}
    assert found.absent == ("bcc",)
    assert found.dropped == {}


def test_unknown_labels_are_refused_or_dropped() -> None:
    table = make_table(["nv", "wart", "wart", "mel"])
    with pytest.raises(
        DataError, match=r"bcc, mel, nv\), found wart \(2 images\) too.*--map.*--drop-unknown"
    ):
        map_classes(table, OURS, {})
    found = map_classes(table, OURS, {}, drop_unknown=True)
    assert found.table.images.tolist() == ["000.png", "003.png"]
    assert found.dropped == {"wart": 2}
    with pytest.raises(DataError, match="found none"):
        map_classes(make_table(["x", "y"]), OURS, {}, drop_unknown=True)


def test_a_label_of_ours_may_be_mapped_away() -> None:
    found = map_classes(make_table(["nv", "mel"]), OURS, {"nv": "mel"})
    assert found.table.frame["label"].tolist() == ["mel", "mel"]


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"nevs": "nv"}, "label of the data.*did you mean nevus"),
        ({"nevus": "mell"}, "class of the study.*mel"),
    ],
)
def test_names_that_are_not_there(mapping: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        map_classes(make_table(["nevus", "mel"]), OURS, mapping)


def test_several_labels_are_refused() -> None:
    with pytest.raises(UsageError, match="one label each"):
        map_classes(make_table(["mel", "nv"], multi_label=True), OURS, {})


def test_pairs_are_read() -> None:
    assert read_mapping(["a=b", " c d = e ", "x=y=z"]) == {"a": "b", "c d": "e", "x=y": "z"}
    for text in ("a", "=b", "a="):
        with pytest.raises(UsageError, match="THEIRS=OURS"):
            read_mapping([text])
    with pytest.raises(UsageError, match="one class for 'a'"):
        read_mapping(["a=b", "a=c"])


def make_label_table(labels: list[str], unknown: list[str]) -> ImageTable:
    images = [f"{number:03}.png" for number in range(len(labels))]
    frame = pd.DataFrame(
        {"image": images, "label": labels, "group": images, "split": "", "unknown_labels": unknown}
    )
    return ImageTable.from_frame(frame, Path(), "other", multi_label=True)


def test_several_labels_become_ours_and_those_of_no_image_are_unknown() -> None:
    table = make_label_table(["a|b", "", "c", "b"], ["", "a|b", "a", ""])
    found = map_labels(table, ("mass", "nodule", "scar"), {"a": "mass", "b": "mass", "c": "scar"})
    # Of the second image neither is known, of the third one is unknown and the other absent: whether it has a mass is unknown.
    assert found.table.frame["label"].tolist() == ["mass", "", "scar", "mass"]
    assert found.table.unknown.tolist() == [
        [False, True, False],
        [True, True, False],
        [True, True, False],
        [False, True, False],
    ]
    assert found.unlabelled == ("nodule",)
    assert found.renamed == {"a": ("mass", 1), "b": ("mass", 2), "c": ("scar", 1)}


def test_other_labels_are_refused_or_dropped_but_their_images_stay() -> None:
    table = make_label_table(["mass|wart", "wart", "mass"], ["", "", ""])
    with pytest.raises(DataError, match=r"wart \(2 images\) too.*those labels out with --drop-unknown"):
        map_labels(table, ("mass", "scar"), {})
    found = map_labels(table, ("mass", "scar"), {}, drop_unknown=True)
    assert found.table.frame["label"].tolist() == ["mass", "", "mass"]
    assert found.dropped == {"wart": 2}
    with pytest.raises(DataError, match="found none"):
        map_labels(table, ("scar", "nodule"), {}, drop_unknown=True)
    with pytest.raises(UsageError, match="add --multi-label"):
        map_labels(make_table(["nv", "mel"]), OURS, {})

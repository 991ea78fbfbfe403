from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tametail.data import ImageTable


def make_table(rows: list[tuple[str, str, str, str]], **changed: object) -> ImageTable:
    frame = pd.DataFrame(rows, columns=["image", "label", "group", "split"], dtype=object)
    fields = {"class_names": tuple(sorted({row[1] for row in rows})), "root": Path("/data"), "name": "cells"}
    return ImageTable(frame=frame, **(fields | changed))


ROWS = [
    ("a.png", "nevus", "p1", ""),
    ("b.png", "mole", "p2", "train"),
    ("c.png", "nevus", "p1", ""),
    ("d/e.png", "nevus", "ü", "test"),
]


def test_rows_become_arrays() -> None:
    table = make_table(ROWS)
    assert len(table) == 4
    assert table.class_names == ("mole", "nevus")
    assert table.targets.tolist() == [1, 0, 1, 1]
    assert table.groups.tolist() == ["p1", "p2", "p1", "ü"]
    assert table.images.tolist() == ["a.png", "b.png", "c.png", "d/e.png"]
    assert table.paths[3] == Path("/data/d/e.png")
    assert table.counts() == {"mole": 1, "nevus": 3}
    assert table.imbalance_ratio == 3.0


@pytest.mark.parametrize("rows", [np.array([True, False, True, False]), np.array([2, 0])])
def test_taking_rows_keeps_order_and_class_names(rows: np.ndarray) -> None:
    taken = make_table(ROWS).take(rows)
    assert taken.images.tolist() == ["a.png", "c.png"]
    assert taken.class_names == ("mole", "nevus")
    assert taken.frame.index.tolist() == [0, 1]
    assert taken.counts() == {"mole": 0, "nevus": 2}
    assert taken.imbalance_ratio == np.inf


def test_taking_with_a_mask_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="mask of 4 rows"):
        make_table(ROWS).take(np.array([True, False]))


def test_fingerprint_is_that_of_the_canonical_text() -> None:
    """Fixed for ever: studies made elsewhere are recognised by it."""
    import hashlib

    text = '["mole","nevus"]\n["a.png","nevus","p1",""]\n["b.png","mole","p2","train"]\n["c.png","nevus","p1",""]\n'
    text += '["d/e.png","nevus","\\u00fc","test"]\n'
    assert make_table(ROWS).fingerprint == hashlib.sha256(text.encode("ascii")).hexdigest()


@pytest.mark.parametrize("column", range(4))
def test_fingerprint_covers_every_column(column: int) -> None:
    row = list(ROWS[3])
    row[column] = ["d/f.png", "mole", "q", "val"][column]
    assert make_table([*ROWS[:3], tuple(row)]).fingerprint != make_table(ROWS).fingerprint


def test_fingerprint_ignores_where_the_images_lie_and_what_is_carried() -> None:
    table = make_table(ROWS)
    moved = make_table(ROWS, root=Path("/elsewhere"), name="other")
    moved.frame["site"] = "A"
    assert moved.fingerprint == table.fingerprint
    assert make_table(ROWS, class_names=("mole", "nevus", "scar")).fingerprint != table.fingerprint


@pytest.mark.parametrize(
    ("rows", "changed", "message"),
    [
        ([ROWS[1], ROWS[0]], {}, "sorted order"),
        ([ROWS[0], ROWS[0]], {}, "unique image ids"),
        (ROWS, {"class_names": ("nevus", "mole")}, "class names in sorted order"),
        (ROWS, {"class_names": ("mole",)}, "nevus"),
        ([("a.png", "x", "g", "dev")], {}, "dev"),
    ],
)
def test_a_frame_of_another_form_is_refused(rows: list, changed: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_table(rows, **changed)


def test_missing_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="begins with"):
        ImageTable(pd.DataFrame({"image": [], "label": []}), Path(), (), "x")


MULTI_ROWS = [("a.png", "edema|mass", "p1", ""), ("b.png", "", "p2", "train"), ("c.png", "mass", "p3", "")]


def make_multi(rows: list = MULTI_ROWS, **changed: object) -> ImageTable:
    return make_table(rows, **({"class_names": ("edema", "mass", "nodule"), "multi_label": True} | changed))


def test_a_multi_label_table_has_a_matrix_of_classes() -> None:
    table = make_multi()
    assert table.labels.dtype == np.bool_
    assert table.labels.tolist() == [[True, True, False], [False] * 3, [False, True, False]]
    assert table.counts() == {"edema": 1, "mass": 2, "nodule": 0}
    assert table.imbalance_ratio == np.inf
    taken = table.take(np.array([2, 0]))
    assert taken.multi_label
    assert taken.labels.tolist() == [[True, True, False], [False, True, False]]
    assert make_multi(class_names=("edema", "mass")).imbalance_ratio == 2.0


def test_a_multi_label_table_has_no_single_classes() -> None:
    with pytest.raises(ValueError, match=r"one class per image, .* multi-label; use labels"):
        _ = make_multi().targets


def test_the_matrix_of_a_single_label_table_is_one_hot() -> None:
    table = make_table(ROWS)
    assert table.labels.tolist() == [[False, True], [True, False], [False, True], [False, True]]
    assert table.labels.argmax(axis=1).tolist() == table.targets.tolist()
    assert table.labels.sum(axis=0).tolist() == list(table.counts().values())


def test_a_class_with_a_bar_in_its_name_is_one_class() -> None:
    table = make_table([("a.png", "a|b", "p", ""), ("b.png", "b", "q", "")])
    assert table.class_names == ("a|b", "b")
    assert table.targets.tolist() == [0, 1]


def test_the_fingerprint_tells_multi_label_tables_apart() -> None:
    rows = [("a.png", "x", "p", ""), ("b.png", "y", "q", "")]
    assert make_table(rows).fingerprint != make_table(rows, multi_label=True).fingerprint


@pytest.mark.parametrize(
    ("rows", "names", "message"),
    [
        ([("a.png", "mass|edema", "p", "")], ("edema", "mass"), "sorted order in every label"),
        ([("a.png", "mass|mass", "p", "")], ("edema", "mass"), "distinct classes"),
        ([("a.png", "mass|", "p", "")], ("edema", "mass"), "in every label"),
        ([("a.png", "mass|other", "p", "")], ("edema", "mass"), "other"),
        ([("a.png", "", "p", "")], ("edema|mass", "mass"), "class names without"),
        ([("a.png", "", "p", "")], ("", "mass"), "class names without"),
    ],
)
def test_multi_labels_of_another_form_are_refused(rows: list, names: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_multi(rows, class_names=names)


def labelled(unknown: list[str], *, multi_label: bool = True) -> ImageTable:
    labels = ["a|b", "", "b"] if multi_label else ["a", "b", "b"]
    frame = pd.DataFrame({"image": ["1", "2", "3"], "label": labels, "group": "p", "split": ""}, dtype=object)
    frame["unknown_labels"] = unknown
    return ImageTable(frame, Path("/data"), ("a", "b"), "drawn", multi_label=multi_label)


def test_unknown_labels_are_a_matrix_of_their_own() -> None:
    table = labelled(["", "a|b", "a"])
    assert table.unknown.tolist() == [[False, False], [True, True], [True, False]]
    assert table.labels.tolist() == [[True, True], [False, False], [False, True]]
    assert table.counts() == {"a": 1, "b": 2}
    assert table.take(np.array([2])).unknown.tolist() == [[True, False]]
    assert table.fingerprint != labelled(["", "a|b", ""]).fingerprint
    assert not make_table(ROWS).unknown.any()


@pytest.mark.parametrize("unknown", [["a", "", ""], ["", "b|a", ""], ["", "c", ""], ["", "a|a", ""]])
def test_unknown_labels_of_another_form_are_refused(unknown: list[str]) -> None:
    with pytest.raises(ValueError, match="unknown_labels"):
        labelled(unknown)


def test_a_single_label_is_never_unknown() -> None:
    with pytest.raises(ValueError, match="multi-label tables only"):
        labelled(["", "", ""], multi_label=False)

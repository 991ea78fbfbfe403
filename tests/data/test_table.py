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

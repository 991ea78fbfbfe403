"""Forms of tables: separators, sheets, second tables, rows of one image, lists as text."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest

from fixtures.table_layouts import draw, write_table
from tametail.core.errors import DataError, UsageError
from tametail.data import ImageTable, read_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    draw(*(tmp_path / f"g{at}.png" for at in range(6)))
    return tmp_path


def labels(table: ImageTable) -> dict[str, str]:
    return dict(zip(table.images, table.frame["label"], strict=True))


ROWS = [[f"g{at}.png", "ab"[at % 2]] for at in range(6)]
EXPECTED = {f"g{at}.png": "ab"[at % 2] for at in range(6)}


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("header", ["label", "label (0, 1, 2, 3)", "label; or grade; or none", "a, b; c"])
def test_a_header_may_hold_other_signs_than_the_separator(folder: Path, separator: str, header: str) -> None:
    if separator in header:
        header = f'"{header}"'
    lines = [separator.join(["image", header]), *(separator.join(row) for row in ROWS)]
    (folder / "t.csv").write_text("\n".join(lines))
    assert labels(read_images(folder / "t.csv", label_col=header.strip('"'))) == EXPECTED


def test_a_sheet_is_read_like_its_csv(folder: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append([])
    for row in [
        ["image", "label", "age"],
        *([*row, 3.0 if row[0] == "g1.png" else 4] for row in ROWS),
        [None] * 3,
    ]:
        book.active.append(row)
    book.create_sheet("notes").append(["these are not labels"])
    book.save(folder / "t.xlsx")
    table = read_images(folder / "t.xlsx")
    write_table(
        folder / "u.csv", ["image", "label", "age"], [[*row, 3 if row[0] == "g1.png" else 4] for row in ROWS]
    )
    assert table.frame.equals(read_images(folder / "u.csv").frame)
    assert table.reading is not None
    assert "sheets notes of t.xlsx (the first, Sheet, is read)" in table.reading.left_out
    (folder / "t.xlsx").write_bytes(b"PK\x03\x04 no sheet")
    with pytest.raises(DataError, match="cannot be read as an Excel file"):
        read_images(folder / "t.xlsx")


def test_an_old_sheet_is_refused_with_what_to_do(folder: Path) -> None:
    (folder / "t.xls").write_bytes(b"\xd0\xcf\x11\xe0")
    with pytest.raises(DataError, match=r"as .csv or .xlsx, got .*t.xls.*Save As"):
        read_images(folder / "t.xls")


def test_a_table_that_names_its_columns_takes_no_no_header(folder: Path) -> None:
    (folder / "t.jsonl").write_text('{"image": "g0.png", "label": "a"}\n')
    with pytest.raises(DataError, match="leave --no-header out"):
        read_images(folder / "t.jsonl", header=False)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("['a', 'b c']", {"a", "b c"}),
        ('["a", "b c"]', {"a", "b c"}),
        ("['a' 'b c']", {"a", "b c"}),  # as NumPy writes them
        ("[a, b c]", {"a", "b c"}),
        (r"['Barrett\'s', \"a\"]".replace(r"\"", '"'), {"Barrett's", "a"}),
        ("[\"Barrett's\", 'a, b']", {"Barrett's", "a, b"}),
        ("[ ]", set()),
        ("[]", set()),
        ("['a', '', 'nan']", {"a"}),
    ],
)
def test_lists_as_text(folder: Path, text: str, names: set[str]) -> None:
    rows = [["g0.png", text], ["g1.png", "['x']"], ["g2.png", "['y']"]]
    table = read_images(write_table(folder / "t.csv", ["image", "label"], rows), multi_label=True)
    assert set(labels(table)["g0.png"].split("|")) - {""} == names


def test_a_list_that_is_none_is_refused(folder: Path) -> None:
    rows = [["g0.png", "['a', b']"], ["g1.png", "['x']"]]
    with pytest.raises(DataError, match=r"expected a list such as \['a', 'b'\] .* in row 1 below the header"):
        read_images(write_table(folder / "t.csv", ["image", "label"], rows), multi_label=True)


@pytest.mark.parametrize("options", [{"label_sep": ";"}, {"uncertain": "zero"}, {"blank": "zero"}])
def test_options_of_other_labels_are_refused(folder: Path, options: dict[str, str]) -> None:
    path = write_table(folder / "t.csv", ["image", "label"], ROWS)
    with pytest.raises(UsageError, match=f"--{next(iter(options)).replace('_', '-')} does not apply"):
        read_images(path, **options)  # type: ignore[arg-type]
    for wrong in ({"blank_groups": "single"}, {"split_values": "0=train"}):
        with pytest.raises(UsageError, match=r"does not apply here, as t.csv has no (group|split) column"):
            read_images(path, **wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="--reader-col with --join-rows majority"):
        read_images(path, reader_col="label")
    with pytest.raises(UsageError, match="can only be given for a CSV"):
        read_images("demo", join_rows="union")


def test_unknown_is_for_several_labels_only(folder: Path) -> None:
    rows = [["g0.png", 1, 0], ["g1.png", -1, 1]]
    path = write_table(folder / "t.csv", ["image", "A", "B"], rows)
    with pytest.raises(UsageError, match="--multi-label with --uncertain ignore"):
        read_images(path, label_cols="A,B", uncertain="ignore")
    assert labels(read_images(path, label_cols="A,B", uncertain="zero")) == {"g0.png": "A", "g1.png": "B"}
    with pytest.raises(DataError, match="0 rows have none and 1 have several"):
        read_images(path, label_cols="A,B", uncertain="one")


READERS = [
    ("g0", "a", "R1"),
    ("g0", "a", "R2"),
    ("g0", "b", "R3"),
    ("g1", "c", "R1"),
    ("g1", "c", "R1"),
    ("g1", "b", "R2"),
    ("g2", "b", "R1"),
]


@pytest.mark.parametrize(
    ("how", "reader", "expected"),
    [
        ("union", None, {"g0.png": "a|b", "g1.png": "b|c", "g2.png": "b"}),
        ("majority", None, {"g0.png": "a", "g1.png": "c", "g2.png": "b"}),  # of rows
        (
            "majority",
            "by",
            {"g0.png": "a", "g1.png": "", "g2.png": "b"},
        ),  # a tie of two readers is no majority
    ],
)
def test_rows_of_one_image_in_any_order(
    folder: Path, how: str, reader: str | None, expected: dict[str, str]
) -> None:
    rows = [[*row, at] for at, row in enumerate(READERS)]
    found = set()
    for order in [*permutations(range(3))]:
        mixed = [rows[at] for at in order] + [rows[3 + at] for at in order] + rows[6:]
        path = write_table(folder / "t.csv", ["image", "label", "by", "box"], mixed)
        table = read_images(path, multi_label=True, join_rows=how, reader_col=reader)  # type: ignore[arg-type]
        assert labels(table) == expected
        assert table.frame["box"].isna().tolist() == [True, True, False]
        found.add(table.fingerprint)
    assert len(found) == 1


def test_unknown_labels_of_several_rows(folder: Path) -> None:
    """A majority is that of the readers who know; nobody knows B of g1."""
    rows = [
        ["g0.png", "R1", 1, -1], ["g0.png", "R2", -1, 1], ["g0.png", "R3", 0, 0],
        ["g1.png", "R1", 1, -1], ["g1.png", "R2", 1, -1], ["g2.png", "R1", 0, 1],
    ]  # fmt: skip
    path = write_table(folder / "t.csv", ["image", "by", "A", "B"], rows)
    options = {"label_cols": "A,B", "multi_label": True, "uncertain": "ignore"}
    union = read_images(path, join_rows="union", **options)  # type: ignore[arg-type]
    assert labels(union) == {"g0.png": "A|B", "g1.png": "A", "g2.png": "B"}
    assert union.unknown.tolist() == [[False, False], [False, True], [False, False]]
    most = read_images(path, join_rows="majority", reader_col="by", **options)  # type: ignore[arg-type]
    assert labels(most) == {"g0.png": "", "g1.png": "A", "g2.png": "B"}
    assert most.unknown.tolist() == union.unknown.tolist()


def test_groups_must_agree(folder: Path) -> None:
    rows = [["g0.png", "a", "p"], ["g0.png", "b", "q"], ["g1.png", "b", "q"]]
    path = write_table(folder / "t.csv", ["image", "label", "group"], rows)
    with pytest.raises(DataError, match=r"1 images .* differ in group"):
        read_images(path, multi_label=True, join_rows="union")


def test_a_second_table_that_does_not_fit(folder: Path) -> None:
    first = write_table(folder / "t.csv", ["image", "label"], ROWS)
    second = write_table(folder / "m.csv", ["code", "patient"], [["x1", "p"], ["x2", "q"]])
    with pytest.raises(
        DataError, match=r"expected a column of .*m.csv with the images .*is it the right table"
    ):
        read_images(first, metadata=second)
    write_table(second, ["code", "patient"], [["g0", "p"], ["g0", "q"]])
    with pytest.raises(DataError, match="found several for g0 that differ"):
        read_images(first, metadata=second)
    write_table(second, ["code", "label", "patient"], [["G0", "z", "p"], ["g0", "z", "p"], ["g9", "z", "p"]])
    table = read_images(first, metadata=second)
    assert table.frame["patient"].notna().tolist() == [True, *[False] * 5]
    assert labels(table) == EXPECTED
    assert table.frame["metadata_label"].tolist()[0] == "z"
    assert table.reading is not None
    assert any("5 images have no row in m.csv" in note for note in table.reading.notes)
    with pytest.raises(DataError, match=r"5 of 6 rows .* no group .*--blank-groups single"):
        read_images(first, metadata=second, group_col="patient")
    groups = read_images(first, metadata=second, group_col="patient", blank_groups="single").groups.tolist()
    assert groups == ["p", *(f"g{at}.png" for at in range(1, 6))]
    with pytest.raises(DataError, match=r"expected a second table at .*--metadata"):
        read_images(first, metadata=folder / "absent.csv")

"""Groups from paths: by folder, regular expression and published scheme."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tametail.core.errors import DataError, UsageError
from tametail.data import read_images, reading_facts
from tametail.data.group_from import KNOWN_SCHEMES, groups_from, known_scheme

IMAGES = ["train/a/p1/x_01.png", "train/a/p2/x_02.png", "test/b/p1/y_01.png"]


@pytest.mark.parametrize(
    ("rule", "groups"),
    [
        ("folder", ["p1", "p2", "p1"]),
        ("folder:-1", ["p1", "p2", "p1"]),
        ("folder:2", ["a", "a", "b"]),
        ("folder:-3", ["train", "train", "test"]),
        (r"name:\d+", ["01", "02", "01"]),
        (r"name:^(.)_\d(\d)", ["x_1", "x_2", "y_1"]),
    ],
)
def test_rules(rule: str, groups: list[str]) -> None:
    assert groups_from(IMAGES, rule)[0] == groups


@pytest.mark.parametrize(
    ("name", "owner"),
    [("breakhis", "14-2523"), ("chexpert", "patient00001"), ("ddsm", "P_00001"), ("eyepacs", "10"), ("kermany_oct", "1016042"),
     ("kermany_xray", "person1"), ("mimic_cxr", "p10000032"), ("nih_chest", "00000001"), ("tcga", "TCGA-02-0001")],
)  # fmt: skip
def test_known_schemes_find_the_patient_of_their_example_and_of_no_other(name: str, owner: str) -> None:
    example = KNOWN_SCHEMES[name].example
    for folder in ("", "train/x/"):
        assert groups_from([folder + example], f"known:{name}")[0] == [owner]
        assert known_scheme([folder + example]) == name
    assert [other for other, scheme in KNOWN_SCHEMES.items() if scheme.owner_of(example)] == [name]
    assert known_scheme(["ISIC_0024306.jpg"]) is None


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("patient", "expected --group-from folder, folder:LEVEL, name:REGEX or known:NAME, got 'patient'"),
        ("folder:0", "expected a level"),
        ("folder:x", "expected a level"),
        ("name:(", "expected a regular expression"),
        ("known:eyepac", "eyepacs"),
    ],
)
def test_invalid_rules_are_refused(rule: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        groups_from(IMAGES, rule)
    assert message in str(caught.value)


@pytest.mark.parametrize("rule", ["folder:4", "name:x", r"name:(z?)", "known:eyepacs"])
def test_an_image_without_a_group_is_refused(rule: str) -> None:
    with pytest.raises(DataError, match="of 3 images have none"):
        groups_from(IMAGES, rule)


def write(root: Path, *images: str) -> Path:
    for image in images:
        (root / image).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(root / image)
    return root


def test_the_table_has_the_groups_and_says_where_they_are_from(tmp_path: Path) -> None:
    table = read_images(
        write(tmp_path, "a/1_left.png", "a/1_right.png", "b/2_left.png"), group_from="known:eyepacs"
    )
    assert table.frame["group"].tolist() == ["1", "1", "2"]
    assert dict(reading_facts(table))["Groups"] == "file name, as of eyepacs (2 groups)"
    with pytest.raises(UsageError, match="one source of groups, got --group-col, --group-from"):
        read_images(tmp_path, group_from="folder", group_col="patient")


def test_groups_on_both_sides_of_a_given_split_are_refused(tmp_path: Path) -> None:
    folder = write(
        tmp_path, "train/a/7_left.png", "train/b/8_left.png", "test/a/7_right.png", "test/b/9_left.png"
    )
    with pytest.raises(DataError, match=r"1 groups have images both in test and outside it \(7\)"):
        read_images(folder, group_from="known:eyepacs")
    assert set(read_images(folder, group_from="known:eyepacs", allow_leaks=True).groups) == {"7", "8", "9"}

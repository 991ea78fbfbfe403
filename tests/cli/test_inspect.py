"""The commands inspect and subsample, and duplicates on their way into a study and its report."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from cli.test_app import OPTIONS, run
from fixtures.planted_faults import FAULTS, Set
from tametail.data import read_images

pytestmark = pytest.mark.usefixtures("without_figures")

KEYS = {
    "schema", "name", "fingerprint", "safe", "folds", "images", "readable", "groups", "groups_of_several_images",
    "multi_label", "reading", "splits", "imbalance_ratio", "gini", "effective_classes", "classes", "formats", "sizes", "duplicates",
    "findings",
}  # fmt: skip


@pytest.fixture
def images(tmp_path: Path) -> Set:
    return Set(tmp_path / "set")


def test_inspect_says_what_is_in_a_set(images: Set) -> None:
    code, output, _ = run("inspect", images.write(), "--folds", 4)
    assert code == 0
    assert "No finding makes training unsafe" in output
    assert "Imbalance ratio: 1.0" in output
    assert all(name in output for name in ("bcc", "melanoma", "nevus"))


def test_inspect_has_an_exit_code_of_its_own_for_what_is_unsafe(images: Set) -> None:
    FAULTS["duplicates_cross_groups"][1](images)
    code, output, errors = run("inspect", images.write(), "--folds", 4)
    assert code == 3
    assert "unsafe: 1 set of duplicates in different groups" in output
    assert "images/004.png, images/again.png" in output
    assert "--group-duplicates" in output
    assert "Error" not in errors
    assert run("inspect", images.folder, "--folds", 4, "--group-duplicates")[0] == 0


def test_the_json_has_the_keys_of_its_schema(images: Set) -> None:
    FAULTS["near_duplicates"][1](images)
    code, output, _ = run("inspect", images.write(), "--json", "--quiet", "--folds", 4)
    content = json.loads(output)
    assert code == 3
    assert set(content) == KEYS
    assert content["schema"] == "tametail.inspect/3"
    assert content["safe"] is False
    documented = Path(__file__).parents[2].joinpath("docs/data.md").read_text(encoding="utf-8")
    assert all(f"`{key}`" in documented for key in KEYS)
    assert {finding["code"] for finding in content["findings"]} <= {
        word for word in documented.replace("`", " ").split() if "_" in word
    }


def test_every_kind_of_finding_is_documented() -> None:
    documented = Path(__file__).parents[2].joinpath("docs/data.md").read_text(encoding="utf-8")
    for code in FAULTS:
        assert f"`{code.partition(',')[0]}`" in documented


def test_the_page_shows_findings_classes_and_pictures(images: Set, tmp_path: Path) -> None:
    FAULTS["conflicting_labels"][1](images)
    FAULTS["unreadable_files"][1](images)
    images.rows[1]["label"] = "<b>odd & long</b>"
    page = tmp_path / "deep" / "inspect.html"
    code, _, errors = run("inspect", images.write(), "--folds", 4, "-o", page)
    text = page.read_text(encoding="utf-8")
    assert code == 3, "a class of one image cannot be in every fold"
    assert str(page) in errors
    assert text.count("<img ") >= 3 * 6
    assert "http" not in text.replace("http-equiv", "")
    assert "&lt;b&gt;odd &amp; long" in text
    assert "<b>odd" not in text
    assert "1 set of duplicates with different labels" in text
    assert "images/005.png: the file is damaged" in text


def test_a_page_that_cannot_be_written_is_an_error(images: Set, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, _, errors = run("inspect", images.write(), "--folds", 4, "-o", tmp_path / "file" / "page.html")
    assert code == 1
    assert "give another file with -o" in errors


def test_a_drawn_tail_is_a_table_that_can_be_read(images: Set, tmp_path: Path) -> None:
    out = tmp_path / "tail.csv"
    code, output, errors = run("subsample", images.write(), "--ratio", 4, "-o", out, "--seed", 1)
    assert (code, output.strip()) == (0, str(out))
    assert "images, ratio " in errors
    table = read_images(out, image_root=images.folder)
    assert 3 <= table.imbalance_ratio <= 5
    assert set(table.images) <= {row["image"] for row in images.rows}
    again = tmp_path / "again.csv"
    run("subsample", images.folder, "--ratio", 4, "-o", again, "--seed", 1)
    assert again.read_bytes() == out.read_bytes()


def test_a_drawn_tail_overwrites_nothing_and_keeps_what_was_written(images: Set, tmp_path: Path) -> None:
    for number, row in enumerate(images.rows):
        row["patient"] = f"{number % 9:03}"
        row["age"] = "" if number == 3 else str(40 + number % 5)
        row["note"] = "NA"
    images.write()
    written = (images.folder / "labels.csv").read_bytes()
    for out in (images.folder / "labels.csv", images.folder / "metadata.csv", tmp_path / "x.parquet"):
        code, _, errors = run("subsample", images.folder, "--ratio", 2, "-o", out)
        assert code == 2
        assert "with -o" in errors
    assert (images.folder / "labels.csv").read_bytes() == written
    out = tmp_path / "tail.csv"
    assert run("subsample", images.folder, "--ratio", 2, "-o", out, "--single-images")[0] == 0
    with out.open(encoding="utf-8", newline="") as handle:
        drawn = {row["image"]: row for row in csv.DictReader(handle)}
    given = {row["image"]: row for row in images.rows}
    assert len(drawn) > 20
    for image, row in drawn.items():
        assert {key: row[key] for key in ("patient", "age", "note")} == {
            key: given[image][key] for key in ("patient", "age", "note")
        }


def test_what_is_no_page_is_refused_before_any_image_is_read(images: Set, tmp_path: Path) -> None:
    for out in (tmp_path, images.folder / "labels.csv"):
        code, _, errors = run("inspect", images.write(), "-o", out)
        assert code == 2
        assert "expected a page that ends in .html" in errors


def test_json_says_why_there_is_nothing_in_it(tmp_path: Path) -> None:
    code, output, _ = run("inspect", tmp_path / "absent", "--json", "--quiet")
    assert code == 3
    assert set(json.loads(output)) == {"schema", "error"}


def test_names_cannot_steer_the_terminal(images: Set) -> None:
    images.rows[0]["label"] = "a\x1b[31mred\u202e"
    code, output, errors = run("inspect", images.write(), "--folds", 2)
    assert code == 3
    assert "\x1b" not in output + errors
    assert "\u202e" not in output


def test_findings_travel_into_a_study_and_its_report(images: Set, tmp_path: Path) -> None:
    FAULTS["duplicates_cross_groups"][1](images)
    command = ("compare", images.write(), "--methods", "ce", "--folds", 2, "--epochs", 1, *OPTIONS)
    code, _, errors = run(*command, "-o", tmp_path / "study")
    assert code == 0
    assert "duplicates in different groups" in errors
    study = json.loads((tmp_path / "study" / "study.json").read_text(encoding="utf-8"))
    assert {finding["code"]: finding["affected"] for finding in study["findings"]}[
        "duplicates_cross_groups"
    ] == 1
    report = (tmp_path / "study" / "report.html").read_text(encoding="utf-8")
    assert "The data are not safe to train on: 1 set of duplicates" in report
    code, _, errors = run(*command, "-o", tmp_path / "joined", "--group-duplicates")
    assert code == 0
    assert "duplicates in different groups" not in errors
    report = (tmp_path / "joined" / "report.html").read_text(encoding="utf-8")
    assert "not safe" not in report
    assert "1 set of byte-identical files" in report


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "expected", "findings", "unknown"),
    [
        (
            "aptos2019_gf224_dev",
            {"exact_sets": 103, "exact_files": 211, "exact_conflicting": 28, "near_pairs": 9, "sets": 110, "conflicting": 34},
            {"conflicting_labels", "exact_duplicates", "near_duplicates"},
            [],
        ),
        (
            "ham10000_224",
            # What seems to be one lesion under two ids: ISIC_0032900 shows the middle of ISIC_0033622.
            {"exact_sets": 0, "exact_files": 0, "exact_conflicting": 0, "near_pairs": 0, "sets": 1, "conflicting": 0},
            {"changed_copies", "duplicates_cross_groups"},
            [["images/ISIC_0032900.jpg", "images/ISIC_0033622.jpg"]],
        ),
    ],
)  # fmt: skip
@pytest.mark.slow
def test_the_real_sets(
    name: str, expected: dict[str, int], findings: set[str], unknown: list[list[str]]
) -> None:
    folder = Path(__file__).parents[3] / "shared" / "data" / name
    if not folder.is_dir():
        pytest.skip(f"no real images at {folder}")
    code, output, _ = run("inspect", folder, "--json", "--quiet")
    content = json.loads(output)
    assert code == 0
    assert {key: content["duplicates"][key] for key in expected} == expected
    assert {finding["code"] for finding in content["findings"]} == findings, "and no false alarm"
    table = read_images(folder)
    grouped = table.frame.groupby("group")["image"].apply(sorted)
    known = sorted(images for images in grouped if len(images) > 1)
    assert [images for images in content["duplicates"]["members"] if images not in known] == unknown
    assert [images for images in content["duplicates"]["members"] if images in known] == known

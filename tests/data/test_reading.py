"""What is said of how a source was read, and that it follows the table from the reader to the report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from tametail.cli.app import app
from tametail.data import ImageTable, SourceReading, read_images, reading_facts


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_a_table_keeps_how_it_was_read(tmp_path: Path) -> None:
    table = read_images(
        touch(tmp_path / "set", "train/a/1.png", "train/b/2.png", "test/a/3.png", "test/b/4.png")
    )
    assert reading_facts(table) == [
        ("Class", "folder level 2 below set/: a, b (2 classes)"),
        ("Groups", "none: every image counts as its own patient"),
        ("Split", "folders test/, train/ (2 train, 2 test)"),
        ("Left out", "nothing"),
        ("Images read", "4"),
    ]
    assert table.take(np.array([0, 1])).reading is table.reading


def test_columns_and_separator_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "2.png", "3.png")
    (tmp_path / "t.csv").write_text("image,finding,who\n1.png,a;b,p\n2.png,b,p\n3.png,,q\n")
    table = read_images(tmp_path / "t.csv", label_col="finding", group_col="who", multi_label=True)
    facts = dict(reading_facts(table))
    assert facts["Class"] == "column 'finding' (several labels, separated by ';') of t.csv: a, b (2 classes)"
    assert facts["Groups"] == "column 'who' (2 groups)"


def test_a_table_made_in_python_says_so() -> None:
    frame = pd.DataFrame({"image": ["1", "2"], "label": ["a", "b"]})
    assert dict(reading_facts(ImageTable.from_frame(frame, Path(), "t")))["Split"] == "as given in Python"


def test_json_is_a_round_trip() -> None:
    reading = SourceReading("column 'a'", left_out=("1 file .txt",))
    assert SourceReading.from_dict(json.loads(json.dumps(reading.as_dict()))) == reading
    assert reading.without("", "2 rows").left_out == ("1 file .txt", "2 rows")


@pytest.mark.parametrize("words", [("inspect",), ("subsample", "--ratio", "1", "-o", "OUT")])
def test_commands_begin_with_it(words: tuple[str, ...], image_folder: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "drawn.csv")
    given = [out if word == "OUT" else word for word in words]
    found = CliRunner().invoke(app, [*given, str(image_folder)])
    first = (found.stdout if words[0] == "inspect" else found.stderr).splitlines()[0].strip()
    assert first.startswith("Class: column 'label' of labels.csv: ")


def test_a_study_keeps_it_and_its_report_shows_it(study_folder: Path) -> None:
    kept = json.loads((study_folder / "study.json").read_text(encoding="utf-8"))["reading"]
    assert kept["classes"] == "column 'label' of labels.csv"
    assert kept["split"] == "none"
    page = (study_folder / "report.html").read_text(encoding="utf-8")
    for text in ("Classes from", "Groups from", "Split from", "Left out when read", "of labels.csv: "):
        assert text in page


def test_the_page_and_the_json_of_inspect_show_it(image_folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    found = CliRunner().invoke(app, ["inspect", str(image_folder), "--json", "-o", str(page)])
    kept = json.loads(found.stdout)["reading"]
    assert set(kept) == {"classes", "groups", "split", "left_out", "grey", "notes"}
    assert "column &#39;label&#39; of labels.csv: " in page.read_text(encoding="utf-8")
    assert "<dt>Left out</dt>" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "words", [("compare",), ("search",), ("recommend",), ("evaluate", "STUDY", "--data")]
)
def test_it_comes_before_anything_else_is_said(
    words: tuple[str, ...], image_folder: Path, study_folder: Path, tmp_path: Path
) -> None:
    """Also where the data are then refused: too many folds, or the study's own images."""
    given = [str(study_folder) if word == "STUDY" else word for word in words]
    folds = [] if words[0] == "evaluate" else ["--folds", "50", "--weights", "none"]
    found = CliRunner().invoke(app, [*given, str(image_folder), *folds, "-o", str(tmp_path / "out")])
    assert found.exit_code == 3
    assert found.stderr.startswith("Class: column 'label' of labels.csv: ")

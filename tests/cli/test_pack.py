"""The command pack, and a study of what it wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.test_app import run
from fixtures.tiny_study import TINY, words
from tametail.data import read_images

pytestmark = pytest.mark.usefixtures("without_figures")


def test_a_study_of_packed_data_is_that_of_the_original(image_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "packed"
    code, output, errors = run("pack", image_folder, out, "--shard-mb", 1)
    assert (code, output.strip()) == (0, str(out))
    assert "Groups" in errors
    assert "70 images in 1 files" in errors
    code, output, errors = run("pack", image_folder, tmp_path / "tars", "--format", "webdataset")
    assert code == 0, errors
    described = []
    for data in (image_folder, out, tmp_path / "tars"):
        study = tmp_path / f"study of {data.name}"
        code, _, errors = run(
            "compare", data, "--methods", "ce", "--folds", 2, "-o", study, *words(TINY), "--recipe", "head"
        )
        assert code == 0, errors
        described.append(
            (
                json.loads((study / "study.json").read_text())["table"],
                [path.read_bytes() for path in sorted(study.glob("runs/*/*/predictions.parquet"))],
            )
        )
    assert described[0] == described[1] == described[2]
    assert len(described[0][1]) == 2


def test_options_of_tables_count_when_packing(image_folder: Path, tmp_path: Path) -> None:
    code, _, errors = run("pack", image_folder, tmp_path / "packed", "--label-col", "site")
    assert code == 0, errors
    assert (
        read_images(tmp_path / "packed").fingerprint
        == read_images(image_folder, label_col="site").fingerprint
    )


def test_wrong_use_of_pack_is_explained(image_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    code, _, errors = run("pack", image_folder, tmp_path / "there")
    assert code == 2
    assert "already exists" in errors
    code, _, errors = run("pack", image_folder, tmp_path / "packed", "--shard-mb", 0)
    assert code == 2
    assert "--shard-mb of at least 1" in errors
    assert not (tmp_path / "packed").exists()

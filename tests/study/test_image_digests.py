"""Held-out images are recognised where they come back: renamed, saved again, of another size."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from cli.test_app import run
from fixtures.plain_figures import figures_not_rendered
from fixtures.tiny_study import TINY
from tametail.report import results_table, write_report
from tametail.storage import study_file
from tametail.study.study import compare

WAYS = {"byte for byte": 2, "by equal pixels": 3, "similar": 4}


@pytest.fixture(autouse=True, scope="module")
def _quick() -> Iterator[None]:
    with figures_not_rendered():
        yield


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50 smooth images, as another size of noise is another image."""
    folder, rng = tmp_path_factory.mktemp("smooth"), np.random.default_rng(0)
    for number in range(50):
        small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        (folder / f"class{number % 2}").mkdir(exist_ok=True)
        small.resize((64, 48), Image.Resampling.BICUBIC).save(folder / f"class{number % 2}" / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def made(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compare(
        image_folder, "ce", out=tmp_path_factory.mktemp("made") / "study", folds=2, **TINY
    ).directory


@pytest.fixture
def study(made: Path, tmp_path: Path) -> Path:
    """A copy, as predictions of held-out images are recorded in it."""
    return shutil.copytree(made, tmp_path / "study")


def images_of(study: Path, part: str) -> list[str]:
    rows = csv.DictReader((study / "splits.csv").read_text(encoding="utf-8").splitlines())
    return [row["image"] for row in rows if row["part"] == part]


def write_copies(paths: Sequence[Path], folder: Path) -> list[Path]:
    """Copies of nine images under other names: equal, with the same pixels, and changed."""
    folder.mkdir(parents=True)
    note = PngImagePlugin.PngInfo()
    note.add_text("Comment", "changed")
    copies = []
    for number, path in enumerate(paths[:9]):
        copies.append(folder / f"copy{number}{'.jpg' if number in (5, 6) else '.png'}")
        if number < 2:
            shutil.copy(path, copies[-1])
            continue
        options = {"quality": 90} if number in (5, 6) else {"pnginfo": note, "compress_level": 1}
        with Image.open(path) as image:
            scale = 1 if number < 7 else 2
            image.resize((scale * image.width, scale * image.height)).save(copies[-1], **options)
    return copies


def looks(study: Path) -> list[dict[str, Any]]:
    return study_file.read_test_set_looks(study)


def test_predictions_of_held_out_images_are_recorded(study: Path, image_folder: Path, tmp_path: Path) -> None:
    copies = write_copies([image_folder / name for name in images_of(study, "test")], tmp_path / "new")
    new = Image.fromarray(np.random.default_rng(7).integers(0, 256, (40, 48, 3), dtype=np.uint8))
    new.save(tmp_path / "new" / "other.png")
    trained = image_folder / images_of(study, "train")[0]
    code, _, errors = run("predict", study, tmp_path / "new", trained, "-o", tmp_path / "p.csv", "--quiet")
    assert code == 0, errors
    said = (
        "9 of 11 images are of the study's held-out test set (2 byte for byte, 3 by equal pixels, 4 similar)"
    )
    assert said in errors
    assert "recorded in the study" in errors
    assert [(entry["command"], entry["images"]) for entry in looks(study)] == [("predict", WAYS)]
    record = (study / "test_set_looks.jsonl").read_text(encoding="utf-8")
    assert copies[0].name not in record
    write_report(study)
    page = (study / "report.html").read_text(encoding="utf-8")
    assert (
        "held-out images were predicted once by predict (up to 9 images, some recognised as similar only)"
        in page
    )
    assert "Test set: held out (not yet evaluated), and seen once by predictions" in results_table(study)


def test_predictions_of_other_images_are_no_look(study: Path, image_folder: Path, tmp_path: Path) -> None:
    trained = [image_folder / name for name in images_of(study, "train")[:5]]
    code, _, errors = run("predict", study, *trained, "-o", tmp_path / "p.csv", "--quiet")
    assert (code, errors) == (0, "")
    assert not (study / "test_set_looks.jsonl").exists()


def test_a_study_that_cannot_be_written_says_so(
    study: Path, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(study_file, "append_line", fail)
    image = image_folder / images_of(study, "test")[0]
    code, _, errors = run("predict", study, image, "-o", tmp_path / "p.csv", "--quiet")
    assert code == 0
    assert "could not be recorded in the study" in errors
    assert "Read-only file system" in errors


def test_a_study_without_digests_is_checked_byte_for_byte_until_it_is_resumed(
    study: Path, image_folder: Path, tmp_path: Path
) -> None:
    (study / "digests.parquet").write_bytes(b"damaged")
    copies = write_copies([image_folder / name for name in images_of(study, "test")], tmp_path / "new")
    words = ("predict", study, tmp_path / "new", "-o", tmp_path / "p.csv")
    errors = " ".join(run(*words)[2].split())
    assert "recognised byte for byte only; tametail resume adds the file" in errors
    assert "2 of 9 images are of the study's held-out test set (2 byte for byte)" in errors
    assert run("resume", study)[0] == 0
    assert f"{len(copies)} of 9 images" in " ".join(run(*words)[2].split())
    (study / "digests.parquet").unlink()
    (study / "source.json").unlink()
    assert "it was not checked" in run(*words)[2]


def listed(images: Sequence[Path], folder: Path) -> Path:
    lines = [
        "image,label",
        *(f"{path.name},{['class0', 'class1'][at % 2]}" for at, path in enumerate(images)),
    ]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_an_evaluation_refuses_equal_pixels_and_warns_of_similar_images(
    study: Path, image_folder: Path, tmp_path: Path
) -> None:
    copies = write_copies([image_folder / name for name in images_of(study, "test")], tmp_path / "new")
    for path in copies[:2]:
        path.unlink()
    words = ("evaluate", study, "--data", tmp_path / "new", "--methods", "ce", "--quiet")
    listed(copies[2:], tmp_path / "new")
    code, _, errors = run(*words, "-o", tmp_path / "refused")
    assert code == 3
    assert "7 of 7 images are of the study's held-out test set (3 by equal pixels, 4 similar)" in errors
    assert not looks(study)
    listed(copies[5:], tmp_path / "new")
    code, _, errors = run(*words, "-o", tmp_path / "out")
    assert code == 0, errors
    assert "4 of 4 images are of the study's held-out test set (4 similar)" in errors
    assert [entry["command"] for entry in looks(study)] == ["evaluate"]
    facts = json.loads((tmp_path / "out" / "evaluation.json").read_text(encoding="utf-8"))["facts"]
    assert "(4 similar)" in dict(facts)["Warning"]


def test_predictions_in_a_study_that_are_of_held_out_images(
    study: Path, image_folder: Path, tmp_path: Path
) -> None:
    copies = write_copies([image_folder / name for name in images_of(study, "test")], study / "new")
    file, elsewhere = study / "mine.csv", tmp_path / "mine.csv"
    rows = [f"new/{path.name},{'ab'[at % 2]},0.6,0.4" for at, path in enumerate(copies)]
    rows = ["image,label,p_a,p_b", *rows, "absent.png,a,0.5,0.5"]
    for path in (file, elsewhere):
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    code, _, errors = run("evaluate", elsewhere, "-o", tmp_path / "out", "--quiet")
    assert code == 0
    assert "held-out" not in errors
    code, _, errors = run("evaluate", file, "-o", tmp_path / "out", "--quiet")
    assert code == 0, errors
    assert "9 of 9 images are of the study's held-out test set" in errors
    assert [entry["images"] for entry in looks(study)] == [WAYS]
    assert "held-out test set" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")

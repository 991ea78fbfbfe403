"""Predictions name images that are unlike the training images, blank, tiny or in another colour mode."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import tametail
from fixtures.plain_figures import figures_not_rendered
from fixtures.tiny_study import TINY
from tametail.audit.image_stats import is_grey
from tametail.core.console import Console
from tametail.core.errors import DataError
from tametail.core.run_files import UNLIKENESS
from tametail.data.demo.demo import write_demo
from tametail.deployment.quality import quality_of
from tametail.deployment.unlikeness import Likeness, of_group, say_unlike
from tametail.evaluation.unlikeness import Unlikeness
from tametail.predictions.single_label import read_predictions
from tametail.storage import study_file
from tametail.study.study import compare, resume
from tametail.study.study_splits import study_splits
from tametail.training import unlikeness_file

Said = pytest.CaptureFixture[str]


def saved(pixels: np.ndarray, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A study of a few of the demo's images, on frozen features."""
    folder = tmp_path_factory.mktemp("cells")
    write_demo(folder / "images", cells={"neutrophil": 80, "lymphocyte": 60, "monocyte": 48}, patients=40)
    out = folder / "study"
    with figures_not_rendered():
        compare(folder / "images", "ce", out=out, folds=3, **TINY)
        yield out


@pytest.fixture
def foreign(tmp_path: Path) -> dict[str, Path]:
    rng = np.random.default_rng(0)
    stripes = np.broadcast_to(128 + 127 * np.sign(np.sin(np.arange(96) / 2))[:, None, None], (96, 96, 3))
    pixels = {
        "blank": np.full((96, 96, 3), 30),
        "white": np.full((96, 96, 3), 255),
        "noise": rng.integers(0, 256, (96, 96, 3)),
        "stripes": stripes,
    }
    return {name: saved(values, tmp_path / f"{name}.png") for name, values in pixels.items()}


def images_of(study: Path, part: str) -> list[Path]:
    splits = study_splits(study, study_file.read_study_file(study))
    return [
        (study_file.remembered_root(study) or Path()) / image for image in splits.image[splits.part == part]
    ]


def test_foreign_images_are_unlike_the_training_images(
    cells: Path, foreign: dict[str, Path], capsys: Said
) -> None:
    own = images_of(cells, "test")
    table = tametail.load(cells).predict_table([*foreign.values(), *own], Console())
    said = capsys.readouterr().err
    assert table["unlike_training"].tolist()[: len(foreign)] == [1] * len(foreign)
    assert table["unlike_training"][len(foreign) :].mean() < 0.2
    assert ((table["unlikeness"] > 1) == (table["unlike_training"] == 1)).all()
    assert table["quality"].tolist()[:3] == ["blank", "blank", ""]
    assert "unlike the training images" in said
    assert "False-alarm rate: 5 %" in said
    assert "do not use their predictions" in said


def test_images_of_the_training_set_in_another_colour_mode_are_named(cells: Path, tmp_path: Path) -> None:
    one = Image.open(images_of(cells, "train")[0]).convert("L")
    grey, tiny = tmp_path / "grey.png", tmp_path / "tiny.jpg"
    one.save(grey)
    Image.open(images_of(cells, "train")[1]).resize((31, 40)).save(tiny)
    table = tametail.load(cells).predict_table([grey, tiny])
    assert table["quality"].tolist() == ["grey, but the training images are in colour", "tiny"]


def test_flags_depend_on_the_colour_mode_of_the_training_set(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    colour = rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    grey = np.repeat(colour[..., :1], 3, axis=2)
    slightly = grey + rng.integers(-3, 3, grey.shape).astype(np.int16)  # as compression does
    path = saved(colour, tmp_path / "any.png")
    assert quality_of(path, colour, 0.0) == ""
    assert quality_of(path, colour, 1.0) == "in colour, but the training images are grey"
    assert quality_of(path, grey, 0.0) == "grey, but the training images are in colour"
    assert quality_of(path, grey, 0.3) == quality_of(path, grey, None) == ""
    assert is_grey(slightly.clip(0, 255).astype(np.uint8))
    assert quality_of(path, np.full_like(grey, 9), 0.0) == "blank"


def test_a_study_of_an_earlier_version_predicts_and_says_what_is_missing(
    cells: Path, foreign: dict[str, Path], tmp_path: Path, capsys: Said
) -> None:
    old = shutil.copytree(cells, tmp_path / "old")
    before = (old / UNLIKENESS).read_bytes()
    (old / UNLIKENESS).unlink()
    table = tametail.load(old).predict_table([foreign["noise"]], Console())
    assert table[["unlikeness", "unlike_training"]].isna().all(axis=None)
    assert f"tametail resume {old} writes it" in capsys.readouterr().err
    resume(old)
    assert (old / UNLIKENESS).read_bytes() == before


def test_a_damaged_or_exchanged_file_is_named(cells: Path, study_folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(cells, tmp_path / "copy")
    content = bytearray((copy / UNLIKENESS).read_bytes())
    content[-1000] ^= 1
    (copy / UNLIKENESS).write_bytes(content)
    with pytest.raises(
        DataError, match=rf"{UNLIKENESS}, but it is damaged.*remove the file, and tametail resume"
    ):
        tametail.load(copy)
    shutil.copy(study_folder / UNLIKENESS, copy / UNLIKENESS)
    with pytest.raises(DataError, match="of another study"):
        tametail.load(copy)


def test_too_few_patients_have_no_score(image_folder: Path, tmp_path: Path, capsys: Said) -> None:
    lines = (image_folder / "labels.csv").read_text(encoding="utf-8").splitlines()
    table = [
        lines[0],
        *(",".join([*line.split(",")[:2], f"g{at % 15}", "s"]) for at, line in enumerate(lines[1:])),
    ]
    folder = shutil.copytree(image_folder, tmp_path / "few")
    (folder / "labels.csv").write_text("\n".join(table) + "\n", encoding="utf-8")
    study = compare(folder, "ce", out=tmp_path / "study", folds=3, **TINY)
    found = tametail.load(study.directory).predict_table([folder / "images" / "000.png"], Console())
    assert found["unlikeness"].isna().all()
    assert "takes 19" in capsys.readouterr().err


def test_fine_tuned_runs_have_a_file_each(
    image_folder: Path, foreign: dict[str, Path], tmp_path: Path
) -> None:
    settings = TINY | {"recipe": "quick", "set": (), "epochs": 1}
    study = compare(image_folder, "ce,ce+la", out=tmp_path / "study", folds=3, **settings).directory
    assert not (study / UNLIKENESS).exists()
    assert len(list(study.glob(f"runs/ce/*/{UNLIKENESS}"))) == 3
    images = [foreign["blank"], image_folder / "images" / "000.png"]
    tables = [tametail.load(study, method).predict_table(images) for method in ("ce", "ce+la")]
    assert tables[0]["unlike_training"].tolist() == [1, 0]
    assert tables[0]["unlikeness"].tolist() == tables[1]["unlikeness"].tolist(), "they share the features"
    path = study / "runs" / "ce" / "seed0-fold1" / UNLIKENESS
    shutil.copy(study / "runs" / "ce" / "seed0-fold2" / UNLIKENESS, path)
    with pytest.raises(DataError, match="changed or exchanged"):
        tametail.load(study, "ce")


def test_a_group_has_the_worst_of_its_images(capsys: Said) -> None:
    scores = np.array([0.5, 3.0, 2.0])
    flags = ["blank|tiny", "", "blank"]
    images = pd.DataFrame(
        {"unlikeness": scores, "unlike_training": pd.array([0, 1, 1], "Int64"), "quality": flags}
    )
    found = of_group(images)
    assert found == {"quality": "blank|tiny", "unlikeness": 3.0, "unlike_training": 1, "unlike_images": 2}
    groups = pd.DataFrame([found | {"error": ""}, {"error": "none could be read"}])
    say_unlike(groups, Likeness(images=90, groups=30), Console())
    said = " ".join(capsys.readouterr().err.split())
    assert "1 of 1 group (2 images) is unlike the training images" in said
    assert "of 1 group, check these (column quality): 1 blank; 1 tiny" in said
    unknown = of_group(images.assign(unlikeness=np.nan, unlike_training=pd.array([None] * 3, "Int64")))
    assert unknown == {"quality": "blank|tiny"}


def test_features_of_a_large_fold_are_taken_of_some_images(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = TINY | {"recipe": "quick", "set": (), "epochs": 1, "only_folds": [0]}
    whole = compare(image_folder, "ce", out=tmp_path / "whole", folds=2, **settings).directory
    monkeypatch.setattr(unlikeness_file, "_MOST_IMAGES", 20)
    some = compare(image_folder, "ce", out=tmp_path / "some", folds=2, **settings).directory
    tables = [read_predictions(path / "runs/ce/seed0-fold0/predictions.parquet") for path in (whole, some)]
    assert tables[0].image.tolist() == tables[1].image.tolist()
    np.testing.assert_allclose(tables[0].logits, tables[1].logits, atol=1e-5)
    found = unlikeness_file.load_unlikeness(some / "runs/ce/seed0-fold0", unlikeness_file.OF_RUN, "")
    assert isinstance(found, Unlikeness)
    assert found.held_out.images == 20 < len(tables[0])

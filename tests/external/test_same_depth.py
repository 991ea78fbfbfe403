"""External validation and `predict` read grey images of more than 8 bits at the same depth, that of the study if it can be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fixtures.plain_figures import figures_not_rendered
from fixtures.tiny_study import TINY
from tametail.core.console import Console
from tametail.deployment.classifier import Classifier
from tametail.deployment.load import load
from tametail.external.evaluate import evaluate
from tametail.storage.evaluation_file import read_evaluation_file, read_tables
from tametail.study.study import compare

WARNING = "expected grey values below 4,096"


@pytest.fixture(autouse=True)
def _quick() -> Iterator[None]:
    with figures_not_rendered():
        yield


def write_grey(folder: Path, bits: int, *, darker: float = 1) -> Path:
    """The same pictures of two classes for every number of bits, in files of 16 bits where there are more than 8."""
    rng = np.random.default_rng(0)
    for label, level in (("dense", 170), ("thin", 70)):
        (folder / label).mkdir(parents=True)
        for number in range(10):
            shares = (level + rng.normal(0, 20, (40, 40))).clip(0, 255) / 255
            shares[0, 0] = 1  # so that the largest value is that of the bits
            values = np.rint(shares * darker * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)
            Image.fromarray(values).save(folder / label / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """A study of images of 8 bits, and one of 12."""
    folder = tmp_path_factory.mktemp("depths")
    made = {}
    with figures_not_rendered():
        for bits in (8, 12):
            images = write_grey(folder / f"images{bits}", bits)
            study = compare(images, "ce", out=folder / f"study{bits}", recipe="head", folds=2, **TINY)
            assert study.settings["table"].get("bit_depth") == (None if bits == 8 else bits)
            made[bits] = study.directory
    return made


def predicted_by_both(
    study: Path, data: Path, out: Path
) -> tuple[Classifier, list[Path], NDArray[np.float64]]:
    """The probabilities (N, 2) of these images, which must be the same in an evaluation."""
    found = evaluate(study, data=data, out=out)
    ensemble = read_evaluation_file(found.directory).models[1]
    (table,) = read_tables(found.directory, ensemble)
    classifier, images = load(study, "ce"), [data / image for image in table.image]
    predicted = classifier.predict_proba(images)
    np.testing.assert_allclose(table.probabilities, predicted, rtol=0, atol=1e-6)
    assert (table.predicted == table.target).all()
    return classifier, images, predicted


def test_images_of_12_bits_for_a_study_without_deep_images(
    studies: dict[int, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_grey(tmp_path / "images", 12)
    classifier, images, found = predicted_by_both(studies[8], data, tmp_path / "out")
    as_studied = [studies[8].parent / "images8" / image.relative_to(data) for image in images]
    np.testing.assert_allclose(found, classifier.predict_proba(as_studied), atol=0.02)
    assert "grey" not in capsys.readouterr().err
    classifier.predict_table(images, Console())
    said = " ".join(capsys.readouterr().err.split())
    assert "20 images store grey in more than 8 bits, with values up to 4,095: read as 12 bits" in said
    assert "as the study has no such images" in said
    classifier.predict_table(as_studied, Console())
    assert "Grey levels" not in capsys.readouterr().err


def test_dark_images_are_as_dark_as_in_the_study(
    studies: dict[int, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Alone they would pass for 8 bits, and be as light as those of the study."""
    data = write_grey(tmp_path / "images", 12, darker=1 / 17)
    classifier = load(studies[12], "ce")
    dark = sorted(data.rglob("*.png"))
    light = studies[12].parent / "images12" / "thin" / "0.png"
    found = classifier.predict_table(dark, Console())
    assert "values up to 241: read as 12 bits (as in the study)" in " ".join(capsys.readouterr().err.split())
    np.testing.assert_allclose(
        found[["p_dense", "p_thin"]], classifier.predict_proba([*dark, light])[:-1], atol=1e-6
    )
    out = evaluate(studies[12], data=data, out=tmp_path / "out").directory
    (table,) = read_tables(out, read_evaluation_file(out).models[1])
    expected = classifier.predict_proba([data / image for image in table.image])
    np.testing.assert_allclose(table.probabilities, expected, rtol=0, atol=1e-6)
    assert "as in the study" in dict(read_evaluation_file(out).facts)["Grey levels (as read)"]


def test_values_beyond_the_depth_of_the_study_are_a_warning_and_not_white(
    studies: dict[int, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_grey(tmp_path / "images", 16)
    classifier, images, found = predicted_by_both(studies[12], data, tmp_path / "out")
    assert WARNING in " ".join(capsys.readouterr().err.split()), "without a console too"
    as_studied = [studies[12].parent / "images12" / image.relative_to(data) for image in images]
    np.testing.assert_allclose(found, classifier.predict_proba(as_studied), atol=0.02)
    assert "grey" not in capsys.readouterr().err
    evaluate(studies[12], data=data, out=tmp_path / "again", bit_depth=16, console=Console())
    assert WARNING in " ".join(capsys.readouterr().err.split())

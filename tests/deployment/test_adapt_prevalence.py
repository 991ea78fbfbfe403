"""Predictions at the prevalence that is estimated from the images: the estimate, what it changes, and when it is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import tametail
from tametail.core.arrays import FloatArray
from tametail.core.console import Console
from tametail.core.errors import DataError, UsageError
from tametail.deployment.classifier import Classifier
from tametail.deployment.facts import Said, described, facts_from
from tametail.evaluation.conformal import prevalence_thresholds
from tametail.evaluation.label_shift import ShiftReference, estimate_prevalence
from tametail.predictions.single_label import for_prevalence
from tametail.report.study.calibration_file import calibration_for_new_images


def drawn(
    n: int, prevalence: FloatArray, trained: FloatArray, seed: int
) -> tuple[NDArray[np.int64], FloatArray]:
    """True classes, and probabilities that are calibrated at the ``trained`` frequencies."""
    rng = np.random.default_rng(seed)
    target = rng.choice(len(prevalence), n, p=prevalence)
    z = 2 * (rng.normal(size=(n, len(prevalence))) + 2 * np.eye(len(prevalence))[target]) + np.log(trained)
    p = np.exp(z)
    return target, p / p.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def loaded(study_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    study = shutil.copytree(study_folder, tmp_path_factory.mktemp("adapt") / "study")
    return replace(tametail.load(study, "ce"), study=None)


@pytest.fixture(scope="module")
def trained(loaded: Classifier) -> FloatArray:
    """Falling class frequencies."""
    shares = 0.5 ** np.arange(len(loaded.facts.class_names))
    return np.asarray(shares / shares.sum())


@pytest.fixture(scope="module")
def model(loaded: Classifier, trained: FloatArray) -> Callable[[FloatArray], Classifier]:
    """Gives a model that predicts these probabilities (N, C) for images with the numbers 0 to N - 1."""
    target, known = drawn(3000, trained, trained, 0)
    images = np.bincount(target, minlength=len(trained))
    shift = ShiftReference(known, target, np.arange(3000), images)
    facts = replace(loaded.facts, shift=shift, class_counts=tuple(images.astype(float).tolist()))

    def predicting(p: FloatArray) -> Classifier:
        def run(pixels: NDArray[np.uint8]) -> Said:
            at = pixels[:, 0, 0, 0].astype(np.int64) * 256 + pixels[:, 0, 0, 1]
            return Said(
                p[at], p[at], np.zeros((len(at), p.shape[1]), dtype=np.bool_), np.full(len(at), np.nan)
            )

        return replace(loaded, facts=facts, run=run)

    return predicting


def numbered(n: int) -> NDArray[np.uint8]:
    """Images with the numbers 0 to n - 1."""
    images = np.zeros((n, 8, 8, 3), dtype=np.uint8)
    images[..., 0], images[..., 1] = (part[:, None, None] for part in divmod(np.arange(n), 256))
    return images


def test_predictions_are_at_the_estimated_prevalence(
    model: Callable[[FloatArray], Classifier], trained: FloatArray, capsys: pytest.CaptureFixture[str]
) -> None:
    target, p = drawn(400, trained[::-1], trained, 1)
    classifier = model(p)
    facts, shift = classifier.facts, classifier.facts.shift
    assert shift is not None
    expected = estimate_prevalence(p, shift)
    table = classifier.predict_table(numbered(400), Console(), adapt_prevalence=True, sets="prevalence")
    found = table[[f"p_{name}" for name in facts.class_names]].to_numpy()
    np.testing.assert_allclose(found, for_prevalence(p, shift.trained, expected.adapted), atol=1e-9)
    assert table["predicted"].equals(table["most_probable"])
    right = np.array(facts.class_names)[target]
    before = (classifier.predict_table(numbered(400))["predicted"] == right).mean()
    assert (table["predicted"] == right).mean() > before + 0.05
    said = capsys.readouterr().err
    name, share = facts.class_names[-1], expected.prevalence[-1]
    limits = f"{100 * expected.low[-1]:.1f}–{100 * expected.high[-1]:.1f} %"
    assert "Prevalence in 400 images" in said
    assert any(
        line.split()[0] == name and f"{100 * share:.1f} %" in line and limits in line
        for line in said.splitlines()
        if line
    )
    assert f"expected to fall by {expected.gain:.3f}" in said
    thresholds = prevalence_thresholds(facts.distributions, 0.9, expected.adapted)
    inside = 1 - p <= thresholds + 1e-9
    assert table["set_size"].tolist() == inside.sum(axis=1).tolist()


def test_an_unreadable_image_is_left_out(
    model: Callable[[FloatArray], Classifier], trained: FloatArray, tmp_path: Path
) -> None:
    _, p = drawn(300, trained[::-1], trained, 2)
    classifier = model(p)
    (tmp_path / "corrupt.png").write_bytes(b"no image")
    images = [*numbered(300), tmp_path / "corrupt.png"]
    table = classifier.predict_table(images, adapt_prevalence=True)
    whole = classifier.predict_table(numbered(300), adapt_prevalence=True)
    assert table["error"].iloc[-1]
    assert table["predicted"].isna().sum() == 1
    columns = [f"p_{name}" for name in classifier.facts.class_names]
    np.testing.assert_array_equal(table[columns].iloc[:-1], whole[columns])
    with pytest.raises(DataError, match="found 0 images; leave out --adapt-prevalence"):
        classifier.predict_table([tmp_path / "corrupt.png"], adapt_prevalence=True)


def test_too_few_images_or_no_shift_are_refused(
    model: Callable[[FloatArray], Classifier], trained: FloatArray
) -> None:
    _, p = drawn(1000, trained, trained, 3)
    for n in (1, 8, 1000):
        with pytest.raises(
            DataError, match=rf"found {n:,} images? with an expected fall .*leave out --adapt"
        ):
            model(p).predict_table(numbered(n), adapt_prevalence=True)
    few = 0.9 * trained + 0.1 * trained[::-1]
    with pytest.raises(DataError, match=r"\(about [\d,]+ images like these would be enough\)"):
        model(drawn(1000, few, trained, 4)[1]).predict_table(numbered(100), adapt_prevalence=True)


def test_a_warning_is_shown_for_images_unlike_those_of_the_study(
    model: Callable[[FloatArray], Classifier], trained: FloatArray, capsys: pytest.CaptureFixture[str]
) -> None:
    _, p = drawn(400, trained[::-1], trained, 5)
    model(p).predict_table(numbered(400), adapt_prevalence=True)
    assert "not like those of the study" not in capsys.readouterr().err
    blurred = np.sqrt(p * trained) / np.sqrt(p * trained).sum(axis=1, keepdims=True)
    model(blurred).predict_table(numbered(400), adapt_prevalence=True)
    said = " ".join(capsys.readouterr().err.split())
    assert "the images are not like those of the study" in said
    assert "lower than the" in said


def test_it_excludes_a_given_prevalence_and_several_labels(
    model: Callable[[FloatArray], Classifier], trained: FloatArray
) -> None:
    classifier = model(drawn(5, trained, trained, 6)[1])
    given = dict.fromkeys(classifier.facts.class_names, 1.0)
    with pytest.raises(UsageError, match="got both; leave out one of them"):
        classifier.predict_table(numbered(5), prevalence=given, adapt_prevalence=True)
    labels = replace(classifier, facts=replace(classifier.facts, thresholds=np.full(len(trained), 0.5)))
    with pytest.raises(UsageError, match=r"expected no prevalence .* several labels"):
        labels.predict_table(numbered(5), adapt_prevalence=True)
    without = replace(classifier, facts=replace(classifier.facts, shift=None))
    with pytest.raises(DataError, match="out-of-fold predictions of ce"):
        without.predict_table(numbered(5), adapt_prevalence=True)


def test_the_reference_is_that_of_the_study_and_of_its_exported_model(
    loaded: Classifier, tmp_path: Path
) -> None:
    shift = loaded.facts.shift
    assert shift is not None
    again = facts_from(described(loaded.facts) | {"schema": 1}, tmp_path).shift
    assert again is not None
    np.testing.assert_allclose(again.p, shift.p, rtol=1e-3)
    np.testing.assert_array_equal(again.target, shift.target)
    damaged = described(loaded.facts) | {"label_shift": {"p": [[2.0]]}}
    with pytest.raises(DataError, match="export it again"):
        facts_from(damaged, tmp_path)


def test_the_reference_travels_with_the_calibration_map(study_folder: Path, tmp_path: Path) -> None:
    """The same from the file and, where it is absent, from the predictions."""
    study = shutil.copytree(study_folder, tmp_path / "study")
    of_file = calibration_for_new_images(study, "ce").shift
    (study / "calibration.json").unlink()
    again = calibration_for_new_images(study, "ce").shift
    assert of_file is not None
    assert again is not None
    np.testing.assert_allclose(of_file.p, again.p, rtol=1e-3, atol=1e-12)
    np.testing.assert_array_equal(of_file.images, again.images)

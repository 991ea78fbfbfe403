"""The images that a classifier takes, what it answers, and operating points."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image

from fixtures.colour_classifier import NAMES, SIDE, colour_classifier, scores_of
from tametail.core.errors import DataError, UsageError
from tametail.deployment.classifier import Classifier
from tametail.deployment.decision import with_operating_points

MODEL = colour_classifier()
COLOURS = ((200, 60, 70), (70, 180, 90), (50, 60, 230), (120, 130, 110))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four noisy images of other sizes than the model's, as PNG."""
    folder = tmp_path_factory.mktemp("given")
    rng = np.random.default_rng(0)
    paths = []
    for at, colour in enumerate(COLOURS):
        pixels = np.array(colour) + rng.normal(0, 30, (40, 50 + at, 3))
        paths.append(folder / f"{at}.png")
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(paths[-1])
    return paths


@pytest.fixture(scope="module")
def p(files: list[Path]) -> NDArray[np.float64]:
    return MODEL.predict_proba(files)


def test_all_kinds_of_images_of_the_same_pixels_get_the_same_answer(
    files: list[Path], p: NDArray[np.float64]
) -> None:
    assert p.shape == (4, 3)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    opened = [Image.open(path) for path in files]
    pixels = [np.array(image) for image in opened]
    mixed = [str(files[0]), opened[1], pixels[2], files[3]]
    for images in ([str(path) for path in files], tuple(files), np.array(files), opened, pixels, mixed,
                   iter(files), files[0].parent, str(files[0].parent)):  # fmt: skip
        np.testing.assert_array_equal(MODEL.predict_proba(images), p)
    for one in (files[0], str(files[0]), opened[0], pixels[0]):
        np.testing.assert_array_equal(MODEL.predict_proba(one), p[:1])


def test_a_batch_of_arrays_is_its_images(files: list[Path], p: NDArray[np.float64]) -> None:
    batch = np.stack([np.array(Image.open(path))[:, :50] for path in files])
    assert batch.ndim == 4
    np.testing.assert_array_equal(MODEL.predict_proba(batch), MODEL.predict_proba(list(batch)))
    np.testing.assert_array_equal(MODEL.predict_proba(batch)[0], p[0])


def test_grey_images_are_one_picture_in_every_form(tmp_path: Path) -> None:
    grey = np.random.default_rng(1).integers(0, 256, (40, 44), dtype=np.uint8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    forms = [tmp_path / "grey.png", Image.fromarray(grey), grey, np.repeat(grey[..., None], 3, axis=2)]
    found = MODEL.predict_proba(forms)
    np.testing.assert_allclose(found, np.repeat(found[:1], 4, axis=0), atol=0.01)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_the_orientation_of_an_opened_image_is_applied(tmp_path: Path) -> None:
    pixels = np.zeros((60, 40, 3), dtype=np.uint8)
    pixels[:20] = COLOURS[0]
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    seen: list[NDArray[np.uint8]] = []
    for image in (tmp_path / "turned.png", Image.open(tmp_path / "turned.png")):
        MODEL.predict_table(image, on_image=lambda _, found: seen.append(found))
    np.testing.assert_array_equal(seen[0], seen[1])
    assert seen[0][:, -1].all()  # what was on top is on the right
    assert not seen[0][:, 0].any()


def test_a_text_is_a_path_and_never_letters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for letter in "ab":
        Image.new("RGB", (40, 40)).save(tmp_path / letter, "png")
    table = MODEL.predict_table("ab")
    assert table["image"].tolist() == ["ab"]
    assert table["error"][0]
    with pytest.raises(DataError, match="1 of 1 images cannot be read: ab: "):
        MODEL.predict("ab")


def test_rows_are_named_by_path_or_position(files: list[Path]) -> None:
    table = MODEL.predict_table([np.zeros((40, 40), np.uint8), files[2]])
    assert table["image"].tolist() == ["image 0", str(files[2])]
    assert MODEL.predict_table([]).empty
    assert MODEL.predict_proba([]).shape == (0, 3)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (7, "expected images as paths, images of Pillow or arrays, or a list of these, got int"),
        (None, "or a list of these, got NoneType"),
        ([3.5], r"expected each image as a path, .*, got float"),
        (["a.png", None], r"expected each image as a path, .*, got NoneType"),
        ([["a.png"]], r"expected each image as a path, .*, got list"),
        ([np.zeros((2, 3, 4, 3))], r"got an array \(2, 3, 4, 3\)"),
        (np.zeros(5), r"expected images as arrays .*, got an array \(5,\)"),
    ],
)
def test_what_is_no_image_is_refused(images: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        MODEL.predict_proba(images)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((8, 8, 3)),
        np.zeros((8, 8, 3), np.int64),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8), np.float32),
        np.zeros((0, 8), np.uint8),
    ],
)
def test_an_array_that_is_no_image_is_a_row_with_its_error(pixels: NDArray[Any]) -> None:
    table = MODEL.predict_table([pixels, np.zeros((8, 8), np.uint8)])
    assert "expected an image (H, W) or (H, W, 3) of uint8" in table["error"][0]
    assert str(pixels.dtype) in table["error"][0]
    assert table["error"][1] == ""
    with pytest.raises(DataError, match="1 of 2 images cannot be read: image 0: "):
        MODEL.predict([pixels, np.zeros((8, 8), np.uint8)])


def test_pixels_are_handed_out_as_the_model_sees_them(files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    seen: dict[str, NDArray[np.uint8]] = {}
    given = [*files, tmp_path / "broken.png", files[0]]
    MODEL.predict_table(given, on_image=lambda name, pixels: seen.__setitem__(name, pixels))
    assert list(seen) == [str(path) for path in files]
    assert all(pixels.shape == (SIDE, SIDE, 3) for pixels in seen.values())
    np.testing.assert_allclose(MODEL.run(np.stack(list(seen.values()))).probabilities, MODEL.predict_proba(files))  # fmt: skip


def test_labels_follow_scikit_learn(files: list[Path], p: NDArray[np.float64]) -> None:
    assert MODEL.classes_.tolist() == list(NAMES)
    predicted = MODEL.predict(files)
    assert predicted.shape == (4,)
    assert set(predicted) >= {"red", "green", "blue"}
    np.testing.assert_array_equal(predicted, MODEL.classes_[p.argmax(axis=1)])


def test_several_labels_are_an_indicator_matrix(files: list[Path]) -> None:
    model = colour_classifier(labels=True)
    predicted = model.predict(files)
    assert predicted.dtype.kind == "i"
    np.testing.assert_array_equal(predicted, model.predict_proba(files) >= 0.4)
    assert 0 < predicted.sum() < predicted.size


@pytest.mark.parametrize("labels", [False, True])
def test_its_text_is_short(labels: bool) -> None:
    model = colour_classifier([f"class {at}" for at in range(500)], labels=labels)
    kind = "labels" if labels else "classes"
    assert repr(model) == f"Classifier(ce: 500 {kind}, mean of 5 fold models, colour at {SIDE} px, numpy)"


# Operating points


def of_rows(p: NDArray[np.float64], **facts: Any) -> tuple[Classifier, NDArray[np.uint8]]:
    """A classifier, and images of which it gives these probabilities (N, C)."""
    images = np.zeros((len(p), SIDE, SIDE, 3), np.uint8)
    images[..., 0] = (np.arange(len(p)) // 256)[:, None, None]
    images[..., 1] = (np.arange(len(p)) % 256)[:, None, None]

    def model(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        first = pixels[:, 0, 0].astype(np.int64)
        return p[first[:, 0] * 256 + first[:, 1]]

    return colour_classifier(model=model, batch_size=64, **facts), images


def out_of_fold(seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probabilities of 300 images, and their classes."""
    rng = np.random.default_rng(seed)
    target = rng.choice(3, 300, p=[0.6, 0.3, 0.1])
    z = rng.normal(0, 1, (300, 3)) + 1.2 * np.eye(3)[target] + np.log([0.6, 0.3, 0.1])
    p = np.exp(z)
    return p / p.sum(axis=1, keepdims=True), target


@pytest.mark.parametrize("sensitivity", [0.5, 0.8, 0.95])
def test_a_class_is_predicted_from_its_threshold_on_and_reaches_its_sensitivity(sensitivity: float) -> None:
    p, target = out_of_fold()
    scores = tuple(scores_of(p[target == c, c]) for c in range(3))
    model, images = of_rows(p, distributions=scores)
    table = model.predict_table(images, operating={"blue": sensitivity})
    predicted = (table["predicted"] == "blue").to_numpy()
    threshold = 1 - scores[2].threshold(sensitivity)
    np.testing.assert_array_equal(predicted, p[:, 2] >= threshold)
    assert predicted[target == 2].mean() >= sensitivity
    np.testing.assert_array_equal(table["operating"], np.where(predicted, "blue", ""))
    # Else the decision is among the others.
    np.testing.assert_array_equal(table["predicted"][~predicted], np.array(NAMES)[p[~predicted, :2].argmax(axis=1)])  # fmt: skip
    # The next higher threshold would not reach it.
    assert (p[target == 2, 2] > threshold).sum() < np.ceil(sensitivity * (scores[2].groups + 1))


def test_several_operating_points_and_a_prevalence_agree_with_the_scores() -> None:
    p, target = out_of_fold(1)
    scores = tuple(scores_of(p[target == c, c]) for c in range(3))
    model, images = of_rows(p, distributions=scores)
    for options in ({}, {"prevalence": {"red": 0.1, "green": 0.1, "blue": 0.8}}):
        table = model.predict_table(images, operating={"blue": 0.8, "green": 0.7}, **options)
        columns = table[[f"score_{name}" for name in NAMES]].to_numpy()
        np.testing.assert_allclose(columns.sum(axis=1), 1)
        np.testing.assert_array_equal(table["predicted"], np.array(NAMES)[columns.argmax(axis=1)])
        # Thresholds are of probabilities at the frequencies of the training set, whatever the prevalence.
        reached = np.stack([p[:, c] >= 1 - scores[c].threshold(s) for c, s in ((1, 0.7), (2, 0.8))], axis=1)
        np.testing.assert_array_equal(table["operating"] != "", reached.any(axis=1))
        np.testing.assert_array_equal(table["predicted"] != "red", reached.any(axis=1))


ROWS = st.integers(2, 5).flatmap(
    lambda classes: st.tuples(
        arrays(np.float64, (3, classes), elements=st.floats(0, 1)),
        arrays(np.float64, (3, classes), elements=st.floats(0, 1)),
        arrays(np.float64, (classes,), elements=st.one_of(st.just(np.nan), st.floats(1e-6, 1))),
    )
)


@given(ROWS)
def test_the_highest_score_is_that_of_a_class_that_reaches_its_threshold(
    drawn: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
) -> None:
    raw, raw_p, thresholds = drawn
    scores, p = ((each + 1e-3) / (each + 1e-3).sum(axis=1, keepdims=True) for each in (raw, raw_p))
    found = with_operating_points(scores, p, thresholds)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    winner = found.argmax(axis=1)
    ruled = ~np.isnan(thresholds)
    for row in range(3):
        reached = ruled & (p[row] >= thresholds)
        if reached.any():
            ratio = np.where(reached, p[row] / thresholds, -np.inf)
            assert reached[winner[row]]
            assert ratio[winner[row]] >= ratio.max() * (1 - 3e-6)
        elif ruled.all():
            ratio = p[row] / thresholds
            assert ratio[winner[row]] >= ratio.max() * (1 - 3e-6)
        else:
            assert winner[row] == np.where(ruled, -np.inf, scores[row]).argmax()


@pytest.mark.parametrize(
    ("operating", "message"),
    [
        ({"purple": 0.9}, r"expected a class of the model \(red, green, blue\) with its sensitivity, got 'purple'"),
        ({"red": 0.0}, "expected a sensitivity of red above 0 and below 1, such as 0.95, got 0"),
        ({"red": 1.0}, "above 0 and below 1, such as 0.95, got 1"),
        ({"red": float("nan")}, "above 0 and below 1, such as 0.95, got nan"),
        ({"red": 0.99}, r"expected 99 groups \(patients\) with red in the training set for a sensitivity of 99 %, found 40"),
    ],
)  # fmt: skip
def test_operating_points_that_cannot_be_reached_are_refused(
    operating: dict[str, float], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        MODEL.predict_table(np.zeros((8, 8), np.uint8), operating=operating)


def test_grey_images_of_16_bits_in_memory_are_read_as_their_files(tmp_path: Path) -> None:
    """At the depth that holds all values, not at 16 bits."""
    values = np.linspace(0, 4095, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    classifier = colour_classifier()
    expected = classifier.predict_proba(tmp_path / "deep.png")
    with Image.open(tmp_path / "deep.png") as image:
        np.testing.assert_array_equal(classifier.predict_proba(image), expected)
    np.testing.assert_array_equal(classifier.predict_proba(values), expected)


def test_a_damaged_image_in_memory_is_a_row_with_its_error(tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:4000])
    with Image.open(path) as image:
        table = colour_classifier().predict_table([image, np.zeros((8, 8, 3), np.uint8)])
    assert [bool(error) for error in table["error"]] == [True, False]


def test_path_like_objects_are_paths_and_odd_arrays_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).save(tmp_path / "a.png")
    classifier = colour_classifier()
    with os.scandir(tmp_path) as entries:
        assert classifier.predict_proba(list(entries)).shape[0] == 1
    for odd in (
        np.array(str(tmp_path / "a.png")),
        np.zeros((1, 2, 10, 10, 3), np.uint8),
        np.zeros(4, np.uint8),
    ):
        with pytest.raises(UsageError, match="expected images as arrays"):
            classifier.predict_proba(odd)

"""External validation sees images as `predict` does: the same probabilities for every recipe."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fixtures.plain_figures import figures_not_rendered
from fixtures.tiny_study import COLOURS
from tametail.deployment.load import load
from tametail.external.evaluate import evaluate
from tametail.storage.evaluation_file import read_evaluation_file, read_tables
from tametail.study.study import compare

SIZE = 32
LARGE, WIDE = 150, 210  # pixels: beyond every canvas for this size, and not square
FINE_TUNED = {"epochs": 8, "lr": 1e-2}  # enough for probabilities that differ between images
RECIPES = {
    "head": {"backbone": "test_efficientnet", "set": ("l2=0.1",)},
    "quick": {"backbone": "test_efficientnet", **FINE_TUNED},
    "modern": {"backbone": "test_convnext", "set": ("ema_decay=0.5",), **FINE_TUNED},
}


@pytest.fixture(autouse=True)
def _quick() -> Iterator[None]:
    with figures_not_rendered():
        yield


def write_large_images(folder: Path, *, seed: int) -> Path:
    """Noisy images of three colours, upright and lying, with fine stripes that any other resampling changes."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    for label, colour in COLOURS.items():
        (folder / label).mkdir(parents=True)
        for number in range(8):
            height, width = (LARGE, WIDE) if number % 2 else (WIDE, LARGE)
            pixels = np.array(colour) + rng.normal(0, 60, (height, width, 3))
            pixels[:, :: 2 + number] *= 0.3
            pixels[: height // 3] += 80
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / label / f"{number}.png")
    return folder


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.slow
def test_a_study_evaluates_other_images_as_it_predicts_them(recipe: str, tmp_path: Path) -> None:
    images = write_large_images(tmp_path / "own", seed=0)
    other = write_large_images(tmp_path / "other", seed=1)
    tiny = {"weights": "none", "image_size": SIZE, "batch_size": 8}
    study = compare(
        images, "ce", out=tmp_path / "study", recipe=recipe, folds=2, repeats=1, **tiny, **RECIPES[recipe]
    )
    assert study.failed == ()
    canvas = study.settings["spec"]["canvas"]
    assert SIZE < canvas < LARGE
    found = evaluate(study.directory, data=other, out=tmp_path / "out")
    ensemble = read_evaluation_file(found.directory).models[1]
    assert ensemble.name == "ce, ensemble of 2"
    (table,) = read_tables(found.directory, ensemble)
    predicted = load(study.directory, "ce").predict_proba([other / image for image in table.image])
    np.testing.assert_allclose(table.probabilities, predicted, rtol=0, atol=1e-6)
    assert predicted.std(axis=0).min() > 0.1

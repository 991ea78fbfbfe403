"""Shared by all tests: a cache folder of their own, a small set of images, and a study made of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

COLOURS = {"amber": (200, 140, 40), "blue": (60, 80, 200), "crimson": (190, 50, 90)}
SIZES = {"amber": 40, "blue": 20, "crimson": 10}
TINY = {"backbone": "test_efficientnet", "weights": "none", "image_size": 32}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("TAMETAIL_CACHE", str(cache))


def write_images(folder: Path, *, seed: int = 0) -> Path:
    """70 noisy images of three colours in class-free names, two to a group, with labels.csv."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    lines = ["image,label,group,site"]
    labels = [name for name, count in SIZES.items() for _ in range(count)]
    for number, label in enumerate(labels):
        pixels = np.array(COLOURS[label]) + rng.normal(0, 60, (40, 48, 3))
        name = f"images/{number:03d}.png"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name)
        lines.append(f"{name},{label},g{number // 2},site{number % 2}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data") / "colours")


@pytest.fixture(scope="session")
def study_folder(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study (two losses, three folds, head recipe) that no test may change."""
    from tametail.study import compare

    out = tmp_path_factory.mktemp("study") / "colours"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAMETAIL_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        compare(image_folder, "alpa,ce", out=out, folds=3, fields=TINY | {"epochs": 8, "lr": 1e-2})
    return out

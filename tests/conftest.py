"""Shared by all tests: a cache folder of their own, a small set of images, and a study made of it."""

from __future__ import annotations

import gc
import os
import shutil
from pathlib import Path

import pytest

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # before torch: one thread in each of the processes of pytest-xdist

from fixtures.tiny_study import TINY, write_images

# Folders and files whose tests start processes or train: they go first, so that no long file is left for the end.
LONG = (
    "study/",
    "test_plug_in.py",
    "search/",
    "losses/test_one_pass.py",
    "recommend/",
    "training/",
    "losses/",
    "report/",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first."""
    tests = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        file = item.path.relative_to(tests).as_posix() if item.path.is_relative_to(tests) else ""
        return next((at for at, start in enumerate(LONG) if file.startswith(start)), len(LONG))

    items.sort(key=place)


def pytest_collection_finish() -> None:
    """What thousands of collected tests are made of stays for good: no collection of garbage need look at it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path_factory.getbasetemp() / "cache"
    shutil.rmtree(
        cache / "splits", ignore_errors=True
    )  # other tests have evaluated test sets of the same images
    monkeypatch.setenv("TAMETAIL_CACHE", str(cache))


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data") / "colours")


@pytest.fixture(scope="session")
def study_folder(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study (two losses, three folds, head recipe) that no test may change."""
    from tametail.study.study import compare

    out = tmp_path_factory.mktemp("study") / "colours"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAMETAIL_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        compare(image_folder, "alpa,ce", out=out, folds=3, **TINY, epochs=8, lr=1e-2)
    return out

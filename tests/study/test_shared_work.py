"""Workers restore a search or recommendation from its folder alone, and give what one process gives."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tametail as tt
from fixtures.plain_figures import figures_not_rendered
from fixtures.tiny_study import TINY
from tametail.core.errors import UsageError
from tametail.study.worker import share_work

pytestmark = pytest.mark.slow

OPTIONS: dict[str, Any] = TINY | {"folds": 3, "device": "cpu"}


@pytest.fixture(autouse=True)
def _quick() -> Iterator[None]:
    with figures_not_rendered():
        yield


def by_one_worker(monkeypatch: pytest.MonkeyPatch, place: str) -> list[str]:
    """Have a worker do all trainings in this process; the folders that it was given."""
    seen: list[str] = []

    def share(_: object, folder: Path, settings: Any, *, left: Any, **__: object) -> None:
        assert left() > 0
        share_work(str(folder), settings)
        assert left() == 0
        seen.append(folder.name)

    monkeypatch.setattr(importlib.import_module(place), "share", share)
    return seen


def test_a_recommendation(image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = tt.recommend(image_folder, out=tmp_path / "one", **OPTIONS)
    seen = by_one_worker(monkeypatch, "tametail.recommend.recommend")
    monkeypatch.chdir(tmp_path)
    shared = tt.recommend(image_folder, out="shared", jobs=2, **OPTIONS)
    assert seen == ["shared"]
    assert shared.content["candidates"] == alone.content["candidates"]
    outputs = {path.name: path.read_bytes() for path in (tmp_path / "one" / "outputs").iterdir()}
    assert {path.name: path.read_bytes() for path in Path("shared/outputs").iterdir()} == outputs
    assert tt.work("shared") == 0, "nothing is left"


@pytest.mark.parametrize("recipe", ["head", "quick"])
def test_a_search(image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str) -> None:
    options = OPTIONS | {"trials": 2, "recipe": recipe, "epochs": 1, "batch_size": 32}
    alone = tt.search(image_folder, "focal", out=tmp_path / "one", **options)
    seen = by_one_worker(monkeypatch, "tametail.search.search")
    shared = tt.search(image_folder, "focal", out=tmp_path / "shared", jobs=2, **options)
    assert seen == ["shared"]
    left_out = {"seconds"}
    results = [
        json.dumps({key: value for key, value in found.settings["result"].items() if key not in left_out})
        for found in (alone, shared)
    ]
    assert results[0] == results[1]


def test_there_is_nothing_to_plan(image_folder: Path, tmp_path: Path) -> None:
    for function in (tt.recommend, tt.search):
        with pytest.raises(UsageError, match="any number of processes may share the work"):
            function(image_folder, out=tmp_path / "out", engine="plan", **OPTIONS)  # type: ignore[operator]

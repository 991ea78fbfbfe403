"""The folder of a recommendation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax

from tametail.core.errors import DataError, UsageError
from tametail.recommend.outputs import (
    RECOMMEND_JSON,
    RECOMMENDATION_FOLDER,
    SETTINGS,
    HeadOutputs,
    create_or_extend,
    load_outputs,
    outputs_store,
    read_recommendation,
    save_outputs,
)
from tametail.storage.identity import IDENTITY, SCHEMA, prepare_directory
from tametail.training.run import TrainingKey

TRAINING = TrainingKey(0, (1, 2))
METHODS = ["ce", "ce+la[tau=0.5]", "alpa"]
DESCRIBED: dict[str, Any] = {key: {"some": [1, 2]} for key in IDENTITY}


def _outputs() -> HeadOutputs:
    rng = np.random.default_rng(0)
    logits = {name: rng.normal(size=(5, 3)).astype(np.float32) for name in ("ce", "ce+la[tau=0.5]")}
    posteriors = {name: softmax(z, axis=1) for name, z in logits.items()}
    return HeadOutputs(logits, posteriors, {"alpa": "its loss is nan, é"})


def _save(folder: Path, outputs: HeadOutputs | None = None) -> None:
    save_outputs(folder, TRAINING, outputs or _outputs(), METHODS, "a")


def test_saved_outputs_are_loaded_again(tmp_path: Path) -> None:
    _save(tmp_path)
    found = load_outputs(tmp_path, TRAINING, METHODS, (5, 3), "a")
    assert found is not None
    assert found.failures == _outputs().failures
    for kind in ("logits", "posteriors"):
        saved, loaded = getattr(_outputs(), kind), getattr(found, kind)
        assert list(loaded) == list(saved)
        assert all(np.array_equal(loaded[name], values) for name, values in saved.items())


@pytest.mark.parametrize(
    ("methods", "shape", "settings"),
    [
        ([*METHODS, "focal"], (5, 3), "a"),
        (METHODS[:1], (5, 3), "a"),
        (METHODS, (4, 3), "a"),
        (METHODS, (5, 4), "a"),
        (METHODS, (5, 3), "b"),
    ],
    ids=str,
)
def test_what_is_of_other_methods_images_or_settings_is_done_again(
    methods: list[str], shape: tuple[int, int], settings: str, tmp_path: Path
) -> None:
    _save(tmp_path)
    assert load_outputs(tmp_path, TRAINING, methods, shape, settings) is None


def test_where_all_failed_that_is_kept(tmp_path: Path) -> None:
    _save(tmp_path, HeadOutputs({}, {}, dict.fromkeys(METHODS, "its loss is nan")))
    found = load_outputs(tmp_path, TRAINING, METHODS, (5, 3), "a")
    assert found is not None
    assert not found.logits
    assert list(found.failures) == METHODS


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"no archive at all"])
def test_a_damaged_file_is_done_again(content: bytes, tmp_path: Path) -> None:
    _save(tmp_path)
    path = outputs_store(tmp_path).path(TRAINING.name)
    path.write_bytes(content)
    assert load_outputs(tmp_path, TRAINING, METHODS, (5, 3), "a") is None


def test_half_a_file_is_done_again(tmp_path: Path) -> None:
    _save(tmp_path)
    path = outputs_store(tmp_path).path(TRAINING.name)
    path.write_bytes(path.read_bytes()[:-200])
    assert load_outputs(tmp_path, TRAINING, METHODS, (5, 3), "a") is None
    assert load_outputs(tmp_path, TrainingKey(1, (0,)), METHODS, (5, 3), "a") is None


def test_other_data_are_not_mixed_in(tmp_path: Path) -> None:
    prepare_directory(tmp_path, RECOMMENDATION_FOLDER)
    settings = create_or_extend(tmp_path, DESCRIBED, "macro_f1")
    assert create_or_extend(tmp_path, DESCRIBED | {"methods": "are not part of it"}, "macro_f1") == settings
    with pytest.raises(UsageError, match=r"its splits.some is .*, not 3; give another folder with -o"):
        create_or_extend(tmp_path, DESCRIBED | {"splits": {"some": [3]}}, "macro_f1")
    (tmp_path / SETTINGS).unlink()
    assert create_or_extend(tmp_path, DESCRIBED | {"splits": {"some": [3]}}, "macro_f1") != settings
    (tmp_path / SETTINGS).write_text("[1", encoding="utf-8")
    with pytest.raises(DataError, match="cannot be read"):
        create_or_extend(tmp_path, DESCRIBED, "macro_f1")


def test_objectives_are_not_mixed_and_share_trainings(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    settings = create_or_extend(tmp_path, DESCRIBED, "macro_f1")
    with pytest.raises(UsageError, match=r"its objective is macro_f1, not log_loss; give another folder"):
        create_or_extend(tmp_path, DESCRIBED, "log_loss")
    assert create_or_extend(other, DESCRIBED, "log_loss") == settings


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UsageError, match=r"found study\.json; give another one with -o"):
        prepare_directory(tmp_path, RECOMMENDATION_FOLDER)
    assert [entry.name for entry in tmp_path.iterdir()] == ["study.json"]


FINISHED = {
    "schema": SCHEMA, "name": "skin", "recommended": "ce", "methods_to_compare": ["ce"], "best": "ce", "answer": ["Use ce."],
    "next_command": "tametail compare skin", "candidates": [{"name": "ce"}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("answer", []),
        ("answer", "Use ce."),
        ("answer", [3]),
        ("recommended", ""),
        ("methods_to_compare", None),
        ("candidates", [[]]),
    ],
)
def test_a_damaged_recommendation_is_named(key: str, value: object, tmp_path: Path) -> None:
    (tmp_path / RECOMMEND_JSON).write_text(json.dumps(FINISHED))
    assert read_recommendation(tmp_path) == FINISHED
    (tmp_path / RECOMMEND_JSON).write_text(json.dumps(FINISHED | {key: value}))
    with pytest.raises(DataError, match=rf"its recommend\.json is damaged \({key}"):
        read_recommendation(tmp_path)


@pytest.mark.parametrize("objective", [None, 3, ""])
def test_damaged_settings_are_named(objective: object, tmp_path: Path) -> None:
    create_or_extend(tmp_path, DESCRIBED, "log_loss")
    content = json.loads((tmp_path / SETTINGS).read_text())
    (tmp_path / SETTINGS).write_text(json.dumps(content | {"objective": objective}))
    with pytest.raises(DataError, match=r"its settings\.json is damaged \(objective"):
        create_or_extend(tmp_path, DESCRIBED, "log_loss")

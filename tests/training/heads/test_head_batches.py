"""Which heads are trained at once: all that are left, and those of an earlier batch in that batch again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures.plain_figures import figures_not_rendered
from fixtures.tiny_study import TINY
from tametail.study import runs
from tametail.study.study import compare
from tametail.training.heads.execute_heads import CO_TRAINED, HeadBatch, execute_heads


def again(images: Path, out: Path, losses: str, **options: object) -> None:
    compare(images, losses, out=out, folds=3, **TINY, epochs=2, **options)  # type: ignore[arg-type]


def weights(study: Path) -> dict[str, bytes]:
    return {str(path.relative_to(study)): path.read_bytes() for path in study.glob("runs/*/*/*.safetensors")}


@pytest.fixture(autouse=True)
def _quick() -> Iterator[None]:
    with figures_not_rendered():
        yield


@pytest.fixture
def head_batches(monkeypatch: pytest.MonkeyPatch) -> list[HeadBatch]:
    """The head_batches that are trained from here on."""
    seen: list[HeadBatch] = []

    def watched(head_batch: HeadBatch, *rest: object) -> object:
        seen.append(head_batch)
        return execute_heads(head_batch, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(runs, "execute_heads", watched)
    return seen


def test_a_run_names_its_batch_and_a_lost_one_is_trained_in_it_again(
    image_folder: Path, tmp_path: Path, head_batches: list[HeadBatch]
) -> None:
    out = tmp_path / "study"
    again(image_folder, out, "ce,alpa,asl,ce+la,ldam+drw")
    assert len(head_batches) == 6
    assert {tuple(head_batch.co_trained) for head_batch in head_batches} == {
        ("ce", "alpa", "asl"),  # to the minimum
        ("ldam+drw",),  # step by step
    }
    described = json.loads((out / "runs/asl/seed0-fold1/run.json").read_text(encoding="utf-8"))
    assert described[CO_TRAINED] == ["ce", "alpa", "asl"]
    before = weights(out)
    shutil.rmtree(out / "runs" / "asl" / "seed0-fold1")
    head_batches.clear()
    again(image_folder, out, "ce,alpa,asl,ce+la,ldam+drw")
    assert [head_batch.co_trained for head_batch in head_batches] == [["ce", "alpa", "asl"]]
    assert weights(out) == before
    head_batches.clear()
    again(image_folder, out, "focal")
    assert [head_batch.co_trained for head_batch in head_batches] == [["focal"]] * 3, (
        "what is finished is not trained again"
    )


def test_runs_that_cannot_be_trained_at_once_are_trained_alone(
    image_folder: Path, tmp_path: Path, head_batches: list[HeadBatch]
) -> None:
    again(image_folder, tmp_path / "a", "ce,ce+drs,alpa+mixup,alpa")
    assert sorted(head_batch.co_trained for head_batch in head_batches) == sorted(
        [["ce", "alpa"], ["ce+drs"], ["alpa+mixup"]] * 3
    )

    head_batches.clear()
    again(image_folder, tmp_path / "b", "ce,ldam", device="cpu", micro_batch=8)
    assert [head_batch.co_trained for head_batch in head_batches] == [["ce"]] * 3


def test_damaged_descriptions_name_no_batch(
    image_folder: Path, tmp_path: Path, head_batches: list[HeadBatch]
) -> None:
    out = tmp_path / "study"
    again(image_folder, out, "ce,alpa")
    for text in (
        "{",
        "[]",
        '{"status": "finished", "trained_with": [3]}',
        '{"status": "finished", "trained_with": "no"}',
    ):
        (out / "runs/ce/seed0-fold0/run.json").write_text(text, encoding="utf-8")
        (out / "runs/ce/seed0-fold0/model.safetensors").unlink()
        (out / "runs/alpa/seed0-fold0/run.json").unlink(missing_ok=True)
        head_batches.clear()
        again(image_folder, out, "ce,alpa")
        assert [head_batch.co_trained for head_batch in head_batches] == [["ce", "alpa"]], text

"""Which heads are trained together: as many as there are, and those of an earlier company as they were."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from fixtures.tiny_study import TINY
from tametail.study import runs
from tametail.study.study import compare
from tametail.training.heads.execute_heads import execute_heads
from tametail.training.heads.head_batches import CO_TRAINED, HeadBatch


def again(images: Path, out: Path, losses: str, **options: object) -> None:
    compare(images, losses, out=out, folds=3, fields=TINY | {"epochs": 3}, **options)  # type: ignore[arg-type]


def weights(study: Path) -> dict[str, bytes]:
    return {str(path.relative_to(study)): path.read_bytes() for path in study.glob("runs/*/*/*.safetensors")}


@pytest.fixture
def portions(monkeypatch: pytest.MonkeyPatch) -> list[HeadBatch]:
    """The portions that are trained from here on."""
    seen: list[HeadBatch] = []

    def watched(portion: HeadBatch, *rest: object) -> object:
        seen.append(portion)
        return execute_heads(portion, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(runs, "execute_heads", watched)
    return seen


def test_a_run_names_its_company_and_one_that_is_lost_is_trained_in_it_again(
    image_folder: Path, tmp_path: Path, portions: list[HeadBatch]
) -> None:
    out = tmp_path / "study"
    again(image_folder, out, "ce,alpa,asl,ce+la,ldam+drw")
    assert len(portions) == 3
    assert {tuple(portion.co_trained) for portion in portions} == {("ce", "alpa", "asl", "ldam+drw")}
    described = json.loads((out / "runs/asl/seed0-fold1/run.json").read_text(encoding="utf-8"))
    assert described[CO_TRAINED] == ["ce", "alpa", "asl", "ldam+drw"]
    before = weights(out)
    shutil.rmtree(out / "runs" / "asl" / "seed0-fold1")
    portions.clear()
    again(image_folder, out, "ce,alpa,asl,ce+la,ldam+drw")
    assert [portion.co_trained for portion in portions] == [["ce", "alpa", "asl", "ldam+drw"]]
    assert weights(out) == before
    portions.clear()
    again(image_folder, out, "focal")
    assert [portion.co_trained for portion in portions] == [["focal"]] * 3, (
        "what is finished is not trained again"
    )


def test_what_cannot_be_trained_together_is_not(
    image_folder: Path, tmp_path: Path, portions: list[HeadBatch]
) -> None:
    again(image_folder, tmp_path / "a", "ce,ce+drs,alpa+mixup,alpa")
    assert sorted(portion.co_trained for portion in portions) == sorted(
        [["ce", "alpa"], ["ce+drs"], ["alpa+mixup"]] * 3
    )
    from tametail.training.hardware import Hardware

    portions.clear()
    again(image_folder, tmp_path / "b", "ce", hardware=Hardware("cpu", micro_batch=8))
    assert portions == []


def test_damaged_descriptions_say_nothing_of_their_company(
    image_folder: Path, tmp_path: Path, portions: list[HeadBatch]
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
        portions.clear()
        again(image_folder, out, "ce,alpa")
        assert [portion.co_trained for portion in portions] == [["ce", "alpa"]], text

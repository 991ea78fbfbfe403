"""Units of work: planned once, whoever trains them; heads that are trained at once stay together."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tametail as tt
from fixtures.plain_figures import figures_not_rendered
from fixtures.tiny_study import TINY
from tametail.core.errors import DataError, UsageError
from tametail.study import train_units
from tametail.study.study import compare
from tametail.study.units import read_units
from tametail.training.heads.execute_heads import CO_TRAINED, execute_heads
from tametail.training.run import Run


def again(images: Path, out: Path, methods: str, **options: Any) -> None:
    compare(images, methods, out=out, folds=3, **TINY | {"epochs": 2} | options)


def weights(study: Path) -> dict[str, bytes]:
    return {str(path.relative_to(study)): path.read_bytes() for path in study.glob("runs/*/*/*.safetensors")}


@pytest.fixture(autouse=True)
def _quick() -> Iterator[None]:
    with figures_not_rendered():
        yield


@pytest.fixture
def stacks(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The methods of the stacks that are trained from here on."""
    seen: list[list[str]] = []

    def watched(runs: list[Run], *rest: object) -> object:
        seen.append([run.method.text for run in runs])
        return execute_heads(runs, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(train_units, "execute_heads", watched)
    return seen


@pytest.mark.slow
def test_a_lost_run_is_trained_in_its_stack_again(
    image_folder: Path, tmp_path: Path, stacks: list[list[str]]
) -> None:
    out = tmp_path / "study"
    again(image_folder, out, "ce,alpa,asl,ce+la,ldam+drw")
    assert len(stacks) == 6
    assert {tuple(stack) for stack in stacks} == {
        ("ce", "alpa", "asl"),  # to the minimum
        ("ldam+drw",),  # step by step
    }
    described = json.loads((out / "runs/asl/seed0-fold1/run.json").read_text(encoding="utf-8"))
    assert described[CO_TRAINED] == ["ce", "alpa", "asl"]
    before = weights(out)
    shutil.rmtree(out / "runs" / "asl" / "seed0-fold1")
    stacks.clear()
    again(image_folder, out, "ce,alpa,asl,ce+la,ldam+drw")
    assert stacks == [["ce", "alpa", "asl"]]
    assert weights(out) == before
    stacks.clear()
    again(image_folder, out, "focal")
    assert stacks == [["focal"]] * 3, "what is finished is not trained again"


@pytest.mark.slow
def test_each_run_is_in_one_unit_and_units_only_grow(image_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    again(image_folder, out, "ce,ce+la,alpa")
    first = read_units(out)
    assert [(unit.methods, unit.after, unit.needs) for unit in first] == [
        (("ce", "alpa"), ("ce+la",), ())
    ] * 3
    again(image_folder, out, "ce+crt,ldam", repeats=2)
    units = read_units(out)
    assert units[:3] == first
    places = [(unit.seed, unit.fold, text) for unit in units for text in unit.texts]
    assert len(places) == len(set(places)) == 5 * 3 * 2
    late = [unit for unit in units if not unit.methods]
    assert [(unit.after, unit.needs) for unit in late] == [(("ce+crt",), (number,)) for number in range(3)]
    shutil.rmtree(out / "runs" / "ce" / "seed0-fold1")
    shutil.rmtree(out / "runs" / "ce+crt" / "seed0-fold1")
    again(image_folder, out, "ce")
    assert read_units(out) == units
    assert (out / "runs/ce+crt/seed0-fold1/run.json").is_file()


def test_what_starts_from_an_unfinished_unit_needs_it(image_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    again(image_folder, out, "ce", engine="plan")
    again(image_folder, out, "ce+la", engine="plan")
    units = read_units(out)
    assert [(unit.methods, unit.after, unit.needs) for unit in units[3:]] == [
        ((), ("ce+la",), (number,)) for number in range(3)
    ]
    assert tt.work(out, unit=[4], device="cpu") == 4, "the unit that it needs is done first"
    assert (out / "runs/ce/seed0-fold1/run.json").is_file()
    assert tt.work(out, device="cpu") == 0
    again(image_folder, tmp_path / "other", "ce,ce+la")
    assert weights(out) == weights(tmp_path / "other")


def test_heads_that_cannot_be_trained_at_once_are_trained_alone(
    image_folder: Path, tmp_path: Path, stacks: list[list[str]]
) -> None:
    again(image_folder, tmp_path / "a", "ce,ce+drs,alpa+mixup,alpa")
    assert sorted(stacks) == sorted([["ce", "alpa"], ["ce+drs"], ["alpa+mixup"]] * 3)
    stacks.clear()
    again(image_folder, tmp_path / "b", "ce,ldam", device="cpu", micro_batch=8)
    assert stacks == [["ce"]] * 3


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        '{"number": 0, "seed": 0, "fold": 0, "methods": [3], "stacked": true, "after": [], "needs": []}',
        '{"number": 1, "seed": 0, "fold": 0, "methods": ["ce"], "stacked": true, "after": [], "needs": []}',
        '{"number": 0, "seed": 0, "fold": 0, "methods": ["ce"], "stacked": true, "after": [], "needs": [0]}',
        '{"number": 0, "seed": 0, "fold": -1, "methods": ["ce"], "stacked": true, "after": [], "needs": []}',
        '{"number": 0, "seed": 0, "fold": 0, "methods": [], "stacked": true, "after": [], "needs": []}',
    ],
)
def test_a_damaged_plan_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "units.jsonl").write_text(content + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"units\.jsonl.*remove the file"):
        read_units(tmp_path)


def test_a_unit_that_the_plan_lacks_is_refused(image_folder: Path, tmp_path: Path) -> None:
    again(image_folder, tmp_path / "study", "ce", engine="plan")
    with pytest.raises(UsageError, match="0 to 2, got 7"):
        tt.work(tmp_path / "study", unit="0,7")
    (tmp_path / "study" / "units.jsonl").unlink()
    with pytest.raises(DataError, match="run tametail compare"):
        tt.work(tmp_path / "study", unit="0")


def test_a_failed_run_is_tried_again_by_the_next_comparison_alone(image_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    study = compare(image_folder, "ldam,ce", out=out, folds=3, **TINY, epochs=2, lr=1e30)
    assert len(study.failed) == 3
    before = (out / "runs/ldam/seed0-fold0/run.json").stat().st_mtime_ns
    assert tt.work(out, device="cpu") == 0, "it has ended"
    assert (out / "runs/ldam/seed0-fold0/run.json").stat().st_mtime_ns == before
    again_failed = compare(image_folder, "ldam,ce", out=out, folds=3, **TINY, epochs=2, lr=1e30).failed
    assert again_failed == study.failed
    assert (out / "runs/ldam/seed0-fold0/run.json").stat().st_mtime_ns > before

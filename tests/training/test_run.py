"""What names a run, and that it is made again where something of it is lost."""

from __future__ import annotations

import shutil
from pathlib import Path

from fixtures.tiny_study import TINY
from tametail.study.study import compare
from tametail.training.run import Run
from tametail.training.strategies import parse_method


def test_what_fixes_a_run_names_it() -> None:
    described = {"table": {"fingerprint": "a"}, "recipe": {"lr": 1}, "methods": ["ce"]}
    run = Run(parse_method("ce"), 0, 1)
    same = run.identity(described | {"methods": ["ce", "alpa"], "name": "b"})
    assert run.identity(described) == same
    others = [described | {"recipe": {"lr": 2}}, described | {"splits": {"folds": 5}}]
    assert same not in [run.identity(other) for other in others]
    assert same not in [
        Run(parse_method("alpa"), 0, 1).identity(described),
        Run(run.method, 0, 2).identity(described),
    ]


def test_a_run_whose_weights_are_lost_is_done_again_to_the_same_end(
    image_folder: Path, study_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "study"
    shutil.copytree(study_folder, out)
    lost = out / "runs" / "ce" / "seed0-fold1" / "model.safetensors"
    before = lost.read_bytes()
    lost.unlink()
    stays = out / "runs" / "ce" / "seed0-fold0" / "model.safetensors"
    stamp = stays.stat().st_mtime_ns
    compare(image_folder, "alpa,ce", out=out, folds=3, **TINY, epochs=8, lr=1e-2)
    assert lost.read_bytes() == before
    assert stays.stat().st_mtime_ns == stamp

"""A run's folder appears whole and lasting, and is made again where something of it is lost."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from fixtures.tiny_study import TINY
from tametail.core.errors import TametailError
from tametail.study.study import compare
from tametail.training.run import Run, atomic_directory
from tametail.training.strategies import parse_method


def test_files_and_folder_are_on_the_disk_before_the_name_and_the_parent_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []
    run = tmp_path / "run"

    def flush(path: Path) -> None:
        flushed.append("inside" if path.parent != tmp_path else "folder")
        if path == tmp_path:
            flushed[-1] = "parent"
        assert run.exists() == (path == tmp_path)

    monkeypatch.setattr("tametail.training.run.flush", flush)
    with atomic_directory(run) as folder:
        (folder / "a").touch()
        (folder / "b").touch()
        assert not run.exists()
    assert flushed == ["inside", "inside", "folder", "parent"]
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), KeyboardInterrupt()])
def test_what_fails_leaves_what_was_there(tmp_path: Path, error: BaseException) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "before").touch()
    expected = TametailError if isinstance(error, OSError) else KeyboardInterrupt

    def fill(folder: Path) -> None:
        (folder / "after").touch()
        raise error

    with pytest.raises(expected), atomic_directory(tmp_path / "run") as folder:
        fill(folder)
    assert [path.name for path in tmp_path.rglob("*")] == ["run", "before"]


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

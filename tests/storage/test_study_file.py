"""The record of test-set evaluations, the lock of a folder, and the removal of leftovers."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import filelock
import pytest

from tametail.core.errors import DataError, TametailError
from tametail.storage.identity import lock_folder
from tametail.storage.study_file import (
    read_test_set_evaluations,
    record_test_set_evaluation,
    remove_leftovers,
)


def test_evaluations_of_the_test_set_are_numbered(tmp_path: Path) -> None:
    assert read_test_set_evaluations(tmp_path) == []
    for runs in (1, 2):
        record_test_set_evaluation(tmp_path, {"runs": runs, "best_out_of_fold": "ce·é"})
    assert [(one["evaluation"], one["runs"]) for one in read_test_set_evaluations(tmp_path)] == [
        (1, 1),
        (2, 2),
    ]
    assert read_test_set_evaluations(tmp_path)[0]["best_out_of_fold"] == "ce·é"


def test_a_damaged_record_of_test_set_evaluations_is_reported_and_not_overwritten(tmp_path: Path) -> None:
    record_test_set_evaluation(tmp_path, {"runs": 1})
    record = tmp_path / "test_set_evaluations.jsonl"
    record.write_text(record.read_text() + '{"evaluation": 2, "ti')
    before = record.read_bytes()
    with pytest.raises(DataError, match=r"test_set_evaluations\.jsonl.* cannot be read"):
        record_test_set_evaluation(tmp_path, {"runs": 1})
    assert record.read_bytes() == before


def test_a_file_system_without_locks_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise NotImplementedError("no flock")

    monkeypatch.setattr(filelock.FileLock, "acquire", fail)
    with pytest.raises(TametailError, match="put the folder on another disk"), lock_folder(tmp_path):
        pass


def test_an_error_under_the_lock_is_not_mistaken_for_an_error_of_the_lock(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="elsewhere"), lock_folder(tmp_path):
        raise OSError(errno.EIO, "elsewhere")
    with lock_folder(tmp_path):
        pass


def make(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_only_checkpoints_of_finished_runs_are_removed(tmp_path: Path) -> None:
    runs = tmp_path / "runs" / "ce"
    gone = make(runs / ".seed0-fold0.checkpoint" / "checkpoint-1.safetensors")
    make(runs / "seed0-fold0" / "run.json", '{"status": "finished"}')
    weights = make(runs / "seed0-fold0" / "model.safetensors")
    make(runs / "seed0-fold0" / "predictions.parquet")
    failed = make(runs / ".seed0-fold1.checkpoint" / "checkpoint-1.safetensors")
    make(runs / "seed0-fold1" / "run.json", '{"status": "failed"}')
    begun = make(runs / ".seed0-fold2.checkpoint" / "checkpoint-1.safetensors")
    half_written = make(runs / ".seed0-fold2.checkpoint" / ".checkpoint-2.safetensors.12345678.tmp")
    remove_leftovers(tmp_path)
    assert not gone.parent.exists()
    assert weights.exists()
    assert failed.exists()
    assert begun.exists()
    assert not half_written.exists()


def test_only_temporary_files_of_the_study_are_removed(tmp_path: Path) -> None:
    kept = [make(tmp_path / name) for name in ("study.json", "notes.tmp", ".hidden", ".notes.tmp")]
    stale = [make(tmp_path / name) for name in (".results.csv.0123abcd.tmp", ".study.json.77")]
    stale.append(make(tmp_path / "runs" / "ce" / ".seed0-fold0.0123abcd.tmp" / "history.csv"))
    remove_leftovers(tmp_path)
    assert all(path.exists() for path in kept)
    assert not any(path.exists() for path in stale)


def test_files_that_cannot_be_removed_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    stale = make(tmp_path / ".study.json.0123abcd.tmp")
    monkeypatch.setattr(Path, "unlink", fail)
    remove_leftovers(tmp_path)
    assert stale.exists()

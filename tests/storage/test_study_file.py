"""The record of a study: openings that are never lost, the lock, and what is swept."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import filelock
import pytest

from tametail.core.errors import DataError, TametailError
from tametail.storage.study_file import (
    lock,
    read_test_set_evaluations,
    record_test_set_evaluation,
    remove_leftovers,
)


def test_openings_are_numbered_and_kept(tmp_path: Path) -> None:
    assert read_test_set_evaluations(tmp_path) == []
    for runs in (1, 2):
        record_test_set_evaluation(tmp_path, {"runs": runs, "best_out_of_fold": "ce·é"})
    assert [(one["opening"], one["runs"]) for one in read_test_set_evaluations(tmp_path)] == [(1, 1), (2, 2)]
    assert read_test_set_evaluations(tmp_path)[0]["best_out_of_fold"] == "ce·é"


def test_a_damaged_record_of_openings_is_told_and_not_written_over(tmp_path: Path) -> None:
    record_test_set_evaluation(tmp_path, {"runs": 1})
    record = tmp_path / "test_set_evaluations.jsonl"
    record.write_text(record.read_text() + '{"opening": 2, "ti')
    before = record.read_bytes()
    with pytest.raises(DataError, match=r"openings\.jsonl.* cannot be read"):
        record_test_set_evaluation(tmp_path, {"runs": 1})
    assert record.read_bytes() == before


def test_a_file_system_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise NotImplementedError("no flock")

    monkeypatch.setattr(filelock.FileLock, "acquire", fail)
    with pytest.raises(TametailError, match="put the study on another disk"), lock(tmp_path):
        pass


def test_what_goes_wrong_under_the_lock_is_not_taken_for_trouble_with_the_lock(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="elsewhere"), lock(tmp_path):
        raise OSError(errno.EIO, "elsewhere")
    with lock(tmp_path):
        pass


def make(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_checkpoints_of_finished_runs_are_swept_and_others_stay(tmp_path: Path) -> None:
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


def test_only_half_written_files_of_ours_are_swept(tmp_path: Path) -> None:
    kept = [make(tmp_path / name) for name in ("study.json", "notes.tmp", ".hidden", ".notes.tmp")]
    stale = [make(tmp_path / name) for name in (".results.csv.0123abcd.tmp", ".study.json.77")]
    stale.append(make(tmp_path / "runs" / "ce" / ".seed0-fold0.0123abcd.tmp" / "history.csv"))
    remove_leftovers(tmp_path)
    assert all(path.exists() for path in kept)
    assert not any(path.exists() for path in stale)


def test_what_cannot_be_swept_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    stale = make(tmp_path / ".study.json.0123abcd.tmp")
    monkeypatch.setattr(Path, "unlink", fail)
    remove_leftovers(tmp_path)
    assert stale.exists()

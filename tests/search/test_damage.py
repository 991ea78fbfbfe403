"""Trials of another search, damaged files and a full disk are explained."""

from __future__ import annotations

import errno
import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from optuna.storages.journal import JournalFileBackend

from fixtures.small_search import search_in, settings, small_folds
from tametail.core.errors import DataError, TametailError, UsageError
from tametail.search.journal import check_search, evaluation_lock, folder_lock, open_journal, register_worker
from tametail.storage.identity import IDENTITY, SCHEMA
from tametail.storage.search_file import JOURNAL, SEARCH_FOLDER, SEARCH_KEYS, identity, read_search
from tametail.training.checkpointing.checkpointer import Stop, Stopped


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("done")
    search_in(folder, small_folds(), replace(settings(2), identity="one"))
    return folder


def test_the_journal_knows_its_search(done: Path) -> None:
    storage = open_journal(done)
    check_search(storage, done, "one")
    with pytest.raises(
        UsageError, match=r"found those of another \(one\).*another folder.*remove trials\.journal"
    ):
        check_search(storage, done, "two")


def test_all_that_fixes_trials_is_in_the_identity() -> None:
    content = dict.fromkeys(IDENTITY, "a") | {"search": dict.fromkeys(SEARCH_KEYS, "a") | {"trials": 5}}
    known = identity(content)
    assert identity(content | {"search": content["search"] | {"trials": 9}, "result": 1}) == known  # type: ignore[operator]
    changed = [content | {key: "b"} for key in IDENTITY]
    changed += [content | {"search": content["search"] | {key: "b"}} for key in SEARCH_KEYS]  # type: ignore[operator]
    assert len({known, *map(identity, changed)}) == 1 + len(IDENTITY) + len(SEARCH_KEYS)


@pytest.mark.parametrize("search", [[], {}, {"method": "alpa"}, None])
def test_a_damaged_search_file_is_reported(search: object, tmp_path: Path) -> None:
    (tmp_path / SEARCH_FOLDER.file).write_text(
        json.dumps({"schema": SCHEMA, "search": search}), encoding="utf-8"
    )
    with pytest.raises(DataError, match=r"is damaged \(.*restore it from a copy"):
        read_search(tmp_path)


@pytest.mark.parametrize(("key", "other"), [('"values"', '"valued"'), ('"counts"', '"count"')])
def test_a_journal_with_renamed_keys_is_reported(key: str, other: str, done: Path, tmp_path: Path) -> None:
    from tametail.search.journal import explain_damage
    from tametail.search.nested_search import trial_records

    (tmp_path / JOURNAL).write_text((done / JOURNAL).read_text("utf-8").replace(key, other), "utf-8")
    with pytest.raises(DataError, match="start again"), explain_damage(tmp_path):
        trial_records(open_journal(tmp_path), small_folds().names, settings(2))


def test_a_journal_that_lacks_lines_is_reported(done: Path, tmp_path: Path) -> None:
    lines = (done / JOURNAL).read_text("utf-8").splitlines(keepends=True)
    left = [line for line in lines if '"values":{' not in line]
    assert len(left) < len(lines)
    (tmp_path / JOURNAL).write_text("".join(left), "utf-8")
    with pytest.raises(DataError, match="start again"):
        search_in(tmp_path, small_folds(), replace(settings(3), identity="one"))


def test_a_full_disk_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(JournalFileBackend, "append_logs", full)
    with pytest.raises(TametailError, match=r"trials\.journal cannot be written .*Make room") as raised:
        search_in(tmp_path, small_folds(), settings(1))
    assert raised.value.exit_code == 1


def test_waiting_for_another_evaluation_is_announced_and_can_be_stopped(tmp_path: Path) -> None:
    stop, said = Stop(), []

    def say(line: str) -> None:
        said.append(line)
        stop.signal = signal.SIGTERM

    with evaluation_lock(tmp_path, Stop(), said.append), folder_lock(tmp_path):
        assert not said
        with pytest.raises(Stopped), evaluation_lock(tmp_path, stop, say, poll_seconds=0.01):
            pass
    assert len(said) == 1
    assert "waiting" in said[0]


def test_what_killed_workers_left_is_removed_by_the_last_one(tmp_path: Path) -> None:
    with register_worker(tmp_path) as worker:
        workers = tmp_path / ".workers"
        (workers / "0123456789abcdef.lock").touch()
        with register_worker(tmp_path) as other:
            assert worker.is_alive(other.name)
        assert {path.name.partition(".")[0] for path in workers.iterdir()} == {worker.name}
        victim = tmp_path / "mine"
        victim.touch()
        assert not worker.is_alive("../mine")
        assert victim.exists()
    assert not workers.exists()

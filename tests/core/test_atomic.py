"""Files that are whole or as they were before."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tametail.core.atomic import (
    atomic_path,
    flush,
    is_temporary,
    make_folder,
    temporary_sibling,
    write_atomically,
)


def failing(error: BaseException) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize("content", ["naïve\n", b"\x00\xff"], ids=["text", "bytes"])
def test_what_is_written_replaces_what_was_there(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "a"
    path.write_text("before")
    write_atomically(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()], ids=["full", "Ctrl-C"]
)
def test_what_fails_leaves_the_file_as_it_was_and_nothing_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, error: BaseException
) -> None:
    path = tmp_path / "a"
    path.write_text("before")
    monkeypatch.setattr(os, call, failing(error))
    with pytest.raises(type(error)):
        write_atomically(path, "after")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_is_on_the_disk_before_its_name_and_its_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(handle: int) -> None:
        real_fsync(handle)
        done.append("folder" if os.fstat(handle).st_mode & 0o040000 else "file")

    def replace(source: Path, target: Path) -> None:
        real_replace(source, target)
        done.append("name")

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    write_atomically(tmp_path / "a", "text")
    assert done == ["file", "name", "folder"]


def test_alone_what_a_killed_process_left_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "a.tmp").write_text("half of a long")
    with atomic_path(tmp_path / "a", exclusive=True) as temporary:
        assert temporary == tmp_path / "a.tmp"
        temporary.write_text("short")
    assert [entry.read_text() for entry in tmp_path.iterdir()] == ["short"]


def test_temporary_names_are_told_from_others(tmp_path: Path) -> None:
    names = {temporary_sibling(tmp_path / "study.json").name for _ in range(20)}
    assert len(names) == 20
    assert all(is_temporary(name) for name in names)
    assert not any(
        map(is_temporary, ["a.tmp", ".a.tmp", ".12345678.tmp", ".a.1234567.tmp", ".a.12345678.tmp.b"])
    )


def test_a_file_system_that_cannot_flush_folders_is_no_reason_to_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(os, "fsync", failing(OSError(errno.EINVAL, "Invalid argument")))
    flush(tmp_path)
    with pytest.raises(OSError, match="Invalid"):
        flush(tmp_path / "file")
    monkeypatch.setattr(os, "fsync", failing(OSError(errno.EIO, "Input/output error")))
    with pytest.raises(OSError, match="Input"):
        flush(tmp_path)


def test_folders_are_made_once_and_not_over_a_file(tmp_path: Path) -> None:
    for _ in range(2):
        make_folder(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "file")

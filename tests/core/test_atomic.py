"""Files that are whole or as they were before."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tametail.core.atomic import atomic_directory, flush, make_folder, write_atomically, write_output
from tametail.core.errors import TametailError


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


def test_an_output_goes_where_a_link_or_a_device_leads(tmp_path: Path) -> None:
    write_output(tmp_path / "deep" / "a", "before")
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "a")
    write_output(tmp_path / "link", "after")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "deep" / "a").read_text() == "after"
    write_output(Path(os.devnull), b"nowhere")
    assert not Path(os.devnull).is_file()
    with pytest.raises(TametailError, match=r"deep cannot be written .* give another file with -o"):
        write_output(tmp_path / "deep", "")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a"]


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


def test_files_and_their_folder_are_on_the_disk_before_the_name_and_the_parent_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []
    run = tmp_path / "run"

    def flush(path: Path) -> None:
        flushed.append("inside" if path.parent != tmp_path else "folder")
        if path == tmp_path:
            flushed[-1] = "parent"
        assert run.exists() == (path == tmp_path)

    monkeypatch.setattr("tametail.core.atomic.flush", flush)
    with atomic_directory(run) as folder:
        (folder / "a").touch()
        (folder / "b").touch()
        assert not run.exists()
    assert flushed == ["inside", "inside", "folder", "parent"]
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), KeyboardInterrupt()])
def test_a_folder_that_fails_leaves_what_was_there(tmp_path: Path, error: BaseException) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "before").touch()

    def fill(folder: Path) -> None:
        (folder / "after").touch()
        raise error

    with pytest.raises(type(error)), atomic_directory(tmp_path / "run") as folder:
        fill(folder)
    assert [path.name for path in tmp_path.rglob("*")] == ["run", "before"]

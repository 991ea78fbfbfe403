"""What killed processes left is removed, and nothing else: no link is followed, no mount point crossed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fixtures.leftovers import contents, left_over, make, make_home
from tametail.core.atomic import atomic_directory, write_atomically
from tametail.core.removal import is_temporary, remove, remove_leftovers, temporary_sibling

DAY = 86_400


def test_temporary_names_are_told_from_others(tmp_path: Path) -> None:
    names = {temporary_sibling(tmp_path / "study.json").name for _ in range(20)}
    assert len(names) == 20
    assert all(map(is_temporary, names))
    own = names.pop()
    near = [
        own[1:],
        own + ".b",
        own.replace(".tmp", ""),
        ".a.tmp",
        ".a.12345678.tmp",
        ".nfs00ab",
        ".DS_Store",
    ]
    assert not any(map(is_temporary, near))


def test_only_what_ended_processes_left_is_removed(tmp_path: Path) -> None:
    gone = make(left_over(tmp_path / "report.html"))
    folder = make(left_over(tmp_path / "run") / "predictions.parquet").parent
    own = make(temporary_sibling(tmp_path / "report.html"))  # of this process, which lives
    parent = make(left_over(tmp_path / "report.html", os.getppid()))
    elsewhere = own.name.split(".")[-2]
    other = make(tmp_path / own.name.replace(elsewhere, "00000000-1-0123abcd"))  # of another machine
    make_home(tmp_path / "home")
    before = contents(tmp_path / "home")
    remove_leftovers(tmp_path, depth=2)
    assert not gone.exists()
    assert not folder.exists()
    assert own.exists()
    assert parent.exists()
    assert other.exists()
    assert contents(tmp_path / "home") == before
    for path in (own, other):
        os.utime(path, (path.stat().st_mtime - 2 * DAY,) * 2)
    remove_leftovers(tmp_path)
    assert own.exists(), "a process may be suspended for days"
    assert not other.exists()


def test_each_write_removes_what_was_left_in_its_folder(tmp_path: Path) -> None:
    for write in (
        lambda: write_atomically(tmp_path / "a", "whole"),
        lambda: fill(tmp_path / "run"),
    ):
        left = make(left_over(tmp_path / "another"))
        write()
        assert not left.exists()
    assert contents(tmp_path) == {"a": "whole", "run": "", "run/b": "b"}


def fill(directory: Path) -> None:
    with atomic_directory(directory, "ab".__contains__, last="b") as folder:
        make(folder / "b", "b")


@pytest.mark.parametrize(
    "place", ["a temporary file", "a temporary folder", "a folder", "the folder", "inside"]
)
@pytest.mark.parametrize("target", ["file", "folder", "nothing"])
def test_links_are_neither_followed_nor_removed(tmp_path: Path, place: str, target: str) -> None:
    home = make_home(tmp_path / "home")
    make(left_over(home / "own"))  # even what would be removed if it were reached
    study, before = tmp_path / "study", contents(home)
    study.mkdir()
    to = {"file": home / ".bashrc", "folder": home, "nothing": home / "absent"}[target]
    link = {
        "a temporary file": left_over(study / "a"),
        "a temporary folder": left_over(study / "runs"),
        "a folder": study / "runs",
        "the folder": study / "link",
        "inside": left_over(study / "run") / "predictions.parquet",
    }[place]
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(to)
    remove_leftovers(link if place == "the folder" else study, depth=3)
    remove(link)
    remove(link / "tax")
    assert link.is_symlink()
    assert contents(home) == before


@contextmanager
def mounted(folder: Path, monkeypatch: pytest.MonkeyPatch, *, real: bool) -> Iterator[None]:
    """Another file system at a folder, or the impression of one."""
    if real:
        done = subprocess.run(["mount", "-t", "tmpfs", "none", str(folder)], capture_output=True, check=False)
        if done.returncode:
            pytest.skip("file systems cannot be mounted here")
        try:
            make(folder / "data")
            yield
        finally:
            subprocess.run(["umount", str(folder)], check=True)
        return
    make(folder / "data")
    number, fstat = folder.stat().st_ino, os.fstat

    def other_disk(handle: int) -> os.stat_result:
        found = fstat(handle)
        return os.stat_result((*found[:2], found[2] + (found.st_ino == number), *found[3:10]))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", other_disk)
        yield


@pytest.mark.parametrize("real", [True, False], ids=["mounted", "as if mounted"])
def test_mount_points_are_not_crossed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real: bool) -> None:
    if real and shutil.which("mount") is None:
        pytest.skip("file systems cannot be mounted here")
    for folder in (left_over(tmp_path / "run") / "disk", left_over(tmp_path / "other")):
        folder.mkdir(parents=True)
        with mounted(folder, monkeypatch, real=real):
            remove_leftovers(tmp_path, depth=3)
            remove(folder)
            assert (folder / "data").exists()


def test_what_is_foreign_in_a_folder_stays_and_so_does_the_folder(tmp_path: Path) -> None:
    home = make_home(tmp_path / "run")
    before = contents(home)
    make(home / "run.json")
    make(left_over(home / "run.json"))
    remove(home, lambda name: name == "run.json" or is_temporary(name))
    assert contents(home) == before


def test_a_folder_that_becomes_a_link_while_it_is_removed_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = make_home(tmp_path / "home")
    before, left = contents(home), left_over(tmp_path / "study" / "run")
    make(left / "inner" / "notes.txt")
    real_open, swapped = os.open, []

    def swap(path: str | Path, flags: int, *given: int, dir_fd: int | None = None) -> int:
        if path == "inner" and not swapped:
            swapped.append(shutil.move(left / "inner", tmp_path / "aside"))
            (left / "inner").symlink_to(home)
        return real_open(path, flags, *given, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", swap)
    remove_leftovers(tmp_path / "study")
    assert swapped
    assert contents(home) == before


def test_a_new_folder_replaces_an_old_one_but_not_what_others_put_there(tmp_path: Path) -> None:
    run = make(tmp_path / "run" / "a", "old").parent
    fill(run)
    assert contents(run) == {"b": "b"}
    make(run / "a", "old")
    make(run / ".DS_Store", "kept")
    fill(run)
    assert contents(run) == {"b": "b", ".DS_Store": "kept"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_nothing_is_raised_where_nothing_can_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise PermissionError

    left = make(left_over(tmp_path / "a"))
    monkeypatch.setattr(os, "unlink", fail)
    remove_leftovers(tmp_path)
    remove_leftovers(tmp_path / "absent")
    remove(left)
    assert left.exists()

"""The files that the entries of a table lead to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tametail.core.errors import DataError
from tametail.data import read_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("x/a.png", "x/b.png", "y/c.png", "z/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_links_and_dots_do_not_lead_out_of_the_root(tmp_path: Path, folder: Path) -> None:
    inside, outside = folder / "in", folder / "out"
    inside.mkdir()
    outside.mkdir()
    (outside / "secret.png").touch()
    (inside / "a.png").touch()
    (inside / "link.png").symlink_to(outside / "secret.png")
    (inside / "folder").symlink_to(outside, target_is_directory=True)
    (inside / "again.png").symlink_to(inside / "a.png")
    (inside / "loop.png").symlink_to(inside / "loop.png")
    (inside / "round").symlink_to(inside / "round")
    table = inside / "t.csv"
    for entry in (
        "link.png",
        "folder/secret.png",
        "../out/secret.png",
        f"{outside}/secret.png",
        "/etc/passwd",
    ):
        table.write_text(f"image,label\na.png,x\n{entry},y\n")
        with pytest.raises(DataError, match=r"1 of 2 images .* lie outside .*--image-root"):
            read_images(table)
    for entry in ("loop.png", "round/a.png", "..", ".", "a.png/", "a.png/b.png", "x" * 5000):
        table.write_text(f"image,label\na.png,x\n{entry},y\n")
        with pytest.raises(DataError, match=r"1 of 2 images .* (are not in|lie outside)"):
            read_images(table)
    table.write_text(f"image,label\n{inside}/a.png,x\nagain.png,y\n")
    assert read_images(table).images.tolist() == ["a.png", "again.png"]
    table.write_text("image,label\nin/a.png,x\nin/folder/secret.png,y\n")
    assert read_images(table, image_root=folder).images.tolist() == ["in/a.png", "in/folder/secret.png"]
    # The root itself may be reached through a link, under either name.
    (tmp_path / "alias").symlink_to(inside, target_is_directory=True)
    table.write_text(f"image,label\n{inside}/a.png,x\nagain.png,y\n")
    assert read_images(table, image_root=tmp_path / "alias").images.tolist() == ["a.png", "again.png"]


@pytest.mark.skipif(os.name == "nt", reason="no pipes in folders there")
def test_pipes_are_no_images(folder: Path) -> None:
    os.mkfifo(folder / "x" / "pipe.png")
    with pytest.raises(DataError, match="is a pipe or a device"):
        read_images(folder)
    (folder / "t.csv").write_text("image,label\nx/a.png,x\nx/pipe.png,y\n")
    with pytest.raises(DataError, match=r"1 of 2 images .* are not in"):
        read_images(folder / "t.csv")


def test_each_folder_is_listed_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: (listed.append(str(path)), scandir(path))[1])
    rows = "".join(f"x/{name},{label}\n" for name, label in [("a", "x"), ("b", "y"), ("b.png", "y")])
    (folder / "t.csv").write_text(f"image,label\n{rows}")
    assert len(read_images(folder / "t.csv")) == 2
    assert listed == [str(folder / "x")]

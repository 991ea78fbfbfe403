from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest

from tametail.core.errors import DataError, UsageError
from tametail.data import SourceReading, read_images
from tametail.data.readers import dicom_folder

REAL = Path(__file__).parents[4] / "shared" / "data"


def touch(root: Path, *names: str) -> Path:
    """Files with these names. Reading a table opens no image, so they may be empty."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def test_class_folders_and_what_lies_deeper_in_them(tmp_path: Path) -> None:
    root = touch(tmp_path / "skin", "mel/b.JPG", "mel/deep/er/a.png", "nv/a.png", "nv/notes.txt")
    touch(root, ".hidden/x.png", "nv/._a.png", "README.md")
    with pytest.raises(
        DataError, match=r"several ways.*--class-level 1: mel, nv .*--class-level deepest: er, mel, nv"
    ):
        read_images(root)
    table = read_images(root, class_level=1)
    assert table.name == "skin"
    assert table.class_names == ("mel", "nv")
    assert table.images.tolist() == ["mel/b.JPG", "mel/deep/er/a.png", "nv/a.png"]
    assert table.frame["label"].tolist() == ["mel", "mel", "nv"]
    assert table.groups.tolist() == table.images.tolist()
    assert set(table.frame["split"]) == {""}
    assert all(path.is_file() for path in table.paths)
    assert not table.synthetic


def test_split_folders_around_class_folders(tmp_path: Path) -> None:
    root = touch(tmp_path, "train/mel/a.png", "train/nv/b.png", "Val/nv/c.png", "test/mel/d.png")
    table = read_images(root)
    assert table.class_names == ("mel", "nv")
    assert dict(zip(table.images, table.frame["split"], strict=True)) == {
        "train/mel/a.png": "train",
        "train/nv/b.png": "train",
        "Val/nv/c.png": "val",
        "test/mel/d.png": "test",
    }


def test_linked_folders_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    root = touch(tmp_path / "set", "mel/a.png")
    (root / "nv").symlink_to(touch(tmp_path / "elsewhere", "b.png"), target_is_directory=True)
    (root / "mel" / "loop").symlink_to(root, target_is_directory=True)
    (root / "itself").symlink_to(root / "itself", target_is_directory=True)
    assert read_images(root).images.tolist() == ["mel/a.png", "nv/b.png"]


def test_a_link_to_nothing_is_listed_so_that_it_is_found_unreadable(tmp_path: Path) -> None:
    root = touch(tmp_path, "mel/a.png", "nv/b.png")
    (root / "nv" / "gone.png").symlink_to(root / "nowhere.png")
    (root / "nv" / "itself.png").symlink_to(root / "nv" / "itself.png")
    assert read_images(root).images.tolist() == ["mel/a.png", "nv/b.png", "nv/gone.png", "nv/itself.png"]


def test_a_folder_of_dicom_files_is_left_to_its_own_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = pd.DataFrame(
        {"image": ["a", "b"], "label": ["x", "y"], "group": ["p", "q"], "split": ""}, dtype=object
    )
    monkeypatch.setattr(
        dicom_folder, "read_dicom_folder", lambda root, options: (frame, SourceReading("folders"))
    )
    named = touch(tmp_path / "named", "x/a.dcm", "y/notes.md")
    marked = touch(tmp_path / "marked", "x/README")
    (marked / "x" / "IM0001").write_bytes(bytes(128) + b"DICM")
    for folder in (named, marked):
        assert read_images(folder).class_names == ("x", "y")
    touch(named, "x/b.png", "y/c.png")
    assert read_images(named).images.tolist() == ["x/b.png", "y/c.png"]
    (marked / "x" / "IM0001").write_bytes(b"DICM")
    with pytest.raises(DataError, match="2 × without extension"):
        read_images(marked)


def test_a_word_that_is_no_path_could_be_the_name_of_a_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"nothing is there; of the sets .* did you mean ham10000"):
        read_images("ham1000")
    with pytest.raises(DataError, match=r"nothing is there$"):
        read_images("some/ham1000")


def test_a_class_without_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a class with a name .* found none for  /a\.png"):
        read_images(touch(tmp_path, " /a.png", "x/b.png"))


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "mel/a.png", "nv/b.png")
    (tmp_path / "t.csv").write_text("image,label\nmel/a.png,x\nnv/b.png,y\n")
    scandir = os.scandir

    def refuse(path: str | Path) -> object:
        if Path(path).name == "nv":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)  # who tests as root may read everything
    for source in (tmp_path, tmp_path / "t.csv"):
        with pytest.raises(DataError, match=r"nv cannot be read \(Permission denied\)"):
            read_images(source)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "is empty"),
        (
            ["a/x.xyz", "a/y.xyz", "b/z.txt"],
            r"none of its 3 files looks like an image \(2 × \.xyz, 1 × \.txt\)",
        ),
        (["a.png", "b.png"], r"2 of 2 lie outside \(a.png, b.png\)"),
        (["mel/a.png", "stray.png"], r"1 of 2 lie outside \(stray.png\)"),
        (["train/a.png", "test/b.png"], r"2 of 2 lie outside"),
        (["mel/a.png", "mel/b.png"], "at least two classes, found only 'mel' on all 2 images"),
        (["patients.csv"], "there is patients.csv: give the path"),
        (["metadata.csv"], r"metadata\.csv, but it is empty"),
    ],
)
def test_folders_that_are_no_data_set_are_refused(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_images(touch(tmp_path, *names))


def test_absent_paths_and_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing is there"):
        read_images(tmp_path / "absent")
    with pytest.raises(
        DataError, match=r"got the file .*a\.7z: compressed archives are not read: unpack them"
    ):
        read_images(touch(tmp_path, "a.7z") / "a.7z")
    with pytest.raises(
        DataError, match=r"got the file .*x\.h5\.gz: compressed HDF5 is not read: decompress it \(gunzip\)"
    ):
        read_images(touch(tmp_path, "x.h5.gz") / "x.h5.gz")
    with pytest.raises(DataError, match=r"got the file .*x\.tfrecord: TFRecord is not read: save each image"):
        read_images(touch(tmp_path, "x.tfrecord") / "x.tfrecord")


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("a.tfrecord", "save each image in a folder per class, or write WebDataset"),
        ("a.tfrec", "save each image in a folder per class, or write WebDataset"),
        ("a.npy", "save each image as PNG"),
        ("a.mat", "save each image as PNG"),
        ("a.pkl", "pickled objects can run code when they are read, so they are never opened"),
        ("a.pt", "pickled objects can run code when they are read, so they are never opened"),
        ("a.h5.gz", r"decompress it \(gunzip\)"),
        ("a.mha", "convert them to NIfTI"),
        ("a.svs", "cut them into tiles"),
        ("a.tar.bz2", "decompress it|unpack"),
        ("a.rar", "unpack them"),
    ],
)
def test_other_formats_say_what_to_do(tmp_path: Path, name: str, advice: str) -> None:
    folder = touch(tmp_path / "set", f"a/{name}", f"b/{name}")
    for source in (folder, folder / "a" / name):
        with pytest.raises(DataError, match=advice):
            read_images(source)


def test_column_options_are_refused_where_there_are_no_columns(tmp_path: Path) -> None:
    root = touch(tmp_path, "mel/a.png", "nv/b.png")
    with pytest.raises(UsageError, match=r"--label-col, --image-root can only be given for a CSV"):
        read_images(root, label_col="dx", image_root=root)


def test_a_folder_with_labels(tmp_path: Path) -> None:
    root = touch(tmp_path / "cells", "images/b.png", "images/a.png", "images/unlisted.png")
    (root / "labels.csv").write_text("image,label\nimages/b.png,x\nimages/a.png,y\n")
    table = read_images(str(root))
    assert table.name == "cells"
    assert table.images.tolist() == ["images/a.png", "images/b.png"]
    assert table.frame["label"].tolist() == ["y", "x"]


def test_a_relative_path_gets_the_name_of_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "cells", "x/a.png", "y/b.png")
    monkeypatch.chdir(tmp_path / "cells")
    assert read_images(".").name == "cells"


def test_demo_is_the_built_in_set_and_a_path_of_that_name_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tametail.data.demo import demo

    written = touch(tmp_path / "made", "images/a.png", "images/b.png")
    (written / "labels.csv").write_text("image,label,group\nimages/a.png,x,p\nimages/b.png,y,p\n")
    monkeypatch.setattr(demo, "demo_directory", lambda cache, seed: written)
    monkeypatch.setattr(demo, "write_demo", lambda directory, *, seed: None)
    table = read_images("demo")
    assert (table.name, table.synthetic, table.root) == ("demo", True, written)
    with pytest.raises(UsageError, match="the set demo has fixed columns"):
        read_images("demo", group_col="patient")

    touch(tmp_path / "demo", "u/a.png", "v/b.png")
    monkeypatch.chdir(tmp_path)
    for source in ("./demo", Path("demo")):
        table = read_images(source)
        assert (table.name, table.synthetic, table.class_names) == ("demo", False, ("u", "v"))


def test_a_group_on_both_sides_of_the_given_test_set_is_a_leak(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png", "c.png", "d.png")
    rows = "a.png,x,p1,train\nb.png,y,p1,test\nc.png,x,p2,val\nd.png,y,p2,train\n"
    (tmp_path / "t.csv").write_text(f"image,label,group,split\n{rows}")
    with pytest.raises(DataError, match=r"1 groups have images both in test and outside it \(p1\)"):
        read_images(tmp_path / "t.csv")


@pytest.mark.skipif(os.name == "nt", reason="file names are Unicode there")
def test_file_names_that_cannot_be_written_down_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "mel/a.png", "nv/b.png")
    try:
        Path(os.fsdecode(bytes(tmp_path / "nv") + b"/\xff.png")).touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(DataError, match="file names in UTF-8"):
        read_images(tmp_path)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "counts", "groups"),
    [
        (
            "ham10000_224",
            {"akiec": 183, "bcc": 264, "bkl": 583, "df": 60, "mel": 491, "nv": 2400, "vasc": 80},
            4061,
        ),
        (
            "aptos2019_gf224_dev",
            {"mild": 296, "moderate": 797, "no_dr": 1444, "proliferative_dr": 238, "severe": 154},
            None,
        ),
    ],
)
def test_real_tables(name: str, counts: dict[str, int], groups: int | None) -> None:
    if not (REAL / name).is_dir():
        pytest.skip(f"no real images at {REAL / name}")
    table = read_images(REAL / name)
    assert table.counts() == counts
    assert groups is None or len(set(table.groups)) == groups
    assert read_images(REAL / name / "labels.csv").fingerprint == table.fingerprint

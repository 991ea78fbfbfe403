from __future__ import annotations

import io
import os
import shutil
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tametail.core.errors import DataError, TametailError, UsageError
from tametail.data import ImageTable, decoded_images, read_file, read_images
from tametail.data.reading import reading_facts


def encoded(grey: int, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((12, 12, 3), grey, np.uint8)).save(stream, kind)
    return stream.getvalue()


def packed(path: Path, files: dict[str, bytes | str], method: int = zipfile.ZIP_DEFLATED) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def unpacked(path: Path) -> Path:
    folder = path.parent / "unpacked" / path.stem
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    return folder


def assert_same(table: ImageTable, folder: ImageTable) -> None:
    """The same rows, pixels and words as those of the folder; no image of the archive is a file."""
    assert table.frame.equals(folder.frame)
    assert table.fingerprint == folder.fingerprint
    assert table.name == folder.name
    assert reading_facts(table) == reading_facts(folder)
    assert not any(path.exists() for path in table.paths)
    for path, file in zip(table.paths, folder.paths, strict=True):
        assert read_file(path) == file.read_bytes()
    assert np.array_equal(decoded_images(table, 8).pixels, decoded_images(folder, 8).pixels)


CLASSES = {f"{label}/{row}.png": encoded(20 * row + at) for at, label in enumerate("ab") for row in range(3)}
LAYOUTS: dict[str, dict[str, bytes | str]] = {
    "class folders": {**CLASSES, "a/1_mask.txt": "no image", "readme.md": "a set", "b/.hidden.png": b""},
    "below a folder": {f"skin/{name}": content for name, content in CLASSES.items()},
    "splits": {
        f"set/{split}/{name}": content + split.encode()
        for split in ("train", "test")
        for name, content in CLASSES.items()
    },
    "a table": {
        "images/1.png": encoded(1),
        "images/2.jpg": encoded(2, "JPEG"),
        "images/sub/3.png": encoded(3),
        "labels.csv": "image,label,group,age\nimages/1.png,x,p,50\nimages/2,y,q,60\n3.png,x,p,70\n",
    },
    "tables of splits": {
        **{f"{split}/{n}.png": encoded(n + 5 * (split == "test")) for split in ("train", "test") for n in (0, 1)},
        **{f"{split}/metadata.csv": "file_name,label\n0.png,x\n1.png,y\n" for split in ("train", "test")},
    },
    "without extensions": {"a/one": encoded(1), "b/two": encoded(2), "b/three": encoded(3, "JPEG"), "LICENSE": "free"},
}  # fmt: skip


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_archive_is_read_as_its_folder(tmp_path: Path, layout: str, method: int) -> None:
    path = packed(tmp_path / "skin.zip", LAYOUTS[layout], method)
    assert_same(read_images(path), read_images(unpacked(path)))
    assert_same(read_images(path), read_images(unpacked(path)))  # by the index of the first time


def test_the_folder_that_holds_the_table_is_the_root(tmp_path: Path) -> None:
    inside = {f"export/{name}": content for name, content in LAYOUTS["a table"].items()}
    table = read_images(packed(tmp_path / "a.zip", {**inside, "__MACOSX/._export": b"x"}))
    assert table.images.tolist() == ["images/1.png", "images/2.jpg", "images/sub/3.png"]
    assert table.frame["age"].tolist() == [50, 60, 70]
    assert table.groups.tolist() == ["p", "q", "p"]


def test_options_of_tables_and_of_folders(tmp_path: Path) -> None:
    content = {"im/1.png": encoded(1), "im/2.png": encoded(2), "labels.csv": "id,dx\n1,x\n2,y\n"}
    path = packed(tmp_path / "a.zip", content)
    table = read_images(path, image_col="id", label_col="dx")
    assert table.frame.set_index("image")["label"].to_dict() == {"im/1.png": "x", "im/2.png": "y"}
    with pytest.raises(DataError, match=r"a\.zip/labels\.csv") as error:
        read_images(path)
    assert "packed" not in str(error.value)  # no word of what stands for it
    with pytest.raises(
        UsageError, match="--image-root does not apply here, as the images are in a zip archive"
    ):
        read_images(path, image_root=tmp_path)
    by_level = {f"{label}/p{n}/{n}.png": encoded(n) for label in "ab" for n in range(4)}
    path = packed(tmp_path / "levels.zip", by_level)
    table = read_images(path, class_level=1, group_from="folder:2")
    assert table.counts() == {"a": 4, "b": 4}
    assert sorted(set(table.groups)) == ["p0", "p1", "p2", "p3"]


def test_a_folder_of_archives_gives_the_split(tmp_path: Path) -> None:
    for split, at in (("train", 0), ("test", 100)):
        files = {f"{split}/{label}/{n}.png": encoded(at + n) for label in "ab" for n in range(2)}
        packed(tmp_path / f"set/{split}.zip", dict(files))
    (tmp_path / "set/README.md").write_text("two archives")
    table = read_images(tmp_path / "set")
    assert table.name == "set"
    assert table.frame.groupby(["split", "label"]).size().to_dict() == {
        ("test", "a"): 2, ("test", "b"): 2, ("train", "a"): 2, ("train", "b"): 2,
    }  # fmt: skip
    assert read_file(table.root / "test/test/a/1.png") == encoded(101)
    assert sorted(int(row.mean()) for row in decoded_images(table, 8).pixels) == [
        0, 0, 1, 1, 100, 100, 101, 101,
    ]  # fmt: skip


def test_archives_of_classes(tmp_path: Path) -> None:
    for at, label in enumerate("ab"):
        packed(tmp_path / f"{label}.zip", {f"{n}.png": encoded(at * 50 + n) for n in range(3)})
    assert read_images(tmp_path).counts() == {"a": 3, "b": 3}


def test_archives_beside_images_are_the_download(tmp_path: Path) -> None:
    packed(tmp_path / "all.zip", dict(CLASSES))
    for name, content in CLASSES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    table = read_images(tmp_path)
    assert table.counts() == {"a": 3, "b": 3}
    assert all(path.exists() for path in table.paths)


def test_nothing_stays_but_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAMETAIL_CACHE", str(tmp_path / "cache"))
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    files = {}
    for label in "ab":
        for n in range(20):
            stream = io.BytesIO()
            Image.fromarray(np.roll(noise, n, 0)).save(stream, "PNG")
            files[f"{label}/{n}.png"] = stream.getvalue()
    path = packed(tmp_path / "a.zip", dict(files))
    read_images(path)
    kept = [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in kept) < path.stat().st_size / 20
    assert {file.suffix for file in kept} <= {".parquet", ".json", ".lock"}


def test_an_archive_that_changes_after_reading_is_named(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip", dict(CLASSES), zipfile.ZIP_STORED)
    table = read_images(path)
    content = bytearray(path.read_bytes())
    at = content.index(b"IDAT") + 6
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a/0\.png in a\.zip is damaged or was changed"):
        read_file(table.paths[0])
    path.unlink()
    with pytest.raises(Exception, match=r"expected a zip archive at .*a\.zip, but it is gone"):
        read_file(table.paths[0])


def entry(name: str, mode: int = 0o100644) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


def with_entry(path: Path, info: zipfile.ZipInfo, content: bytes = b"x") -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, image in CLASSES.items():
            archive.writestr(name, image)
        archive.writestr(info, content)


def twice(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/1.png", encoded(1))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a/1.png", encoded(2))


def edited(path: Path, signature: bytes, at: int, value: bytes) -> None:
    """Change a field of the last header of this kind."""
    packed(path, dict(CLASSES))
    content = bytearray(path.read_bytes())
    place = content.rindex(signature) + at
    content[place : place + len(value)] = value
    path.write_bytes(content)


def bomb(path: Path) -> None:
    packed(path, {**CLASSES, "b/zeros.png": bytes(20 << 20)})


def many_small_bombs(path: Path) -> None:
    """Each below the ratio of one file, together far above that of all."""
    block = os.urandom(1 << 14) + bytes(2 << 20)
    packed(path, {f"a/{n}.png": block for n in range(200)})


def overlapping(path: Path) -> None:
    """Fifield's bomb: several entries of the list lead to the same bytes."""
    packed(path, {"a/0.png": os.urandom(3000), "b/1.png": os.urandom(3000)})
    content = bytearray(path.read_bytes())
    second = content.rindex(b"PK\x01\x02")
    content[second + 42 : second + 46] = struct.pack("<I", 0)
    path.write_bytes(content)


def file_and_folder(path: Path) -> None:
    packed(path, {"a": "x", **CLASSES})


def shortened(path: Path) -> None:
    packed(path, dict(CLASSES))
    path.write_bytes(path.read_bytes()[:-60])


def without_beginning(path: Path) -> None:
    packed(path, {name: os.urandom(500) for name in CLASSES})
    content = path.read_bytes()
    start = struct.unpack("<I", content[-6:-2])[0]
    path.write_bytes(content[start:])


def very_many(path: Path) -> None:
    """A list of 700,000 entries of 46 bytes, which the end of the archive calls 1."""
    header = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 20, 20, 0, 0, 0, 33, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    content = header * 700_000
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(content), 0, 0)
    path.write_bytes(content + end)


HOSTILE: dict[str, tuple[Callable[[Path], None], str]] = {
    "link": (lambda path: with_entry(path, entry("a/l.png", 0o120777), b"/etc/passwd"), r"a/l\.png, a link"),
    "device": (lambda path: with_entry(path, entry("a/l.png", 0o020666)), "which is a device or a pipe"),
    "absolute": (lambda path: with_entry(path, entry("/etc/x.png")), "which leads out of the archive"),
    "traversal": (lambda path: with_entry(path, entry("a/../../x.png")), "which leads out of the archive"),
    "backslash": (lambda path: with_entry(path, entry("a\\..\\x.png")), "which leads out of the archive"),
    "drive": (lambda path: with_entry(path, entry("C:x.png")), "which leads out of the archive"),
    "no plain path": (lambda path: with_entry(path, entry("a//x.png")), "whose name is no plain path"),
    "long name": (lambda path: with_entry(path, entry(f"a/{'x' * 300}.png")), "names that files of one folder can have"),
    "encrypted": (lambda path: edited(path, b"PK\x01\x02", 8, b"\x01\x00"), r"b/2\.png, which is encrypted"),
    "other compression": (lambda path: edited(path, b"PK\x01\x02", 10, b"\x0c\x00"), "neither none nor deflate"),
    "beyond its end": (lambda path: edited(path, b"PK\x01\x02", 20, b"\xff\xff\xff\x0f"), "more than the archive has|shares its bytes"),
    "wrong size": (lambda path: edited(path, b"PK\x01\x02", 24, b"\x10\x00\x00\x00"), r"b/2\.png in .* is damaged"),
    "wrong checksum": (lambda path: edited(path, b"PK\x01\x02", 16, b"\x00\x00\x00\x00"), r"b/2\.png in .* is damaged"),
    "no header": (lambda path: edited(path, b"PK\x03\x04", 0, b"PK\x03\x05"), r"b/2\.png in .* is damaged"),
    "twice": (twice, r"a/1\.png, for the second time"),
    "file and folder": (file_and_folder, "names that files of one folder can have"),
    "bomb": (bomb, r"b/zeros\.png, of 20,971,520 bytes made of .*, more than 200 times as many"),
    "many small bombs": (many_small_bombs, "files of at most 20 times the size"),
    "overlapping": (overlapping, "which shares its bytes with another"),
    "truncated": (shortened, "expected a whole zip archive"),
    "without its beginning": (without_beginning, "more than the archive has"),
    "very many": (very_many, "more than 500,000 files and folders"),
    "no archive": (lambda path: path.write_bytes(b"PK\x03\x04" + os.urandom(5000)) and None, "expected a whole zip archive"),
    "empty": (lambda path: path.write_bytes(b"") and None, "expected a whole zip archive"),
    "no image": (lambda path: packed(path, {"a/1.md": "x"}) and None, "expected images .* found none"),
    "DICOM": (lambda path: packed(path, {**CLASSES, "a/1.dcm": b"x"}) and None, "images other than DICOM"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_archives_are_refused_by_name(tmp_path: Path, case: str) -> None:
    write, message = HOSTILE[case]
    path = tmp_path / "hostile.zip"
    write(path)
    started = time.perf_counter()
    with pytest.raises(DataError, match=message) as error:
        read_images(path)
    assert time.perf_counter() - started < 10
    assert "hostile.zip" in str(error.value)
    assert sorted(tmp_path.iterdir()) == [path]


def test_volumes_in_archives_are_named(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip", {**CLASSES, "a/scan.nii.gz": b"x"})
    assert "1 × .nii.gz (NIfTI volumes are read" in dict(reading_facts(read_images(path)))["Left out"]
    with pytest.raises(DataError, match=r"found the volume a/scan\.nii\.gz: .*; unpack the archive"):
        read_images(path, slices="middle")


def test_a_pipe_is_no_archive(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.zip")
    with pytest.raises(DataError, match="expected a folder"):
        read_images(tmp_path / "a.zip")


def test_the_same_archive_elsewhere_has_the_same_fingerprint(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip", dict(CLASSES))
    (tmp_path / "other").mkdir()
    copy = Path(shutil.copy(path, tmp_path / "other/a.zip"))
    assert read_images(path).fingerprint == read_images(copy).fingerprint


def test_an_archive_at_a_url_is_copied_to_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAMETAIL_CACHE", str(tmp_path / "cache"))
    path = packed(tmp_path / "skin.zip", dict(CLASSES))
    at_url = read_images(path.as_uri())
    assert at_url.name == "skin"
    assert_same(at_url, read_images(unpacked(path)))
    (copy,) = (tmp_path / "cache/packed").glob("*.bin")
    assert copy.read_bytes() == path.read_bytes()
    copy.unlink()  # as where the cache is full: it is copied again
    assert read_file(at_url.paths[0]) == CLASSES["a/0.png"]
    with pytest.raises(DataError, match=r"absent\.zip cannot be read"):
        read_images((tmp_path / "absent.zip").as_uri())
    monkeypatch.setenv("TAMETAIL_CACHE_GB", "0.000001")
    with pytest.raises(TametailError, match="no space for"):
        read_images(packed(tmp_path / "other.zip", {**CLASSES, "a/9.png": os.urandom(5000)}).as_uri())


@pytest.mark.parametrize("case", ["traversal", "bomb", "truncated", "encrypted"])
def test_hostile_archives_at_a_url_are_refused_by_name(tmp_path: Path, case: str) -> None:
    write, message = HOSTILE[case]
    write(tmp_path / "hostile.zip")
    with pytest.raises(DataError, match=message):
        read_images((tmp_path / "hostile.zip").as_uri())


def test_an_empty_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected images .* in .*a\.zip, found none"):
        read_images(packed(tmp_path / "a.zip", {}))

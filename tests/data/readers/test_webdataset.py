"""Tar archives as other programs write them for WebDataset, and hostile ones."""

from __future__ import annotations

import io
import json
import os
import resource
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

from tametail.core.errors import DataError, TametailError, UsageError
from tametail.data import decoded_images, read_file, read_images, reading_facts
from tametail.data.packed import write_shards


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TAMETAIL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def picture(seed: int, kind: str = "JPEG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (10, 12, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def archive(path: Path, files: dict[str, bytes | str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def sample(number: int, **others: object) -> dict[str, bytes | str]:
    """An image and what belongs to it."""
    return {f"{number:04d}.jpg": picture(number)} | {
        f"{number:04d}.{suffix}": content if isinstance(content, str) else json.dumps(content)
        for suffix, content in others.items()
    }


def numbered(folder: Path, names: tuple[str, ...] = ("train-0", "train-1", "test-0")) -> Path:
    """Three images with the number of a class in each archive."""
    for place, name in enumerate(names):
        files: dict[str, bytes | str] = {}
        for number in range(3):
            files |= sample(10 * place + number, cls=str(number % 2))
        archive(folder / f"{name}.tar", files)
    return folder


def test_numbers_of_classes_are_named_by_a_file_and_the_split_by_the_archives(tmp_path: Path) -> None:
    folder = numbered(tmp_path / "set")
    table = read_images(folder)
    assert table.class_names == ("0", "1")
    assert table.images[:4].tolist() == [
        "test-0/0020.jpg", "test-0/0021.jpg", "test-0/0022.jpg", "train-0/0000.jpg",
    ]  # fmt: skip
    assert table.frame["split"].tolist() == ["test"] * 3 + ["train"] * 6
    assert read_file(table.paths[0]) == picture(20)
    (folder / "classes.txt").write_text("naevus\nmelanoma\n")
    table = read_images(folder)
    assert table.frame["label"].tolist()[:3] == ["naevus", "melanoma", "naevus"]
    assert dict(reading_facts(table))["Class"].startswith("'cls' of 3 tar archives, named by classes.txt")
    assert len(decoded_images(table, 8).pixels) == 9
    (folder / "classes.txt").write_text("naevus\n")
    with pytest.raises(DataError, match=r"number of one of 1 classes in classes.txt for .*0021.jpg, found 1"):
        read_images(folder)


def test_archives_in_folders_of_splits_and_a_single_one(tmp_path: Path) -> None:
    folder = numbered(tmp_path / "set", ("train/0", "train/1", "test/0"))
    (folder / "classnames.txt").write_text("a\nb\n")
    table = read_images(folder)
    assert table.counts() == {"a": 6, "b": 3}
    assert set(table.frame["split"]) == {"train", "test"}
    assert decoded_images(table, 8).errors == {}
    single = read_images(folder / "test" / "0.tar")
    assert (len(single), single.name, single.class_names) == (3, "0", ("0", "1"))


def test_fields_of_json_and_text_are_labels_groups_and_split(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {}
    for number in range(6):
        described = {
            "dx": "ab"[number % 2],
            "patient": number // 2,
            "split": "Training",
            "note": {"deep": [1]},
        }
        files |= sample(number, json=described, txt=f"a long caption {number}")
    archive(tmp_path / "x.tar", files)
    table = read_images(tmp_path / "x.tar", label_col="dx", group_col="patient")
    assert table.counts() == {"a": 3, "b": 3}
    assert table.groups.tolist() == ["0", "0", "1", "1", "2", "2"]
    assert set(table.frame["split"]) == {"train"}
    with pytest.raises(
        DataError, match=r"expected a label in 'nothing' .* dx, note, patient, split, txt: .*--label-col"
    ):
        read_images(tmp_path / "x.tar", label_col="nothing")
    with pytest.raises(DataError, match=r"name or number of a class for x/0000.jpg, found \{'deep'"):
        read_images(tmp_path / "x.tar", label_col="note")
    with pytest.raises(UsageError, match=r"--label-cols does not apply here"):
        read_images(tmp_path / "x.tar", label_cols="a,b")


def test_lists_are_labels_of_a_multi_label_table(tmp_path: Path) -> None:
    labels: list[object] = [["b", "a"], [], ["a"], "b|c"]
    files: dict[str, bytes | str] = {}
    for number, label in enumerate(labels):
        files |= sample(number, json={"label": label})
    archive(tmp_path / "x.tar", files)
    table = read_images(tmp_path / "x.tar", multi_label=True)
    assert table.frame["label"].tolist() == ["a|b", "", "a", "b|c"]
    with pytest.raises(
        DataError, match=r"expected one label for x/0000.jpg, found a list of 2; add --multi-label"
    ):
        read_images(tmp_path / "x.tar")


def test_other_files_of_a_key_are_no_images(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {"./": "", "README": "text", ".hidden.jpg": "x", "classes.json": "{}"}
    del files["./"]
    for number in range(2):
        files |= {f"./a/{number}.seg.png": picture(9, "PNG"), f"./a/{number}.PNG": picture(number, "PNG")}
        files |= {f"./a/{number}.cls": str(number), f"./a/{number}.npy": b"abc"}
    archive(tmp_path / "x.tar", files)
    table = read_images(tmp_path / "x.tar")
    assert table.images.tolist() == ["x/a/0.png", "x/a/1.png"]
    assert read_file(table.paths[1]) == picture(1, "PNG")
    archive(tmp_path / "y.tar", files | {"./a/0.jpg": picture(4)})
    with pytest.raises(DataError, match=r"one image for each key in .*y.tar, found .*of a/0"):
        read_images(tmp_path / "y.tar")


def test_what_pack_wrote_is_readable_without_its_table(tmp_path: Path) -> None:
    folder = numbered(tmp_path / "set")
    (folder / "classes.txt").write_text("naevus\nmelanoma\n")
    table = read_images(folder)
    write_shards(table, tmp_path / "packed", kind="webdataset")
    assert read_images(tmp_path / "packed").fingerprint == table.fingerprint
    (tmp_path / "packed" / "table.parquet").unlink()
    found = read_images(tmp_path / "packed")
    for column in ("label", "split"):
        assert found.frame[column].tolist() == table.frame[column].tolist()
    with tarfile.open(tmp_path / "packed" / "00000.tar") as tar:
        assert tar.getnames()[:3] == ["000000000.jpg", "000000000.json", "000000000.cls"]


def test_a_url_of_archives_is_a_source(tmp_path: Path) -> None:
    folder = numbered(tmp_path / "set")
    expected = read_images(folder)
    fsspec.filesystem("memory").put(str(folder), "/archives", recursive=True)
    for url, rows in (("memory://archives", 9), ("memory://archives/test-0.tar", 3)):
        found = read_images(url)
        assert len(found) == rows
        assert read_file(found.paths[2]) == read_file(expected.paths[2])
    assert read_images("memory://archives").fingerprint == expected.fingerprint


def test_an_archive_that_was_changed_is_read_again(tmp_path: Path) -> None:
    folder = numbered(tmp_path / "set")
    before = read_images(folder)
    time.sleep(0.01)
    files: dict[str, bytes | str] = {}
    for number in range(4):
        files |= sample(number, cls="1")
    archive(folder / "test-0.tar", files)
    with pytest.raises(DataError, match=r"test-0.tar is damaged or was changed"):
        read_file(before.paths[0])
    assert len(read_images(folder)) == 10


def member(name: str, **fields: object) -> bytes:
    """A header block, of a plain file if nothing else is given."""
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.GNU_FORMAT)


def endless_pax(path: Path) -> None:
    path.write_bytes(member("x", type=b"x", size=2**33) + bytes(4096))


def nested_pax(path: Path) -> None:
    header = member("x", type=b"x", size=11) + b"11 path=aa\n".ljust(512, b"\0")
    path.write_bytes(header * 100_000)


def huge_name(path: Path) -> None:
    path.write_bytes(member("x", type=b"L", size=2**31 - 512) + bytes(2**20))
    os.truncate(path, 2**31)


def many_sparse(path: Path) -> None:
    block = bytearray(512)
    block[504] = 1  # one more block follows
    for at in range(21):
        block[24 * at : 24 * at + 24] = b"00000000001\0" * 2
    head = bytearray(member("x", type=b"S"))
    head[482] = 1
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    path.write_bytes(bytes(head) + bytes(block) * 200_000)


def negative(path: Path) -> None:
    path.write_bytes(member("a.jpg") + member("b.jpg", size=-1024) + bytes(2048))


def truncated(path: Path) -> None:
    content = archive(path, sample(1, cls="0")).read_bytes()
    path.write_bytes(content[:700])


def cut_at_the_end(path: Path) -> None:
    content = archive(path, {"a.cls": "0", "a.jpg": b"x" * 5000}).read_bytes()
    path.write_bytes(content[:3000])


def zipped(path: Path) -> None:
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a.jpg"))


HOSTILE: dict[str, tuple[Callable[[Path], object] | bytes, str]] = {
    "link": (member("a.jpg", type=tarfile.SYMTYPE, linkname="/etc/passwd"), "found a.jpg, a link"),
    "hard link": (member("a.jpg", type=tarfile.LNKTYPE, linkname="../b"), "a link"),
    "device": (member("a.jpg", type=tarfile.CHRTYPE), "a device or a pipe"),
    "pipe": (member("a.jpg", type=tarfile.FIFOTYPE), "a device or a pipe"),
    "traversal": (member("a/../../b.jpg"), "leads out of the archive"),
    "absolute": (member("/etc/a.jpg"), "leads out of the archive"),
    "twice": (member("a.jpg") * 2, "for the second time"),
    "two slashes": (lambda path: archive(path, {"a//b.jpg": picture(0), "a//b.cls": "1"}), "names inside of"),
    "huge": (member("a.jpg", size=2**40), "unexpected end of data|more than the archive has"),
    "huge at the end": (cut_at_the_end, "unexpected end of data|more than the archive has"),
    "sparse": (lambda path: (many_sparse(path)), "a header of more than|a sparse file"),
    "endless attributes": (endless_pax, "a header of more than 1,048,576 bytes"),
    "nested attributes": (nested_pax, "expected an uncompressed tar archive"),
    "huge name": (huge_name, "a header of more than 1,048,576 bytes"),
    "negative size": (negative, "expected"),
    "truncated": (truncated, "unexpected end of data|more than the archive has"),
    "compressed": (zipped, "expected an uncompressed tar archive"),
    "empty": (b"", "expected an uncompressed tar archive"),
    "noise": (bytes(range(256)) * 40, "expected an uncompressed tar archive"),
    "deep JSON": (lambda path: archive(path, sample(1, json="[" * 100_000)), "levels of nested values"),
    "large JSON": (lambda path: archive(path, sample(1, json=" " * 2_000_000)), "expected at most 1,048,576 bytes"),
    "no text": (lambda path: archive(path, {**sample(1), "0001.cls": b"\xff\xfe"}), "expected text in UTF-8"),
    "no images": (lambda path: archive(path, {"a.cls": "1"}), "expected images .* found none"),
    "no label": (lambda path: archive(path, sample(1)), "a label in one of .* found none for 1 image"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("remote", [False, True], ids=["disk", "url"])
def test_hostile_archives_are_named_in_bounded_time_and_memory(
    tmp_path: Path, own_cache: Path, name: str, remote: bool
) -> None:
    content, words = HOSTILE[name]
    path = tmp_path / "set" / "x.tar"
    path.parent.mkdir()
    _ = path.write_bytes(content + bytes(1024)) if isinstance(content, bytes) else content(path)
    if name == "empty":
        path.write_bytes(b"")
    if remote and path.stat().st_size > 2**30:
        pytest.skip("it would be copied")
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=words) as caught:
        read_images(f"file://{path}" if remote else path)
    assert "x.tar" in str(caught.value)
    assert time.perf_counter() - began < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000
    assert sorted(item.name for item in tmp_path.iterdir()) in (["cache", "set"], ["set"])
    assert [item.name for item in path.parent.iterdir()] == ["x.tar"]
    assert all(
        item.suffix in {".bin", ".lock", ".parquet"} for item in own_cache.rglob("*") if item.is_file()
    )


def test_an_archive_beside_what_it_held_is_not_read(tmp_path: Path) -> None:
    for number, name in enumerate(("a", "b")):
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / "0.jpg").write_bytes(picture(number))
    archive(tmp_path / "set" / "download.tar", {"c/0.jpg": picture(0)})
    assert read_images(tmp_path / "set").images.tolist() == ["a/0.jpg", "b/0.jpg"]
    (tmp_path / "listed").mkdir()
    archive(tmp_path / "listed" / "download.tar", {"c/0.jpg": picture(0)})
    (tmp_path / "listed" / "labels.csv").write_text("image,label\nset/a/0.jpg,a\nset/b/0.jpg,b\n")
    assert read_images(tmp_path / "listed", image_root=tmp_path / "listed" / "..").class_names == ("a", "b")


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.tar.gz").write_bytes(b"")
    with pytest.raises(DataError, match="expected archives without compression"):
        read_images(tmp_path / "x.tar.gz")
    (tmp_path / "set").mkdir()
    os.mkfifo(tmp_path / "set" / "x.tar")
    with pytest.raises(TametailError):
        read_images(tmp_path / "set")

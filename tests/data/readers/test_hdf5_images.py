from __future__ import annotations

import io
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fixtures.hostile_samples import processor_seconds
from fixtures.pcam import NOISE, pcam, written
from fixtures.table_layouts import write_table
from tametail.core.errors import DataError, TametailError, UsageError
from tametail.data import ImageTable, decoded_images, read_images
from tametail.data.reading import reading_facts

h5py = pytest.importorskip("h5py")


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def stored_pixels(table: ImageTable) -> np.ndarray:
    return np.stack(list(decoded_images(table, 12).pixels))


STORED: dict[str, dict[str, Any]] = {
    "contiguous": {},
    "gzip": {"compression": "gzip"},
    "gzip, shuffle, checksum": {"compression": "gzip", "shuffle": True, "fletcher32": True},
    "pieces that do not divide it": {"chunks": (7, 5, 9, 2), "compression": "gzip"},
    "pieces without compression": {"chunks": (40, 12, 1, 3)},
}


@pytest.mark.parametrize("stored", STORED)
def test_images_and_labels_in_one_file(tmp_path: Path, stored: str) -> None:
    labels = np.arange(40)[:, None] % 3
    path = written(
        tmp_path / "cells.h5",
        images=(NOISE, STORED[stored]),
        labels=(labels.astype(">i4"), {"compression": "gzip", "shuffle": True}),
    )
    table = read_images(path)
    assert table.name == "cells"
    assert table.frame["label"].tolist() == [str(row % 3) for row in range(40)]
    assert table.images[:2].tolist() == ["0000000.png", "0000001.png"]
    assert np.array_equal(stored_pixels(table), NOISE)
    said = dict(reading_facts(table))
    assert said["Class"].startswith("dataset 'labels' of 1 HDF5 file: 0, 1, 2")
    assert said["As read"] == "images of dataset 'images'"


def test_grey_images_with_texts_as_labels_and_groups(tmp_path: Path) -> None:
    names = ["melanoma", "nevus"] * 20
    path = written(
        tmp_path / "a.hdf5",
        x=NOISE[..., :1],
        label=np.array(names, dtype=h5py.string_dtype()),
        patient=np.array([f"P{row // 4}" for row in range(40)], dtype="S4"),
    )
    table = read_images(path, group_col="patient")
    assert table.counts() == {"melanoma": 20, "nevus": 20}
    assert len(set(table.groups)) == 10
    assert (stored_pixels(table) == NOISE[..., :1]).all()


def test_pairs_of_files_are_splits_and_their_table_has_the_groups(tmp_path: Path) -> None:
    pcam(tmp_path / "pcam")
    table = read_images(tmp_path / "pcam", group_col="wsi")
    assert table.frame.groupby(["split", "label"]).size().to_dict() == {
        ("test", "0"): 4, ("test", "1"): 4, ("train", "0"): 12, ("train", "1"): 12, ("val", "0"): 4, ("val", "1"): 4,
    }  # fmt: skip
    assert len(set(table.groups)) == 10
    assert {"coord_x", "coord_y"} <= set(table.frame)
    order = [int(row) // 7 for row in table.frame["coord_x"]]
    assert np.array_equal(stored_pixels(table), NOISE[order])
    said = dict(reading_facts(table))
    assert "file names: camelyonpatch_level_2_split_test" in said["Split"]
    one = read_images(tmp_path / "pcam/camelyonpatch_level_2_split_train_x.h5", group_col="wsi")
    assert len(one) == 24
    assert read_images(tmp_path / "pcam", group_col="wsi").root == table.root  # stored once


def test_a_dataset_for_each_image_and_the_table_that_names_them(tmp_path: Path) -> None:
    names = [f"ISIC_{row:07d}" for row in range(12)]
    path = tmp_path / "train-image.hdf5"
    with h5py.File(path, "w") as file:
        for row, name in enumerate(names):
            content = encoded(NOISE[row])
            file[name] = np.void(content) if row % 2 else np.frombuffer(content, np.uint8)
    rows = [[name, int(row % 4 == 0), f"IP_{row // 3}", 40 + row] for row, name in enumerate(names)]
    table = write_table(tmp_path / "train-metadata.csv", ["isic_id", "target", "patient_id", "age"], rows)
    found = read_images(path, metadata=table, image_col="isic_id", label_col="target", group_col="patient_id")
    assert found.counts() == {"0": 9, "1": 3}
    assert len(set(found.groups)) == 4
    assert np.array_equal(stored_pixels(found), NOISE[:12])
    assert found.frame["age"].tolist() == [40 + row for row in range(12)]


def test_groups_of_images_are_classes(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for row in range(8):
            file[f"{'ab'[row % 2]}/{row}"] = NOISE[row]
    table = read_images(path)
    assert table.counts() == {"a": 4, "b": 4}
    assert dict(reading_facts(table))["Class"].startswith("groups of a.h5")
    assert np.array_equal(stored_pixels(table), NOISE[[0, 2, 4, 6, 1, 3, 5, 7]])


def test_what_is_ambiguous_or_missing_is_named(tmp_path: Path) -> None:
    codes = np.arange(40)
    path = written(tmp_path / "a.h5", x=NOISE, z=NOISE, first=codes % 2, second=codes % 4)
    with pytest.raises(
        DataError, match=r"found x \(40 × 12 × 12 × 3, uint8\), z .*; name it with --image-col"
    ):
        read_images(path)
    with pytest.raises(DataError, match=r"found first \(40, int64\), second .*; name it with --label-col"):
        read_images(path, image_col="z")
    assert read_images(path, image_col="z", label_col="second").counts() == dict.fromkeys("0123", 10)
    with pytest.raises(DataError, match=r"the dataset 'third' of 40 labels"):
        read_images(path, image_col="z", label_col="third")
    with pytest.raises(DataError, match=r"expected 'who' \(--group-col\) as a dataset of 40 values"):
        read_images(path, image_col="z", label_col="first", group_col="who")
    with pytest.raises(UsageError, match="--join-rows does not apply here"):
        read_images(path, join_rows="union")
    with pytest.raises(DataError, match=r"a file b_x\.h5 beside it, but there is none"):
        read_images(written(tmp_path / "b_y.h5", y=codes))
    deep = written(tmp_path / "c.h5", x=NOISE.astype(np.uint16), y=codes % 2)
    with pytest.raises(DataError, match=r"expected 8-bit images \(uint8\) in x"):
        read_images(deep)
    few = written(tmp_path / "d.h5", x=NOISE, y=codes[:39] % 2)
    with pytest.raises(DataError, match=r"expected one dataset of 40 labels, one for each image of x"):
        read_images(few)


def test_without_h5py_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "a.h5", x=NOISE, y=np.arange(40) % 2)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(DataError, match=r"pip install 'tametail\[hdf5\]'"):
        read_images(path)


LABELS = np.arange(40) % 2


def unfilled(path: Path) -> None:
    """A file of some hundred bytes that declares 10^12 values."""
    with h5py.File(path, "w") as file:
        file.create_dataset("x", shape=(10**6, 1000, 1000), dtype="u1", chunks=(1, 1000, 1000))
        file.create_dataset("y", data=LABELS)


def deflated(path: Path) -> None:
    """Zeros, of which gzip makes a thousandth."""
    with h5py.File(path, "w") as file:
        shape = (400, 1000, 1000)
        file.create_dataset("x", shape=shape, dtype="u1", chunks=(1, 1000, 1000), compression="gzip")
        piece = zlib.compress(bytes(10**6))
        for row in range(400):
            file["x"].id.write_direct_chunk((row, 0, 0), piece)
        file.create_dataset("y", data=np.arange(400) % 2)


def piece_bomb(path: Path) -> None:
    """A piece that is declared as one image and expands to a thousand times as much."""
    with h5py.File(path, "w") as file:
        file.create_dataset("x", shape=(40, 700, 700), dtype="u1", chunks=(1, 700, 700), compression="gzip")
        piece = zlib.compress(bytes(10**8), 9)
        for row in range(40):
            file["x"].id.write_direct_chunk((row, 0, 0), piece)
        file.create_dataset("y", data=LABELS)


def large_pieces(path: Path) -> None:
    """Pieces of a few bytes each of a thousand large images, of which a thousand are needed for the first image."""
    with h5py.File(path, "w") as file:
        x = file.create_dataset("x", (1000, 1000, 1000), "u1", chunks=(1000, 1, 1000), compression="gzip")
        noise = np.random.default_rng(0).integers(0, 256, 10**6, np.uint8).tobytes()
        for row in range(20):
            x.id.write_direct_chunk((0, row, 0), zlib.compress(noise, 0))
        file.create_dataset("y", data=np.arange(1000) % 2)


def external_storage(path: Path) -> None:
    secret = path.with_name("secret.raw")
    secret.write_bytes(NOISE.tobytes())
    with h5py.File(path, "w") as file:
        file.create_dataset("x", NOISE.shape, "u1", external=[(str(secret), 0, NOISE.size)])
        file.create_dataset("y", data=LABELS)


def virtual(path: Path) -> None:
    other = written(path.with_name("other.hdf5"), x=NOISE)
    layout = h5py.VirtualLayout(NOISE.shape, "u1")
    layout[:] = h5py.VirtualSource(other, "x", NOISE.shape)
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("x", layout)
        file.create_dataset("y", data=LABELS)


def external_link(path: Path) -> None:
    other = written(path.with_name("other.hdf5"), x=NOISE)
    written(path, {"x": h5py.ExternalLink(other, "/x")}, y=LABELS)


def soft_link(path: Path) -> None:
    written(path, {"x": h5py.SoftLink("/../../etc")}, y=LABELS)


def unknown_filter(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=NOISE, chunks=(40, 12, 12, 3), compression="lzf")
        file.create_dataset("y", data=LABELS)


def references(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["z"] = NOISE
        file["y"] = LABELS
        x = file.create_dataset("x", (40, 4, 4), dtype=h5py.ref_dtype)
        x[:] = file["z"].ref
        del file["z"]


def truncated(path: Path) -> None:
    written(path, x=NOISE, y=LABELS)
    path.write_bytes(path.read_bytes()[:-3000])


def damaged_piece(path: Path) -> None:
    written(path, x=(NOISE, {"compression": "gzip", "chunks": (40, 12, 12, 3)}), y=LABELS)
    with h5py.File(path) as file:
        at = file["x"].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[at : at + 300] = bytes(300)
    path.write_bytes(content)


def one_long_text(path: Path) -> None:
    """A million labels that are one and the same long text."""
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.zeros((2000, 4, 4), np.uint8))
        labels = file.create_dataset("y", (2000,), dtype=h5py.string_dtype())
        labels[0] = "a" * (1 << 20)
        at = labels.id.get_offset()
    content = bytearray(path.read_bytes())
    content[at : at + 16 * 2000] = bytes(content[at : at + 16]) * 2000
    path.write_bytes(content)


def many_names(path: Path) -> None:
    with h5py.File(path, "w", libver="latest") as file:
        file["x"] = NOISE
        for number in range(10_001):
            file[str(number)] = number


def aliases(path: Path) -> None:
    """Many names of one dataset, each of which would have to be opened."""
    with h5py.File(path, "w", libver="latest") as file:
        file["x"] = NOISE
        for number in range(1500):
            file[str(number)] = file["x"]


HOSTILE: dict[str, tuple[Callable[[Path], None], str]] = {
    "declares 10^12 values": (unfilled, r"at most 64 GiB of pixels"),
    "zeros": (deflated, r"its header declares 400,000,000"),
    "a bomb of a piece": (piece_bomb, r"the piece of x .* is absent or damaged"),
    "pieces of too many images": (large_pieces, r"in pieces of fewer images than 1,000"),
    "external storage": (external_storage, r"those of x .* are in other files .* which are not opened"),
    "virtual": (virtual, r"those of x .* are in other files"),
    "external link": (external_link, r"found y \(40, int64\) and 1 link, which are not followed"),
    "soft link": (soft_link, r"and 1 link, which are not followed"),
    "unknown filter": (unknown_filter, r"found the filter 32000, which is not run"),
    "references": (references, r"expected 8-bit images \(uint8\) in x"),
    "many names": (many_names, r"found 10,002 datasets and groups; .* --metadata"),
    "aliases": (aliases, r"but 1,501 names lead to the same one"),
    "truncated": (truncated, r"cannot be read as HDF5"),
    "damaged piece": (damaged_piece, r"the piece of x .* is absent or damaged"),
    "one long text": (one_long_text, r"at most 268,435,456 bytes of labels in y"),
    "no HDF5": (lambda path: path.write_bytes(os.urandom(4000)) and None, r"cannot be read as HDF5"),
    "empty": (lambda path: path.write_bytes(b"") and None, r"cannot be read as HDF5"),
}  # fmt: skip
MEASURED = """
import resource, sys, time
import tametail.data.readers.hdf5_images, h5py, pandas, PIL.Image, pyarrow
from tametail.core.errors import DataError
from tametail.data import read_images
before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
try:
    print("read", read_images(sys.argv[1]))
except DataError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, time.process_time() - started)
"""


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused_by_name(tmp_path: Path, case: str) -> None:
    write, message = HOSTILE[case]
    path = tmp_path / "hostile.h5"
    write(path)
    before = sorted(tmp_path.iterdir())
    started = processor_seconds()
    with pytest.raises(DataError, match=message) as error:
        read_images(path)
    assert processor_seconds() - started < 10
    assert "hostile.h5" in str(error.value)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("write", [piece_bomb, deflated])
def test_bombs_take_little_memory(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path / "hostile.h5")
    command = [sys.executable, "-c", MEASURED, str(tmp_path / "hostile.h5")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    *said, numbers = ran.stdout.splitlines()
    megabytes, seconds = map(float, numbers.split())
    assert "hostile.h5" in " ".join(said)
    assert megabytes < 70
    assert seconds < 10


def test_images_that_do_not_fit_in_the_cache_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAMETAIL_CACHE_GB", "0.00001")
    with pytest.raises(TametailError, match="no space for"):
        read_images(written(tmp_path / "a.h5", x=NOISE, y=LABELS))


def test_names_that_lead_out_of_the_cache_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["../x"] = NOISE[0]  # HDF5 takes ".." for a name
        file["ok"] = NOISE[1]
    table = write_table(tmp_path / "a.csv", ["image", "label"], [["x", "a"], ["ok", "b"]])
    with pytest.raises(
        DataError, match=r"expected names that visible files can have in .*a\.h5, found \.\./x"
    ):
        read_images(path, metadata=table)


def test_many_names_of_the_same_bytes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["0"] = np.frombuffer(os.urandom(100_000), np.uint8)
        for number in range(1, 200):
            file[str(number)] = file["0"]
    table = write_table(tmp_path / "a.csv", ["image", "label"], [["0", "a"], ["1", "b"]])
    with pytest.raises(DataError, match="several names lead to the same bytes"):
        read_images(path, metadata=table)


@pytest.mark.parametrize("name", [".hidden", "k/.complete", "__MACOSX/b"])
def test_images_that_no_folder_shows_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["cls/a"], file["k/b"], file[f"k/{name}"] = NOISE[:3]
    with pytest.raises(
        DataError, match=r"names that visible files can have in .*a\.h5, found k/.*; rename it"
    ):
        read_images(path)


@pytest.mark.parametrize("other", ["cls/a.png", "cls/a.png/b"])
def test_images_of_one_name_are_refused(tmp_path: Path, other: str) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for name, pixels in zip(("cls/a", other, "k/b"), NOISE, strict=False):
            file[name] = np.frombuffer(encoded(pixels), np.uint8)
    with pytest.raises(
        DataError, match=r"names of their own in .*a\.h5, but cls/a\.png.* is written to the same"
    ):
        read_images(path)


@pytest.mark.parametrize("other", ["a.hdf5", "a_x.h5"])
def test_files_of_one_part_are_refused(tmp_path: Path, other: str) -> None:
    for name in ("a.h5", other):
        written(tmp_path / name, x=NOISE, y=LABELS)
    with pytest.raises(DataError, match="are both the part a; rename or remove one"):
        read_images(tmp_path)


def test_absent_labels_and_groups_are_told(tmp_path: Path) -> None:
    records = np.zeros(40, dtype=[("a", "i4"), ("b", "S3")])
    path = written(tmp_path / "a.h5", x=NOISE, y=records)
    with pytest.raises(DataError, match=r"expected one dataset of 40 labels.*; add it to the file"):
        read_images(path)
    path = written(tmp_path / "b.h5", x=NOISE, y=LABELS, patient=np.zeros((40, 2)))
    with pytest.raises(DataError, match=r"expected 'patient' .* as a dataset of 40 values"):
        read_images(path, group_col="patient")


def test_a_row_without_an_image_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["i0"], file["i1"] = NOISE[:2]
    rows = [["i0", "a"], ["i1", "b"], ["i2", "a"]]
    table = write_table(tmp_path / "a.csv", ["image", "label"], rows)
    with pytest.raises(DataError, match=r"not in \S*/a\.h5 \(i2\); correct their names, or leave") as error:
        read_images(path, metadata=table)
    assert "--image-root" not in str(error.value)


def test_compressed_images_beside_labels_are_named(tmp_path: Path) -> None:
    written(tmp_path / "a_y.h5", y=LABELS)
    (tmp_path / "a_x.h5.gz").write_bytes(b"")
    with pytest.raises(DataError, match=r"there is none; decompress a_x\.h5\.gz"):
        read_images(tmp_path)

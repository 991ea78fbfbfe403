from __future__ import annotations

import hashlib
import io
import pickle
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fixtures.leftovers import left_over
from tametail.core.errors import DataError, TametailError, UsageError
from tametail.data import KNOWN_SETS, read_images
from tametail.data.readers import medmnist
from tametail.data.readers.medmnist import MEDMNIST_NAMES, MEDMNIST_SETS, md5_of


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("TAMETAIL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def arrays(shape: tuple[int, ...] = (9, 7), labels: int = 1, classes: int = 3) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    made: dict[str, np.ndarray] = {}
    for split, count in (("train", 6), ("val", 2), ("test", 3)):
        made[f"{split}_images"] = draw.integers(0, 256, (count, *shape), dtype=np.uint8)
        codes = np.arange(count)[:, None] % classes if labels == 1 else draw.integers(0, 2, (count, labels))
        made[f"{split}_labels"] = codes.astype(np.uint8)
    return made


def save(path: Path, made: dict[str, np.ndarray]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **made)
    return path


@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 3), (9, 7, 1), (1, 1)])
def test_round_trip_of_pixels_labels_and_split(tmp_path: Path, cache: Path, shape: tuple[int, ...]) -> None:
    made = arrays(shape)
    table = read_images(save(tmp_path / "cells.npz", made))
    assert (table.name, table.class_names, table.multi_label) == (
        "cells",
        ("class_0", "class_1", "class_2"),
        False,
    )
    assert table.root.parent == cache / "medmnist"
    assert table.groups.tolist() == table.images.tolist()
    seen = {"train": 0, "val": 0, "test": 0}
    for split, target, path in zip(table.frame["split"], table.targets, table.paths, strict=True):
        row = seen[split]
        seen[split] += 1
        expected = made[f"{split}_images"][row].reshape(shape if shape[2:] == (3,) else shape[:2])
        with Image.open(path) as image:
            assert np.array_equal(np.asarray(image), expected)
        assert target == made[f"{split}_labels"][row, 0]
    assert seen == {"train": 6, "val": 2, "test": 3}


def test_several_labels_per_image(tmp_path: Path) -> None:
    made = arrays(labels=14)
    table = read_images(save(tmp_path / "chestmnist_64.npz", made))
    assert table.multi_label
    assert table.counts() == {
        name: int(sum(made[f"{split}_labels"][:, code].sum() for split in ("train", "val", "test")))
        for code, name in sorted(enumerate(MEDMNIST_SETS["chestmnist"].classes), key=lambda item: item[1])
    }
    made["val_labels"][0, 0] = 2
    with pytest.raises(DataError, match=r"expected 0 and 1 in the 14 labels per image .* found 2"):
        read_images(save(tmp_path / "chestmnist.npz", made))


@pytest.mark.parametrize("name", ["dermamnist", "dermamnist_224", "DermaMNIST_64"])
def test_official_names_of_classes(tmp_path: Path, name: str) -> None:
    made = arrays(classes=7)
    made["train_labels"] = np.array([4, 5, 5, 5, 4, 6])  # (N,) and other whole numbers pass as well
    table = read_images(save(tmp_path / f"{name}.npz", made))
    assert table.frame["label"].tolist()[3:9] == [
        "melanoma",
        *["melanocytic nevi"] * 3,
        "melanoma",
        "vascular lesions",
    ]
    made["train_labels"] = np.array([[7]] * 6)
    with pytest.raises(DataError, match=r"the 7 classes of dermamnist .* found 8"):
        read_images(save(tmp_path / f"{name}.npz", made))


def test_only_some_splits(tmp_path: Path) -> None:
    made = {key: value for key, value in arrays().items() if not key.startswith("val")}
    made["test_images"], made["test_labels"] = made["test_images"][:0], made["test_labels"][:0]
    assert set(read_images(save(tmp_path / "a.npz", made)).frame["split"]) == {"train"}


def test_images_are_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.npz", arrays())
    first = read_images(path)
    stamps = {file: file.stat().st_mtime_ns for file in first.paths}
    again = read_images(path.rename(tmp_path / "b.npz"))
    assert again.fingerprint == first.fingerprint
    assert {file: file.stat().st_mtime_ns for file in again.paths} == stamps
    first.paths[0].unlink()  # a folder that lost a file is made anew
    assert all(file.is_file() for file in read_images(tmp_path / "b.npz").paths)


def test_a_killed_or_failed_writer_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.npz", arrays())
    save_image = Image.Image.save
    written: list[object] = []

    def stop(image: Image.Image, target: Path, **options: object) -> None:
        written.append(target)
        if len(written) == 4:
            raise OSError(28, "No space left on device")
        save_image(image, target, **options)

    monkeypatch.setattr(Image.Image, "save", stop)
    with pytest.raises(TametailError, match=r"no space left .*TAMETAIL_CACHE"):
        read_images(path)
    folder = tmp_path / "cache" / "medmnist"
    assert [item.suffix for item in folder.iterdir()] in ([".lock"], [])
    monkeypatch.setattr(Image.Image, "save", save_image)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:40]
    left = left_over(folder / digest)
    (left / "train").mkdir(parents=True)  # what a killed one leaves
    table = read_images(path)
    assert all(file.is_file() for file in table.paths)
    assert not left.exists()


def test_two_processes_at_once_find_the_same(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", arrays((60, 60, 3)))
    script = "import sys; from tametail.data import read_images; print(read_images(sys.argv[1]).fingerprint)"
    command = [sys.executable, "-c", script, str(path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    found = {process.communicate(timeout=60)[0].strip() for process in running}
    assert found == {read_images(path).fingerprint}


def hostile(tmp_path: Path) -> Iterator[tuple[bytes, str]]:
    """Bytes of a .npz, and what is said of them."""
    whole = save(tmp_path / "good.npz", arrays()).read_bytes()
    yield b"", "not a valid .npz"
    for tenth in range(1, 10):
        yield whole[: len(whole) * tenth // 10], "not a valid .npz"
    middle = whole.index(b"train_images.npy") + 60
    yield whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :], "not a valid .npz"
    yield pickle.dumps({"train_images": 1}), "not a valid .npz"
    for key, value, message in [
        ("train_images", np.array([b"x", None] * 3, dtype=object), "pickled objects"),
        ("train_labels", np.array([[{}]] * 6, dtype=object), "pickled objects"),
        ("train_images", np.zeros((6, 4, 4), np.float32), r"8-bit images \(uint8\) .* found float32"),
        ("train_images", np.zeros((6, 8, 8, 8), np.uint8), r"found \(6, 8, 8, 8\); volumes"),
        ("train_images", np.zeros((6, 8, 8, 8, 3), np.uint8), "volumes"),
        ("train_images", np.zeros((6, 8), np.uint8), "expected images of shape"),
        ("train_images", np.zeros((6, 0, 8), np.uint8), "at most 64 GiB"),
        ("train_images", np.zeros((8, 8, 6), np.uint8).transpose(2, 1, 0), "C order"),
        ("train_labels", np.zeros((5, 1), np.uint8), r"train_labels of shape \(6, L\) .* found \(5, 1\)"),
        ("train_labels", np.zeros((6, 1)), "whole numbers .* of float64"),
        ("train_labels", np.zeros((6, 2), np.uint8), "equally many labels"),
        ("train_labels", np.full((6, 1), -1), "labels from 0 to 999 .* found -1 to"),
        ("train_labels", np.full((6, 1), 10**6), "found 0 to 1000000"),
    ]:
        yield save(tmp_path / "bad.npz", arrays() | {key: value}).read_bytes(), message
    missing = {key: value for key, value in arrays().items() if key != "val_labels"}
    yield save(tmp_path / "bad.npz", missing).read_bytes(), "val_labels along with val_images"
    yield save(tmp_path / "bad.npz", {"x": np.zeros(3)}).read_bytes(), "arrays train_images, .* found x"
    for header in (
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (10000000000, 28, 28), }\n",
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (-1, -28, 28), }\n",
        f"{{'descr': '|u1', 'shape': __import__('pathlib').Path({str(tmp_path / 'run')!r}).touch(), }}\n".encode(),
        b"((((\n",
        b"(" * 9000 + b"\n",
    ):
        bomb = io.BytesIO()
        with zipfile.ZipFile(bomb, "w") as archive:
            archive.writestr(
                "train_images.npy", np.lib.format.magic(1, 0) + len(header).to_bytes(2, "little") + header
            )
            archive.writestr("train_labels.npy", b"")
        yield bomb.getvalue(), r"is damaged: an array|not a valid \.npz"


def test_hostile_files_are_refused_and_leave_no_images(tmp_path: Path, cache: Path) -> None:
    for content, message in hostile(tmp_path):
        path = tmp_path / "hostile.npz"
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            read_images(path)
        assert not any(item.is_dir() for item in cache.rglob("medmnist/*"))
    assert not (tmp_path / "run").exists()


def test_sets_by_name_from_a_root(tmp_path: Path) -> None:
    path = save(tmp_path / "down" / "dermamnist_64.npz", arrays(classes=7))
    by_root = read_images("dermamnist_64", root=path.parent)
    assert by_root.fingerprint == read_images("dermamnist_64", root=path).fingerprint
    assert by_root.name == "dermamnist_64"
    with pytest.raises(
        DataError, match=r"dermamnist.npz in .* not there; --download .* CC BY-NC 4.0.*--root"
    ):
        read_images("dermamnist", root=path.parent)
    with pytest.raises(UsageError, match="--label-col can only be given for a CSV"):
        read_images("dermamnist", label_col="x")


def test_an_absent_set_says_where_from_and_under_which_terms() -> None:
    url = r"https://zenodo\.org/records/10519652/files/bloodmnist_128\.npz"
    with pytest.raises(
        DataError, match=rf"not on this machine; --download fetches it from {url}.* CC BY 4.0"
    ):
        read_images("bloodmnist_128")


def test_a_download_is_checked_and_found_again(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = save(tmp_path / "x.npz", arrays(classes=2)).read_bytes()
    asked = []

    def answer(request: urllib.request.Request, timeout: float) -> io.BytesIO:
        asked.append(request.full_url)
        return io.BytesIO(content)

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    with pytest.raises(
        DataError, match=r"has the MD5 \w+, not 28209eda62fecd6e6a2d98b1501bb15f; it was thrown away"
    ):
        read_images("pneumoniamnist", download=True)
    assert not list(cache.rglob("*.npz*[tz]"))
    monkeypatch.setattr(medmnist, "md5_of", lambda name: hashlib.md5(content).hexdigest())
    table = read_images("pneumoniamnist", download=True)
    assert table.class_names == ("normal", "pneumonia")
    assert read_images("pneumoniamnist").fingerprint == table.fingerprint
    assert asked == ["https://zenodo.org/records/10519652/files/pneumoniamnist.npz?download=1"] * 2


@pytest.mark.parametrize("error", [urllib.error.URLError("no route"), TimeoutError("timed out")])
def test_a_network_that_fails_is_named(
    cache: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(request: object, timeout: float) -> None:
        raise error

    monkeypatch.setattr(urllib.request, "urlopen", fail)
    with pytest.raises(TametailError, match=r"pathmnist_224\.npz\?download=1 could not be fetched .*--root"):
        read_images("pathmnist_224", download=True)
    assert not list(cache.rglob("*.part"))


def test_every_set_has_its_facts() -> None:
    sums = [digest for known in MEDMNIST_SETS.values() for digest in known.md5]
    assert len(MEDMNIST_SETS) == 12
    assert len(set(sums)) == 48
    assert all(len(digest) == 32 and int(digest, 16) for digest in sums)
    assert all(len(set(known.classes)) == len(known.classes) >= 2 for known in MEDMNIST_SETS.values())
    assert not any("|" in name for known in MEDMNIST_SETS.values() for name in known.classes)
    assert set(MEDMNIST_NAMES) <= set(KNOWN_SETS)
    assert md5_of("dermamnist_224") == "8974907d8e169bef5f5b96bc506ae45d"
    assert md5_of("dermamnist") == "0744692d530f8e62ec473284d019b0c7"

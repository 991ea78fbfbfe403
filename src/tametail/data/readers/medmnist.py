"""The 2D sets of MedMNIST v2 and MedMNIST+, and MedMNIST files (.npz) → `ImageTable`, with the images as PNG in the cache.

The arrays are read as a stream, one image at a time, and nothing is unpickled.
Shape legend: N images, H × W pixels, L labels.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import logging
import os
import tokenize
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from tametail.core.atomic import atomic_path
from tametail.core.errors import DataError, TametailError
from tametail.core.regular_file import regular
from tametail.core.text import quoted, sample_of
from tametail.data.decoding.cache import cache_dir
from tametail.data.decoding.cache_folder import cache_lock, cached_folder, explain_cache_error
from tametail.data.decoding.png import save_png
from tametail.data.readers.reader import Reader, ReadOptions, register_reader
from tametail.data.reading import SourceReading
from tametail.data.table import ImageTable, join_classes

MAX_BYTES = 64 << 30  # pixels of a split; the largest official file has a quarter of this
_MAX_IMAGES = 10_000_000
_MAX_LABELS = 1000
_SPLITS = ("train", "val", "test")
# What zipfile and NumPy's readers of array headers raise on invalid bytes.
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, tokenize.TokenError, EOFError, OSError, MemoryError, NotImplementedError,
    RuntimeError, SyntaxError, ValueError,
)  # fmt: skip
MEDMNIST_SOURCE = "https://zenodo.org/records/10519652"
_TIMEOUT = 60  # seconds without a byte
_CHUNK = 1 << 20
SIZES = (28, 64, 128, 224)


@dataclass(frozen=True, eq=False)
class _Part:
    """One split: (N, H, W) or (N, H, W, 3) pixels still in the file, (N, L) labels."""

    split: str
    shape: tuple[int, ...]
    labels: NDArray[Any]

    @property
    def names(self) -> list[str]:
        """N ids of the images."""
        return [f"{self.split}/{row:06d}.png" for row in range(self.shape[0])]


@register_reader
class MedMnistReader(Reader):
    """Reads a MedMNIST file (.npz)."""

    name = "medmnist"
    priority = 0

    def matches(self, source: str | Path) -> bool:
        path = Path(source).expanduser()
        return path.suffix.lower() == ".npz" and path.exists() and not path.is_dir()

    def read(self, source: str | Path, options: ReadOptions) -> ImageTable:
        path = Path(source).expanduser()
        options.refuse_table_options(f"{path} is a MedMNIST file")
        return read_medmnist(path)


def read_medmnist(path: Path) -> ImageTable:
    """Read the arrays train_images, train_labels and those of val and test.

    Labels (N, 1) give one class per image, (N, L) with L > 1 a multi-label table. The split is that of the file. The
    classes have their official names if the file is named after a set (``dermamnist_224.npz``), else class_0, ....

    Raises:
        DataError: the file is of another kind, damaged, pickled, or of volumes.
        TametailError: the cache folder cannot be written.
    """
    import pandas as pd

    with _opened(path) as archive:
        parts = _parts(archive, path)
    width = parts[0].labels.shape[1]
    labels = np.concatenate([part.labels for part in parts])
    ids = [name for part in parts for name in part.names]
    names = _multi_labels(labels, path) if width > 1 else _single_labels(labels[:, 0], path)
    splits = [part.split for part in parts for _ in part.names]
    frame = pd.DataFrame({"image": ids, "label": names, "group": ids, "split": splits}, dtype=object)
    # Last, so that a file with wrong labels leaves no images behind.
    place = cache_dir() / "medmnist" / _digest(path)
    folder = cached_folder(place, partial(_write_images, path, parts), partial(_is_complete, parts))
    held = ", ".join(part.split for part in parts)
    reading = SourceReading("label arrays of the MedMNIST file", split=f"arrays of the file: {held}")
    return ImageTable.from_frame(frame, folder, path.stem, multi_label=width > 1, reading=reading)


def _class_names(path: Path, count: int) -> list[str]:
    name = path.stem.lower()
    flag = name.partition("_")[0]
    official = MEDMNIST_SETS[flag].classes if name in MEDMNIST_NAMES else ()
    if official and count > len(official):
        raise DataError(
            f"expected labels of the {len(official)} classes of {flag} in {path}, found {count}; give the file another "
            f"name if it is another set"
        )
    return list(official) or [f"class_{code}" for code in range(count)]


def _single_labels(codes: NDArray[Any], path: Path) -> list[str]:
    low, high = int(codes.min()), int(codes.max())
    if low < 0 or high >= _MAX_LABELS:
        raise DataError(f"expected labels from 0 to {_MAX_LABELS - 1} in {path}, found {low} to {high}")
    names = _class_names(path, high + 1)
    return [names[code] for code in codes.tolist()]


def _multi_labels(matrix: NDArray[Any], path: Path) -> list[str]:
    unknown = np.unique(matrix[(matrix != 0) & (matrix != 1)])
    if len(unknown):
        raise DataError(
            f"expected 0 and 1 in the {matrix.shape[1]} labels per image of {path}, found {sample_of(unknown.tolist())}"
        )
    names = _class_names(path, matrix.shape[1])
    return [join_classes(names[code] for code in np.flatnonzero(row)) for row in matrix]


def _digest(path: Path) -> str:
    with _opened_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:40]


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open the archive; damage inside it is raised as `DataError`."""
    try:
        with _opened_file(path) as file, zipfile.ZipFile(file) as archive:
            yield archive
    except _DAMAGE as error:  # DataError is none of these
        raise DataError(
            f"{path} is not a valid .npz file ({quoted(error)}); fetch it again, or write it with np.savez_compressed"
        ) from error


def _opened_file(path: Path) -> BufferedReader:
    try:
        return open(regular(path), "rb")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from error


def _parts(archive: zipfile.ZipFile, path: Path) -> list[_Part]:
    members = set(archive.namelist())
    splits = [split for split in _SPLITS if f"{split}_images.npy" in members]
    if not splits:
        keys = sorted(name.removesuffix(".npy") for name in members)
        raise DataError(
            f"expected the arrays train_images, train_labels, val_..., test_... in {path}, found {sample_of(keys, most=10)}"
        )
    parts = [_part(archive, split, path) for split in splits]
    widths = {part.labels.shape[1] for part in parts}
    if len(widths) > 1 or not sum(len(part.labels) for part in parts):
        raise DataError(f"expected images with equally many labels in every split of {path}, found {widths}")
    return parts


def _part(archive: zipfile.ZipFile, split: str, path: Path) -> _Part:
    labels_member = f"{split}_labels.npy"
    if labels_member not in archive.namelist():
        raise DataError(f"expected {split}_labels along with {split}_images in {path}, but they are missing")
    with archive.open(f"{split}_images.npy") as stream:
        shape, dtype, order = _header(stream, archive.getinfo(f"{split}_images.npy").file_size, path)
    _check_images(shape, dtype, f"{split}_images", path)
    if order == "F" and shape[0]:
        raise DataError(f"expected arrays in C order in {path}; write np.ascontiguousarray of the images")
    with archive.open(labels_member) as stream:
        labels_shape, dtype, order = _header(stream, archive.getinfo(labels_member).file_size, path)
        width = 1 if len(labels_shape) == 1 else labels_shape[-1]
        fits = len(labels_shape) in {1, 2} and labels_shape[0] == shape[0] and 1 <= width <= _MAX_LABELS
        if not fits or dtype.kind not in "iub":
            raise DataError(
                f"expected {split}_labels of shape ({shape[0]}, L) and whole numbers in {path}, found "
                f"{labels_shape} of {dtype}"
            )
        labels = np.frombuffer(stream.read(shape[0] * width * dtype.itemsize), dtype)
    return _Part(split, shape, labels.reshape((shape[0], width), order=order))


def _header(stream: IO[bytes], size: int, path: Path) -> tuple[tuple[int, ...], np.dtype[Any], Any]:
    """Shape, dtype and order ("C" or "F") of an array; leaves the stream at its first value."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read(stream)
    if dtype.hasobject:
        raise DataError(
            f"{path} holds pickled objects, which can run code when they are read; write the file again with plain arrays"
        )
    declared = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if declared != size - stream.tell():
        raise DataError(
            f"{path} is damaged: an array of {shape} {dtype} takes {declared} bytes, but {size - stream.tell()} are there"
        )
    return shape, dtype, "F" if is_fortran else "C"


def _check_images(shape: tuple[int, ...], dtype: np.dtype[Any], key: str, path: Path) -> None:
    is_flat = len(shape) == 3 or (len(shape) == 4 and shape[-1] in {1, 3})
    if not is_flat:
        raise DataError(
            f"expected images of shape (N, H, W) or (N, H, W, 3) as {key} of {path}, found {shape}; volumes (the 3D "
            f"sets of MedMNIST) are not supported"
        )
    if dtype != np.uint8:
        raise DataError(f"expected 8-bit images (uint8) as {key} of {path}, found {dtype}")
    too_large = shape[0] > _MAX_IMAGES or int(np.prod(shape, dtype=object)) > MAX_BYTES
    if too_large or min(shape) < 0 or 0 in shape[1:]:
        raise DataError(f"expected at most {MAX_BYTES >> 30} GiB of pixels as {key} of {path}, found {shape}")


def _write_images(path: Path, parts: Sequence[_Part], folder: Path) -> None:
    for part in parts:
        (folder / part.split).mkdir()
        for name, pixels in zip(part.names, _pixels(path, part), strict=True):
            save_png(np.frombuffer(pixels, np.uint8).reshape(part.shape[1:]), folder / name)


def _pixels(path: Path, part: _Part) -> Iterator[bytes]:
    """The bytes of each image in turn."""
    member = f"{part.split}_images.npy"
    size = int(np.prod(part.shape[1:]))
    with _opened(path) as archive, archive.open(member) as stream:
        _header(stream, archive.getinfo(member).file_size, path)
        for _ in part.names:
            pixels = stream.read(size)
            if len(pixels) < size:
                raise EOFError(f"{member} ends too early")
            yield pixels


def _is_complete(parts: Sequence[_Part], folder: Path) -> bool:
    return all(
        (folder / part.split).is_dir() and len(os.listdir(folder / part.split)) == part.shape[0]
        for part in parts
    )


@dataclass(frozen=True)
class MedMnistSet:
    """One set.

    Attributes:
        terms: licence.
        classes: names in the order of the labels 0, 1, ...
        md5: checksum of the .npz per size of `SIZES`.
    """

    terms: str
    classes: tuple[str, ...]
    md5: tuple[str, ...]


MEDMNIST_SETS = {
    name: MedMnistSet(facts["terms"], tuple(facts["classes"]), tuple(facts["md5"]))
    for name, facts in json.loads(
        Path(__file__).with_name("medmnist_sets.json").read_text(encoding="utf-8")
    ).items()
}
"""Name → set, from ``INFO`` of the package medmnist 3.0.2 (https://github.com/MedMNIST/MedMNIST)."""
MEDMNIST_NAMES = tuple(
    f"{flag}{suffix}" for flag in MEDMNIST_SETS for suffix in ("", *(f"_{size}" for size in SIZES[1:]))
)
"""All sets, the size appended where it is not 28: ``dermamnist``, ``dermamnist_64``, ..."""


def medmnist_file(name: str, root: Path | None, *, download: bool) -> Path:
    """Find the .npz of a set of `MEDMNIST_NAMES`: in ``root``, else in the cache folder, else by a download to it.

    Args:
        root: folder of the file, or the file itself.
        download: download it from Zenodo and verify its checksum.

    Raises:
        DataError: the file is missing, or the download has another checksum.
        TametailError: the download failed.
    """
    if root is not None:
        file = root if root.is_file() else root / f"{name}.npz"
        if not file.is_file():
            raise DataError(f"expected {name}.npz in {root}, but it is not there; {_how_to_get(name)}")
        return file
    file = cache_dir() / "medmnist" / f"{name}.npz"
    if not file.is_file():
        if not download:
            raise DataError(f"{name} is not on this machine; {_how_to_get(name)}")
        with explain_cache_error(file.parent), cache_lock(file.parent, file.name):
            if not file.is_file():  # another process may have downloaded it meanwhile
                _download(name, file)
    return file


def terms_of(name: str) -> str:
    """Licence of a set, by its name."""
    return MEDMNIST_SETS[name.partition("_")[0]].terms


def _how_to_get(name: str) -> str:
    return (
        f"--download fetches it from {_url(name)} (terms: {terms_of(name)}), or fetch it yourself and name its "
        f"folder with --root"
    )


def _url(name: str) -> str:
    return f"{MEDMNIST_SOURCE}/files/{name}.npz?download=1"


def md5_of(name: str) -> str:
    """Checksum of the file of a set, by its name."""
    flag, _, size = name.partition("_")
    return MEDMNIST_SETS[flag].md5[SIZES.index(int(size or SIZES[0]))]


def _download(name: str, file: Path) -> None:
    """Download and verify."""
    logging.getLogger(__name__).info("fetching %s (terms: %s)", _url(name), terms_of(name))
    with atomic_path(file) as unfinished:
        found = _fetch(_url(name), unfinished)
        if found != md5_of(name):
            raise DataError(
                f"the download from {_url(name)} has the MD5 {found}, not {md5_of(name)}; it was thrown away; try again, "
                f"and if this persists, check for a proxy that changes downloads"
            )


def _fetch(url: str, path: Path) -> str:
    """Write the content of ``url`` to a file; returns its MD5, the checksum that the authors publish."""
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "wb") as file:
        try:
            request = urllib.request.Request(url, headers={"User-Agent": "tametail"})
            with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
                while chunk := answer.read(_CHUNK):
                    digest.update(chunk)
                    file.write(chunk)
        except (OSError, http.client.HTTPException) as error:
            raise TametailError(
                f"{url} could not be fetched ({error}); try again, or fetch it elsewhere and name its folder with --root"
            ) from error
    return digest.hexdigest()

"""HDF5 files of unknown origin: their datasets and the images in them, within bounded time and memory.

Only what lies in the file itself is read: links to other names or files are not followed, and datasets whose values are in
other files are refused. Compressed pieces are expanded here and not by the HDF5 library, which sets no limit to their size.
Shape legend: N images, H × W pixels.
"""

from __future__ import annotations

import math
import os
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tametail.core.errors import DataError
from tametail.core.regular_file import regular
from tametail.core.text import quoted, sample_of

HDF5_SUFFIXES = (".h5", ".hdf5")
HDF5_INSTALL = "pip install 'tametail[hdf5]'"
MAX_IMAGE = 100 << 20  # bytes of an encoded image
_MAX_BYTES = 64 << 30  # of the pixels of a dataset
_MOST_IMAGES = 10_000_000
_MOST_NAMES = 600_000  # ISIC 2024 has 401,059; listing takes some 15 µs each
_MOST_ALIASES = 1000
_MOST_VALUES = 2**28  # bytes of labels
_MOST_TEXTS = 1_000_000
_MOST_RATIO = 50  # of pixels to their compressed bytes, above the free bytes: those of photographs and slides have 1 to 5
_FREE_BYTES = 2**28
_BLOCK = 2**28  # bytes of the images that are in memory at once
_CHUNK = 2**27  # bytes of a piece
_MOST_CHUNKS = 10_000_000
_DEFLATE, _SHUFFLE, _CHECKSUM = 1, 2, 3
_FILTERS = {_DEFLATE: "gzip", _SHUFFLE: "shuffle", _CHECKSUM: "fletcher32"}
_REPACK = "write it again with h5repack -f GZIP=1"
_HARD = 0  # of a link: what it names is in the file


@dataclass(frozen=True)
class Hdf5Dataset:
    """A dataset by its header.

    Attributes:
        name: its path in the file.
        shape: of its values.
        dtype: of its values; an object type for texts of any length.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __str__(self) -> str:
        size = " × ".join(map(str, self.shape)) or "one value"
        return f"{quoted(self.name)} ({size}, {'text' if self._is_text else self.dtype})"

    @property
    def _is_text(self) -> bool:
        of_any_length: Any = self.dtype.metadata  # by which h5py marks texts
        return self.dtype.kind == "S" or bool(of_any_length and of_any_length.get("vlen") in (str, bytes))

    def has_values(self, count: int) -> bool:
        """Whether it has a number or text for each of N images; it may have further dimensions of 1."""
        plain = self.dtype.kind in "biuf" or self._is_text
        return plain and self.shape[:1] == (count,) and math.prod(self.shape) == count

    @property
    def is_stack(self) -> bool:
        """Whether it may be N images: (N, H, W) or (N, H, W, 1 or 3)."""
        return len(self.shape) == 3 or (len(self.shape) == 4 and self.shape[-1] in (1, 3))

    @property
    def is_image(self) -> bool:
        """Whether it may be one image: an encoded file, or (H, W) or (H, W, 1 or 3) of 8 bits."""
        pixels = len(self.shape) == 2 or (len(self.shape) == 3 and self.shape[-1] in (1, 3))
        return self.is_encoded or (self.dtype == np.uint8 and pixels)

    @property
    def is_encoded(self) -> bool:
        """Whether it may be the bytes of an image file: opaque or text, or a row of 8-bit numbers."""
        held = self.dtype.kind in "VS" and self.dtype.names is None and math.prod(self.shape) == 1
        return held or (self.dtype == np.uint8 and len(self.shape) == 1)


def import_h5py() -> Any:
    """Import h5py, without plug-ins of the HDF5 library.

    Raises:
        DataError: it is absent.
    """
    os.environ.setdefault("HDF5_PLUGIN_PRELOAD", "::")  # no filter of a file is looked for on this machine
    try:
        import h5py
    except ImportError as error:
        raise DataError(f"it is an HDF5 file, which h5py reads; {HDF5_INSTALL}") from error
    return h5py


class Hdf5File:
    """An open HDF5 file. Made by `opened_hdf5`."""

    def __init__(self, path: Path, handle: Any, h5py: Any) -> None:
        self.path = path
        self._handle = handle
        self._h5py = h5py
        self._bytes = path.stat().st_size

    def names(self) -> tuple[list[str], int]:
        """The names of all datasets and groups in the file, sorted, and the number of links that are not followed.

        Raises:
            DataError: there are too many names, or many of one dataset.
        """
        names: list[str] = []
        places: Counter[int] = Counter()
        links = 0

        def visit(name: bytes | str, info: Any) -> bool | None:
            nonlocal links
            if info.type != _HARD:
                links += 1
            else:
                names.append(name if isinstance(name, str) else name.decode("utf-8", "replace"))
                places[info.u] += 1
            return True if len(names) + links > _MOST_NAMES else None

        if self._handle.id.links.visit(visit, info=True):
            raise DataError(
                f"expected at most {_MOST_NAMES:,} names in {self.path}, found more; write several files"
            )
        if max(places.values(), default=0) > _MOST_ALIASES:
            raise DataError(
                f"expected a dataset of its own for each name in {self.path}, but {max(places.values()):,} names lead to the same one; "
                f"write the file again"
            )
        return sorted(names), links

    def datasets(self) -> tuple[list[Hdf5Dataset], int]:
        """All datasets in the file, sorted, and the number of links that are not followed; see `names`."""
        names, links = self.names()
        found = []
        for name in names:
            opened = self._h5py.h5o.open(self._handle.id, name.encode())
            if isinstance(opened, self._h5py.h5d.DatasetID):
                found.append(Hdf5Dataset(name, tuple(opened.shape or ()), self._dtype(opened)))
        return found, links

    def _dtype(self, opened: Any) -> np.dtype[Any]:
        try:
            found: np.dtype[Any] = np.dtype(opened.dtype)
        except TypeError:  # a type that NumPy does not have
            found = np.dtype([("unknown", np.uint8)])
        return found

    def check_images(self, dataset: Hdf5Dataset) -> int:
        """Check by its header that a dataset of N images can be read; returns the bytes of its pixels.

        Raises:
            DataError: its values are in another file, compressed by an unknown filter, not of 8 bits, or too large.
        """
        if dataset.dtype != np.uint8:
            raise DataError(
                f"expected 8-bit images (uint8) in {dataset} of {self.path}; save them as 8-bit images, or as a PNG each"
            )
        opened = self._plain(dataset)
        size = math.prod(dataset.shape)
        if dataset.shape[0] > _MOST_IMAGES or size > _MAX_BYTES or not size:
            raise DataError(
                f"expected 1 to {_MOST_IMAGES:,} images of at most {_MAX_BYTES >> 30} GiB of pixels in {self.path}, found {dataset}"
            )
        self._check_ratio(dataset, opened, size)
        return size

    def _check_ratio(self, dataset: Hdf5Dataset, opened: Any, size: int) -> None:
        stored = opened.get_storage_size()
        if stored > self._bytes or size > max(_MOST_RATIO * stored, min(_FREE_BYTES, 1032 * stored)):
            raise DataError(
                f"expected values of about the {min(stored, self._bytes):,} bytes that are stored for {dataset} of {self.path}, but its "
                f"header declares {size:,}; the file is damaged or was never filled: fetch or write it again"
            )

    def _plain(self, dataset: Hdf5Dataset) -> Any:
        """Open a dataset whose values are all in this file, in pieces of a bounded size."""
        h5py = self._h5py
        opened = h5py.h5d.open(self._handle.id, dataset.name.encode())
        described = opened.get_create_plist()
        if described.get_layout() == h5py.h5d.VIRTUAL or described.get_external_count():
            raise DataError(
                f"expected values in {self.path} itself, but those of {dataset} are in other files (virtual or external storage), "
                f"which are not opened; {_REPACK}"
            )
        filters = [described.get_filter(number)[0] for number in range(described.get_nfilters())]
        if unknown := [number for number in filters if number not in _FILTERS]:
            raise DataError(
                f"expected {dataset} of {self.path} without compression or with gzip, found the filter {unknown[0]}, which is not "
                f"run; {_REPACK}"
            )
        if described.get_layout() == h5py.h5d.CHUNKED:
            chunk = described.get_chunk()
            grid = math.prod(math.ceil(n / c) for n, c in zip(dataset.shape, chunk, strict=True))
            if math.prod(chunk) * dataset.dtype.itemsize > _CHUNK or grid > _MOST_CHUNKS:
                raise DataError(
                    f"expected {dataset} of {self.path} in at most {_MOST_CHUNKS:,} pieces of at most {_CHUNK:,} bytes, found "
                    f"{grid:,} of {' × '.join(map(str, chunk))}; {_REPACK}"
                )
        return opened

    def images(self, dataset: Hdf5Dataset) -> Iterator[NDArray[np.uint8]]:
        """N images (H, W) or (H, W, 1 or 3) of a dataset that `check_images` accepts, a few in memory at a time.

        Raises:
            DataError: a piece is absent or damaged.
        """
        for block in self._blocks(dataset, self._plain(dataset)):
            yield from block

    def image(self, dataset: Hdf5Dataset) -> bytes | NDArray[np.uint8]:
        """One image: the bytes of its file, or its pixels.

        Raises:
            DataError: it is stored elsewhere, too large or damaged.
        """
        size = math.prod(dataset.shape) * dataset.dtype.itemsize
        if not 0 < size <= MAX_IMAGE:
            raise DataError(f"expected an image of 1 to {MAX_IMAGE:,} bytes in {dataset} of {self.path}")
        opened = self._plain(dataset)
        self._check_ratio(dataset, opened, size)
        if not dataset.shape:
            value = np.empty((), dataset.dtype)
            opened.read(self._h5py.h5s.ALL, self._h5py.h5s.ALL, value)
        else:
            value = np.concatenate(list(self._blocks(dataset, opened)))
        return value.tobytes() if dataset.is_encoded else value

    def values(self, dataset: Hdf5Dataset) -> list[Any]:
        """The numbers or texts of a dataset with one value for each of N images, of any further dimensions of 1.

        Raises:
            DataError: they are too many or too large, stored elsewhere, or damaged.
        """
        if dataset.dtype.kind == "O":
            return self._texts(dataset)
        opened = self._plain(dataset)
        size = math.prod(dataset.shape) * dataset.dtype.itemsize
        if size > _MOST_VALUES:
            raise DataError(f"expected at most {_MOST_VALUES:,} bytes of labels in {dataset} of {self.path}")
        self._check_ratio(dataset, opened, size)
        found = np.concatenate([block.reshape(len(block)) for block in self._blocks(dataset, opened)])
        return [
            value.decode("utf-8", "replace") if isinstance(value, bytes) else value
            for value in found.tolist()
        ]

    def _texts(self, dataset: Hdf5Dataset) -> list[str]:
        if self._h5py.check_string_dtype(dataset.dtype) is None or dataset.shape[0] > _MOST_TEXTS:
            raise DataError(
                f"expected at most {_MOST_TEXTS:,} numbers or texts in {dataset} of {self.path}; write another dataset"
            )
        self._plain(dataset)
        opened = self._handle[dataset.name]
        found, size = [], 0
        for row in range(dataset.shape[0]):  # one at a time, as many may be one and the same long text
            text = bytes(np.asarray(opened[row]).reshape(()).item())
            size += len(text)
            if size > _MOST_VALUES:
                raise DataError(
                    f"expected at most {_MOST_VALUES:,} bytes of labels in {dataset} of {self.path}"
                )
            found.append(text.decode("utf-8", "replace"))
        return found

    def _blocks(self, dataset: Hdf5Dataset, opened: Any) -> Iterator[NDArray[Any]]:
        """The values of consecutive rows."""
        row_bytes = math.prod(dataset.shape[1:]) * dataset.dtype.itemsize
        described = opened.get_create_plist()
        if described.get_layout() == self._h5py.h5d.CHUNKED:
            yield from self._chunked(dataset, opened, described, row_bytes)
            return
        rows = max(min(_BLOCK // 4 // max(row_bytes, 1), dataset.shape[0]), 1)
        space = opened.get_space()
        for start in range(0, dataset.shape[0], rows):
            shape = (min(rows, dataset.shape[0] - start), *dataset.shape[1:])
            space.select_hyperslab((start, *(0 for _ in shape[1:])), shape)
            block = np.empty(shape, dataset.dtype)
            opened.read(self._h5py.h5s.create_simple(shape), space, block)
            yield block

    def _chunked(
        self, dataset: Hdf5Dataset, opened: Any, described: Any, row_bytes: int
    ) -> Iterator[NDArray[Any]]:
        chunk = described.get_chunk()
        filters = [described.get_filter(number)[0] for number in range(described.get_nfilters())]
        if chunk[0] * row_bytes > max(_BLOCK, row_bytes):
            raise DataError(
                f"expected {dataset} of {self.path} in pieces of fewer images than {chunk[0]:,}, as those of {_BLOCK:,} bytes are read "
                f"at once; write it again with h5repack -l CHUNK={'x'.join(map(str, (1, *dataset.shape[1:])))}"
            )
        for start in range(0, dataset.shape[0], chunk[0]):
            block = np.empty((min(chunk[0], dataset.shape[0] - start), *dataset.shape[1:]), dataset.dtype)
            for places in product(*map(range, [0] * len(chunk[1:]), dataset.shape[1:], chunk[1:])):
                piece = self._piece(dataset, opened, (start, *places), chunk, filters)
                inside = tuple(slice(0, n - at) for n, at in zip(dataset.shape[1:], places, strict=True))
                target = tuple(slice(at, at + c) for at, c in zip(places, chunk[1:], strict=True))
                block[(slice(None), *target)] = piece[(slice(0, len(block)), *inside)]
            yield block

    def _piece(
        self,
        dataset: Hdf5Dataset,
        opened: Any,
        place: tuple[int, ...],
        chunk: tuple[int, ...],
        filters: Sequence[int],
    ) -> NDArray[Any]:
        """One piece, expanded to no more than its size."""
        size = math.prod(chunk) * dataset.dtype.itemsize
        stored = opened.get_chunk_info_by_coord(place)
        # Deflate makes what it cannot compress larger by less than this.
        if stored.byte_offset is None or not 0 < stored.size <= size + size // 100 + 4096:
            raise self._damaged(dataset, place)
        skipped, content = opened.read_direct_chunk(place)
        for number, kind in reversed(list(enumerate(filters))):
            if skipped >> number & 1:
                continue
            if kind == _CHECKSUM:
                content = content[:-4]
            elif kind == _DEFLATE:
                try:
                    content = zlib.decompressobj().decompress(content, size + 5)
                except zlib.error as error:
                    raise self._damaged(dataset, place) from error
            elif dataset.dtype.itemsize > 1 and len(content) >= size:  # shuffle: all first bytes first
                planes = np.frombuffer(content, np.uint8, size).reshape(dataset.dtype.itemsize, -1)
                content = planes.T.tobytes()
        if len(content) != size:
            raise self._damaged(dataset, place)
        return np.frombuffer(content, dataset.dtype).reshape(chunk)

    def _damaged(self, dataset: Hdf5Dataset, place: tuple[int, ...]) -> DataError:
        return DataError(
            f"the piece of {dataset} of {self.path} from row {place[0] + 1} on is absent or damaged; fetch or write the file again"
        )


@contextmanager
def opened_hdf5(path: Path) -> Iterator[Hdf5File]:
    """Open an HDF5 file for reading.

    Raises:
        DataError: h5py is absent, or the file is no HDF5 or damaged.
    """
    h5py = import_h5py()
    try:
        with h5py.File(regular(path), "r", locking=False) as handle:
            yield Hdf5File(path, handle, h5py)
    except DataError:
        raise
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, MemoryError, OverflowError) as error:
        raise DataError(
            f"{path} cannot be read as HDF5: {quoted(str(error).strip() or type(error).__name__)}; fetch or write it again"
        ) from error


def listed_datasets(datasets: Sequence[Hdf5Dataset]) -> str:
    """The first datasets of a file, for messages."""
    return sample_of(datasets, most=8) or "none"

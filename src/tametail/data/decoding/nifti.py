"""NIfTI-1 and NIfTI-2 volumes (.nii, .nii.gz) → axial slices of 256 grey levels.

Files are not trusted: the header is checked before anything else is read, and no more is expanded than it declares.
Shape legend: X × Y × Z voxels, H × W pixels of a slice.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from tametail.core.arrays import FloatArray
from tametail.core.errors import DataError
from tametail.core.regular_file import regular

NIFTI_SUFFIXES = (".nii", ".nii.gz")
PERCENTILES = (0.5, 99.5)
"""Of the values of a volume: black and white in its slices."""
MAX_BYTES = 2**29  # of the voxels of a volume
_MOST_RATIO = 200  # of a volume to its compressed file: those of scans have 2 to 20
_FREE_BYTES = 2**20
_SAMPLE = 1_000_000  # voxels from which the percentiles are taken
_MOST_EXTENSION = 2**24  # bytes between the header and the voxels
_BLOCK = 2**20
_READ = (
    2**16
)  # compressed bytes at a time: what follows a part is copied, and a file may be of many empty ones
_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}  # fmt: skip


@dataclass(frozen=True, eq=False)
class NiftiHeader:
    """What the header of a volume declares.

    Attributes:
        shape: X, Y, Z as stored.
        dtype: of a voxel.
        offset: where the voxels begin.
        slope, intercept: value = stored × slope + intercept.
        axes: (3, 3) columns are the directions of the stored axes towards right, front and head.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    offset: int
    slope: float
    intercept: float
    axes: FloatArray

    @property
    def order(self) -> tuple[tuple[int, bool], ...]:
        """For right, front and head the stored axis that is nearest, and whether it points the other way."""
        rest = np.abs(self.axes)
        found: dict[int, int] = {}
        for _ in range(3):  # the clearest first, so that no axis is taken twice
            direction, axis = np.unravel_index(np.argmax(rest), rest.shape)
            found[int(direction)] = int(axis)
            rest[direction, :] = rest[:, axis] = -1
        return tuple(
            (found[direction], bool(self.axes[direction, found[direction]] < 0)) for direction in range(3)
        )

    @property
    def slices(self) -> int:
        """Number of axial slices."""
        return self.shape[self.order[2][0]]

    @property
    def slice_pixels(self) -> int:
        """Pixels of an axial slice."""
        return math.prod(self.shape) // max(self.slices, 1)


def read_nifti_header(path: Path) -> NiftiHeader:
    """Read and check the header of a volume; nothing else is read.

    Raises:
        DataError: it is no NIfTI volume of grey values, or declares more than its file can hold or than is read.
    """
    try:
        size = regular(path).stat().st_size
        with path.open("rb") as file:
            compressed = file.read(2) == b"\x1f\x8b"
            head = b"".join(_content(path, 544))
    except OSError as error:
        raise DataError(f"the volume {path} cannot be read ({error.strerror or error})") from error
    header = _parsed(head, path)
    declared = math.prod(header.shape) * header.dtype.itemsize
    if not 0 < declared <= MAX_BYTES or max(header.shape) > 10_000:
        raise DataError(
            f"expected a volume of at most {MAX_BYTES:,} bytes and 10,000 voxels a side in {path}, found "
            f"{' × '.join(map(str, header.shape))} {header.dtype.name}; scale it down, or store it as 16-bit integers"
        )
    room = max(_MOST_RATIO * size, _FREE_BYTES) if compressed else size - header.offset
    if declared > room:
        raise DataError(
            f"the volume {path} is damaged: its header declares {declared:,} bytes of voxels, but the file has {size:,}"
            + (
                f", less than 1/{_MOST_RATIO} of them"
                if compressed
                else f", of which voxels begin at {header.offset:,}"
            )
            + "; fetch it again"
        )
    return header


def nifti_slices(path: Path, header: NiftiHeader, numbers: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
    """Axial slices (H, W) of a volume, the patient's front up and right side at the left, as on a radiologist's screen.

    Grey levels are linear from the first to the second of `PERCENTILES` of the finite values of the whole volume.

    Args:
        header: of the file, from `read_nifti_header`.
        numbers: which slices, counted from 0 at the feet.

    Raises:
        DataError: the file is damaged or ends too early.
    """
    volume = _voxels(path, header)
    low, high = _window(volume, header, path)
    (right, to_left), (front, to_back), (head, to_feet) = header.order
    for number in numbers:
        at = header.shape[head] - 1 - number if to_feet else number
        plane = np.take(volume, at, axis=head)  # of the other two axes in their stored order
        plane = plane.T if right < front else plane  # rows to the front, columns to the right
        plane = plane if to_back else plane[::-1]
        plane = plane if to_left else plane[:, ::-1]
        with np.errstate(over="ignore", invalid="ignore"):  # values far from the others are black or white
            values = plane.astype(np.float64) * header.slope + header.intercept
            scaled = (values - low) * (255 / (high - low)) if high > low else np.zeros(values.shape)
        yield np.rint(np.clip(np.nan_to_num(scaled, nan=0.0), 0, 255)).astype(np.uint8)


def _parsed(head: bytes, path: Path) -> NiftiHeader:
    order = next(
        (sign for sign in "<>" if len(head) >= 4 and struct.unpack(f"{sign}i", head[:4])[0] in (348, 540)), ""
    )
    long = bool(order) and struct.unpack(f"{order}i", head[:4])[0] == 540
    magic = head[4:8] if long else head[344:348]
    if magic.rstrip(b"\0") not in (b"n+1", b"n+2") or len(head) < (540 if long else 348):
        raise DataError(
            f"expected a NIfTI volume (.nii or .nii.gz) in {path}, found none; convert it, or take it away"
        )
    if long:
        code, bits = struct.unpack_from(f"{order}hh", head, 12)
        dimensions = struct.unpack_from(f"{order}8q", head, 16)
        spacing = struct.unpack_from(f"{order}8d", head, 104)
        offset, slope, intercept = struct.unpack_from(f"{order}qdd", head, 168)
        qform, sform = struct.unpack_from(f"{order}ii", head, 344)
        quaternion = struct.unpack_from(f"{order}3d", head, 352)
        rows = struct.unpack_from(f"{order}12d", head, 400)
    else:
        dimensions = struct.unpack_from(f"{order}8h", head, 40)
        code, bits = struct.unpack_from(f"{order}hh", head, 70)
        spacing = struct.unpack_from(f"{order}8f", head, 76)
        start, slope, intercept = struct.unpack_from(f"{order}fff", head, 108)
        offset = int(start) if math.isfinite(start) else -1
        qform, sform = struct.unpack_from(f"{order}hh", head, 252)
        quaternion = struct.unpack_from(f"{order}3f", head, 256)
        rows = struct.unpack_from(f"{order}12f", head, 280)
    count = dimensions[0]
    if (
        not 2 <= count <= 7
        or min(dimensions[1 : count + 1]) < 1
        or any(n > 1 for n in dimensions[4 : count + 1])
    ):
        raise DataError(
            f"expected one volume in {path}, found dimensions {dimensions[1 : max(min(count, 7), 0) + 1]}; of a series of volumes "
            f"save the one that is meant"
        )
    dtype = np.dtype(f"{order}{_TYPES[code]}") if code in _TYPES else None
    offset = offset or (544 if long else 352)
    if dtype is None or bits != 8 * dtype.itemsize or not (540 if long else 348) <= offset <= _MOST_EXTENSION:
        raise DataError(
            f"expected grey values (integers, or floats of 32 or 64 bits) in {path}, found data type {code} of {bits} bits at byte "
            f"{offset}; convert the volume"
        )
    if not (math.isfinite(slope) and math.isfinite(intercept)) or slope == 0:
        slope, intercept = 1.0, 0.0
    width, height, depth = (*dimensions[1 : count + 1], 1)[:3]
    axes = _axes(qform, sform, quaternion, spacing, rows)
    return NiftiHeader((width, height, depth), dtype, offset, slope, intercept, axes)


def _axes(
    qform: int, sform: int, quaternion: Sequence[float], spacing: Sequence[float], rows: Sequence[float]
) -> FloatArray:
    """(3, 3) directions of the stored axes by the affine matrix, the quaternion or, without both, as they are stored."""
    found = np.eye(3)
    if sform > 0:
        found = np.nan_to_num(np.array(rows, dtype=np.float64).reshape(3, 4)[:, :3], posinf=0, neginf=0)
        lengths = np.linalg.norm(found, axis=0)
        found = found / np.where(lengths > 0, lengths, 1)
    elif qform > 0:
        b, c, d = map(float, quaternion)
        a = math.sqrt(max(1 - b * b - c * c - d * d, 0)) if math.isfinite(b + c + d) else 1.0
        found = np.array(
            [
                [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
                [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
                [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
            ]
        )
        found[:, 2] *= -1 if spacing[0] < 0 else 1
    return found if np.isfinite(found).all() and np.abs(found).sum(0).min() > 0 else np.eye(3)


def _content(path: Path, size: int) -> Iterator[bytes]:
    """The first ``size`` bytes of a file, expanded if it is compressed by gzip."""
    with regular(path).open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if packed:
            yield from _inflated(file, size)
        while not packed and size > 0 and (block := file.read(min(size, _BLOCK))):
            size -= len(block)
            yield block


def _inflated(file: IO[bytes], size: int) -> Iterator[bytes]:
    decoder = zlib.decompressobj(zlib.MAX_WBITS | 16)
    data = b""
    while size > 0:
        if decoder.eof:  # a file of several parts, which may be padded with zeros
            data = (decoder.unused_data or file.read(_READ)).lstrip(b"\0")
            decoder = zlib.decompressobj(zlib.MAX_WBITS | 16)
        else:
            data = decoder.unconsumed_tail or file.read(_READ)
        if not data:
            return
        try:
            found = decoder.decompress(data, min(size, _BLOCK))
        except zlib.error as error:
            raise OSError(0, f"it is damaged: {error}") from error
        size -= len(found)
        yield found


def _voxels(path: Path, header: NiftiHeader) -> NDArray[Any]:
    """(X, Y, Z) stored values."""
    declared = math.prod(header.shape) * header.dtype.itemsize
    content = np.empty(header.offset + declared, np.uint8)
    filled = 0
    try:
        for block in _content(
            path, len(content) + 1
        ):  # to the end of a compressed file, where its checksum is
            kept = np.frombuffer(block, np.uint8)[: len(content) - filled]
            content[filled : filled + len(kept)] = kept
            filled += len(kept)
    except OSError as error:
        raise DataError(f"the volume {path} cannot be read ({error.strerror or error})") from error
    if filled < len(content):
        raise DataError(
            f"the volume {path} is damaged: its header declares {declared:,} bytes of voxels, but "
            f"{max(filled - header.offset, 0):,} are there; fetch it again"
        )
    return content[header.offset :].view(header.dtype).reshape(header.shape, order="F")


def _window(volume: NDArray[Any], header: NiftiHeader, path: Path) -> tuple[float, float]:
    flat = volume.reshape(-1, order="F")
    step = max(len(flat) // _SAMPLE, 1)
    columns = header.shape[0] * header.shape[1]
    while math.gcd(step, columns) > 1:  # a step with a common divisor would meet some columns only
        step += 1
    sample = flat[::step].astype(np.float64)
    finite = sample[np.isfinite(sample)]
    if not len(finite):
        raise DataError(f"the volume {path} holds values that are not numbers; convert it again")
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = map(float, np.percentile(finite * header.slope + header.intercept, PERCENTILES))
    if not math.isfinite(high - low):
        raise DataError(
            f"expected values of which the range is a 64-bit number in the volume {path}, found {low:g} to {high:g}; convert it again"
        )
    return low, high

"""DICOM file → its pixels as a viewer displays them, or attributes of its header.

Files are read by pydicom (extra ``dicom``) and are not trusted: sizes are checked before memory is allocated, the number
of reads is bounded, and compressed frames and deflated files are measured before they are expanded.
"""

from __future__ import annotations

import io
import logging
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from tametail.core.errors import DataError
from tametail.data.decoding.dicom_display import DISPLAY_TAGS, displayed
from tametail.data.decoding.shards import packed_image

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.pixels.decoders.base import Decoder

MAX_INFLATED = 2**29  # bytes of an expanded file: 16 bits × 3 colours at the pixel limit
_MAX_READS = 3_000_000  # of a header: far more than any real one needs, a few seconds
_PIXEL_TAGS = {
    b"\xe0\x7f\x10\x00": "PixelData",
    b"\xe0\x7f\x08\x00": "FloatPixelData",
    b"\xe0\x7f\x09\x00": "DoubleFloatPixelData",
}

# Transfer syntax → the plug-in of pydicom that decodes it. pydicom would otherwise try all installed ones, and GDCM ends
# the process on damaged files. Lossless JPEG and 12-bit JPEG, for which pydicom has only GDCM and a plug-in under the GPL,
# are decoded by `decode_jpeg`, and also JPEG-LS, which would need another package.
_JPEG, _OPENJPEG, _RUN_LENGTH, _HERE = "pillow", "pylibjpeg", "pydicom", "here"
_PLUGINS = {
    "1.2.840.10008.1.2.5": _RUN_LENGTH,
    "1.2.840.10008.1.2.4.50": _JPEG,
    "1.2.840.10008.1.2.4.51": _JPEG,
    "1.2.840.10008.1.2.4.57": _HERE,
    "1.2.840.10008.1.2.4.70": _HERE,
    "1.2.840.10008.1.2.4.80": _HERE,
    "1.2.840.10008.1.2.4.81": _HERE,
    "1.2.840.10008.1.2.4.90": _OPENJPEG,
    "1.2.840.10008.1.2.4.91": _OPENJPEG,
    "1.2.840.10008.1.2.4.201": _OPENJPEG,
    "1.2.840.10008.1.2.4.202": _OPENJPEG,
    "1.2.840.10008.1.2.4.203": _OPENJPEG,
}
_PACKAGES = {_JPEG: "pillow", _OPENJPEG: "pylibjpeg and pylibjpeg-openjpeg"}
DICOM_INSTALL = "pip install 'tametail[dicom]'"
_JPEG_2000 = b"\xff\x4f\xff\x51"
_JP2_BOXES = 4096  # bytes in front of the codestream, at most
_JPEG_START = b"\xff\xd8"
_JPEG_END = b"\xff\xd9"
_JPEG_LS_FRAME = 0xF7


def has_dicom_mark(head: bytes) -> bool:
    """Whether a file has the mark of DICOM in its first 132 bytes or more."""
    return head[128:132] == b"DICM"


def read_dicom(source: Path | bytes, max_pixels: int, *, frame: int | None = None) -> NDArray[Any]:
    """The pixels of a frame of a DICOM file, as displayed.

    Rescale and Modality LUT, then VOI LUT or the first window are applied (also those of enhanced multi-frame objects),
    MONOCHROME1 is inverted, palettes and YBR become RGB, padding is black. Spacing is ignored: pixels count as square.

    Args:
        source: path of a file, with or without preamble, or its bytes.
        max_pixels: largest rows × columns.
        frame: from 0; None for the middle one.

    Returns:
        (H, W) float32 from 0 to 255, not rounded, or (H, W, 3) uint8 RGB.

    Raises:
        DataError: pydicom or a plug-in is absent, or the file cannot be decoded; the message does not include the path.
    """
    pydicom = import_pydicom()
    try:
        with _DicomFile(source) as file:
            header = pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=[*DISPLAY_TAGS])
            syntax = _transfer_syntax(header)
            deflated = syntax == pydicom.uid.DeflatedExplicitVRLittleEndian
            whole: Dataset | None = None
            if deflated:
                file.seek(0)
                whole = pydicom.dcmread(file, force=True)
                has_pixels = any(name in whole for name in _PIXEL_TAGS.values())
            else:  # pydicom stops at the pixels, or at the end of the file
                has_pixels = _pixel_tag(file.peek(4)[:4]) in _PIXEL_TAGS
            middle, frames = _checked(header, has_pixels, max_pixels)
            at = middle if frame is None else min(frame, frames - 1)
            decoder, plugin = _decoder(syntax)
            options: dict[str, Any] = pydicom.pixels.utils.as_pixel_options(header)
            if whole is not None:
                pixels, _ = decoder.as_array(whole, index=at, **options)
            else:
                _pass_tag(file, options)
                pixels = _frame_of(file, decoder, plugin, at, frames, options)
            return displayed(pixels, header, at)
    except DataError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"the DICOM file is damaged or truncated ({reason})") from error


def read_header(path: Path, tags: tuple[str, ...]) -> Dataset | None:
    """The named attributes of the header of a DICOM file, without its pixels; None if it cannot be read.

    Raises:
        DataError: pydicom is absent.
    """
    pydicom = import_pydicom()
    try:
        content = None if path.exists() else packed_image(path)
        with _DicomFile(path if content is None else content) as file:
            found: Dataset = pydicom.dcmread(
                file, stop_before_pixels=True, force=not has_dicom_mark(file.peek(132)), specific_tags=[*tags]
            )
            return found if len(found) or found.file_meta else None
    except Exception:  # noqa: BLE001 - pydicom raises anything on damaged files; the decoder reports what is wrong
        return None


def import_pydicom() -> Any:
    """Import pydicom without its log messages, which would contain the names of patients.

    Raises:
        DataError: it is absent or older than 3.
    """
    try:
        import pydicom
        import pydicom.pixels
    except ImportError as error:
        raise DataError(f"it is a DICOM file, which pydicom 3 reads; {DICOM_INSTALL}") from error
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    return pydicom


class _Bytes(io.BytesIO):
    name = ""  # pydicom reads it


class _DicomFile(io.BufferedReader):
    """A file with bounded reads, whose deflated rest is measured before it is read."""

    def __init__(self, source: Path | bytes) -> None:
        raw = _Bytes(source) if isinstance(source, bytes) else io.FileIO(source)
        super().__init__(cast(io.RawIOBase, raw))
        self._end = self.seek(0, io.SEEK_END)
        self.seek(0)
        self._reads = 0

    def read(self, size: int | None = -1) -> bytes:
        self._reads += 1
        if self._reads > _MAX_READS:
            raise DataError("the DICOM header has no end")
        left = max(self._end - self.tell(), 0)
        if size is None or size < 0:  # pydicom reads so only what it inflates
            data = super().read(left)
            _check_inflated(data)
            return data
        return super().read(min(size, left))


def _check_inflated(data: bytes) -> None:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    total = 0
    while data and not inflater.eof:
        total += len(inflater.decompress(data, 2**20))
        data = inflater.unconsumed_tail
        if total > MAX_INFLATED:
            raise DataError(f"the deflated DICOM file expands to more than {MAX_INFLATED:,} bytes")


def _transfer_syntax(header: Dataset) -> str:
    named = header.file_meta.get("TransferSyntaxUID") if header.file_meta else None
    if named:
        return str(named)
    implicit, little = header.original_encoding  # detected by pydicom if the file does not declare it
    return "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1" if little else "1.2.840.10008.1.2.2"


def _pixel_tag(tag: bytes) -> bytes:
    """The tag in little-endian order."""
    return tag[1::-1] + tag[3:1:-1] if tag[:1] == b"\x7f" else tag


def _checked(header: Dataset, has_pixels: bool, max_pixels: int) -> tuple[int, int]:
    """The index of the middle frame and the number of frames, after the checks that need no pixels."""
    rows, columns = int(header.get("Rows") or 0), int(header.get("Columns") or 0)
    if not has_pixels:
        cut = " or is truncated before them" if rows or "Modality" not in header else ""
        modality = header.get("Modality") or "unknown"
        raise DataError(f"the DICOM file holds no pixels (Modality {modality}){cut}")
    if rows < 1 or columns < 1:
        raise DataError(f"the DICOM file declares {columns} × {rows} pixels")
    if rows * columns > max_pixels:
        raise DataError(f"{columns} × {rows} pixels, more than the {max_pixels:,} allowed")
    samples, bits = int(header.get("SamplesPerPixel") or 1), int(header.get("BitsAllocated") or 0)
    if samples not in {1, 3} or bits not in {1, 8, 16, 32, 64}:
        raise DataError(f"DICOM pixels of {samples} samples of {bits} bits are not supported")
    frames = max(int(header.get("NumberOfFrames") or 1), 1)
    return frames // 2, frames


def _decoder(syntax: str) -> tuple[Decoder, str]:
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    name = UID(syntax).name
    try:
        decoder = get_decoder(UID(syntax))
    except NotImplementedError as error:
        raise DataError(f"the DICOM transfer syntax {name} ({syntax}) is not supported") from error
    plugin = _PLUGINS.get(syntax, "")
    if plugin not in {"", _HERE, *decoder.available_plugins}:
        packages = _PACKAGES.get(plugin, plugin)
        raise DataError(f"the DICOM transfer syntax {name} needs {packages}; {DICOM_INSTALL}")
    return decoder, plugin


def _pass_tag(file: _DicomFile, options: dict[str, Any]) -> None:
    """Move from the tag of the pixels to their value, and add what the tag declares to the options."""
    options["pixel_keyword"] = _PIXEL_TAGS[_pixel_tag(file.read(4))]
    kind = file.peek(2)[:2]
    # Read from the file, as some files contradict their transfer syntax. As a length these letters would be odd.
    is_explicit = kind in {b"OB", b"OW", b"OF", b"OD", b"UN"}
    if is_explicit:
        options["pixel_vr"] = kind.decode("ascii")
    file.read(8 if is_explicit else 4)


def _frame_of(
    file: _DicomFile, decoder: Decoder, plugin: str, frame: int, frames: int, options: dict[str, Any]
) -> NDArray[Any]:
    """(H, W) or (H, W, 3) of one frame of a file that is at the value of the pixels."""
    from pydicom.encaps import encapsulate, get_frame

    if not plugin:
        pixels, _ = decoder.as_array(file, index=frame, **options)
        return pixels
    offsets = options.pop("extended_offsets", None)
    encoded = get_frame(file, frame, number_of_frames=frames, extended_offsets=offsets)
    width, height, bits = declared_size(encoded)
    if plugin != _RUN_LENGTH and (width, height) != (options["columns"], options["rows"]):
        raise DataError(
            f"the DICOM file is damaged: {options['columns']} × {options['rows']} pixels by its header, "
            f"{width} × {height} by its compressed frame"
        )
    if plugin == _HERE or (plugin == _JPEG and bits > 8):
        return decode_jpeg(encoded, options["bits_stored"], signed=options["pixel_representation"] == 1)
    options["number_of_frames"] = 1
    pixels, _ = decoder.as_array(encapsulate([encoded]), index=0, decoding_plugin=plugin, **options)
    return pixels


def declared_size(encoded: bytes) -> tuple[int, int, int]:
    """Width, height and bits per sample of JPEG, JPEG-LS or JPEG 2000 (bits always 0); 0 if not declared."""
    start = encoded.find(_JPEG_2000, 0, _JP2_BOXES)  # some files have it in the boxes of a .jp2
    if start >= 0 and len(encoded) >= start + 24:
        right, bottom, left, top = (_number(encoded, at, 4) for at in range(start + 8, start + 24, 4))
        return right - left, bottom - top, 0
    at = _frame_header(encoded)
    if not at:
        return 0, 0, 0
    return _number(encoded, at + 7, 2), _number(encoded, at + 5, 2), encoded[at + 4]


def decode_jpeg(encoded: bytes, bits: int, *, signed: bool) -> NDArray[Any]:
    """(H, W) or (H, W, 3) of JPEG-LS, or of JPEG that is lossless or deeper than 8 bits, as stored.

    Args:
        bits: number of significant bits of each sample, the lowest ones.
        signed: whether the highest of these is the sign, which JPEG does not record.

    Raises:
        DataError: imagecodecs is absent, or the data have no end marker (imagecodecs would fill the rest with grey).
        Exception: from imagecodecs, for damaged data.
    """
    try:
        from imagecodecs import jpeg8_decode, jpegls_decode
    except ImportError as error:
        raise DataError(
            f"JPEG-LS and JPEG that is lossless or deeper than 8 bits need imagecodecs; {DICOM_INSTALL}"
        ) from error
    if not encoded.rstrip(b"\0\xff").endswith(_JPEG_END):
        raise DataError("the DICOM file is damaged or truncated (its compressed frame has no end)")
    at = _frame_header(encoded)
    is_jpeg_ls = bool(at) and encoded[at + 1] == _JPEG_LS_FRAME
    pixels: NDArray[Any] = (jpegls_decode if is_jpeg_ls else jpeg8_decode)(encoded)
    unused = 8 * pixels.dtype.itemsize - bits
    if unused < 0 or (unused == 0 and not signed):
        return pixels
    of_sign = pixels.view(f"{'i' if signed else 'u'}{pixels.dtype.itemsize}")
    return np.asarray((of_sign << unused) >> unused)


def _frame_header(encoded: bytes) -> int:
    """Position of the marker SOFn of JPEG or JPEG-LS, 0 if there is none."""
    at = 2
    while encoded[:2] == _JPEG_START and at + 9 <= len(encoded) and encoded[at] == 0xFF:
        marker = encoded[at + 1]
        if marker == _JPEG_LS_FRAME or (0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}):
            return at
        # 0xFF may be repeated before a marker; any other begins with its length.
        at += 1 if marker == 0xFF else 2 + _number(encoded, at + 2, 2)
    return 0


def _number(encoded: bytes, at: int, size: int) -> int:
    return int.from_bytes(encoded[at : at + size], "big")

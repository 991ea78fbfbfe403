"""Compressed frames of DICOM files: the size they declare, and kinds of JPEG that pydicom cannot decode.

The declared size may differ from the header of the file, and it determines the memory that a decoder allocates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tametail.core.errors import DataError

DICOM_INSTALL = "pip install 'tametail[dicom]'"
_JPEG_2000 = b"\xff\x4f\xff\x51"
_JP2_BOXES = 4096  # bytes in front of the codestream, at most
_JPEG = b"\xff\xd8"
_JPEG_END = b"\xff\xd9"
_JPEG_LS_FRAME = 0xF7


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
        DataError: imagecodecs is absent, or the data have no end marker (imagecodecs would fill the rest of JPEG with
            grey, and take seconds for JPEG-LS).
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
    while encoded[:2] == _JPEG and at + 9 <= len(encoded) and encoded[at] == 0xFF:
        marker = encoded[at + 1]
        if marker == _JPEG_LS_FRAME or (0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}):
            return at
        # 0xFF may be repeated before a marker; any other begins with its length.
        at += 1 if marker == 0xFF else 2 + _number(encoded, at + 2, 2)
    return 0


def _number(encoded: bytes, at: int, size: int) -> int:
    return int.from_bytes(encoded[at : at + size], "big")

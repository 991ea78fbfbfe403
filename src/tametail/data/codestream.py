"""What a compressed frame inside a DICOM file declares of itself: it may be another size than the file's header says,
and it is what a decoder takes memory for.
"""

from __future__ import annotations

_JPEG_2000 = b"\xff\x4f\xff\x51"
_JPEG = b"\xff\xd8"
_JPEG_LS_FRAME = 0xF7


def declared_size(encoded: bytes) -> tuple[int, int, int]:
    """(width, height, bits per sample) of JPEG, JPEG-LS or JPEG 2000; the bits of the last are not looked for (0).

    All are 0 where nothing is declared.
    """
    if encoded[:4] == _JPEG_2000 and len(encoded) >= 24:
        right, bottom, left, top = (_number(encoded, at, 4) for at in range(8, 24, 4))
        return right - left, bottom - top, 0
    at = _frame_header(encoded)
    if not at:
        return 0, 0, 0
    return _number(encoded, at + 7, 2), _number(encoded, at + 5, 2), encoded[at + 4]


def _frame_header(encoded: bytes) -> int:
    """Where the marker SOFn of JPEG or JPEG-LS stands, 0 for nowhere."""
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

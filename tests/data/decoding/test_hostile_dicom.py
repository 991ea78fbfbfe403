"""DICOM files made to break a decoder: each gives a named error, soon, and within bounded memory."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures.hostile_samples import NOISE, UINT16, jpeg, measured, processor_seconds
from tametail.core.errors import DataError
from tametail.data.decoding.decode import decode_image

SECONDS = 5.0


@pytest.fixture(autouse=True)
def _soon() -> Iterator[None]:
    started = processor_seconds()
    yield
    assert processor_seconds() - started < SECONDS


class TestDicom:
    def test_truncated_at_every_tenth(self) -> None:
        from fixtures.dicom_samples import dicom_bytes

        data = dicom_bytes(UINT16)
        for tenth in range(10):
            with pytest.raises(DataError, match=r"DICOM|not an image|empty"):
                decode_image(data[: len(data) * tenth // 10], 32)

    def test_lies_about_the_size(self) -> None:
        from fixtures.dicom_samples import dicom_bytes

        for attributes in (
            {"Rows": 60_000, "Columns": 60_000},
            {"Rows": 9_999, "Columns": 9_999},
            {"Rows": 0},
            {"Columns": 0},
            {"BitsAllocated": 7},
            {"SamplesPerPixel": 200},
            {"NumberOfFrames": 1_000_000},
            {"NumberOfFrames": 2_000_000_000},
        ):
            with pytest.raises(DataError, match=r"allowed|declares|damaged|supported"):
                decode_image(dicom_bytes(UINT16, **attributes), 32)

    def test_compressed_frames_larger_than_the_header_says(self) -> None:
        from pydicom.encaps import encapsulate

        from fixtures.dicom_samples import dicom_dataset, written

        for syntax, data in (
            ("1.2.840.10008.1.2.4.50", jpeg(65_500, 65_500)),
            (
                "1.2.840.10008.1.2.4.90",
                b"\xff\x4f\xff\x51\0\x29\0\0" + struct.pack(">IIII", 2**20, 2**20, 0, 0),
            ),
        ):
            dataset = dicom_dataset(NOISE)
            dataset.file_meta.TransferSyntaxUID = syntax
            dataset.PixelData = encapsulate([data])
            dataset["PixelData"].is_undefined_length = True
            with pytest.raises(DataError, match="by its compressed frame"):
                decode_image(written(dataset), 32)

    def test_without_pixels(self) -> None:
        from fixtures.dicom_samples import dicom_bytes

        with pytest.raises(DataError, match=r"the DICOM file holds no pixels \(Modality SR\)"):
            decode_image(dicom_bytes(Modality="SR"), 32)

    def test_sequences_in_sequences(self) -> None:
        from fixtures.dicom_samples import dicom_bytes

        data = dicom_bytes(UINT16)
        deep = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 50_000
        at = data.index(b"\x08\x00\x60\x00")
        with pytest.raises(DataError, match="DICOM"):
            decode_image(data[:at] + deep, 32)

    def test_a_mark_and_nothing_else(self) -> None:
        for rest in (b"", bytes(100), b"\x02\0\0\0UL\x04\0\xff\xff\xff\xff", os.urandom(1000)):
            with pytest.raises(DataError, match="DICOM"):
                decode_image(bytes(128) + b"DICM" + rest, 32)


def test_a_deflated_bomb_is_not_inflated(tmp_path: Path) -> None:
    from fixtures.dicom_samples import DEFLATED, dicom_bytes

    data = dicom_bytes(UINT16, DEFLATED)
    # The compressed part of the file, replaced by less than a megabyte that would expand to 670.
    meta = 132 + 12 + struct.unpack("<I", data[140:144])[0]
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    head = b"\x08\x00\x60\x00CS\x02\0OT\xe0\x7f\x10\x00OW\0\0\0\0\0\xc0"
    packed = deflater.compress(head) + deflater.flush(zlib.Z_FULL_FLUSH)
    zeros = deflater.compress(bytes(2**24)) + deflater.flush(zlib.Z_FULL_FLUSH)
    path = tmp_path / "bomb.dcm"
    path.write_bytes(data[:meta] + packed + zeros * 40 + deflater.flush())
    said, megabytes = measured(path, "import pydicom.pixels")
    assert "expands to more than" in said
    assert megabytes < 100

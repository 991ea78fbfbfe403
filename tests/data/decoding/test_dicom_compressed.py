"""DICOM files of every compression that is read."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from fixtures.dicom_samples import dicom_dataset, pydicom, written
from tametail.core.errors import DataError
from tametail.data.decoding.decode import MAX_PIXELS, decode_image
from tametail.data.decoding.dicom import declared_size, read_dicom

SHOWN = Path(pydicom.__file__).parent / "data" / "test_files"  # files of many makers, part of pydicom


RAMP = np.linspace(0, 4000, 64).astype(np.uint16)[None].repeat(64, axis=0)


def sample(name: str, size: int = 64) -> np.ndarray:
    path = SHOWN / name
    if not path.exists():
        pytest.skip(f"{name} is not in this release of pydicom")
    return decode_image(path, size)


def largest_difference(left: np.ndarray, right: np.ndarray) -> float:
    return float(np.abs(left.astype(float) - right.astype(float)).max())


@pytest.mark.parametrize(
    "name",
    [
        "MR_small_RLE.dcm",
        "MR_small_jp2klossless.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "MR_small_bigendian.dcm",
    ],
)
def test_lossless_compression_changes_nothing(name: str) -> None:
    assert np.array_equal(sample(name), sample("MR_small.dcm"))


@pytest.mark.parametrize(
    ("name", "largest"),
    [
        ("SC_rgb_jpeg_gdcm.dcm", 0),  # JPEG Lossless
        ("SC_rgb_gdcm_KY.dcm", 0),
        ("SC_rgb_jls_lossy_line.dcm", 9),
        ("SC_rgb_jls_lossy_sample.dcm", 9),
        ("SC_rgb_rle_16bit.dcm", 0),
        ("SC_rgb_dcmtk_+eb+cy+np.dcm", 20),
        ("SC_rgb_jpeg_dcmtk.dcm", 20),
        ("SC_ybr_full_422_uncompressed.dcm", 20),
    ],
)
def test_the_same_picture_comes_out_of_all_compressions(name: str, largest: int) -> None:
    expected = sample("SC_rgb_rle.dcm").astype(int)
    assert np.abs(sample(name) - expected).mean() <= largest / 10
    assert np.median(np.abs(sample(name) - expected)) <= largest


def test_jpeg_of_twelve_bits_keeps_them() -> None:
    pixels = read_dicom(SHOWN / "JPGExtended.dcm", MAX_PIXELS)
    assert pixels.shape == (1024, 256)
    assert len(np.unique(pixels)) > 200  # of the 265 in the file


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"])
def test_lossless_jpeg_of_deep_greys(signed: bool, bits: int, syntax: str) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    values = (RAMP.astype(np.int32) * 2 ** (bits - 12)) - (2 ** (bits - 1) if signed else 0)
    stored = (values & (2**bits - 1)).astype(np.uint16)
    encoded = imagecodecs.jpeg8_encode(stored, lossless=True, predictor=1, bitspersample=bits)
    dataset = dicom_dataset(
        stored, syntax, BitsStored=bits, HighBit=bits - 1, PixelRepresentation=int(signed)
    )
    dataset.PixelData = pydicom.encaps.encapsulate([encoded])
    dataset["PixelData"].is_undefined_length = True
    found = read_dicom(written(dataset), MAX_PIXELS)
    assert np.allclose(found, RAMP * (255 / 4000), atol=0.01)


def test_absent_imagecodecs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(DataError, match=r"need imagecodecs; pip install 'tametail\[dicom\]'"):
        sample("SC_rgb_jpeg_gdcm.dcm")


def test_a_file_that_contradicts_its_syntax_is_read() -> None:
    assert largest_difference(sample("SC_rgb_jpeg.dcm"), sample("SC_rgb_jpeg_dcmd.dcm")) <= 2


def test_an_absent_plug_in_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from pydicom.pixels.decoders.base import Decoder

    monkeypatch.setattr(Decoder, "available_plugins", property(lambda self: ()))
    with pytest.raises(
        DataError,
        match=r"JPEG 2000.* needs pylibjpeg and pylibjpeg-openjpeg; pip install 'tametail\[dicom\]'",
    ):
        sample("MR_small_jp2klossless.dcm")


def test_what_compressed_frames_declare() -> None:
    from pydicom.encaps import get_frame

    for name in ("MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "JPGExtended.dcm"):
        if (SHOWN / name).exists():
            dataset = pydicom.dcmread(SHOWN / name)
            width, height, _ = declared_size(get_frame(dataset.PixelData, 0, number_of_frames=1))
            assert (width, height) == (dataset.Columns, dataset.Rows)
    for junk in (
        b"",
        b"\xff\xd8",
        b"\xff\xd8\xff",
        b"\xff\xd8" + b"\xff" * 50,
        bytes(50),
        b"\xff\x4f\xff\x51",
    ):
        assert declared_size(junk) == (0, 0, 0)


@pytest.mark.parametrize(
    "name",
    [
        "SC_rgb_jpeg_gdcm.dcm",
        "JPGExtended.dcm",
        "SC_rgb_jls_lossy_line.dcm",
        "MR_small_jp2klossless.dcm",
        "SC_rgb_dcmtk_+eb+cy+np.dcm",
        "MR_small_RLE.dcm",
        "image_dfl.dcm",
    ],
)
def test_compressed_files_truncated_at_every_tenth(name: str) -> None:
    sample(name)
    data = (SHOWN / name).read_bytes()
    for tenth in range(1, 10):
        with pytest.raises(DataError, match=r"DICOM|not an image"):
            decode_image(data[: len(data) * tenth // 10], 32)

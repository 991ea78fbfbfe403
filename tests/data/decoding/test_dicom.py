from __future__ import annotations

import builtins
import contextlib
import itertools
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures.dicom_samples import EXPLICIT, dicom_bytes, dicom_dataset, item, lookup_table, pydicom, written
from tametail.core.errors import DataError
from tametail.data.decoding.decode import MAX_PIXELS, decode_image, decode_whole
from tametail.data.decoding.dicom import read_dicom, read_header

SHOWN = Path(pydicom.__file__).parent / "data" / "test_files"  # files of many makers, part of pydicom
RAMP = np.linspace(0, 4000, 64).astype(np.uint16)[None].repeat(64, axis=0)


def levels(pixels: np.ndarray, **attributes: Any) -> np.ndarray:
    return read_dicom(dicom_bytes(pixels, **attributes), MAX_PIXELS)


def sample(name: str, size: int = 64) -> np.ndarray:
    path = SHOWN / name
    if not path.exists():
        pytest.skip(f"{name} is not in this release of pydicom")
    return decode_image(path, size)


def largest_difference(left: np.ndarray, right: np.ndarray) -> float:
    return float(np.abs(left.astype(float) - right.astype(float)).max())


@pytest.mark.parametrize("slope", [1, 2.5])
@pytest.mark.parametrize("intercept", [0, -1024])
@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("inverted", [False, True])
def test_windows_agree_with_pydicom(slope: float, intercept: int, function: str, inverted: bool) -> None:
    kind = "MONOCHROME1" if inverted else "MONOCHROME2"
    dataset = dicom_dataset(
        RAMP,
        RescaleSlope=slope,
        RescaleIntercept=intercept,
        WindowCenter=[700, 40],
        WindowWidth=[900, 80],
        VOILUTFunction=function,
        PhotometricInterpretation=kind,
    )
    reference = pydicom.pixels.apply_windowing(pydicom.pixels.apply_rescale(RAMP, dataset), dataset)
    low, high = slope * 0 + intercept, slope * 65535 + intercept
    expected = (reference - low) * (255 / (high - low))
    found = read_dicom(written(dataset), MAX_PIXELS)
    assert found.dtype == np.float32
    assert np.abs(found - (255 - expected if inverted else expected)).max() < 0.01


def test_a_window_is_applied_at_full_depth() -> None:
    """60 grey levels of 16 bits inside one level of 8 bits stay apart."""
    narrow = np.arange(30000, 30064, dtype=np.uint16)[None].repeat(64, axis=0)
    pixels = decode_image(dicom_bytes(narrow, WindowCenter=30032, WindowWidth=64), 64)
    assert len(np.unique(pixels)) == 64
    assert (np.diff(pixels[0, :, 0].astype(int)) > 0).all()


def test_deep_greys_are_scaled_before_they_are_rounded() -> None:
    """In 2 × 2 pixels of 100.4 and 100.2 the mean is 100.3 … rounded first it would be the same; 0.6 tells them apart."""
    window = {"WindowCenter": 32768, "WindowWidth": 65536, "VOILUTFunction": "LINEAR_EXACT"}
    checks = np.indices((64, 64)).sum(axis=0) % 2
    values = np.where(checks, 257 * 100 + 150, 257 * 100 + 110).astype(
        np.uint16
    )  # 100.58 and 100.43 → 101 and 100
    assert set(np.unique(decode_image(dicom_bytes(values, **window), 16))) == {101}


@pytest.mark.parametrize("window", [{"WindowWidth": 0, "WindowCenter": 5}, {"WindowWidth": 100}, {}])
def test_without_a_sensible_window_the_range_of_the_image_is_taken(window: dict[str, int]) -> None:
    found = levels(RAMP + 1000, **window)
    assert np.allclose(found, (RAMP / 4000) * 255, atol=0.05)


def test_eight_bits_are_shown_as_they_are() -> None:
    grey = np.full((8, 8), 77, np.uint8)
    assert (decode_image(dicom_bytes(grey), 8) == 77).all()


def test_signed_values_and_unused_bits() -> None:
    signed = np.linspace(-2048, 2047, 64).astype(np.int16)[None].repeat(64, axis=0)
    assert np.allclose(levels(signed), (signed + 2048.0) * (255 / 4095), atol=0.05)
    overlay = RAMP | 0xF000  # bits above those stored are no part of the value
    assert np.allclose(levels(overlay, BitsStored=12, HighBit=11), levels(RAMP), atol=0.01)


@pytest.mark.parametrize("inverted", [False, True])
def test_padding_is_black_and_stretches_nothing(inverted: bool) -> None:
    values = np.linspace(100, 200, 64).astype(np.int16)[None].repeat(64, axis=0)
    values[:8] = -2000
    kind = {"PhotometricInterpretation": "MONOCHROME1" if inverted else "MONOCHROME2"}
    found = levels(values, PixelPaddingValue=-2000, **kind)
    assert (found[:8] == 0).all()
    assert found[8:].max() == pytest.approx(255)
    assert found[8:].min() == pytest.approx(0)
    values[0] = -1990
    found = levels(values, PixelPaddingValue=-2000, PixelPaddingRangeLimit=-1980, **kind)
    assert (found[:8] == 0).all()
    assert levels(np.full((4, 4), 7, np.uint16), PixelPaddingValue=7).max() == 0


def test_lookup_tables_of_modality_and_window() -> None:
    values = np.arange(16, dtype=np.uint16).reshape(4, 4)
    table = lookup_table(np.arange(0, 1000, 100), 3, 10)  # 10 entries from 3 on
    mapped = np.clip(values.astype(int) - 3, 0, 9) * 100
    assert np.allclose(levels(values, VOILUTSequence=[table]), mapped * (255 / 1023), atol=0.01)
    window = {"WindowCenter": 500, "WindowWidth": 1000, "VOILUTFunction": "LINEAR_EXACT"}
    shown = levels(values, ModalityLUTSequence=[table], **window)
    assert np.allclose(shown, mapped * (255 / 1000), atol=0.01)


def test_a_palette_becomes_rgb() -> None:
    red, green, blue = (np.random.default_rng(k).integers(0, 65536, 256).astype(np.uint16) for k in range(3))
    index = np.arange(256, dtype=np.uint8).reshape(16, 16)
    palette = {
        f"{name}PaletteColorLookupTable{part}": value
        for name, table in (("Red", red), ("Green", green), ("Blue", blue))
        for part, value in (("Descriptor", [256, 0, 16]), ("Data", table.tobytes()))
    }
    found = decode_image(dicom_bytes(index, PhotometricInterpretation="PALETTE COLOR", **palette), 16)
    expected = np.stack([table[index] / 257 for table in (red, green, blue)], axis=2)
    assert np.abs(found - expected).max() <= 0.51


def test_colours_are_kept_and_ybr_becomes_rgb() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    assert np.array_equal(decode_image(dicom_bytes(colours), 8), colours)
    planes = dicom_bytes(
        np.ascontiguousarray(colours.transpose(2, 0, 1)).reshape(8, 8, 3), PlanarConfiguration=1
    )
    assert np.array_equal(decode_image(planes, 8), colours)
    ybr = pydicom.pixels.convert_color_space(colours, "RGB", "YBR_FULL")
    found = decode_image(dicom_bytes(ybr, PhotometricInterpretation="YBR_FULL"), 8)
    assert np.abs(found.astype(int) - colours).max() <= 2


def test_of_several_frames_the_middle_one_is_taken_and_the_rest_not_needed() -> None:
    frames = np.stack([np.full((8, 8), 10 * k, np.uint8) for k in range(5)])
    data = dicom_bytes(frames, NumberOfFrames=5)
    assert (decode_image(data, 8) == 20).all()
    assert (decode_image(data[:-64], 8) == 20).all()  # the last frame is missing


def test_attributes_of_enhanced_objects_stand_in_their_groups() -> None:
    frames = np.stack([RAMP] * 3)
    window = [
        item(WindowCenter=centre, WindowWidth=1000, VOILUTFunction="LINEAR_EXACT") for centre in (0, 2000, 1)
    ]
    rescale = item(RescaleSlope=2, RescaleIntercept=-1000, RescaleType="US")
    found = levels(
        frames,
        NumberOfFrames=3,
        SharedFunctionalGroupsSequence=[item(PixelValueTransformationSequence=[rescale])],
        PerFrameFunctionalGroupsSequence=[item(FrameVOILUTSequence=[one]) for one in window],
    )
    expected = np.clip((RAMP * 2.0 - 1000 - 2000) / 1000 + 0.5, 0, 1) * 255
    assert np.allclose(found, expected, atol=0.01)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", EXPLICIT, "1.2.840.10008.1.2.1.99"])
def test_path_bytes_and_syntaxes_give_the_same(syntax: str, tmp_path: Path) -> None:
    data = dicom_bytes(RAMP, syntax, WindowCenter=2000, WindowWidth=4000)
    path = tmp_path / "without_extension"
    path.write_bytes(data)
    expected = decode_image(dicom_bytes(RAMP, WindowCenter=2000, WindowWidth=4000), 32)
    assert np.array_equal(decode_image(path, 32), expected)
    assert np.array_equal(decode_image(data, 32), expected)
    assert decode_whole(data, 32).shape == (64, 64, 3)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", EXPLICIT])
def test_a_file_without_preamble_is_known_by_its_first_element(syntax: str) -> None:
    dataset = dicom_dataset(RAMP, syntax)
    data = written(dataset)
    bare = data[data.index(b"\x08\x00\x16\x00") :]
    assert np.array_equal(decode_image(bare, 32), decode_image(data, 32))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("test-SR.dcm", r"holds no pixels \(Modality SR\)"),
        ("rtstruct.dcm", r"holds no pixels \(Modality RTSTRUCT\)"),
        ("MR_truncated.dcm", "damaged or truncated"),
    ],
)
def test_what_cannot_be_shown_says_why(name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        sample(name)


def test_an_unknown_syntax_is_named() -> None:
    data = dicom_bytes(RAMP).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0")
    with pytest.raises(DataError, match=r"transfer syntax .*1\.2\.840\.10008\.1\.2\.9.* is not supported"):
        decode_image(data, 8)


def test_absent_pydicom_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.split(".")[0] == "pydicom":
            raise ImportError(name)
        return real(name, *rest)

    data = dicom_bytes(RAMP)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DataError, match=r"pip install 'tametail\[dicom\]'"):
        decode_image(data, 8)


def test_odd_values_are_not_told_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = dicom_bytes(RAMP, PatientBirthDate="born in spring", PatientName="Doe^Jane")
    caplog.clear()
    with caplog.at_level(logging.DEBUG):
        decode_image(data, 8)
    assert "spring" not in caplog.text


def test_a_header_is_read_without_pixels(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(dicom_bytes(RAMP, PatientSex="F"))
    header = read_header(path, ("PatientSex",))
    assert header is not None
    assert header.PatientSex == "F"
    assert "PixelData" not in header
    path.write_bytes(b"no DICOM")
    assert read_header(path, ("PatientSex",)) is None


def test_damage_anywhere_is_an_image_or_an_error() -> None:
    """Every byte of a header changed in three ways; nothing but DataError comes out."""
    data = bytearray(dicom_bytes(np.zeros((4, 4), np.uint16), WindowCenter=3, WindowWidth=4))
    for at, flip in itertools.product(range(128, len(data)), (0x01, 0x80, 0xFF)):
        data[at] ^= flip
        with contextlib.suppress(DataError):
            assert decode_image(bytes(data), 4).shape == (4, 4, 3)
        data[at] ^= flip

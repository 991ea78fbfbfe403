from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from tametail.core.errors import DataError
from tametail.data import decode_image

ORIENTATION = 0x0112


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def scene(width: int = 300, height: int = 200) -> Image.Image:
    """Smooth and without any symmetry, so that JPEG keeps it and every turn shows."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    pixels = np.stack([255 * x, 255 * y, 255 * (1 - x) * (1 - y)], axis=2)
    return Image.fromarray(pixels.astype(np.uint8))


def reference(image: Image.Image, size: int) -> np.ndarray:
    """The same by Pillow alone: shorter side to ``size``, centre square."""
    return np.asarray(ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.BOX)).astype(float)


def largest_difference(left: np.ndarray, right: np.ndarray) -> float:
    return float(np.abs(left.astype(float) - right.astype(float)).max())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM"])
@pytest.mark.parametrize("size", [32, 100, 200])
def test_every_format_gives_the_centre_square(kind: str, size: int) -> None:
    options = {"quality": 95} if kind in {"JPEG", "WEBP"} else {}
    pixels = decode_image(encoded(scene(), kind, **options), size)
    assert pixels.shape == (size, size, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert largest_difference(pixels, reference(scene(), size)) < 12


def test_small_images_are_enlarged() -> None:
    pixels = decode_image(encoded(scene(30, 20), "PNG"), 64)
    assert largest_difference(pixels, reference(scene(300, 200), 64)) < 30


def test_path_and_bytes_give_the_same(tmp_path: Path) -> None:
    data = encoded(scene(), "JPEG")
    (tmp_path / "a.jpg").write_bytes(data)
    assert np.array_equal(decode_image(tmp_path / "a.jpg", 50), decode_image(data, 50))
    assert np.array_equal(decode_image(str(tmp_path / "a.jpg"), 50), decode_image(data, 50))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = encoded(scene(), kind, exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        upright = ImageOps.exif_transpose(image)
    assert largest_difference(decode_image(data, 64), reference(upright, 64)) < 12


def test_a_turned_jpeg_is_told_from_an_upright_one() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    turned = decode_image(encoded(scene(), "JPEG", exif=exif), 64)
    assert largest_difference(turned, decode_image(encoded(scene(), "JPEG"), 64)) > 50
    assert turned[0, -1, 0] < 60  # the left of the stored image, without red, is now on top
    assert turned[-1, 0, 0] > 180


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_grey_becomes_rgb(kind: str) -> None:
    grey = scene().convert("L")
    pixels = decode_image(encoded(grey, kind), 64)
    assert np.array_equal(pixels[..., 0], pixels[..., 2])
    assert largest_difference(pixels, reference(grey, 64)) < 12


@pytest.mark.parametrize("kind", ["JPEG", "YCCK", "TIFF"])
def test_cmyk_is_converted_as_pillow_does(kind: str) -> None:
    inks = np.dstack([np.asarray(scene()), np.full((200, 300), 60, np.uint8)])
    image = Image.frombytes("CMYK", (300, 200), inks.tobytes())
    data = bytearray(encoded(image, "TIFF" if kind == "TIFF" else "JPEG"))
    if kind == "YCCK":
        data[data.index(b"Adobe") + 11] = 2  # the marker's note of how the inks are stored
    with Image.open(io.BytesIO(data)) as opened:
        expected = reference(opened, 64)
    assert largest_difference(decode_image(bytes(data), 64), expected) < 12


def test_palettes_and_one_bit_images_become_rgb() -> None:
    palette = scene().convert("P", palette=Image.Palette.ADAPTIVE)
    assert largest_difference(decode_image(encoded(palette, "GIF"), 200), reference(palette, 200)) < 3
    bits = scene().convert("1")
    assert set(np.unique(decode_image(encoded(bits, "PNG"), 200))) == {0, 255}


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_are_black(mode: str) -> None:
    image = Image.new("RGBA", (60, 40), (200, 200, 200, 255))
    image.paste((255, 255, 255, 0), (0, 0, 30, 40))
    image = image.convert(mode) if mode != "P" else image.quantize(4)
    pixels = decode_image(encoded(image, "PNG"), 40)
    assert pixels[:, :18].max() == 0
    assert np.abs(pixels[:, 22:].astype(int) - 200).max() <= 2


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize(
    ("high", "bits", "top"), [(200, 8, 255), (4000, 12, 4095), (4000, None, 65535), (60000, 16, 65535)]
)
def test_16_bit_grey_is_scaled_by_its_depth(kind: str, high: int, bits: int | None, top: int) -> None:
    ramp = np.linspace(0, high, 64).astype(np.uint16)[None].repeat(64, axis=0)
    pixels = decode_image(encoded(Image.fromarray(ramp), kind), 64, bit_depth=bits)
    assert largest_difference(pixels[..., 1], ramp * (255 / top)) <= 0.51


def test_values_beyond_the_depth_are_white() -> None:
    values = np.array([[0, 4095, 4096, 60000]], dtype=np.uint16).repeat(16, axis=0).repeat(4, axis=1)
    found = decode_image(encoded(Image.fromarray(values), "PNG"), 16, bit_depth=12)
    assert found[0, ::4, 0].tolist() == [0, 255, 255, 255]


def tiff(pixels: np.ndarray, photometric: int) -> bytes:
    """A little-endian TIFF of one strip, written by its definition: header, pixels, directory."""
    bits = 8 * pixels.itemsize
    height, width = pixels.shape
    data = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    tags = [
        (256, width),
        (257, height),
        (258, bits),
        (259, 1),
        (262, photometric),
        (273, 8),
        (277, 1),
        (278, height),
        (279, len(data)),
    ]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    return struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + directory


@pytest.mark.parametrize(("kind", "bits"), [(np.uint8, None), (np.uint16, 16), (np.uint16, 12)])
def test_white_is_zero_is_not_a_negative(kind: type, bits: int | None) -> None:
    top = 2 ** (bits or 8) - 1
    ramp = np.linspace(0, top, 32).astype(kind)[None].repeat(32, axis=0)
    black_is_zero, white_is_zero = (decode_image(tiff(ramp, code), 32, bit_depth=bits) for code in (1, 0))
    assert largest_difference(black_is_zero[..., 0], ramp * (255 / top)) <= 0.51
    assert largest_difference(white_is_zero[..., 0], 255 - ramp * (255 / top)) <= 0.51


def jpeg_segments(data: bytes) -> tuple[bytes, bytes]:
    """A JPEG as its start marker and everything behind it."""
    return data[:2], data[2:]


def test_exif_behind_a_long_colour_profile_is_applied() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    start, rest = jpeg_segments(encoded(scene(), "JPEG", quality=95, exif=exif))
    filling = b"\xff\xe2" + (65535).to_bytes(2, "big") + bytes(65533)  # one segment of 64 KiB
    for segments in (0, 1, 3):
        found = decode_image(start + segments * filling + rest, 64)
        upright = scene().transpose(Image.Transpose.ROTATE_270)
        assert largest_difference(found, reference(upright, 64)) < 12


ODD_JPEGS: dict[str, Callable[[bytes], bytes]] = {
    "extraneous bytes": lambda data: data[:-2] + b"camera" + data[-2:],
    "SOS parameters": lambda data: _with_spectral_end(data, 0),
    "end marker": lambda data: data[:-2],
}


def _with_spectral_end(data: bytes, end: int) -> bytes:
    """With another last coefficient in the header of the scan, as some telephones write it."""
    start = data.index(b"\xff\xda")
    at = start + 5 + 2 * data[start + 4] + 1
    return data[:at] + bytes([end]) + data[at + 1 :]


@pytest.mark.parametrize("odd", ODD_JPEGS)
def test_a_complete_jpeg_with_a_warning_is_read_and_noted(odd: str) -> None:
    data, notes = encoded(scene(), "JPEG", quality=95), []
    plain = decode_image(data, 64, notes=notes)
    assert notes == []
    assert largest_difference(decode_image(ODD_JPEGS[odd](data), 64, notes=notes), plain) < 6
    assert len(notes) == 1
    assert odd in notes[0]


@pytest.mark.parametrize("lost", [4, 40, 400])
def test_a_jpeg_that_lacks_pixels_is_refused(lost: int) -> None:
    data = encoded(scene(), "JPEG", quality=95)
    for ending in (b"", b"\xff\xd9"):
        with pytest.raises(DataError, match="damaged or truncated"):
            decode_image(data[: -2 - lost] + ending, 64)


def test_16_bit_grey_is_scaled_before_it_is_rounded() -> None:
    """Levels of 100.43 and 100.58 in turn: their mean rounds to 101, that of their rounded values to 100."""
    checks = np.indices((64, 64)).sum(axis=0) % 2
    values = np.where(checks, 257 * 100 + 150, 257 * 100 + 110).astype(np.uint16)
    values[0, -1] = 60_000
    assert set(np.unique(decode_image(encoded(Image.fromarray(values), "PNG"), 16)[1:])) == {101}


@pytest.mark.parametrize("low", [-1000, 0])
def test_other_depths_are_stretched_to_their_range(low: int) -> None:
    ramp = np.linspace(low, 100_000, 64)[None].repeat(64, axis=0)
    for values in (ramp.astype(np.int32), ramp.astype(np.float32)):
        pixels = decode_image(encoded(Image.fromarray(values), "TIFF"), 64)
        assert largest_difference(pixels[..., 0], np.linspace(0, 255, 64)[None].repeat(64, axis=0)) <= 0.51


def test_a_flat_image_of_floats_is_black_and_one_with_nan_refused() -> None:
    flat = np.full((8, 8), 0.5, np.float32)
    assert decode_image(encoded(Image.fromarray(flat), "TIFF"), 8).max() == 0
    flat[3, 3] = np.nan
    with pytest.raises(DataError, match="not numbers"):
        decode_image(encoded(Image.fromarray(flat), "TIFF"), 8)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("kept", [0.05, 0.3, 0.5, 0.8, 0.99])
def test_truncated_jpeg_is_refused(mode: str, progressive: bool, kept: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    data = encoded(Image.fromarray(noise).convert(mode), "JPEG", progressive=progressive)
    for size in (16, 120):
        with pytest.raises(DataError, match=r"damaged|not an image"):
            decode_image(data[: int(len(data) * kept)], size)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "GIF", "WEBP"])
def test_a_file_cut_anywhere_is_refused_or_lacks_no_pixel(kind: str) -> None:
    """Some formats end with a few bytes that only say so: without them the image is still whole."""
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    whole = decode_image(data, 24)
    for kept in [*range(0, len(data) - 25, 10), *range(len(data) - 25, len(data))]:
        try:
            pixels = decode_image(data[:kept], 24)
        except DataError:
            continue
        assert np.array_equal(pixels, whole)
        assert len(data) - kept <= 20


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "GIF", "WEBP", "JPEG2000"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_other_truncated_files_are_refused(kind: str, kept: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    with pytest.raises(DataError, match=r"damaged|not an image"):
        decode_image(data[: int(len(data) * kept)], 32)


def test_a_jpeg_whose_end_was_never_written_is_refused() -> None:
    data = encoded(scene(), "JPEG", quality=95)
    half = len(data) // 2
    with pytest.raises(DataError, match="damaged"):
        decode_image(data[:half] + bytes(half), 64)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"image,label\n", "not an image"),
        (b"\xff\xd8", "not an image"),
        (b"\xff\xd8\xff\xe0" + bytes(400), r"not an image|damaged"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), r"not an image|damaged"),
    ],
)
def test_what_is_no_image_is_refused_with_a_reason(data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        decode_image(data, 32)


def test_an_absent_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.png", tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            decode_image(path, 32)


def png_header(width: int, height: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = b"IDAT" + zlib.compress(b"\0" * 10)
    parts = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (chunk, body)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("side", [10_001, 20_000])
def test_too_large_images_are_refused_by_their_header(side: int) -> None:
    with pytest.raises(DataError, match="more than the 100,000,000"):
        decode_image(png_header(side, side), 32)


def test_too_large_jpeg_is_refused_by_its_header() -> None:
    data = bytearray(encoded(scene(), "JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 60_000, 60_000)
    with pytest.raises(DataError, match="60000 × 60000 pixels"):
        decode_image(bytes(data), 32)


def test_pillows_warnings_stay_inside_in_threads_too() -> None:
    """Any that got out would be an error here."""
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    exif = Image.Exif()
    exif[ORIENTATION] = 1
    warned = encoded(Image.fromarray(noise), "TIFF", compression="tiff_lzw")[:-3]
    fine = encoded(Image.fromarray(noise), "TIFF", exif=exif)

    def attempt(data: bytes) -> str:
        try:
            return str(decode_image(data, 16).shape)
        except DataError as error:
            return str(error)

    with ThreadPoolExecutor(8) as pool:
        reasons = list(pool.map(attempt, [warned, fine] * 50))
    assert all("not an image" in reason or "damaged" in reason for reason in reasons[::2])
    assert set(reasons[1::2]) == {"(16, 16, 3)"}

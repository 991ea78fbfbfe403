"""Files made to break a decoder: each gives a named error or a sane image, soon, and within bounded memory."""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fixtures.hostile_samples import NOISE, UINT16, encoded, jpeg, measured, processor_seconds
from tametail.core.errors import DataError
from tametail.data.decoding.decode import MAX_FILE_BYTES, decode_image, read_file

SECONDS = 5.0
MEGABYTES = 400  # above what the interpreter and the libraries take


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = png_chunk(b"IDAT", zlib.compress(bytes((3 * width + 1) * height if width < 100 else 10)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + body + png_chunk(b"IEND", b"")


def bmp(width: int, height: int) -> bytes:
    data = bytearray(encoded("BMP"))
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def gif(width: int, height: int) -> bytes:
    """Both the screen and the frame are of that size."""
    data = bytearray(encoded("GIF"))
    data[6:10] = struct.pack("<HH", width, height)
    at = data.index(b"\x2c\0\0\0\0") + 5
    data[at : at + 4] = struct.pack("<HH", width, height)
    return bytes(data)


def webp(width: int, height: int) -> bytes:
    """With the extended header, which may say 2²⁴ in each direction."""
    inner = encoded("WEBP", lossless=True)[12:]
    size = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + size + inner
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webp_lossless(width: int, height: int) -> bytes:
    data = bytearray(encoded("WEBP", lossless=True))
    bits = struct.unpack("<I", data[21:25])[0] & ~0xFFFFFFF
    data[21:25] = struct.pack("<I", bits | (width - 1) | (height - 1) << 14)
    return bytes(data)


def tiff(tags: list[tuple[int, int, int, int]], after: int = 0) -> bytes:
    """One directory at offset 8 of (tag, type, count, value); ``after`` is where the next one is said to be."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    return (
        b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + struct.pack("<I", after) + bytes(4096)
    )


def tiff_of(width: int, height: int, compression: int = 1, after: int = 0, offset: int = 200) -> bytes:
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, compression), (262, 3, 1, 1)]
    tags += [
        (273, 4, 1, offset),
        (277, 3, 1, 1),
        (278, 4, 1, height),
        (279, 4, 1, min(width * height, 2**32 - 1)),
    ]
    return tiff(tags, after)


def animated_gif(frames: int) -> bytes:
    data = encoded("GIF", Image.new("P", (8, 8)))
    head, body = data[: data.index(b"\x2c")], data[data.index(b"\x2c") : -1]
    return head + body * frames + b";"


SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
EPS = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\n"
    b"(executed) (w) file closefile\nshowpage\n%%EOF\n"
)
XPM = b'/* XPM */\nstatic char *a[] = {\n"1 1 1 1",\n"a c #000000",\n"a"};\n'
FONT = b"\0\x01\0\0\0\x0c\0\x80\0\x03\0\x40" + bytes(400)

REFUSED = {
    "nothing": b"",
    "one zero byte": b"\0",
    "zeros": bytes(5000),
    "text": b"image,label\na.png,x\n",
    "svg": SVG,
    "html": b"<!DOCTYPE html><html><body onload='x()'><img src=x></body></html>",
    "eps": EPS,
    "eps with a binary head": b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 30, len(EPS)) + bytes(18) + EPS,
    "postscript": b"%!PS\n100 100 moveto showpage\n",
    "pdf": b"%PDF-1.7\n1 0 obj\n<< /OpenAction << /S /JavaScript /JS (app.alert(1)) >> >>\nendobj\n",
    "xpm, which is source code": XPM,
    "font": FONT,
    "gzip": gzip.compress(bytes(10_000)),
    "gzip of a png": gzip.compress(encoded("PNG")),
    "zip": b"PK\x03\x04" + bytes(100),
    "pickle": b"\x80\x04\x95\x1d\0\0\0\0\0\0\0\x8c\x05posix\x94\x8c\x06system\x94\x93\x94",
    "python": b"import os; os.system('true')\n",
    "ico": encoded("ICO"),
    "psd": b"8BPS\0\x01" + bytes(60),
    "bytes of no meaning": np.random.default_rng(1).bytes(4000),
    **{
        f"only the header of {kind}": encoded(kind)[:16]
        for kind in ("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP")
    },
    "bomb by png": png(60_000, 60_000),
    "bomb by png, 2³¹": png(2**31 - 1, 2**31 - 1),
    "bomb by jpeg": jpeg(65_500, 65_500),
    "bomb by progressive jpeg": jpeg(65_500, 65_500, progressive=True),
    "bomb by tiff": tiff_of(60_000, 60_000),
    "bomb by packed tiff": tiff_of(60_000, 60_000, compression=8),
    "bomb by tiff, 2³²": tiff_of(2**32 - 1, 2**32 - 1),
    "bomb by bmp": bmp(60_000, 60_000),
    "bomb by bmp upside down": bmp(60_000, -60_000),
    "bomb by gif": gif(65_535, 65_535),
    "bomb by webp": webp(2**24 - 1, 2**8),
    "bomb by webp of the largest canvas": webp(16_383, 16_383),
    "bomb by lossless webp": webp_lossless(16_383, 16_383),
    "bomb by ppm": b"P6 60000 60000 255\n" + bytes(100),
    "just below the limit, without pixels": png(9_999, 9_999),
    "png without width": png(0, 10),
    "png without height": png(10, 0),
    "jpeg without height": jpeg(64, 0),
    "jpeg without width": jpeg(0, 48),
    "bmp without width": bmp(0, 48),
    "gif without width": gif(0, 48),
    "tiff without width": tiff_of(0, 48),
    "ppm without width": b"P6 0 10 255\n",
    "tiff whose pixels are elsewhere": tiff_of(64, 48, offset=2**31),
    "tiff whose directory is elsewhere": b"II*\0\xff\xff\xff\x7f",
    "tiff of 65535 tags": b"II*\0\x08\0\0\0\xff\xff" + bytes(100),
    "png with a huge text": png(8, 8, png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**27), 9))),
    "png with a huge profile": png(8, 8, png_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(2**26), 9))),
    "png chunk longer than the file": png(8, 8)[:33] + b"\x7f\xff\xff\xfftEXt",
    "jpeg with the data of another": jpeg(64, 48)[:300] + bytes(3000),
}
ACCEPTED = {
    "tiff whose directory follows itself": tiff_of(8, 8, after=8),
    "gif of 100 000 frames": animated_gif(100_000),
    "16-bit png": encoded("PNG", Image.fromarray(UINT16)),
    "1-bit png": encoded("PNG", Image.fromarray(NOISE).convert("1")),
    "cmyk jpeg": encoded("JPEG", Image.fromarray(NOISE).convert("CMYK")),
    "png followed by a program": encoded("PNG") + b"\n#!/bin/sh\nrm -rf /\n",
    "jpeg followed by another": encoded("JPEG") * 2,
    "a single pixel": encoded("PNG", Image.new("RGB", (1, 1))),
    "a line of 60 000 pixels": encoded("PNG", Image.new("L", (60_000, 1))),
}


@pytest.fixture(autouse=True)
def _soon() -> Iterator[None]:
    started = processor_seconds()
    yield
    assert processor_seconds() - started < SECONDS


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("extension", [".jpg", ".dcm"])
def test_is_refused_with_a_reason(name: str, extension: str, tmp_path: Path) -> None:
    path = tmp_path / f"image{extension}"
    path.write_bytes(REFUSED[name])
    for source in (path, REFUSED[name]):
        with pytest.raises(DataError, match=r"\w") as caught:
            decode_image(source, 32)
        assert len(str(caught.value)) < 400
    assert not Path("executed").exists()


@pytest.mark.parametrize("name", ACCEPTED)
def test_is_an_image_all_the_same(name: str, tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"  # whatever it is called
    path.write_bytes(ACCEPTED[name])
    assert decode_image(path, 32).shape == (32, 32, 3)


@pytest.mark.parametrize(
    "kind", ["JPEG", "progressive JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP", "JPEG2000", "PPM"]
)
def test_truncated_at_every_tenth(kind: str) -> None:
    options = {"progressive": True} if " " in kind else {"lossless": True} if kind == "WEBP" else {}
    data = encoded(kind.split()[-1], **options)
    for tenth in range(10):
        with pytest.raises(DataError, match=r"damaged|not an image|empty"):
            decode_image(data[: len(data) * tenth // 10], 32)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP", "JPEG2000"])
def test_random_damage_gives_an_image_or_a_reason(kind: str) -> None:
    random, original = np.random.default_rng(0), np.frombuffer(encoded(kind), np.uint8)
    for _ in range(60):
        data = original.copy()
        at = random.integers(0, min(len(data), 400), 4)
        data[at] = random.integers(0, 256, 4)
        try:
            assert decode_image(data.tobytes(), 16).shape == (16, 16, 3)
        except DataError as error:
            reason = str(error)
            assert reason


def test_what_is_no_plain_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "zeros.png").symlink_to("/dev/zero")
    (tmp_path / "circle.png").symlink_to(tmp_path / "circle.png")
    (tmp_path / "nowhere.png").symlink_to(tmp_path / "absent")
    names = [
        "pipe.png",
        "folder.png",
        "zeros.png",
        "circle.png",
        "nowhere.png",
        "absent.png",
        "x" * 300,
        "a\0b",
    ]
    for path in [*(tmp_path / name for name in names), Path("/dev/zero"), Path("/dev/stdin")]:
        for read in (lambda path: decode_image(path, 32), read_file):
            with pytest.raises(DataError, match="cannot be read"):
                read(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_file_without_the_right_to_read_it(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded("PNG"))
    path.chmod(0)
    with pytest.raises(DataError, match="cannot be read"):
        decode_image(path, 32)


def test_a_file_larger_than_any_image_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with open(path, "wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)  # takes no room on the disk
    with pytest.raises(DataError, match=r"2,147,483,649 bytes, more than the 2,147,483,648"):
        decode_image(path, 32)


BOMBS = [name for name in REFUSED if name.startswith("bomb") or "huge" in name]
BOMBS += ["gif of 100 000 frames", "just below the limit, without pixels"]


@pytest.mark.parametrize("name", BOMBS)
def test_memory_stays_bounded(name: str, tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes({**REFUSED, **ACCEPTED}[name])
    assert measured(path)[1] < MEGABYTES

"""What the tests of hostile files share: images to damage, and what decoding one takes in memory."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

NOISE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)


UINT16 = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) * 20


def encoded(kind: str, image: Image.Image | None = None, **options: object) -> bytes:
    file = io.BytesIO()
    (image or Image.fromarray(NOISE)).save(file, kind, **options)
    return file.getvalue()


def jpeg(width: int, height: int, **options: object) -> bytes:
    data = bytearray(encoded("JPEG", **options))
    at = data.index(b"\xff\xc2" if options.get("progressive") else b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


MEASURED = """
import resource, sys
from tametail.data.decode import decode_image
from tametail.errors import DataError
import PIL.Image, cv2, simplejpeg
{imports}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    decode_image(sys.argv[1], 32)
    print("decoded")
except DataError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def measured(path: Path, imports: str = "") -> tuple[str, float]:
    """(what decode_image says of a file, the megabytes that it took at most)."""
    command = [sys.executable, "-c", MEASURED.format(imports=imports), str(path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    *said, megabytes = ran.stdout.splitlines()
    return " ".join(said), float(megabytes)

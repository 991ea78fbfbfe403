"""The bit depth of a set of grey images that are stored in more than 8 bits: 8, 12 or 16, the same for all of them.

Microscopes and scanners store 8 or 12 bits in files of 16. The depth is decided from the largest value of the whole set, as
two images of one set must show the same tissue at the same grey; a depth for each folder could reveal the class. New images for
the models of a study are read at the depth of the study, unless their values exceed it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tametail.data.decoding.decode import IMAGE_FORMATS, MAX_PIXELS, without_warnings
from tametail.data.decoding.shards import may_be_deep, open_image

DEPTHS = (8, 12, 16)
_DECIDED = "decided from all of them; --bit-depth changes it"
_PNG = b"\x89PNG\r\n\x1a\n"
# First bytes of the other formats that can hold grey values of more than 8 bits.
_DEEP = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"P5", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")


@dataclass(frozen=True)
class BitDepth:
    """The depth at which the integer grey images of a set are read.

    Attributes:
        bits: a value of 2^bits - 1 is white; None where no image is stored in more than 8 bits, so that there is nothing
            to decide.
        images: number of images that are stored in more than 8 bits.
        largest: the largest of their values.
        within: how many of these images have no value above those of 8, 12 and 16 bits.
        origin: where the depth is from, for people.
    """

    bits: int | None = None
    images: int = 0
    largest: int = 0
    within: tuple[int, int, int] = (0, 0, 0)
    origin: str = _DECIDED

    def __str__(self) -> str:
        """For people; empty where nothing was decided."""
        if self.bits is None:
            return ""
        text = (
            f"{self.images:,} images store grey in more than 8 bits, with values up to {self.largest:,}: "
            f"read as {self.bits} bits ({self.origin})"
        )
        if self.exceeds(self.bits):
            return f"{text}; values of {2**self.bits:,} and above are shown as white"
        below = max(
            (count for depth, count in zip(DEPTHS, self.within, strict=True) if depth < self.bits), default=0
        )
        return text + (f"; {below:,} of them would fit into fewer bits" if below else "")

    def read_as(self, bits: int | None) -> BitDepth:
        """The same set at a given depth; unchanged for None, or where no image is of more than 8 bits."""
        return self if bits is None or self.bits is None else replace(self, bits=bits, origin="as given")

    def for_study(self, studied: int | None) -> BitDepth:
        """The same set as new images for the models of a study; unchanged where no image is of more than 8 bits.

        Args:
            studied: the depth at which the study's own images were read; None if it had none of more than 8 bits.
        """
        if self.bits is None:
            return self
        if studied is None:
            return replace(self, origin="decided from all of them, as the study has no such images")
        if self.exceeds(studied):
            why = f"decided from all of them, as their values exceed the {studied} bits of the study"
            return replace(self, bits=max(studied, self.bits), origin=why)
        return replace(self, bits=studied, origin="as in the study")

    def exceeds(self, bits: int) -> bool:
        """Whether a value does not fit into so many bits."""
        return self.largest.bit_length() > bits

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> BitDepth:
        """From JSON."""
        return cls(**{**content, "within": tuple(content["within"])})


def find_bit_depth(paths: Sequence[Path], pool: Executor, more: Sequence[int] = ()) -> BitDepth:
    """Decide the depth of a set of image files, and images in memory with these largest values.

    The smallest of 8, 12 and 16 bits that holds every value. Only the beginning of a file is read, unless it is an integer
    grey image of more than 8 bits. DICOM files, which declare their depth, colour images and floats take no part.
    """
    largest = [*more, *(value for value in pool.map(_largest, paths) if value is not None)]
    if not largest:
        return BitDepth()
    within = tuple(sum(value < 2**depth for value in largest) for depth in DEPTHS)
    most = max(largest)
    bits = next(depth for depth in DEPTHS if most < 2**depth)
    return BitDepth(bits, len(largest), most, (within[0], within[1], within[2]))


def begins_deep(head: bytes) -> bool:
    """Whether the first 26 bytes are of a file that can be grey of more than 8 bits."""
    # In a PNG the depth and the kind of pixels (0: grey) are at a fixed place.
    return head[24:26] == b"\x10\0" if head.startswith(_PNG) else head.startswith(_DEEP)


def _largest(path: Path) -> int | None:
    """The largest value of an integer grey image of more than 8 bits; None for any other file."""
    try:
        if not may_be_deep(path):
            return None
        with open_image(path) as file:
            if not begins_deep(file.read(26)):
                return None
            file.seek(0)
            from PIL import Image  # only here, as most files do not need it

            with (
                without_warnings(),
                Image.open(file, formats=IMAGE_FORMATS) as image,
            ):  # reads the header only
                if image.width * image.height > MAX_PIXELS or not _is_deep(image.mode):
                    return None
                values = np.asarray(image)
    except Exception:  # noqa: BLE001 - a damaged file is reported where it is decoded
        return None
    low, high = int(values.min()), int(values.max())
    return high if low >= 0 and high < 2**16 else None


def _is_deep(mode: str) -> bool:
    """Whether Pillow's pixel format is integer grey of more than 8 bits."""
    return mode == "I" or mode.startswith("I;16")

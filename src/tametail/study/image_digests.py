"""Digests of a study's images, by which they are recognised when they come back under other names. No torch.

Shape legend: N images, M images of the study, K canvas side in pixels.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tametail.audit import BLANK, thumbnail_of
from tametail.core.arrays import BoolArray, TextArray
from tametail.core.atomic import atomic_path
from tametail.core.console import Console
from tametail.core.errors import DataError, TametailError, explain_save_error
from tametail.core.parquet_file import read_frame
from tametail.data import cache_dir, decode_image
from tametail.data.decoding.cache import DECODER_VERSION, UNREADABLE, content_digests
from tametail.storage import study_file
from tametail.study.study_splits import study_splits

BYTES, PIXELS, SIMILAR = "byte for byte", "by equal pixels", "similar"
_COLUMNS = ("content", "pixels", "perceptual")
_EDGE = 16  # of the square of lowest frequencies in a perceptual hash
# Cosine of two perceptual hashes from which images are similar; measured by scripts/similar_images.py.
_SIMILAR = 0.965
_BLOCK = 256  # images that are read, or compared with all of a study, at a time


@dataclass(frozen=True, eq=False)
class ImageDigests:
    """Digests of N images.

    Attributes:
        content: (N,) of the bytes of each file, as hexadecimal text; empty where unknown.
        pixels: (N,) the same of the decoded pixels.
        perceptual: (N, 255) int8, the lowest frequencies of the grey levels, which few changes of size or compression alter;
            zeros for a blank or unknown image.
    """

    content: TextArray
    pixels: TextArray
    perceptual: NDArray[np.int8]

    @classmethod
    def of(cls, pixels: Iterable[NDArray[np.uint8]], content: Sequence[str]) -> ImageDigests:
        """Digests of decoded images, each (K, K, 3), and the known ones of their files."""
        images = iter(pixels)
        rows: list[tuple[str, NDArray[np.int8]]] = []
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            while some := list(islice(images, _BLOCK)):  # of a large set not all at once
                rows += pool.map(_digests, some)
        return cls._from_rows(rows, content)

    @classmethod
    def _from_rows(cls, rows: Sequence[tuple[str, NDArray[np.int8]]], content: Sequence[str]) -> ImageDigests:
        hashes = np.array([hashed for _, hashed in rows], dtype=np.int8).reshape(len(rows), _EDGE**2 - 1)
        return cls(_texts(content), _texts([exact for exact, _ in rows]), hashes)

    @classmethod
    def of_files(cls, content: Sequence[str]) -> ImageDigests:
        """Digests of the bytes of files alone."""
        return cls._from_rows([("", np.zeros(_EDGE**2 - 1, dtype=np.int8))] * len(content), content)

    def save(self, images: TextArray, directory: Path) -> None:
        """Write them with the names of the images into a study's folder.

        Raises:
            TametailError: the file cannot be written.
        """
        import pandas as pd

        path = directory / study_file.DIGESTS_FILE
        texts = {"image": images.tolist(), "content": self.content.tolist(), "pixels": self.pixels.tolist()}
        frame = pd.DataFrame(texts | {"perceptual": [row.tobytes() for row in self.perceptual]})
        with explain_save_error(path), atomic_path(path) as temporary:
            frame.to_parquet(temporary, index=False)

    @classmethod
    def load(cls, images: TextArray, directory: Path) -> ImageDigests | None:
        """The digests of a study's images; None if they are absent, damaged or of other images."""

        try:
            frame = read_frame(directory / study_file.DIGESTS_FILE)
            if frame["image"].tolist() != images.tolist():
                return None
            hashes = [np.frombuffer(row, dtype=np.int8) for row in frame["perceptual"]]
            return cls._from_rows(list(zip(frame["pixels"], hashes, strict=True)), frame["content"].tolist())
        except (OSError, ValueError, LookupError, TypeError):
            return None

    @classmethod
    def joined(cls, parts: Sequence[ImageDigests]) -> ImageDigests:
        """The digests of several parts as one."""
        none = cls.of_files([])
        columns = ([getattr(part, name) for part in (none, *parts)] for name in _COLUMNS)
        return cls(*map(np.concatenate, columns))

    @property
    def directions(self) -> NDArray[np.float32]:
        """(N, 255) the perceptual hashes scaled to length 1; zeros stay."""
        hashes = self.perceptual.astype(np.float32)
        length = np.linalg.norm(hashes, axis=1, keepdims=True)
        return np.asarray(hashes / np.where(length > 0, length, 1), dtype=np.float32)


def _texts(values: Sequence[str]) -> TextArray:
    return np.array(list(values), dtype=np.str_)


def _digests(pixels: NDArray[np.uint8]) -> tuple[str, NDArray[np.int8]]:
    pixels = np.ascontiguousarray(pixels)
    exact = hashlib.blake2b(pixels.data, digest_size=16, salt=b"%d" % DECODER_VERSION).hexdigest()
    return exact, perceptual_hash(thumbnail_of(pixels))


def perceptual_hash(grey: NDArray[np.uint8]) -> NDArray[np.int8]:
    """(255,) signed square roots of the lowest frequencies of grey levels (T, T) but the mean; the largest is ±127.

    Signs alone, as in the audit's hash, are noise where an image has little detail, and alike in images of one organ: the
    audit compares the thumbnails too, which are not kept here. Roots keep the strongest frequencies from deciding alone.
    """
    import cv2

    if grey.std() < BLANK:
        return np.zeros(_EDGE**2 - 1, dtype=np.int8)
    low = cv2.dct(grey.astype(np.float32))[:_EDGE, :_EDGE].reshape(-1)[1:]
    roots = np.sign(low) * np.sqrt(np.abs(low))
    return np.asarray(np.round(127 * roots / np.abs(roots).max()), dtype=np.int8)


def digests_of_files(paths: Sequence[Path], described: Mapping[str, Any]) -> ImageDigests:
    """Digests of image files as a study decodes its own; those that cannot be read are left out.

    Args:
        described: the content of study.json.
    """
    side, bit_depth = described["spec"]["canvas"], described["table"].get("bit_depth")

    def decoded(path: Path) -> tuple[str, NDArray[np.int8]] | None:
        try:
            return _digests(decode_image(path, side, bit_depth=bit_depth))
        except DataError:
            return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        rows = list(pool.map(decoded, paths))
    content = zip(rows, file_digests(paths), strict=True)
    return ImageDigests._from_rows([row for row in rows if row], [digest for row, digest in content if row])


def file_digests(paths: Sequence[Path], root: Path = Path()) -> tuple[str, ...]:
    """Digests of the bytes of files below ``root``; see `content_digests`."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return content_digests(root, [str(path) for path in paths], pool, cache_dir() / "digests.sqlite")


@dataclass(frozen=True)
class Recognised:
    """How many of N images are a study's own, by how they were recognised; each is counted once."""

    images: int
    held_out: Mapping[str, int]
    trained: Mapping[str, int]

    def describe(self, *, held_out: bool) -> str:
        """Such as ``3 of 70 images are of the study's held-out test set (2 byte for byte, 1 similar)``."""
        found = self.held_out if held_out else self.trained
        ways = ", ".join(f"{count} {way}" for way, count in found.items())
        whose = (
            "of the study's held-out test set" if held_out else "among those that its models were trained on"
        )
        return f"{sum(found.values())} of {self.images} images are {whose} ({ways})"


@dataclass(frozen=True, eq=False)
class StudyImages:
    """The M images of a study.

    Attributes:
        digests: of the images.
        held_out: (M,) which are in the test set.
        unchecked: what cannot be recognised, and why, as a sentence; empty for nothing.
    """

    digests: ImageDigests
    held_out: BoolArray
    unchecked: str = ""

    def recognise(self, seen: ImageDigests) -> Recognised:
        """Find images of the study among N others: by their bytes, else by their pixels, else similar ones.

        The most similar image of the study decides whether a similar one is held out.
        """
        found: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
        left = np.ones(len(seen.content), dtype=np.bool_)
        for way, name in ((BYTES, "content"), (PIXELS, "pixels")):
            own, theirs = getattr(self.digests, name).tolist(), getattr(seen, name).tolist()
            part: dict[str, bool] = {}
            for digest, held_out in zip(own, self.held_out.tolist(), strict=True):
                part[digest] = part.get(digest, False) or held_out
            for row in np.flatnonzero(left):
                if theirs[row] in part and theirs[row] not in {"", UNREADABLE}:
                    found[part[theirs[row]]][way] += 1
                    left[row] = False
        own_directions, directions = self.digests.directions, seen.directions[left]
        for start in range(0, len(directions), _BLOCK):
            cosine = directions[start : start + _BLOCK] @ own_directions.T
            for nearest in cosine.argmax(axis=1)[cosine.max(axis=1) >= _SIMILAR]:
                found[bool(self.held_out[nearest])][SIMILAR] += 1
        return Recognised(len(left), found[True], found[False])


def load_study_images(directory: Path, described: Mapping[str, Any]) -> StudyImages:
    """The digests of a study's images and their sets.

    A study without digests (an older one, or if they are damaged) is checked by the bytes of its images, if they are found.

    Raises:
        DataError: its splits are absent or changed.
    """
    splits = study_splits(directory, described)
    held_out = np.asarray(splits.part == "test")
    digests = ImageDigests.load(splits.image, directory)
    if digests is not None:
        return StudyImages(digests, held_out)
    lacking = f"The study has no usable {study_file.DIGESTS_FILE}"
    root = study_file.remembered_root(directory)
    content = [UNREADABLE] if root is None else file_digests([Path(image) for image in splits.image], root)
    if set(content) == {UNREADABLE}:
        unchecked = f"{lacking}, and its own images were not found: it was not checked whether any of these are among them."
        content = [""] * len(held_out)
    else:
        unchecked = (
            f"{lacking}: its images were recognised byte for byte only; tametail resume adds the file."
        )
    return StudyImages(ImageDigests.of_files(content), held_out, unchecked)


def recognise_held_out(directory: Path, command: str, seen: Sequence[ImageDigests], console: Console) -> str:
    """Warn of held-out images of a study among images that were predicted, and record that in the study.

    Args:
        command: which predicted them.
        seen: digests of the images, in parts.

    Returns:
        The warning; empty if there are none.
    """
    try:
        own = load_study_images(directory, study_file.read_study_file(directory))
    except DataError as error:
        console.warn(f"it was not checked whether images are of the study's held-out test set: {error}")
        return ""
    if own.unchecked:
        console.say(own.unchecked)
    found = own.recognise(ImageDigests.joined(seen))
    if not found.held_out:
        return ""
    return warn_of_look(directory, command, found, console)


def warn_of_look(directory: Path, command: str, found: Recognised, console: Console) -> str:
    """Record a look at a study's test set, as far as it can be written; warn, also if quiet, and return the warning."""
    warning = found.describe(held_out=True)
    try:
        study_file.record_test_set_look(directory, command, found.held_out)
        done = "this is recorded in the study as a look at its test set, which its next report counts"
    except TametailError as error:
        done = f"this could not be recorded in the study: {error}"
    console.warn(f"{warning}; {done}")
    return warning

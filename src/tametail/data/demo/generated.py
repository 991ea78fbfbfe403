"""Write a set of generated images into a folder, once and whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tametail.core.errors import DataError
from tametail.data.decoding.cache_folder import cached_folder

README = "README.txt"
Draw = Callable[[], NDArray[np.uint8]]


def write_generated(directory: Path, texts: Mapping[str, str], images: Mapping[str, Draw], name: str) -> None:
    """Write texts and PNG images into ``directory``, unless it exists and is complete.

    Args:
        directory: folder to write.
        texts: content by file name; README.txt is among them and recognises the set.
        images: function that returns an image, (H, W) or (H, W, 3) uint8 RGB, by its path in the folder, ``images/*.png``.
        name: of the set, for messages.

    Raises:
        DataError: ``directory`` has other contents.
        TametailError: the folder cannot be written.
    """
    is_complete = partial(_is_complete, texts=texts, images=images)
    if is_complete(directory):
        return
    if directory.is_dir() and _text(directory / README) != texts[README] and any(directory.iterdir()):
        raise DataError(
            f"expected {directory} to be absent, empty or {name}, found other files in it. "
            "Name another folder, or empty this one."
        )
    cached_folder(directory, partial(_write, texts=texts, images=images), is_complete)


def random_stream(seed: int, *stream: int) -> np.random.Generator:
    """One of the independent random streams of a seed."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=stream))


def _write(directory: Path, texts: Mapping[str, str], images: Mapping[str, Draw]) -> None:
    import cv2

    (directory / "images").mkdir()
    for path, draw in images.items():  # not in threads: the operations are many and small
        pixels = draw()
        bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.ndim == 3 else pixels
        encoded = cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
        (directory / path).write_bytes(encoded.tobytes())
    for path, text in texts.items():
        (directory / path).write_bytes(text.encode())


def _is_complete(directory: Path, texts: Mapping[str, str], images: Mapping[str, Draw]) -> bool:
    if any(_text(directory / name) != text for name, text in texts.items()):
        return False
    there = {path.name for path in (directory / "images").glob("*.png") if path.stat().st_size}
    return all(Path(path).name in there for path in images)


def _text(path: Path) -> str | None:
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        return None

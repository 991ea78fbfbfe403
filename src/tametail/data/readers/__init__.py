"""Sources of labelled images → `ImageTable`."""

from __future__ import annotations

from tametail.data.readers.read_images import read_images
from tametail.data.readers.reader import Reader, ReadOptions, readers, register_reader

__all__ = ["ReadOptions", "Reader", "read_images", "readers", "register_reader"]

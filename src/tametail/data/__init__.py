"""Images on disk → table → splits → decoded pixels."""

from __future__ import annotations

from tametail.data.decoding.cache import DecodedImages, cache_dir, decoded_images
from tametail.data.decoding.decode import decode_image, read_file
from tametail.data.readers.image_entries import DICOM_SUFFIXES, IMAGE_SUFFIXES
from tametail.data.readers.known_sets import KNOWN_SETS, KnownSet
from tametail.data.readers.read_images import read_images
from tametail.data.readers.reader import Reader, ReadOptions, readers, register_reader
from tametail.data.reading import SourceReading, reading_facts, say_reading
from tametail.data.row_store import RowStore
from tametail.data.splitting.splits import Splits, check_folds, load_splits, make_splits, save_splits
from tametail.data.splitting.subsample import subsample
from tametail.data.table import ImageTable

__all__ = [
    "DICOM_SUFFIXES",
    "IMAGE_SUFFIXES",
    "KNOWN_SETS",
    "DecodedImages",
    "ImageTable",
    "KnownSet",
    "ReadOptions",
    "Reader",
    "RowStore",
    "SourceReading",
    "Splits",
    "cache_dir",
    "check_folds",
    "decode_image",
    "decoded_images",
    "load_splits",
    "make_splits",
    "read_file",
    "read_images",
    "readers",
    "reading_facts",
    "register_reader",
    "save_splits",
    "say_reading",
    "subsample",
]

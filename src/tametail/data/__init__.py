"""Images on disk → table → splits → decoded pixels."""

from __future__ import annotations

from tametail.data.cache import DecodedImages, cache_dir, decoded_images
from tametail.data.csv_table import IMAGE_SUFFIXES
from tametail.data.decode import decode_image
from tametail.data.readers import read_images
from tametail.data.splits import Splits, check_folds, load_splits, make_splits, save_splits
from tametail.data.table import ImageTable

__all__ = [
    "IMAGE_SUFFIXES",
    "DecodedImages",
    "ImageTable",
    "Splits",
    "cache_dir",
    "check_folds",
    "decode_image",
    "decoded_images",
    "load_splits",
    "make_splits",
    "read_images",
    "save_splits",
]

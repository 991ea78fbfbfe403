"""DICOM files made by the tests: small, with exactly the attributes asked for."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")

EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"


def dicom_dataset(pixels: np.ndarray | None = None, syntax: str = EXPLICIT, **attributes: Any) -> Any:
    """(H, W) grey, (H, W, 3) RGB or, where NumberOfFrames says so, (N, H, W); None for an object without pixels."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID, SecondaryCaptureImageStorage, generate_uid

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
    dataset.Modality = "OT"
    if pixels is not None:
        colour = pixels.ndim == 3 and "NumberOfFrames" not in attributes
        dataset.SamplesPerPixel = 3 if colour else 1
        if colour:
            dataset.PlanarConfiguration = 0
        dataset.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
        dataset.Rows, dataset.Columns = pixels.shape[:2] if colour else pixels.shape[-2:]
        dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.dtype.itemsize
        dataset.HighBit = dataset.BitsStored - 1
        dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
        data = pixels.tobytes()
        dataset.PixelData = data + b"\0" * (len(data) % 2)
        dataset["PixelData"].VR = "OW" if pixels.dtype.itemsize > 1 else "OB"
    for name, value in attributes.items():
        setattr(dataset, name, value)
    return dataset


def dicom_bytes(pixels: np.ndarray | None = None, syntax: str = EXPLICIT, **attributes: Any) -> bytes:
    return written(dicom_dataset(pixels, syntax, **attributes))


def written(dataset: Any) -> bytes:
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def item(**attributes: Any) -> Any:
    """One item of a sequence, to be given in a list."""
    from pydicom.dataset import Dataset

    made = Dataset()
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def lookup_table(entries: np.ndarray, first: int, bits: int) -> Any:
    made = item(LUTDescriptor=[len(entries), first, bits])
    made.add_new("LUTData", "US", entries.tolist())
    made["LUTDescriptor"].VR = "US" if first >= 0 else "SS"
    return made

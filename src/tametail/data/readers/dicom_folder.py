"""Folders of DICOM files → groups by patient, and columns of the header for subgroup results.

Patients are numbered: names, birth dates, identifiers and dates do not leave the headers.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tametail.core.errors import DataError
from tametail.data.decoding.decode import is_dicom
from tametail.data.decoding.dicom import has_dicom_mark
from tametail.data.decoding.file_kinds import count_kinds, describe_kinds
from tametail.data.readers.class_folders import read_folders
from tametail.data.readers.dicom_headers import DICOM_GROUPS, PATIENT, patient_numbers, read_headers
from tametail.data.readers.image_entries import DICOM_SUFFIXES, IMAGE_SUFFIXES, first_bytes, walk
from tametail.data.readers.reader import Reader, ReadOptions, register_reader
from tametail.data.readers.slices import SERIES, refuse_series
from tametail.data.readers.table_folders import LABELS_FILE, folder_name
from tametail.data.reading import SourceReading
from tametail.data.table import ImageTable

if TYPE_CHECKING:
    import pandas as pd

HEADER_COLUMNS = {
    "modality": "Modality",
    "sex": "PatientSex",
    "age": "PatientAge",
    "manufacturer": "Manufacturer",
    "model": "ManufacturerModelName",
    "body_part": "BodyPartExamined",
    "view": "ViewPosition",
    "laterality": "ImageLaterality",
    "photometric": "PhotometricInterpretation",
}
_OLD_LATERALITY = "Laterality"  # of the series, where the image has none


@register_reader
class DicomFolderReader(Reader):
    """Reads a folder of DICOM files in class folders, without other images."""

    name = "dicom_folder"
    priority = -30
    takes_folder_options = True

    def matches(self, source: str | Path) -> bool:
        folder = Path(source).expanduser()
        return folder.is_dir() and _holds_only_dicom(folder)

    def read(self, source: str | Path, options: ReadOptions) -> ImageTable:
        folder = Path(source).expanduser()
        options.refuse_table_options(f"{folder} is a folder without {LABELS_FILE}")
        frame, reading = read_dicom_folder(folder, options)
        return ImageTable.from_frame(
            frame, folder, folder_name(folder), allow_leaks=options.allow_leaks, reading=reading
        )


def _holds_only_dicom(root: Path) -> bool:
    """Whether a file is named ``.dcm``, or begins as DICOM and has no extension, and none has that of an image."""
    unnamed = []
    found = False
    for file in walk(root):
        suffix = file.suffix.lower()
        if suffix in IMAGE_SUFFIXES:
            return False
        found = found or suffix in DICOM_SUFFIXES
        # Exports are named by their UID: 1.2.840.10008.5 has no extension, whatever follows its last point.
        if not suffix or suffix[1:].isdigit():
            unnamed.append(root / file)
    return found or any(has_dicom_mark(first_bytes(path)) for path in unnamed)


def read_dicom_folder(root: Path, options: ReadOptions) -> tuple[pd.DataFrame, SourceReading]:
    """Read the DICOM files below a folder whose sub-folders are the classes (or train, val, test with those in them).

    Files that cannot be read are rows too, each in its own group.

    Returns:
        Columns image (sorted), label, group (see `patient_codes`), split, then those of `HEADER_COLUMNS` as text; and how
        they were read.

    Raises:
        DataError: pydicom is absent, there is no DICOM file, or one is not in the folder of a class.
    """
    import pandas as pd

    empty: list[Path] = []
    files: list[Path] = []
    others: list[Path] = []
    for file in walk(root, empty):
        (files if _is_dicom_file(root / file) else others).append(file)
    if not files:
        raise DataError(f"expected DICOM files in {root}, found none")
    tree = read_folders(
        root, sorted(files, key=Path.as_posix), "DICOM file", options, others=others, empty=empty
    )
    files = tree.files
    names = (PATIENT, _OLD_LATERALITY, SERIES, *HEADER_COLUMNS.values())
    headers = list(read_headers([root / file for file in files], names))
    images, patients = [file.as_posix() for file in files], [header[PATIENT] for header in headers]
    if options.slices is None:
        refuse_series(root, images, headers)
    groups = patient_numbers(patients)
    columns = {"image": images, "label": tree.labels, "group": groups, "split": tree.splits}
    frame = pd.DataFrame(columns, dtype=object)
    for column, name in HEADER_COLUMNS.items():
        frame[column] = pd.Series([header[name] for header in headers], dtype=object)
    of_series = [header[_OLD_LATERALITY] for header in headers]
    frame["laterality"] = [one or other for one, other in zip(frame["laterality"], of_series, strict=True)]
    reading = replace(tree.reading, groups=DICOM_GROUPS)
    return frame, reading.without(*describe_kinds(count_kinds(others)))


def _is_dicom_file(path: Path) -> bool:
    """By its name, or by its first bytes, as many archives name files by numbers. A DICOMDIR is not an image."""
    if path.suffix.lower() in DICOM_SUFFIXES:
        return True
    return path.name.upper() != "DICOMDIR" and is_dicom(first_bytes(path))

"""Headers of DICOM files → groups by patient, columns for subgroup results, and what identifies a person.

Who a patient is never leaves this file: groups are numbered, and names, birth dates, identifiers and dates are not kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tametail.core.errors import DataError
from tametail.core.text import sample_of
from tametail.data.decoding.decode import is_dicom
from tametail.data.readers.dicom_patients import (
    PATIENT,
    patient_numbers,
    read_headers,
)
from tametail.data.readers.image_entries import DICOM_SUFFIXES, walk
from tametail.data.table import SPLIT_WORDS

if TYPE_CHECKING:
    import pandas as pd

CARRIED = {
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
_IDENTIFYING = (
    "PatientName",
    "PatientBirthDate",
    "PatientBirthTime",
    "PatientBirthName",
    "PatientMotherBirthName",
    "OtherPatientIDs",
    "OtherPatientIDsSequence",
    "OtherPatientNames",
    "PatientAddress",
    "PatientTelephoneNumbers",
    "MilitaryRank",
    "AccessionNumber",
    "StudyID",
    "InstitutionName",
    "InstitutionAddress",
    "InstitutionalDepartmentName",
    "ReferringPhysicianName",
    "ReferringPhysicianAddress",
    "ReferringPhysicianTelephoneNumbers",
    "PerformingPhysicianName",
    "PhysiciansOfRecord",
    "NameOfPhysiciansReadingStudy",
    "RequestingPhysician",
    "OperatorsName",
    "PatientComments",
    "AdditionalPatientHistory",
    "IssuerOfPatientID",
)


def read_dicom_folder(root: Path) -> pd.DataFrame:
    """A table of the DICOM files below a folder whose sub-folders are the classes (or train, val, test with those in them).

    Files that cannot be read are rows too, of their own group: the decoder says later what is wrong with them.

    Returns:
        Columns image (POSIX path relative to ``root``, sorted), label, group (``patient_0001``, ... in that order, see
        `patient_codes`), split (train, val, test or empty), then the columns of `CARRIED`, text, empty where the file
        does not say.

    Raises:
        DataError: pydicom is absent, there is no DICOM file, or one that lies in no folder of a class.
    """
    import pandas as pd

    files = sorted(
        (file for file in walk(root) if _is_dicom_file(root / file)), key=lambda file: file.as_posix()
    )
    if not files:
        raise DataError(f"expected DICOM files in {root}, found none")
    by_split = all(file.parts[0].lower() in SPLIT_WORDS for file in files)
    depth = 2 if by_split else 1
    stray = [file.as_posix() for file in files if len(file.parts) <= depth]
    if stray:
        raise DataError(
            f"expected every DICOM file of {root} in the folder of its class, but {len(stray)} of {len(files)} lie "
            f"outside ({sample_of(stray)}); move them, or add a labels.csv with the columns image and label"
        )
    names = (PATIENT, _OLD_LATERALITY, *CARRIED.values())
    headers = list(read_headers([root / file for file in files], names))
    frame = pd.DataFrame(
        {
            "image": [file.as_posix() for file in files],
            "label": [file.parts[depth - 1].strip() for file in files],
            "group": patient_numbers([header[PATIENT] for header in headers]),
            "split": [SPLIT_WORDS[file.parts[0].lower()] if by_split else "" for file in files],
        },
        dtype=object,
    )
    for column, name in CARRIED.items():
        frame[column] = pd.Series([header[name] for header in headers], dtype=object)
    series = [header[_OLD_LATERALITY] for header in headers]
    frame["laterality"] = [
        image or of_series for image, of_series in zip(frame["laterality"], series, strict=True)
    ]
    return frame


def private_tags(path: Path) -> list[str]:
    """Names of the attributes of a DICOM file that can identify a person and are not empty; never their values.

    The patient identifier is not among them: studies need it for their groups, and it is mostly a pseudonym.
    A file that cannot be read gives none.

    Raises:
        DataError: pydicom is absent.
    """
    (header,) = read_headers([path], _IDENTIFYING)
    return [name for name in _IDENTIFYING if header[name]]


def burned_in(path: Path) -> bool | None:
    """Whether a DICOM file says that identifying text is part of its pixels; None where it does not say.

    Raises:
        DataError: pydicom is absent.
    """
    (header,) = read_headers([path], ("BurnedInAnnotation",))
    return {"YES": True, "NO": False}.get(header["BurnedInAnnotation"].upper())


def _is_dicom_file(path: Path) -> bool:
    """By its name, or by its beginning: many archives name files by numbers. The list of a medium is no image."""
    if path.suffix.lower() in DICOM_SUFFIXES:
        return True
    if path.name.upper() == "DICOMDIR":
        return False
    try:
        with open(path, "rb") as file:
            return is_dicom(file.read(132))
    except OSError:
        return False

"""Headers of DICOM files → groups by patient, columns for subgroup results, and what identifies a person.

Who a patient is never leaves this file: groups are numbered, and names, birth dates, identifiers and dates are not kept.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tametail.core.errors import DataError
from tametail.core.text import first
from tametail.data.decoding.decode import is_dicom, without_warnings
from tametail.data.decoding.dicom import import_pydicom, read_header
from tametail.data.readers.csv_table import SPLIT_WORDS
from tametail.data.readers.folders import walk
from tametail.data.readers.image_entries import DICOM_SUFFIXES

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
_PATIENT = "PatientID"
# What is written in place of an identifier that was taken out: no patient.
_PLACEHOLDERS = {
    "",
    "0",
    "none",
    "null",
    "na",
    "n/a",
    "unknown",
    "anon",
    "anonymous",
    "anonymized",
    "anonymised",
}
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
_CHUNK = 4096  # headers asked for at a time: bounds the memory
_log = logging.getLogger(__name__)


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
            f"outside ({first(stray)}); move them, or add a labels.csv with the columns image and label"
        )
    names = (_PATIENT, _OLD_LATERALITY, *CARRIED.values())
    headers = list(_headers([root / file for file in files], names))
    frame = pd.DataFrame(
        {
            "image": [file.as_posix() for file in files],
            "label": [file.parts[depth - 1].strip() for file in files],
            "group": _codes([header[_PATIENT] for header in headers]),
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


def patient_codes(paths: Sequence[Path]) -> list[str]:
    """Groups of N DICOM files: one code per patient, numbered as the patients first come in the order of the paths.

    A file without a patient identifier (or with a placeholder such as ``ANONYMOUS``), or that is no readable DICOM file,
    is a group of its own, ``file_0001``, ...; a warning in the log tells how many there are.

    Returns:
        N codes, in the order given.

    Raises:
        DataError: pydicom is absent.
    """
    order = sorted(range(len(paths)), key=lambda at: Path(paths[at]).as_posix())
    headers = _headers([Path(paths[at]) for at in order], (_PATIENT,))
    by_order = _codes([header[_PATIENT] for header in headers])
    codes = dict(zip(order, by_order, strict=True))
    return [codes[at] for at in range(len(paths))]


def private_tags(path: Path) -> list[str]:
    """Names of the attributes of a DICOM file that can identify a person and are not empty; never their values.

    The patient identifier is not among them: studies need it for their groups, and it is mostly a pseudonym.
    A file that cannot be read gives none.

    Raises:
        DataError: pydicom is absent.
    """
    (header,) = _headers([path], _IDENTIFYING)
    return [name for name in _IDENTIFYING if header[name]]


def burned_in(path: Path) -> bool | None:
    """Whether a DICOM file says that identifying text is part of its pixels; None where it does not say.

    Raises:
        DataError: pydicom is absent.
    """
    (header,) = _headers([path], ("BurnedInAnnotation",))
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


def _headers(paths: Sequence[Path], names: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """The named attributes of each file as text, empty where absent, in the order of the paths.

    Each is thrown away but for these texts as soon as it is read, so memory does not grow with the files.
    """
    import_pydicom()  # its absence is told before any thread starts

    def texts(path: Path) -> dict[str, str]:
        header = read_header(path, names) if path.is_file() else None
        return {name: "" if header is None else _text(header, name) for name in names}

    with without_warnings(), ThreadPoolExecutor(min(8, (os.cpu_count() or 1) + 2)) as pool:
        for start in range(0, len(paths), _CHUNK):
            yield from pool.map(texts, paths[start : start + _CHUNK])


def _text(header: Any, name: str) -> str:
    try:
        value = header.get(name)
        return "" if value is None else " ".join(str(value).replace("\0", " ").split())
    except Exception:  # noqa: BLE001 - values are parsed when asked for; one that cannot be is as good as absent
        return ""


def _codes(patients: Sequence[str]) -> list[str]:
    """A code per patient identifier, numbered in the order of their first file."""
    known: dict[str, str] = {}
    alone = 0
    codes = []
    for patient in patients:
        if patient.lower() in _PLACEHOLDERS:
            alone += 1
            codes.append(f"file_{alone:04d}")
        else:
            codes.append(known.setdefault(patient, f"patient_{len(known) + 1:04d}"))
    if alone:
        _log.warning(
            "%d of %d DICOM files name no patient, so each is a group of its own: images of one patient may lie on "
            "both sides of a split.",
            alone,
            len(patients),
        )
    return codes

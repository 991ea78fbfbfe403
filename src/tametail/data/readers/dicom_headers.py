"""Headers of DICOM files: patients as numbered groups, and attributes that identify a person.

Names, birth dates, identifiers and dates are never returned.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tametail.data.decoding.decode import without_warnings
from tametail.data.decoding.dicom import import_pydicom, read_header

PATIENT = "PatientID"
DICOM_GROUPS = "patient of the DICOM header"
# Written in place of an identifier that was removed: no patient.
_PLACEHOLDERS = {
    "", "0", "none", "null", "na", "n/a", "unknown", "anon", "anonymous", "anonymized", "anonymised",
}  # fmt: skip
_CHUNK = 4096  # headers read at a time: bounds the memory
_IDENTIFYING = (
    "PatientName", "PatientBirthDate", "PatientBirthTime", "PatientBirthName", "PatientMotherBirthName",
    "OtherPatientIDs", "OtherPatientIDsSequence", "OtherPatientNames", "PatientAddress",
    "PatientTelephoneNumbers", "MilitaryRank", "AccessionNumber", "StudyID", "InstitutionName",
    "InstitutionAddress", "InstitutionalDepartmentName", "ReferringPhysicianName", "ReferringPhysicianAddress",
    "ReferringPhysicianTelephoneNumbers", "PerformingPhysicianName", "PhysiciansOfRecord",
    "NameOfPhysiciansReadingStudy", "RequestingPhysician", "OperatorsName", "PatientComments",
    "AdditionalPatientHistory", "IssuerOfPatientID",
)  # fmt: skip
_log = logging.getLogger(__name__)


def patient_codes(paths: Sequence[Path]) -> list[str]:
    """Groups of N DICOM files: one code per patient, numbered by first appearance in the sorted paths.

    A file without a patient identifier (or with a placeholder such as ``ANONYMOUS``), and one that is not readable as
    DICOM, forms its own group, ``file_0001``, ...; a warning in the log says how many there are.

    Raises:
        DataError: pydicom is absent.
    """
    ordered = sorted(paths, key=Path.as_posix)
    numbers = patient_numbers([header[PATIENT] for header in read_headers(ordered, (PATIENT,))])
    codes = dict(zip(ordered, numbers, strict=True))
    return [codes[path] for path in paths]


def read_headers(paths: Sequence[Path], names: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """The named attributes of each file as text, empty where absent, in the order of the paths.

    Raises:
        DataError: pydicom is absent.
    """
    import_pydicom()  # raises before any thread starts

    def texts(path: Path) -> dict[str, str]:
        readable = path.is_file() or not path.exists()  # it may be in a shard
        header = read_header(path, names) if readable else None
        return {name: "" if header is None else _text(header, name) for name in names}

    with without_warnings(), ThreadPoolExecutor(min(8, (os.cpu_count() or 1) + 2)) as pool:
        for start in range(0, len(paths), _CHUNK):
            yield from pool.map(texts, paths[start : start + _CHUNK])


def _text(header: Any, name: str) -> str:
    try:
        value = header.get(name)
        return "" if value is None else " ".join(str(value).replace("\0", " ").split())
    except Exception:  # noqa: BLE001 - values are parsed on access; one that cannot be parsed counts as absent
        return ""


def patient_numbers(patients: Sequence[str]) -> list[str]:
    """A code per patient identifier, numbered in the order of their first file."""
    known: dict[str, str] = {}
    unnamed = 0
    codes = []
    for patient in patients:
        if patient.lower() in _PLACEHOLDERS:
            unnamed += 1
            codes.append(f"file_{unnamed:04d}")
        else:
            codes.append(known.setdefault(patient, f"patient_{len(known) + 1:04d}"))
    if unnamed:
        _log.warning(
            "%d of %d DICOM files name no patient, so each is its own group: images of one patient may be both in the "
            "training set and in the test set.",
            unnamed,
            len(patients),
        )
    return codes


def identifying_attributes(path: Path) -> list[str]:
    """Names of the non-empty attributes of a DICOM file that can identify a person; never their values.

    The patient identifier, which studies need for their groups, is not included.

    Raises:
        DataError: pydicom is absent.
    """
    (header,) = read_headers([path], _IDENTIFYING)
    return [name for name in _IDENTIFYING if header[name]]


def declares_burned_in_text(path: Path) -> bool | None:
    """Whether a DICOM file declares identifying text in its pixels; None where it declares nothing.

    Raises:
        DataError: pydicom is absent.
    """
    (header,) = read_headers([path], ("BurnedInAnnotation",))
    return {"YES": True, "NO": False}.get(header["BurnedInAnnotation"].upper())

"""Which patient DICOM files are of: groups are numbered, and identifiers are not kept."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tametail.data.decoding.decode import without_warnings
from tametail.data.decoding.dicom import import_pydicom, read_header

if TYPE_CHECKING:
    pass

PATIENT = "PatientID"
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
_CHUNK = 4096  # headers asked for at a time: bounds the memory
_log = logging.getLogger(__name__)


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
    headers = read_headers([Path(paths[at]) for at in order], (PATIENT,))
    by_order = patient_numbers([header[PATIENT] for header in headers])
    codes = dict(zip(order, by_order, strict=True))
    return [codes[at] for at in range(len(paths))]


def read_headers(paths: Sequence[Path], names: tuple[str, ...]) -> Iterator[dict[str, str]]:
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


def patient_numbers(patients: Sequence[str]) -> list[str]:
    """A code per patient identifier, numbered in the order of their first file."""
    known: dict[str, str] = {}
    lock = 0
    codes = []
    for patient in patients:
        if patient.lower() in _PLACEHOLDERS:
            lock += 1
            codes.append(f"file_{lock:04d}")
        else:
            codes.append(known.setdefault(patient, f"patient_{len(known) + 1:04d}"))
    if lock:
        _log.warning(
            "%d of %d DICOM files name no patient, so each is a group of its own: images of one patient may lie on "
            "both sides of a split.",
            lock,
            len(patients),
        )
    return codes

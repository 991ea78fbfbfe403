"""DICOM folders through the audit: patients are groups, and headers that name a person are found."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from fixtures.planted_faults import picture
from tametail.audit import AuditResult, audit
from tametail.data import read_images

pytest.importorskip("pydicom")


def _audit(folder: Path, **attributes: str) -> AuditResult:
    from fixtures.dicom_samples import dicom_bytes

    for number in range(24):
        grey = cv2.cvtColor(picture(number), cv2.COLOR_RGB2GRAY)
        path = folder / ("normal", "effusion")[number % 2] / f"{number:03}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        named = attributes if number == 5 else {}
        path.write_bytes(dicom_bytes(grey, PatientID=f"secret{number // 4}", PatientSex="F", **named))
    return audit(read_images(folder), folds=3)


def test_a_clean_folder_has_patients_for_groups_and_no_findings(tmp_path: Path) -> None:
    result = _audit(tmp_path)
    assert {finding.code for finding in result.findings} == {"small_classes"}
    assert sorted(set(result.table.groups)) == [f"patient_{number:04}" for number in range(1, 7)]
    assert result.formats() == {"DICOM MONOCHROME2 8 bit": 24}
    assert "secret" not in str(result.as_dict())


def test_names_by_uid_and_tables_of_dicom_files_are_read_by_patient(tmp_path: Path) -> None:
    _audit(tmp_path)
    files = sorted(tmp_path.rglob("*.dcm"))
    lines = [
        "image,label",
        *(f"{file.relative_to(tmp_path).as_posix()},{file.parent.name}" for file in files),
    ]
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    listed = read_images(tmp_path / "list.csv")
    assert sorted(set(listed.groups)) == [f"patient_{number:04}" for number in range(1, 7)]
    (tmp_path / "list.csv").unlink()
    for number, file in enumerate(files):
        file.rename(file.with_name(f"1.2.840.10008.{number}"))
    result = audit(read_images(tmp_path), folds=3)
    assert {finding.code for finding in result.findings} == {"small_classes"}
    assert len(set(result.table.groups)) == 6


def test_who_is_named_is_said_without_the_name(tmp_path: Path) -> None:
    result = _audit(tmp_path, PatientName="Doe^Jane", BurnedInAnnotation="YES")
    found = {finding.code: finding for finding in result.findings}
    assert (
        found["identifying_headers"].affected
        == found["burned_in_annotation"].affected
        == (("effusion/005.dcm",),)
    )
    assert "PatientName" in found["identifying_headers"].details[0]
    assert "Jane" not in str(result.as_dict())

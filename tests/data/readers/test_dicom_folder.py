from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pytest

from fixtures.dicom_samples import DEFLATED, dicom_bytes
from tametail.core.errors import DataError
from tametail.data import ReadOptions, read_images
from tametail.data.readers.dicom_folder import HEADER_COLUMNS, read_dicom_folder
from tametail.data.readers.dicom_headers import declares_burned_in_text, identifying_attributes, patient_codes

PIXELS = np.arange(64, dtype=np.uint16).reshape(8, 8)


def put(path: Path, patient: str | None = "Jane-1", **attributes: object) -> Path:
    if patient is not None:
        attributes["PatientID"] = patient
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(dicom_bytes(PIXELS, **attributes))
    return path


def test_class_folders_with_series_in_them(tmp_path: Path) -> None:
    put(
        tmp_path / "benign" / "b" / "series" / "1.dcm", "P2", Modality="MG", PatientSex="F", PatientAge="045Y"
    )
    put(tmp_path / "benign" / "a.dcm", "P9", Manufacturer="Maker", ManufacturerModelName="M 1")
    put(tmp_path / "malignant" / "IM0001", "P2", BodyPartExamined="BREAST", ViewPosition="CC", Laterality="L")
    put(tmp_path / "malignant" / "1.2.840.5", "P1", ImageLaterality="R", Laterality="L")
    (tmp_path / "malignant" / "notes.txt").write_text("nothing")
    put(tmp_path / "DICOMDIR", "P1")
    with pytest.raises(DataError, match="--class-level 1: benign, malignant"):
        read_images(tmp_path)
    frame, _ = read_dicom_folder(tmp_path, ReadOptions(class_level=1))
    assert frame.columns.tolist() == ["image", "label", "group", "split", *HEADER_COLUMNS]
    assert frame["image"].tolist() == [
        "benign/a.dcm",
        "benign/b/series/1.dcm",
        "malignant/1.2.840.5",
        "malignant/IM0001",
    ]
    assert frame["label"].tolist() == ["benign", "benign", "malignant", "malignant"]
    assert frame["group"].tolist() == ["patient_0001", "patient_0002", "patient_0003", "patient_0002"]
    assert frame["split"].tolist() == [""] * 4
    assert frame["modality"].tolist() == ["OT", "MG", "OT", "OT"]
    assert frame["laterality"].tolist() == ["", "", "R", "L"]
    first, second, _, last = frame.to_dict("records")
    assert (first["manufacturer"], first["model"]) == ("Maker", "M 1")
    assert (second["sex"], second["age"]) == ("F", "045Y")
    assert (last["body_part"], last["view"], last["photometric"]) == ("BREAST", "CC", "MONOCHROME2")


def test_split_folders(tmp_path: Path) -> None:
    for split, word in (("Train", "train"), ("valid", "val"), ("test", "test")):
        for name in ("a", "b"):
            put(tmp_path / split / name / f"{word}.dcm", word)
    frame, _ = read_dicom_folder(tmp_path, ReadOptions())
    assert set(zip(frame["split"], frame["label"], strict=True)) == {
        (split, label) for split in ("train", "val", "test") for label in "ab"
    }
    assert len(read_images(tmp_path)) == 6


def test_nobody_can_be_told_from_the_table(tmp_path: Path) -> None:
    secrets = {
        "PatientName": "Doe^Jane",
        "PatientBirthDate": "19510203",
        "AccessionNumber": "ACC77",
        "StudyDate": "20200304",
        "InstitutionName": "St Elsewhere",
        "OtherPatientIDs": "OTHER5",
    }
    for name in ("a", "b"):
        put(tmp_path / name / "1.dcm", "SECRET-9", **secrets)
    text = read_dicom_folder(tmp_path, ReadOptions())[0].to_csv()
    assert not [
        secret
        for secret in ("SECRET", "Jane", "1951", "ACC77", "2020", "Elsewhere", "OTHER5")
        if secret in text
    ]


@pytest.mark.parametrize("patient", [None, "", "ANONYMOUS", "0", " n/a "])
def test_files_without_a_patient_are_groups_of_their_own(
    patient: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path / "a" / "1.dcm", patient)
    put(tmp_path / "a" / "2.dcm", patient)
    put(tmp_path / "b" / "3.dcm", "P1")
    with caplog.at_level(logging.WARNING):
        frame, _ = read_dicom_folder(tmp_path, ReadOptions())
    assert frame["group"].tolist() == ["file_0001", "file_0002", "patient_0001"]
    assert "2 of 3 DICOM files name no patient" in caplog.text


def test_unreadable_files_stay_rows(tmp_path: Path) -> None:
    put(tmp_path / "a" / "1.dcm")
    put(tmp_path / "b" / "2.dcm")
    (tmp_path / "b" / "3.dcm").write_bytes(b"")
    (tmp_path / "b" / "4.dcm").write_bytes(b"no DICOM at all" * 20)
    (tmp_path / "b" / "5.dcm").symlink_to(tmp_path / "nowhere")
    frame, _ = read_dicom_folder(tmp_path, ReadOptions())
    assert frame["group"].tolist() == ["patient_0001", "patient_0001", "file_0001", "file_0002", "file_0003"]
    assert frame["sex"].tolist() == [""] * 5


def test_deflated_headers_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(dicom_bytes(PIXELS, DEFLATED, PatientID="P1", PatientName="Doe^Jane"))
    assert patient_codes([tmp_path / "a.dcm"]) == ["patient_0001"]
    assert identifying_attributes(tmp_path / "a.dcm") == ["PatientName"]


def test_files_outside_a_class_and_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected DICOM files"):
        read_dicom_folder(tmp_path, ReadOptions())
    put(tmp_path / "stray.dcm")
    put(tmp_path / "a" / "1.dcm")
    with pytest.raises(DataError, match=r"1 of 2 lie outside \(stray\.dcm\)"):
        read_dicom_folder(tmp_path, ReadOptions())


def test_codes_depend_on_the_paths_and_not_on_their_order(tmp_path: Path) -> None:
    paths = [put(tmp_path / f"{k:02d}.dcm", f"P{k % 3}") for k in range(9)]
    codes = patient_codes(paths)
    assert codes == ["patient_0001", "patient_0002", "patient_0003"] * 3
    order = np.random.default_rng(0).permutation(9)
    assert patient_codes([paths[k] for k in order]) == [codes[k] for k in order]
    assert patient_codes([]) == []


def test_identifying_attributes_are_named_without_their_values(tmp_path: Path) -> None:
    path = put(tmp_path / "a", "P1", PatientName="Doe^Jane", PatientBirthDate="", InstitutionName="Ward 9")
    assert identifying_attributes(path) == ["PatientName", "InstitutionName"]
    assert identifying_attributes(put(tmp_path / "b", "P1")) == []
    assert identifying_attributes(tmp_path / "absent") == []


@pytest.mark.parametrize(("said", "found"), [("YES", True), ("NO", False), (None, None), ("MAYBE", None)])
def test_burned_in_text_as_the_file_says(said: str | None, found: bool | None, tmp_path: Path) -> None:
    attributes = {} if said is None else {"BurnedInAnnotation": said}
    assert declares_burned_in_text(put(tmp_path / "a", **attributes)) is found
    assert declares_burned_in_text(tmp_path / "absent") is None


def test_a_pipe_among_the_paths_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.dcm")
    assert patient_codes([tmp_path / "pipe.dcm"]) == ["file_0001"]

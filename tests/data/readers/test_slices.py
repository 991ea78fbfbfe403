from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli.test_app import run
from fixtures.dicom_samples import dicom_bytes
from fixtures.hostile_samples import processor_seconds
from fixtures.nifti_samples import write_nifti
from fixtures.table_layouts import draw, write_table
from tametail.core.errors import DataError, TametailError, UsageError
from tametail.data import decoded_images, read_images
from tametail.data.decoding.slices import chosen_slices
from tametail.data.packed import write_shards
from tametail.data.reading import reading_facts


def ramp(depth: int, seed: int = 0) -> np.ndarray:
    """A volume of which slice k is about k times as bright."""
    rng = np.random.default_rng(seed)
    return (rng.integers(0, 9, (12, 12, depth)) + 10 * np.arange(depth)).astype(np.int16)


def volumes(root: Path) -> None:
    """As MosMedData: a folder per class with a compressed volume per study."""
    for number in range(6):
        name = f"CT-{number % 2}/study_{number:04d}.nii.gz"
        write_nifti(root / name, ramp(9 + number, number))


@pytest.mark.parametrize(
    ("rule", "count", "numbers"),
    [
        ("middle", 9, [4]),
        ("middle", 1, [0]),
        ("all", 3, [0, 1, 2]),
        ("every:4", 10, [2, 6]),
        ("every:3", 9, [1, 4, 7]),
        ("every:100", 5, [4]),
        ("every:1", 2, [0, 1]),
    ],
)
def test_the_slices_of_a_rule(rule: str, count: int, numbers: list[int]) -> None:
    assert chosen_slices(count, rule) == numbers


@pytest.mark.parametrize("rule", ["", "first", "every", "every:0", "every:-1", "every:x", "middle,all"])
def test_other_rules_are_refused(rule: str) -> None:
    with pytest.raises(UsageError, match="expected --slices middle, all or every:N"):
        read_images("demo", slices=rule)


def test_volumes_in_class_folders(tmp_path: Path) -> None:
    volumes(tmp_path / "studies")
    with pytest.raises(DataError, match="NIfTI volumes are read as slices with --slices middle"):
        read_images(tmp_path / "studies")
    table = read_images(tmp_path / "studies", slices="middle")
    assert table.images[0] == "CT-0/study_0000.nii.gz/slice_005.png"
    assert table.counts() == {"CT-0": 3, "CT-1": 3}
    assert table.slices == "middle"
    every = read_images(tmp_path / "studies", slices="every:4")
    assert sorted(set(every.groups)) == [f"CT-{n % 2}/study_{n:04d}.nii.gz" for n in (0, 2, 4, 1, 3, 5)]
    assert [image for image in every.images if "study_0001" in image] == [
        f"CT-1/study_0001.nii.gz/slice_{number:03d}.png" for number in (3, 7)
    ]
    said = dict(reading_facts(every))
    assert said["Groups"] == "the volume that a slice is of (6 groups)"
    assert said["As read"] == (
        f"--slices every:4: {len(every)} slices of 6 volumes of 9 to 14 slices; axial, grey from percentile 0.5 to 99.5 of each volume"
    )
    whole = read_images(tmp_path / "studies", slices="all")
    assert len(whole) == 9 + 10 + 11 + 12 + 13 + 14
    means = [image.mean() for image in decoded_images(whole, 12).pixels]
    of_first = [mean for mean, image in zip(means, whole.images, strict=True) if "study_0000" in image]
    assert of_first == sorted(of_first)
    assert of_first[0] < 20
    assert of_first[-1] > 235


def test_slices_are_stored_once_and_anew_for_another_volume(tmp_path: Path) -> None:
    volumes(tmp_path / "a")
    first = read_images(tmp_path / "a", slices="middle")
    assert read_images(tmp_path / "a", slices="middle").root == first.root
    assert read_images(tmp_path / "a", slices="all").root != first.root
    first.paths[0].unlink()  # damage is repaired
    assert read_images(tmp_path / "a", slices="middle").paths[0].is_file()
    write_nifti(tmp_path / "a/CT-0/study_0000.nii.gz", ramp(9, 77))
    assert read_images(tmp_path / "a", slices="middle").root != first.root


def test_a_table_of_volumes_keeps_its_groups_and_columns(tmp_path: Path) -> None:
    rows = []
    for number in range(6):
        write_nifti(tmp_path / f"sub-{number // 2}/anat/scan_{number}.nii.gz", ramp(5, number))
        rows.append(
            [
                f"sub-{number // 2}/anat/scan_{number}",
                "AD" if number % 2 else "CN",
                f"S{number // 2}",
                70 + number,
            ]
        )
    path = write_table(tmp_path / "scans.csv", ["image", "label", "patient", "age"], rows)
    table = read_images(path, group_col="patient", slices="every:2")
    assert len(table) == 12
    assert sorted(set(table.groups)) == ["S0", "S1", "S2"]
    assert table.frame["age"].tolist()[:4] == [70, 70, 71, 71]
    named = write_table(
        tmp_path / "b.csv", ["image", "label"], [[f"{row[0]}.nii.gz", row[1]] for row in rows]
    )
    by_name = read_images(named, group_from=r"name:scan_(\d)", slices="middle")
    assert by_name.groups.tolist() == list("012345")
    with pytest.raises(DataError, match=r"6 files such as .*scan_0\.nii\.gz, .*--slices middle"):
        read_images(named)


def test_other_images_beside_volumes_are_refused(tmp_path: Path) -> None:
    volumes(tmp_path)
    draw(tmp_path / "CT-0/a.png")
    with pytest.raises(DataError, match=r"found 1 other image beside them \(CT-0/a\.png\)"):
        read_images(tmp_path, slices="middle")


def test_flat_images_are_read_as_without_the_option_and_it_is_said(tmp_path: Path) -> None:
    draw(*(tmp_path / f"{label}/{n}.png" for label in "ab" for n in range(2)))
    table = read_images(tmp_path, slices="middle")
    assert table.slices is None
    assert dict(reading_facts(table))["As read"] == "--slices middle: no image is a volume"
    assert table.fingerprint == read_images(tmp_path).fingerprint


def test_packed_slices_keep_their_rule(tmp_path: Path) -> None:
    volumes(tmp_path / "a")
    table = read_images(tmp_path / "a", slices="every:4")
    write_shards(table, tmp_path / "packed")
    again = read_images(tmp_path / "packed")
    assert again.slices == "every:4"
    assert again.fingerprint == table.fingerprint


def put_series(folder: Path, uid: str, depth: int, modality: str = "CT", **attributes: Any) -> None:
    """A file per slice, named in another order than they lie."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(depth):
        content = dicom_bytes(
            np.full((8, 8), 20 * number, np.uint8),
            SeriesInstanceUID=uid,
            Modality=modality,
            ImagePositionPatient=[0, 0, 5.0 * number],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            InstanceNumber=depth - number,
            **attributes,
        )
        (folder / f"{(number * 5 + 2) % depth:02d}.dcm").write_bytes(content)


def test_a_series_of_files_is_a_volume(tmp_path: Path) -> None:
    for number in range(4):
        place = tmp_path / "ct" / "ab"[number % 2] / f"scan{number}"
        put_series(place, f"1.2.{number}", 6, PatientID=f"P{number // 2}" if number < 2 else "")
    with pytest.raises(
        DataError, match=r"found 4 volumes of up to 6 slices: .* --slices middle, all or every:N"
    ):
        read_images(tmp_path / "ct", class_level=1)
    table = read_images(tmp_path / "ct", class_level=1, slices="middle")
    assert table.images.tolist() == [f"{'ab'[n % 2]}/scan{n}/05.dcm" for n in (0, 2, 1, 3)]
    middle = [int(image.mean()) for image in decoded_images(table, 8).pixels]
    assert middle == [60] * 4  # by position, not by name or number
    whole = read_images(tmp_path / "ct", class_level=1, slices="all")
    assert len(whole) == 24
    assert sorted(set(whole.groups)) == ["a/scan2", "b/scan3", "patient_0001"]
    assert "24 slices of 4 series of 6 files" in dict(reading_facts(whole))["As read"]


def test_files_of_one_series_that_are_no_volume_need_no_option(tmp_path: Path) -> None:
    for label in "ab":
        put_series(tmp_path / label, f"1.{ord(label)}", 3, "DX")
    assert len(read_images(tmp_path)) == 6


def test_frames_of_a_file_are_slices(tmp_path: Path) -> None:
    for number in range(4):
        folder = tmp_path / "ab"[number % 2]
        folder.mkdir(exist_ok=True)
        frames = np.stack([np.full((8, 8), 10 * at + number, np.uint8) for at in range(6)])
        content = dicom_bytes(frames, NumberOfFrames=6, PatientID=f"P{number}")
        (folder / f"{number}.dcm").write_bytes(content)
    (tmp_path / "a/flat.dcm").write_bytes(dicom_bytes(np.full((8, 8), 200, np.uint8), PatientID="P9"))
    assert len(read_images(tmp_path)) == 5  # the middle frame
    table = read_images(tmp_path, slices="every:3")
    assert table.images.tolist()[:3] == [
        "a/0.dcm/slice_002.png",
        "a/0.dcm/slice_005.png",
        "a/2.dcm/slice_002.png",
    ]
    assert [int(image.mean()) for image in decoded_images(table, 8).pixels] == [
        10,
        40,
        12,
        42,
        200,
        11,
        41,
        13,
        43,
    ]
    middle = decoded_images(read_images(tmp_path, slices="middle"), 8).pixels
    assert np.array_equal(
        np.stack(list(middle)), np.stack(list(decoded_images(read_images(tmp_path), 8).pixels))
    )


def test_hostile_volumes_are_named(tmp_path: Path) -> None:
    volumes(tmp_path)
    victim = tmp_path / "CT-1/study_0003.nii.gz"
    for content in (b"", os.urandom(4000), victim.read_bytes()[:400]):
        victim.write_bytes(content)
        with pytest.raises(DataError, match=r"study_0003\.nii\.gz"):
            read_images(tmp_path, slices="all")
    for label in "ab":
        (tmp_path / "dicom" / label).mkdir(parents=True)
        frame = np.zeros((8, 8), np.uint8)
        (tmp_path / f"dicom/{label}/1.dcm").write_bytes(
            dicom_bytes(frame[None], NumberOfFrames=2_000_000_000)
        )
    started = processor_seconds()
    with pytest.raises(DataError, match=r"at most 10,000 frames in .*1\.dcm, found 2,000,000,000"):
        read_images(tmp_path / "dicom", slices="all")
    assert processor_seconds() - started < 10


def test_study_predict_and_evaluate_read_the_same_pixels(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for number in range(24):
        write_nifti(data / f"{'ab'[number % 2]}/{number}.nii.gz", ramp(7, number) * (1 + number % 2))
    study = [
        "--backbone",
        "test_efficientnet",
        "--weights",
        "none",
        "--image-size",
        "32",
        "--folds",
        "2",
        "--methods",
        "ce",
    ]
    code, _, errors = run(
        "compare", data, "--slices", "every:3", *study, "--seed", 1, "-o", tmp_path / "study", "--quiet"
    )
    assert code == 0, errors
    assert json.loads((tmp_path / "study/study.json").read_text())["table"]["slices"] == "every:3"
    new = write_nifti(tmp_path / "new/new.nii.gz", ramp(7, 99))
    code, _, errors = run(
        "predict", tmp_path / "study", new.parent, data / "a/0.nii.gz", "-o", tmp_path / "p.csv"
    )
    assert code == 0, errors
    rows = (tmp_path / "p.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0].rpartition("/")[2] for row in rows] == ["slice_002.png", "slice_005.png"] * 2
    assert rows[0].startswith(f"{new}/slice_002.png,")
    code, _, errors = run(
        "evaluate", tmp_path / "study", "--data", data, "--slices", "all", "-o", tmp_path / "e"
    )
    assert code == 2
    assert "expected --slices every:3, by which the study's images were taken" in errors
    other = tmp_path / "other"
    for number in range(12):
        write_nifti(other / f"{'ab'[number % 2]}/{number}.nii.gz", ramp(8, 1000 + number))
    code, _, errors = run("evaluate", tmp_path / "study", "--data", other, "-o", tmp_path / "e")
    assert code == 0, errors
    assert "--slices every:3: 36 slices of 12 volumes" in errors


def test_slices_that_do_not_fit_in_the_cache_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volumes(tmp_path / "a")
    monkeypatch.setenv("TAMETAIL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TAMETAIL_CACHE_GB", "0.000005")
    assert len(read_images(tmp_path / "a", slices="middle")) == 6
    with pytest.raises(TametailError, match="no space for"):
        read_images(tmp_path / "a", slices="all")


def test_given_groups_are_kept_whatever_their_names(tmp_path: Path) -> None:
    for number in range(4):
        write_nifti(tmp_path / f"v{number}.nii.gz", ramp(5, number))
    rows = [[f"v{number}.nii.gz", "ab"[number // 2], f"file_{number // 2}"] for number in range(4)]
    table = read_images(
        write_table(tmp_path / "scans.csv", ["image", "label", "group"], rows), slices="middle"
    )
    assert table.groups.tolist() == ["file_0", "file_0", "file_1", "file_1"]

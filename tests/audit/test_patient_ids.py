"""Class names in two spellings, columns and file names that tell patients apart: what is one, and what only looks so."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tametail.audit.patient_ids import check_columns, check_names
from tametail.audit.table_checks import same_word
from tametail.data import ImageTable
from tametail.data.readers.medmnist import MEDMNIST_SETS


@pytest.mark.parametrize(
    ("left", "right"),
    [("Mel", "mel"), ("mel ", "mel"), ("melanom", "melanoma"), ("tumor", "tumour"), ("nevus", "naevus"), ("edema", "oedema"),
     ("adenoma", "adenomas"), ("polyp", "polyps"), ("basal cell carcinoma", "basal-cell_carcinoma"), ("naïve", "naive"),
     ("Stage 1", "stage_1"), ("causal", "casual")],
)  # fmt: skip
def test_one_name_in_two_spellings(left: str, right: str) -> None:
    assert same_word(left, right)
    assert same_word(right, left)


@pytest.mark.parametrize(
    ("left", "right"),
    [("benign", "malignant"), ("grade 1", "grade 2"), ("stage I", "stage II"), ("grade IV", "grade V"), ("type a", "type b"),
     ("stage III", "stage IIIA"), ("BI-RADS 4", "BI-RADS 4A"), ("blood A", "blood AB"), ("1.5", "15"), ("1/2", "12"),
     ("grade -1", "grade 1"), ("T1-2", "T12"), ("hyperplasia", "hypoplasia"), ("normal", "abnormal"), ("typical", "atypical"),
     ("symptomatic", "asymptomatic"), ("CD4+", "CD4-"), ("covid", "non-covid"), ("IgA", "IgG"), ("myelocyte", "metamyelocyte")],
)  # fmt: skip
def test_two_names(left: str, right: str) -> None:
    assert not same_word(left, right)
    assert not same_word(right, left)


def test_the_names_of_known_sets_are_all_different() -> None:
    for known in MEDMNIST_SETS.values():
        assert not any(same_word(a, b) for a, b in combinations(known.classes, 2))


def _table(images: list[str], groups: list[str] | None = None, **columns: Any) -> ImageTable:
    labels = np.random.default_rng(1).choice(["a", "b", "c"], len(images))
    frame = pd.DataFrame({"image": images, "label": labels, "group": groups or images, "split": ""})
    frame = frame.assign(**columns).sort_values("image", ignore_index=True)
    return ImageTable(frame, Path(), ("a", "b", "c"), "t")


IMAGES = [f"i{number:04}.png" for number in range(1200)]
RNG = np.random.default_rng(0)
PATIENT = RNG.integers(0, 400, len(IMAGES))


@pytest.mark.parametrize(
    "name",
    [
        "patient_id",
        "Patient",
        "subject",
        "PatientID",
        "lesion_id",
        "ID",
        "mrn",
        "StudyInstanceUID",
        "patientid",
        "Pt_ID",
        "patno",
        "PtNo",
        "RID",
        "submitter_id",
        "client_id",
        "empi_anon",
        "id_paciente",
        "Patientennummer",
        "tumor_id",
        "hospital_number",
        "wsi",
        "video_id",
        "lesionid",
        "num_patient",
        "ID_Пациента",
        "患者ID",
        "numéro du patient",
    ],
)
@pytest.mark.parametrize("written", ["text", "number", "number with gaps", "mostly empty"])
def test_a_patient_column_is_found(name: str, written: str) -> None:
    values: Any = {
        "text": [f"P{code}" for code in PATIENT],
        "number": PATIENT,
        "number with gaps": np.where(np.arange(len(IMAGES)) == 3, np.nan, PATIENT.astype(float)),
        "mostly empty": np.where(RNG.random(len(IMAGES)) < 0.6, "", [f"P{code}" for code in PATIENT]),
    }[written]
    assert [finding.code for finding in check_columns(_table(IMAGES, **{name: values}))] == ["unused_ids"]


@pytest.mark.parametrize(
    ("name", "values"),
    [("hash", [f"{code:x}z" for code in PATIENT]), ("xq", PATIENT), ("original_file", [f"IMG{code}.dcm" for code in PATIENT]),
     ("family_name", [f"name {chr(97 + code % 26)}{chr(97 + code // 26)}" for code in PATIENT]),
     ("site", [f"S{code:04}" for code in PATIENT])],
)  # fmt: skip
def test_any_column_of_many_small_sets_is_a_warning_with_its_name(name: str, values: Any) -> None:
    (found,) = check_columns(_table(IMAGES, **{name: values}))
    assert (found.code, found.severity, found.affected) == ("possible_ids", "warning", ((name,),))
    assert name in found.message


@pytest.mark.parametrize(
    ("name", "values"),
    [("intensity", RNG.normal(size=len(IMAGES)).round(2)), ("Patientenalter", PATIENT), ("width", PATIENT), ("edad", PATIENT),
     ("unique", np.arange(len(IMAGES))), ("few", PATIENT % 7), ("site", [f"ward {'abcdefghij'[code % 10]}" for code in PATIENT]),
     ("hospital_id", PATIENT % 12)],
)  # fmt: skip
def test_measurements_unique_numbers_and_few_values_are_no_small_sets(name: str, values: Any) -> None:
    assert not list(check_columns(_table(IMAGES, **{name: values})))


@pytest.mark.parametrize("patients", [5, 20, 400])
def test_however_many_images_a_patient_has(patients: int) -> None:
    table = _table(IMAGES, patient_id=RNG.integers(0, patients, len(IMAGES)))
    assert [finding.severity for finding in check_columns(table)] == ["unsafe"]


@pytest.mark.parametrize(
    "name",
    ["age", "Patient Age", "patient_weight", "lesion_size_mm", "exam_date", "visit_no", "eye", "lesion_location", "casein", "site"],
)  # fmt: skip
def test_what_describes_a_patient_is_no_patient(name: str) -> None:
    assert not list(check_columns(_table(IMAGES, **{name: RNG.integers(0, 12, len(IMAGES))})))


def test_a_patient_above_the_lesions_is_found_and_one_below_is_not() -> None:
    lesion = [f"{code}_{number % 2}" for number, code in enumerate(PATIENT)]
    patient = [f"P{code}" for code in PATIENT]
    assert [f.code for f in check_columns(_table(IMAGES, lesion, patient=patient))] == ["unused_ids"]
    assert not list(check_columns(_table(IMAGES, patient, lesion_id=lesion)))


@pytest.mark.parametrize(
    "pattern",
    ["{p:08}_{i:03}.png", "patient{p:02}_{i}.png", "person{p}_bacteria_{i}.jpg", "IM-{p:04}-{i:04}.jpg", "patient{p}/study1/{i}.jpg",
     "class/patient{p}/{i}.png", "CNV-{p}-{i}.jpg", "P_{p:05}_{side}_CC.png", "{p}_{side}.jpg", "patient{p}{letter}.png"],
)  # fmt: skip
def test_names_that_tell_patients_apart(pattern: str) -> None:
    images = {
        pattern.format(p=p, i=i, side=("LEFT", "RIGHT")[i % 2], letter="ab"[i % 2])
        for p in range(1, 60)
        for i in range(1, 5)
    }
    assert [finding.code for finding in check_names(_table(sorted(images)))] == ["grouped_by_name"]


@pytest.mark.parametrize(
    "pattern",
    [
        "ISIC_{n:07}.jpg",
        "train/{n:06}.png",
        "BAS/0001-1000/BAS_{n:05}.jpg",
        "202{y}0103_{n:06}.png",
        "{n:08}.png",
    ],
)
def test_names_that_are_only_numbers(pattern: str) -> None:
    assert not list(check_names(_table(sorted(pattern.format(n=n, y=n % 4) for n in range(500)))))


def _given_split(names: dict[str, list[str]]) -> ImageTable:
    images = [f"{split}/{name}" for split, listed in names.items() for name in listed]
    table = _table(images)
    split = [{"train": "train", "test": "test"}[image.partition("/")[0]] for image in table.frame["image"]]
    return ImageTable(table.frame.assign(split=split), Path(), ("a", "b", "c"), "t")


OWNERS = {
    "kermany_oct": "CNV/CNV-{p}-{i}.jpeg",
    "eyepacs": "{p}_{side}.jpeg",
    "breakhis": "malignant/SOB_M_DC-14-{p}AB-40-{i:03}.png",
    "chexpert": "patient{p:05}/study{i}/view1_frontal.jpg",
    "nih_chest": "{p:08}_{i:03}.png",
    "": "x/scan{p}_{i}.png",
}


@pytest.mark.parametrize("scheme", OWNERS)
def test_a_given_split_that_divides_owners_by_name_is_unsafe(scheme: str) -> None:
    def named(p: int, i: int) -> str:
        return OWNERS[scheme].format(p=p, i=i, side=("left", "right")[i % 2])

    names = {
        "train": [named(p, i) for p in range(100, 130) for i in (0, 2, 5)],
        "test": [named(p, i) for p in range(125, 145) for i in (1, 4)],
    }
    if scheme == "eyepacs":  # the left eye is in training, the right one in the test set
        names = {"train": names["train"][::3], "test": names["test"][::2]}
        names["train"] += [named(p, 1) for p in range(100, 125)]
    unsafe, grouped = check_names(_given_split(names))
    assert (unsafe.code, unsafe.severity, len(unsafe.affected)) == ("names_cross_split", "unsafe", 5)
    assert unsafe.message.startswith("5 patients or other owners of images")
    assert all(
        {image.partition("/")[0] for image in members} == {"train", "test"} for members in unsafe.affected
    )
    assert grouped.code == "grouped_by_name"
    assert f"known:{scheme}" in unsafe.advice if scheme else "known:" not in unsafe.advice
    apart = names | {
        "test": [name for name in names["test"] if not any(str(p) in name for p in range(125, 130))]
    }
    assert [finding.code for finding in check_names(_given_split(apart))] == ["grouped_by_name"]


def test_numbers_that_begin_anew_in_each_split_are_not_the_same_owners() -> None:
    names = [f"scan{p}_{i}.png" for p in range(30) for i in range(3)]
    found = list(check_names(_given_split({"train": names, "test": names[:40]})))
    assert [finding.code for finding in found] == ["grouped_by_name"]

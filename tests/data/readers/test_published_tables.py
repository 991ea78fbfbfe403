"""The commands of docs/data.md for public sets with tables, each on a generated imitation of the set's layout.

A writer makes the layout in an empty folder and says what must be read: the images of each class, and how many groups and
splits there are. Names of files, folders and columns are those that the sets have; all else is made up.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from cli.test_app import run
from fixtures.table_layouts import draw, write_table
from tametail.core.option import declared
from tametail.core.options import ReadImagesOptions
from tametail.data import read_images

DOCS = Path(__file__).parents[3] / "docs/data.md"
SECTION = "### Public sets with tables"


class Expected(NamedTuple):
    counts: dict[str, int]
    groups: int
    splits: dict[str, int] = {}  # noqa: RUF012
    said: str = ""


def ham10000(at: Path) -> Expected:
    names = [f"ISIC_{24306 + n:07d}" for n in range(12)]
    draw(*(at / f"HAM10000_images_part_{1 + n % 2}" / f"{name}.jpg" for n, name in enumerate(names)))
    rows = [
        [f"HAM_{n // 2:07d}", name, ["nv", "mel"][n // 2 % 2], "histo", 80] for n, name in enumerate(names)
    ]
    write_table(at / "HAM10000_metadata.csv", ["lesion_id", "image_id", "dx", "dx_type", "age"], rows)
    return Expected({"mel": 6, "nv": 6}, 6, said="12 images found by name in other folders")


def isic_2019(at: Path) -> Expected:
    classes = ["MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK"]
    names = [f"ISIC_{n:07d}" for n in range(24)]
    draw(*(at / "ISIC_2019_Training_Input" / f"{name}.jpg" for name in names))
    hot = [[name, *(float(k == n % 8) for k in range(9))] for n, name in enumerate(names)]
    write_table(at / "ISIC_2019_Training_GroundTruth.csv", ["image", *classes], hot)
    lesions = [[name, 55.0, "", f"MSK4_{n % 8}" if n < 16 else "", "male"] for n, name in enumerate(names)]
    header = ["image", "age_approx", "anatom_site_general", "lesion_id", "sex"]
    write_table(at / "ISIC_2019_Training_Metadata.csv", header, lesions)
    return Expected(dict.fromkeys(classes[:8], 3), 16, said="8 rows without one are groups of their own")


def pad_ufes_20(at: Path) -> Expected:
    names = [f"PAT_{n // 2}_{n}_{n * 7}.png" for n in range(12)]
    draw(*(at / f"images/imgs_part_{1 + n % 3}" / name for n, name in enumerate(names)))
    rows = [[f"PAT_{n // 2}", n, ["NEV", "BCC", "ACK"][n // 2 % 3], name] for n, name in enumerate(names)]
    write_table(at / "metadata.csv", ["patient_id", "lesion_id", "diagnostic", "img_id"], rows)
    return Expected({"ACK": 4, "BCC": 4, "NEV": 4}, 6)


def aptos_2019(at: Path) -> Expected:
    codes = [f"{n * 2654435761 % 2**48:012x}" for n in range(1, 11)]
    draw(*(at / "train_images" / f"{code}.png" for code in codes), at / "test_images" / "0005cfc8afb6.png")
    write_table(at / "train.csv", ["id_code", "diagnosis"], [[code, n % 5] for n, code in enumerate(codes)])
    write_table(at / "test.csv", ["id_code"], [["0005cfc8afb6"]])
    return Expected({str(grade): 2 for grade in range(5)}, 10)


def eyepacs(at: Path) -> Expected:
    names = [f"{n}_{side}" for n in range(10, 16) for side in ("left", "right")]
    draw(*(at / "train" / f"{name}.jpeg" for name in names))
    write_table(at / "trainLabels.csv", ["image", "level"], [[name, n % 3] for n, name in enumerate(names)])
    return Expected({"0": 4, "1": 4, "2": 4}, 6)


def messidor_2(at: Path) -> Expected:
    names = [f"IM{n:06d}.jpg" for n in range(6)] + [f"2005{n:04d}_43808_0100_PP.png" for n in range(6)]
    draw(*(at / "IMAGES" / name.replace(".jpg", ".JPG") for name in names))
    rows = [[name, n % 2 if n != 3 else "", 0, int(n != 3)] for n, name in enumerate(names)]
    header = ["image_id", "adjudicated_dr_grade", "adjudicated_dme", "adjudicated_gradable"]
    write_table(at / "messidor_data.csv", header, rows)
    return Expected({"0": 6, "1": 5}, 11, said="1 row without a label")


def idrid(at: Path) -> Expected:
    for part, count in (("a. Training Set", 10), ("b. Testing Set", 5)):
        names = [f"IDRiD_{n + 1:03d}" for n in range(count)]
        draw(*(at / "1. Original Images" / part / f"{name}.jpg" for name in names))
        rows = [[name, n % 5, n % 3, *[""] * 9] for n, name in enumerate(names)]
        header = ["Image name", "Retinopathy grade", "Risk of macular edema ", *[""] * 9]
        table = f"{part[:3]}IDRiD_Disease Grading_{part[3:].removesuffix(' Set')} Labels.csv"
        write_table(at / "2. Groundtruths" / table, header, [*rows, [""] * 12])
    return Expected({str(grade): 2 for grade in range(5)}, 10, said="1 blank row")


def odir_5k(at: Path) -> Expected:
    names = [f"{n // 2}_{('left', 'right')[n % 2]}.jpg" for n in range(16)]
    for folder in ("preprocessed_images", "ODIR-5K/ODIR-5K/Training Images"):
        draw(*(at / folder / name for name in names))
    labels = ["['N']", "['D']", "['G']", "['C']"]
    rows = [[n // 2, 69, "Female", names[n], labels[n % 4], names[n]] for n in range(16)]
    header = ["ID", "Patient Age", "Patient Sex", "filepath", "labels", "filename"]
    write_table(at / "full_df.csv", header, rows)
    return Expected(dict.fromkeys("CDGN", 4), 8)


def rfmid(at: Path) -> Expected:
    parts = {"Training": ("Training_Set", "Training", 12), "Validation": ("Evaluation_Set", "Validation", 6), "Testing": ("Test_Set", "Test", 6)}  # fmt: skip
    for table, (folder, images, count) in parts.items():
        draw(*(at / folder / images / f"{n + 1}.png" for n in range(count)))
        rows = [
            [n + 1, int(n % 3 > 0), int(n % 3 == 1), int(n % 3 == 2), int(n % 6 == 2)] for n in range(count)
        ]
        header = ["ID", "Disease_Risk", "DR", "ARMD", "MH"]
        write_table(at / folder / f"RFMiD_{table}_Labels.csv", header, rows)
    return Expected({"ARMD": 8, "DR": 8, "MH": 4}, 24, {"train": 12, "val": 6, "test": 6})


def chestx_ray14(at: Path) -> Expected:
    names = [f"{n // 2 + 1:08d}_{n % 2:03d}.png" for n in range(24)]
    draw(*(at / f"images_{1 + n % 2:03d}/images" / name for n, name in enumerate(names)))
    findings = ["No Finding", "Effusion|Mass", "Mass", "Effusion"]
    rows = [[name, findings[n % 4], n % 2, n // 2 + 1, 58, "M", "PA"] for n, name in enumerate(names)]
    header = [
        "Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "Patient Gender", "View Position",
    ]  # fmt: skip
    write_table(at / "Data_Entry_2017.csv", header, rows)
    (at / "train_val_list.txt").write_text("\n".join(names[:16]))
    (at / "test_list.txt").write_text("\n".join(names[16:]))
    return Expected(
        {"Effusion": 12, "Mass": 12, "No Finding": 6},
        12,
        {"train": 16, "test": 8},
        "lists train_val_list.txt",
    )


def chexpert(at: Path) -> Expected:
    marks = ["1.0", "", "0.0", "-1.0"]
    header = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion"]  # fmt: skip
    for table, folder, count, first in (("train", "train", 16, 1), ("valid", "valid", 4, 64541)):
        paths = [
            f"CheXpert-v1.0-small/{folder}/patient{first + n // 2:05d}/study{n % 2}/view1_frontal.jpg"
            for n in range(count)
        ]
        draw(*(at / path for path in paths))
        rows = [
            [path, "Male", 60, "Frontal", "AP", *(marks[(n + k) % 4] if table == "train" else f"{(n + k) % 2}.0" for k in range(5))]
            for n, path in enumerate(paths)
        ]  # fmt: skip
        write_table(at / "CheXpert-v1.0-small" / f"{table}.csv", header, rows)
    return Expected(
        dict.fromkeys(["Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion"], 6),
        10,
        {"train": 16, "val": 4},
        "20 uncertain (-1) labels are unknown",
    )


def padchest(at: Path) -> Expected:
    names = [f"2168{n:04d}_{n}_{n * 3}.png" for n in range(12)]
    labels = [
        "['normal']",
        "['cardiomegaly', 'pleural effusion']",
        "['cardiomegaly']",
        "['COPD signs', 'unchanged']",
    ]
    draw(*(at / str(n % 3) / name for n, name in enumerate(names) if n != 4))
    rows = [[n, name, n % 3, f"{n // 2 + 100}", "PA", labels[n % 4]] for n, name in enumerate(names)]
    header = ["", "ImageID", "ImageDir", "PatientID", "Projection", "Labels"]
    write_table(at / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", header, rows)
    counts = {"COPD signs": 3, "cardiomegaly": 6, "normal": 2, "pleural effusion": 3, "unchanged": 3}
    return Expected(counts, 6, said="1 row whose image file is absent")


def vindr_cxr(at: Path) -> Expected:
    names = [f"{n * 2654435761 % 2**32:08x}" for n in range(1, 7)]
    write_dicom(at / "train", [f"{name}.dicom" for name in names])
    header = ["image_id", "class_name", "class_id", "rad_id", "x_min", "y_min", "x_max", "y_max"]
    rows: list[list[object]] = []
    for n, name in enumerate(names):
        if n < 3:
            rows += [[name, "No finding", 14, f"R{k}", "", "", "", ""] for k in (8, 9, 10)]
        else:  # two of three readers agree, one of them with two boxes
            rows += [[name, "Cardiomegaly", 3, "R8", 1, 2, 3, k] for k in (4, 5)]
            rows += [[name, "Cardiomegaly", 3, "R9", 1, 2, 3, 4], [name, "Nodule/Mass", 8, "R10", 1, 2, 3, 4]]
    rows += [[names[3], "Nodule/Mass", 8, "R9", 1, 2, 3, 4]]
    write_table(at / "train.csv", header, rows)
    return Expected({"Cardiomegaly": 3, "No finding": 3, "Nodule/Mass": 1}, 6, said="majority of the readers")


def rsna_pneumonia(at: Path) -> Expected:
    names = [f"0004cfab-14fd-4e49-80ba-{n:012d}" for n in range(8)]
    write_dicom(at / "stage_2_train_images", [f"{name}.dcm" for name in names])
    rows: list[list[object]] = []
    for n, name in enumerate(names):
        boxes = [[264, 152, 213, 379], [562, 152, 256, 453]] if n % 2 else [["", "", "", ""]]
        rows += [[name, *box, n % 2] for box in boxes]
    write_table(at / "stage_2_train_labels.csv", ["patientId", "x", "y", "width", "height", "Target"], rows)
    return Expected({"0": 4, "1": 4}, 8, said="8 rows of 4 images joined: union")


def fitzpatrick17k(at: Path) -> Expected:
    hashes = [f"{n * 2654435761 % 2**64:032x}" for n in range(1, 13)]
    nine = ["inflammatory", "malignant epidermal", "benign dermal"]
    draw(*(at / "data/finalfitz17k" / f"{one}.jpg" for n, one in enumerate(hashes) if n != 7))
    rows = [[one, n % 6 + 1, 3, "x", nine[n % 3], "", "http://"] for n, one in enumerate(hashes)]
    header = [
        "md5hash",
        "fitzpatrick_scale",
        "fitzpatrick_centaur",
        "label",
        "nine_partition_label",
        "qc",
        "url",
    ]
    write_table(at / "fitzpatrick17k.csv", header, rows)
    counts = {"benign dermal": 4, "inflammatory": 4, "malignant epidermal": 3}
    return Expected(counts, 11, said="1 row whose image file is absent")


def derm7pt(at: Path) -> Expected:
    draw(*(at / "images/Nel" / f"Nel{n:03d}.jpg" for n in range(12)))
    rows = [
        [n // 2, ["nevus", "melanoma"][n // 2 % 2], f"NEL/NEL{n:03d}.JPG", f"NEL/NEL{n:03d}.JPG"]
        for n in range(12)
    ]
    write_table(at / "meta/meta.csv", ["case_num", "diagnosis", "clinic", "derm"], rows)
    return Expected({"melanoma": 6, "nevus": 6}, 6, said="12 images found by name in another case")


def bach(at: Path) -> Expected:
    classes = ["Benign", "InSitu", "Invasive", "Normal"]
    rows = []
    for code, label in enumerate(classes):
        names = [f"{('b', 'is', 'iv', 'n')[code]}{n:03d}.tif" for n in range(3)]
        draw(*(at / "Photos" / label / name for name in names))
        rows += [[name, label] for name in names]
    write_table(at / "Photos/microscopy_ground_truth.csv", None, rows)
    return Expected(dict.fromkeys(classes, 3), 12)


def hyper_kvasir(at: Path) -> Expected:
    names = [f"{n:08x}-b5d8-4f7a-a9b9-2b6a6a0c0a4d.jpg" for n in range(12)]
    for n, name in enumerate(names):
        draw(at / "labeled-images/lower-gi-tract" / ("polyps", "cecum")[n % 2] / name)
    lines = [f"{name};{('polyps', 'cecum')[n % 2]};{n // 6}" for n, name in enumerate(names)]
    (at / "2_fold_split.csv").write_text("\n".join(["file-name;class-name;split-index", *lines]))
    return Expected({"cecum": 6, "polyps": 6}, 12, said="2 given folds (0: 6, 1: 6)")


def covidx(at: Path) -> Expected:
    for part, count in (("train", 12), ("test", 6)):
        names = [f"{part}{n:04d}.jpeg" for n in range(count)]
        draw(*(at / part / name for name in names))
        lines = [
            f"{part}p{n // 2} {name} {('negative', 'positive')[n % 2]} cohen" for n, name in enumerate(names)
        ]
        (at / f"{part}.txt").write_text("\n".join(lines) + "\n")
    return Expected({"negative": 9, "positive": 9}, 9, {"train": 12, "test": 6})


def write_dicom(folder: Path, names: list[str]) -> None:
    import numpy as np

    from fixtures.dicom_samples import dicom_bytes

    folder.mkdir(parents=True)
    for number, name in enumerate(names):
        (folder / name).write_bytes(dicom_bytes(np.full((8, 8), number, np.uint8), PatientID=f"P{number}"))


WRITERS: dict[str, Callable[[Path], Expected]] = {
    "HAM10000": ham10000,
    "ISIC 2019": isic_2019,
    "PAD-UFES-20": pad_ufes_20,
    "APTOS 2019": aptos_2019,
    "EyePACS": eyepacs,
    "Messidor-2": messidor_2,
    "IDRiD": idrid,
    "ODIR-5K": odir_5k,
    "RFMiD": rfmid,
    "ChestX-ray14": chestx_ray14,
    "CheXpert": chexpert,
    "PadChest": padchest,
    "VinDr-CXR": vindr_cxr,
    "RSNA pneumonia": rsna_pneumonia,
    "Fitzpatrick17k": fitzpatrick17k,
    "Derm7pt": derm7pt,
    "BACH": bach,
    "HyperKvasir": hyper_kvasir,
    "COVIDx": covidx,
}


def documented() -> dict[str, list[str]]:
    """The words after ``tametail inspect`` in each row of the table."""
    section = DOCS.read_text(encoding="utf-8").partition(SECTION)[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+?) \| `(.+?)` \|", section, re.MULTILINE)
    return {name: shlex.split(command) for name, command in rows if name != "set"}


def test_every_documented_set_has_an_imitation() -> None:
    assert sorted(documented()) == sorted(WRITERS)


@pytest.mark.parametrize("name", WRITERS)
def test_the_documented_command_reads_the_layout(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = WRITERS[name](tmp_path)
    monkeypatch.chdir(tmp_path)
    _, output, _ = run("inspect", *documented()[name], "--json", "--quiet")
    found = json.loads(output)
    assert "error" not in found, found["error"]
    assert {one["name"]: one["images"] for one in found["classes"]} == expected.counts
    assert found["groups"] == expected.groups
    assert {split: n for split, n in found["splits"].items() if split} == expected.splits
    assert expected.said in json.dumps(found["reading"])
    assert not {"several_labels", "groups_cross_split"} & {one["code"] for one in found["findings"]}


def test_python_has_the_options_of_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chexpert(tmp_path)
    monkeypatch.chdir(tmp_path)
    table = read_images(
        "train=CheXpert-v1.0-small/train.csv,val=CheXpert-v1.0-small/valid.csv",
        image_root=".",
        image_col="Path",
        label_cols=["Atelectasis", "Edema"],
        multi_label=True,
        uncertain="ignore",
        blank="zero",
    )
    assert table.unknown.sum() == 8
    assert not (table.unknown & table.labels).any()
    flags = {f"--{name.replace('_', '-')}" for name in declared(ReadImagesOptions)} | {
        "--no-header",
        "--folds",
    }
    used = {word for words in documented().values() for word in words if word.startswith("--")}
    assert used <= flags

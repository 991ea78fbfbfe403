"""The commands of docs/data.md for public sets with tables, each on a generated imitation of the set's layout.

A writer makes the layout in an empty folder and says what must be read: the images of each class, and how many groups and
splits there are. Names of files, folders and columns are those that the sets have; all else is made up.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from cli.test_app import run
from fixtures.nifti_samples import write_nifti
from fixtures.pcam import pcam
from fixtures.table_layouts import draw, write_table
from tametail.core.option import declared
from tametail.core.options import ReadImagesOptions
from tametail.data import read_images
from tametail.data.readers.known_sets import BONE_MARROW_CLASSES, BONE_MARROW_LEFT_OUT
from tametail.data.readers.medmnist import MEDMNIST_SETS

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

    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        (folder / name).write_bytes(dicom_bytes(np.full((8, 8), number, np.uint8), PatientID=f"P{number}"))


def isic_2020(at: Path) -> Expected:
    names = [f"ISIC_{n:07d}" for n in range(16)]
    draw(*(at / "jpeg/train" / f"{name}.jpg" for name in names), at / "jpeg/test/ISIC_0052060.jpg")
    header = ["image_name", "patient_id", "sex", "age_approx", "anatom_site_general_challenge", "diagnosis", "benign_malignant", "target"]  # fmt: skip
    rows = [
        [name, f"IP_{n // 4:07d}", "male", 45, "torso", "unknown", "benign", int(n % 4 == 0)]
        for n, name in enumerate(names)
    ]
    write_table(at / "train.csv", header, rows)
    return Expected({"0": 12, "1": 4}, 4)


def isic_2018(at: Path) -> Expected:
    classes = ["MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC"]
    names = [f"ISIC_{n + 24306:07d}" for n in range(14)]
    draw(*(at / "ISIC2018_Task3_Training_Input" / f"{name}.jpg" for name in names))
    hot = [[name, *(float(k == n // 2) for k in range(7))] for n, name in enumerate(names)]
    truth = "ISIC2018_Task3_Training_GroundTruth"
    write_table(at / truth / f"{truth}.csv", ["image", *classes], hot)
    lesions = [[name, f"HAM_{n // 2:07d}", "histopathology"] for n, name in enumerate(names)]
    header = ["image", "lesion_id", "diagnosis_confirm_type"]
    write_table(at / "ISIC2018_Task3_Training_LesionGroupings.csv", header, lesions)
    return Expected(dict.fromkeys(classes, 2), 7)


def isic_2017(at: Path) -> Expected:
    names = [f"ISIC_{n:07d}" for n in range(12)]
    for name in names:
        draw(at / "ISIC-2017_Training_Data" / f"{name}.jpg")
        draw(at / "ISIC-2017_Training_Data" / f"{name}_superpixels.png")
    rows = [[name, float(n % 3 == 1), float(n % 3 == 2)] for n, name in enumerate(names)]
    header = ["image_id", "melanoma", "seborrheic_keratosis"]
    write_table(at / "ISIC-2017_Training_Part3_GroundTruth.csv", header, rows)
    return Expected({"melanoma": 4, "seborrheic_keratosis": 4}, 12)


def isic_2016(at: Path) -> Expected:
    names = [f"ISIC_{n:07d}" for n in range(10)]
    draw(*(at / "ISBI2016_ISIC_Part3_Training_Data" / f"{name}.jpg" for name in names))
    rows = [[name, ("benign", "malignant")[n % 2]] for n, name in enumerate(names)]
    write_table(at / "ISBI2016_ISIC_Part3_Training_GroundTruth.csv", None, rows)
    return Expected({"benign": 5, "malignant": 5}, 10)


def ddi(at: Path) -> Expected:
    names = [f"{n:06d}.png" for n in range(1, 11)]
    draw(*(at / "images" / name for name in names))
    rows = [[n, n + 1, name, 12, n % 2 == 1, "melanoma"] for n, name in enumerate(names)]
    write_table(
        at / "ddi_metadata.csv", ["", "DDI_ID", "DDI_file", "skin_tone", "malignant", "disease"], rows
    )
    return Expected({"False": 5, "True": 5}, 10)


def brset(at: Path) -> Expected:
    names = [f"img{n:05d}" for n in range(1, 17)]
    draw(*(at / "fundus_photos" / f"{name}.jpg" for name in names))
    rows = [[name, "Canon CR", n // 2 + 1, 48, 1 + n % 2, n % 4] for n, name in enumerate(names)]
    header = ["image_id", "camera", "patient_id", "patient_age", "exam_eye", "DR_ICDR"]
    write_table(at / "labels_brset.csv", header, rows)
    return Expected(dict.fromkeys("0123", 4), 8)


def ddr(at: Path) -> Expected:
    for first, (split, count) in enumerate((("train", 12), ("valid", 6), ("test", 6))):
        names = [f"{first:03d}-{n:04d}-000.jpg" for n in range(count)]
        draw(*(at / split / name for name in names))
        (at / f"{split}.txt").write_text("".join(f"{name} {n % 6}\n" for n, name in enumerate(names)))
    return Expected(dict.fromkeys("012345", 4), 24, {"train": 12, "val": 6, "test": 6})


def vindr_mammo(at: Path) -> Expected:
    rows = []
    for n in range(16):
        study, image = f"{n // 4:032x}", f"{n * 2654435761 % 2**64:032x}"
        write_dicom(at / "images" / study, [f"{image}.dicom"])
        split = "test" if n // 4 == 3 else "training"
        rows.append(
            [
                study,
                f"{n:032x}",
                "LR"[n % 2],
                ("CC", "MLO")[n // 2 % 2],
                image,
                f"BI-RADS {1 + n % 4}",
                "DENSITY C",
                split,
            ]
        )
    header = ["study_id", "series_id", "laterality", "view_position", "image_id", "breast_birads", "breast_density", "split"]  # fmt: skip
    write_table(at / "breast-level_annotations.csv", header, rows)
    return Expected({f"BI-RADS {k}": 4 for k in range(1, 5)}, 4, {"train": 12, "test": 4})


def rsna_mammography(at: Path) -> Expected:
    rows = []
    for n in range(16):
        patient, image = 10006 + n // 4, 462822612 + n
        write_dicom(at / "train_images" / str(patient), [f"{image}.dcm"])
        rows.append([2, patient, image, "LR"[n % 2], ("CC", "MLO")[n // 2 % 2], 61, int(n // 4 == 1)])
    header = ["site_id", "patient_id", "image_id", "laterality", "view", "age", "cancer"]
    write_table(at / "train.csv", header, rows)
    return Expected({"0": 12, "1": 4}, 4)


def histopathologic(at: Path) -> Expected:
    names = [f"{n * 2654435761 % 2**64:040x}" for n in range(1, 11)]
    draw(
        *(at / "train" / f"{name}.tif" for name in names),
        at / "test/0b2ea2a822ad23fdb1b5dd26653da899fbd2c0d5.tif",
    )
    write_table(at / "train_labels.csv", ["id", "label"], [[name, n % 2] for n, name in enumerate(names)])
    return Expected({"0": 5, "1": 5}, 10)


def patch_camelyon(at: Path) -> Expected:
    pcam(at / "pcam")
    return Expected({"0": 20, "1": 20}, 10, {"train": 24, "val": 8, "test": 8})


def isic_2024(at: Path) -> Expected:
    import h5py
    import numpy as np

    names = [f"ISIC_{n:07d}" for n in range(70, 82)]
    draw(*(at / "drawn" / f"{name}.jpg" for name in names))
    with h5py.File(at / "train-image.hdf5", "w") as file:
        for name in names:
            file[name] = np.void((at / "drawn" / f"{name}.jpg").read_bytes())
    rows = [[name, int(n < 4), f"IP_{n // 4}", 60, "male"] for n, name in enumerate(names)]
    header = ["isic_id", "target", "patient_id", "age_approx", "sex"]
    write_table(at / "train-metadata.csv", header, rows)
    return Expected({"0": 8, "1": 4}, 3)


def mosmed(at: Path) -> Expected:
    import numpy as np

    for n in range(10):
        voxels = np.random.default_rng(n).integers(-1000, 1000, (16, 16, 5)).astype(np.int16)
        write_nifti(at / f"COVID19_1110/studies/CT-{n % 5}/study_{n + 1:04d}.nii.gz", voxels)
    write_nifti(at / "COVID19_1110/masks/study_0255_mask.nii.gz", np.zeros((16, 16, 5), np.uint8))
    return Expected({f"CT-{k}": 2 for k in range(5)}, 10, said="10 slices of 10 volumes of 5 slices")


def hub(folder: Path, labels: list[object], first: int, **columns: object) -> None:
    """A Parquet file as on the Hugging Face Hub."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.parent.mkdir(parents=True, exist_ok=True)
    names = [folder.parent / f"{first + n}.jpg" for n in range(len(labels))]
    draw(*names)
    images = [{"bytes": name.read_bytes(), "path": name.name} for name in names]
    for name in names:
        name.unlink()
    described = columns.pop("described", None)
    table = pa.table({"image": pa.array(images), **columns})
    pq.write_table(table.replace_schema_metadata(described) if described else table, folder)


def hub_ham10000(at: Path) -> Expected:
    classes = ["actinic_keratoses", "melanoma", "melanocytic_Nevi"]
    for first, split in ((0, "train"), (100, "validation"), (200, "test")):
        file = at / f"skin_cancer/data/{split}-00000-of-00001-0123456789abcdef.parquet"
        dx = [classes[n // 2 % 3] for n in range(12)]
        lesions = [f"HAM_{first + n // 2:07d}" for n in range(12)]
        hub(
            file,
            dx,
            first,
            image_id=[f"ISIC_{first + n}" for n in range(12)],
            lesion_id=lesions,
            dx=dx,
            age=[40.0] * 12,
        )
    return Expected(dict.fromkeys(classes, 12), 18, {"train": 12, "val": 12, "test": 12})


def hub_alzheimer(at: Path) -> Expected:
    classes = ["Mild_Demented", "Moderate_Demented", "Non_Demented", "Very_Mild_Demented"]
    features = {"image": {"_type": "Image"}, "label": {"names": classes, "_type": "ClassLabel"}}
    described = {"huggingface": json.dumps({"info": {"features": features}})}
    for first, split in ((0, "train"), (100, "test")):
        file = at / f"Alzheimer_MRI/data/{split}-00000-of-00001-0123456789abcdef.parquet"
        labels = [n % 4 for n in range(8)]
        hub(file, labels, first, label=labels, described=described)
    return Expected(dict.fromkeys(classes, 4), 16, {"train": 8, "test": 8})


def bone_marrow(at: Path) -> Expected:
    kept = [name for name in BONE_MARROW_CLASSES if name not in BONE_MARROW_LEFT_OUT]
    for name in BONE_MARROW_CLASSES:
        folder = at / "BM_cytomorphology_data" / name / "0001-1000"
        draw(*(folder / f"{name}_{n:05d}.jpg" for n in range(1, 4)))
    return Expected(dict.fromkeys(kept, 3), 51)


def medmnist(name: str, at: Path) -> Expected:
    """A file of MedMNIST with images of 28 pixels, two of each class in each split."""
    import numpy as np

    known = MEDMNIST_SETS[name]
    rng, several = np.random.default_rng(0), name == "chestmnist"
    rows = 2 * len(known.classes)
    arrays = {}
    for split in ("train", "val", "test"):
        shape = (
            (rows, 28, 28, 3)
            if name in ("pathmnist", "dermamnist", "retinamnist", "bloodmnist")
            else (rows, 28, 28)
        )
        codes = np.arange(rows) // 2
        arrays[f"{split}_images"] = rng.integers(0, 256, shape, np.uint8)
        arrays[f"{split}_labels"] = (
            np.eye(len(known.classes), dtype=np.uint8)[codes] if several else codes[:, None].astype(np.uint8)
        )
    np.savez_compressed(at / f"{name}.npz", **arrays)
    return Expected(dict.fromkeys(known.classes, 6), 3 * rows, dict.fromkeys(("train", "val", "test"), rows))


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
    "SIIM-ISIC 2020": isic_2020,
    "ISIC 2018, task 3": isic_2018,
    "ISIC 2017, part 3": isic_2017,
    "ISIC 2016, part 3": isic_2016,
    "DDI": ddi,
    "BRSET": brset,
    "DDR, grading": ddr,
    "VinDr-Mammo": vindr_mammo,
    "RSNA screening mammography": rsna_mammography,
    "Histopathologic cancer detection (Kaggle)": histopathologic,
    "PatchCamelyon, HDF5 after `gunzip`": patch_camelyon,
    "ISIC 2024 (SLICE-3D), HDF5": isic_2024,
    "MosMedData, CT volumes": mosmed,
    "HAM10000, Hugging Face copy (`marmal88/skin_cancer`)": hub_ham10000,
    "Alzheimer MRI, Hugging Face copy (`Falah/Alzheimer_MRI`)": hub_alzheimer,
    "Bone marrow cytomorphology": bone_marrow,
    **{
        f"{name.removesuffix('mnist').capitalize()}MNIST": partial(medmnist, name)
        for name in (
            "pathmnist",
            "chestmnist",
            "dermamnist",
            "pneumoniamnist",
            "retinamnist",
            "breastmnist",
            "bloodmnist",
            "tissuemnist",
        )
    },
    "OCTMNIST": partial(medmnist, "octmnist"),
    **{f"Organ{plane}MNIST": partial(medmnist, f"organ{plane.lower()}mnist") for plane in "ACS"},
}


def documented() -> dict[str, list[str]]:
    """The words after ``tametail inspect`` in each row of the table."""
    section = (
        DOCS.read_text(encoding="utf-8").partition(SECTION)[2].partition("\n## ")[0]
    )  # and the one after it
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

"""The commands of docs/data.md for public sets, each on a generated imitation of the layout of its folders, and on a zip of it."""

from __future__ import annotations

import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tametail.cli.app import app

DOCS = Path(__file__).parents[3] / "docs" / "data.md"
ROW = re.compile(r"^\| (?P<name>[^|]+) \| `tametail inspect (?P<command>[^`]+)` \|", re.MULTILINE)
IMAGES = 6


@dataclass(frozen=True)
class Layout:
    """Folders with images, other files, and what is to be read from them."""

    folders: tuple[str, ...]
    classes: tuple[str, ...]
    split: str = "none"
    groups: int = 0
    files: tuple[str, ...] = ()
    suffix: str = ".jpg"


def product(root: str, *levels: str) -> tuple[str, ...]:
    """Paths below a root of each combination of one name per level; names are separated by commas or else blanks."""
    paths = [root]
    for level in levels:
        names = level.split(",") if "," in level else level.split()
        paths = [f"{path}/{name}" for path in paths for name in names]
    return tuple(paths)


HYPER_KVASIR = {
    "lower-gi-tract/anatomical-landmarks": "cecum ileum retroflex-rectum",
    "lower-gi-tract/pathological-findings": "hemorrhoids polyps ulcerative-colitis-grade-0-1 ulcerative-colitis-grade-1 "
    "ulcerative-colitis-grade-1-2 ulcerative-colitis-grade-2 ulcerative-colitis-grade-2-3 ulcerative-colitis-grade-3",
    "lower-gi-tract/quality-of-mucosal-views": "bbps-0-1 bbps-2-3 impacted-stool",
    "lower-gi-tract/therapeutic-interventions": "dyed-lifted-polyps dyed-resection-margins",
    "upper-gi-tract/anatomical-landmarks": "pylorus retroflex-stomach z-line",
    "upper-gi-tract/pathological-findings": "barretts barretts-short-segment esophagitis-a esophagitis-b-d",
}
KVASIR = "dyed-lifted-polyps dyed-resection-margins esophagitis normal-cecum normal-pylorus normal-z-line polyps ulcerative-colitis"
TUMOURS = {
    "benign": "adenosis fibroadenoma phyllodes_tumor tubular_adenoma",
    "malignant": "ductal_carcinoma lobular_carcinoma mucinous_carcinoma papillary_carcinoma",
}
SLIDES = tuple(
    f"{side}/SOB/{kind}/SOB_{side[0].upper()}_{place}{letter}-14-2254{number}"
    for side, kinds in TUMOURS.items()
    for place, (kind, letter) in enumerate(zip(kinds.split(), "ABCD", strict=True))
    for number in range(6)
)
BREAKHIS = tuple(
    f"BreaKHis_v1/histology_slides/breast/{slide}/{power}X"
    for slide in SLIDES
    for power in (40, 100, 200, 400)
)
COVID = ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")
TISSUES = "ADI BACK DEB LYM MUC MUS NORM STR TUM"
TEXTURES = "01_TUMOR 02_STROMA 03_COMPLEX 04_LYMPHO 05_DEBRIS 06_MUCOSA 07_ADIPOSE 08_EMPTY"
CELLS = "basophil eosinophil erythroblast ig lymphocyte monocyte neutrophil platelet"
LESIONS = (
    "actinic keratosis,basal cell carcinoma,dermatofibroma,melanoma,nevus,pigmented benign keratosis,seborrheic keratosis,"
    "squamous cell carcinoma,vascular lesion"
)
BRAIN = "glioma meningioma notumor pituitary"
DEMENTIA = "MildDemented ModerateDemented NonDemented VeryMildDemented"
DERMNET = (
    "Acne and Rosacea Photos,Actinic Keratosis Basal Cell Carcinoma and other Malignant Lesions,Atopic Dermatitis Photos,"
    "Bullous Disease Photos,Cellulitis Impetigo and other Bacterial Infections,Eczema Photos,"
    "Exanthems and Drug Eruptions,Hair Loss Photos Alopecia and other Hair Diseases,Herpes HPV and other STDs Photos,"
    "Light Diseases and Disorders of Pigmentation,Lupus and other Connective Tissue diseases,"
    "Melanoma Skin Cancer Nevi and Moles,Nail Fungus and other Nail Disease,"
    "Poison Ivy Photos and other Contact Dermatitis,Psoriasis pictures Lichen Planus and related diseases,"
    "Scabies Lyme Disease and other Infestations and Bites,Seborrheic Keratoses and other Benign Tumors,Systemic Disease,"
    "Tinea Ringworm Candidiasis and other Fungal Infections,Urticaria Hives,Vascular Tumors,Vasculitis Photos,"
    "Warts Molluscum and other Viral Infections"
)
SPLIT = "train val test"
BODY = "XR_ELBOW XR_FINGER XR_FOREARM XR_HAND XR_HUMERUS XR_SHOULDER XR_WRIST"
RETINA = "AMD CNV CSR DME DR DRUSEN MH NORMAL"
EYES = "cataract diabetic_retinopathy glaucoma normal"
LAYOUTS = {
    "HyperKvasir, labelled images": Layout(
        tuple(path for above, names in HYPER_KVASIR.items() for path in product(f"labeled-images/{above}", names)),
        tuple(" ".join(HYPER_KVASIR.values()).split()),
        files=("labeled-images/image-labels.csv",),
    ),
    "Kvasir v2": Layout(product("kvasir-dataset-v2", KVASIR), tuple(KVASIR.split())),
    "Chest X-ray, pneumonia (Kermany), Kaggle copy": Layout(
        (
            *product("chest_xray", SPLIT, "NORMAL PNEUMONIA"),
            *product("chest_xray/chest_xray", SPLIT, "NORMAL PNEUMONIA"),
            *product("chest_xray/__MACOSX/chest_xray", SPLIT, "NORMAL PNEUMONIA"),
        ),
        ("NORMAL", "PNEUMONIA"),
        "folders test/, train/, val/",
        suffix=".jpeg",
    ),
    "OCT2017 (Kermany)": Layout(
        product("OCT2017", SPLIT, "CNV DME DRUSEN NORMAL"), ("CNV", "DME", "DRUSEN", "NORMAL"), "folders test/, train/, val/",
        suffix=".jpeg",
    ),
    "BUSI": Layout(
        product("Dataset_BUSI_with_GT", "benign malignant normal"), ("benign", "malignant", "normal"), suffix=".png",
        files=("Dataset_BUSI_with_GT/benign/benign 1_mask.png", "Dataset_BUSI_with_GT/benign/benign 1_mask_1.png"),
    ),
    "COVID-19 Radiography Database": Layout(
        product("COVID-19_Radiography_Dataset", ",".join(COVID), "images masks"), COVID, suffix=".png",
        files=("COVID-19_Radiography_Dataset/COVID.metadata.xlsx", "COVID-19_Radiography_Dataset/README.md.txt"),
    ),
    "BreaKHis, benign and malignant": Layout(BREAKHIS, tuple(TUMOURS), groups=len(SLIDES), suffix=".png"),
    "BreaKHis, types of tumour": Layout(
        BREAKHIS, tuple(" ".join(TUMOURS.values()).split()), groups=len(SLIDES), suffix=".png"
    ),
    "LC25000": Layout(
        (
            *product("lung_colon_image_set/colon_image_sets", "colon_aca colon_n"),
            *product("lung_colon_image_set/lung_image_sets", "lung_aca lung_n lung_scc"),
        ),
        ("colon_aca", "colon_n", "lung_aca", "lung_n", "lung_scc"),
        suffix=".jpeg",
    ),
    "NCT-CRC-HE-100K": Layout(product("NCT-CRC-HE-100K", TISSUES), tuple(TISSUES.split()), suffix=".tif"),
    "Kather texture 2016": Layout(
        product("Kather_texture_2016_image_tiles_5000", TEXTURES), tuple(TEXTURES.split()), suffix=".tif"
    ),
    "PBC blood cells": Layout(product("PBC_dataset_normal_DIB", CELLS), tuple(CELLS.split())),
    "Breast histopathology (IDC)": Layout(
        product("IDC_regular_ps50_idx5", "8863 8864 8865 8867 8913 8914 8916", "0 1"), ("0", "1"), groups=7, suffix=".png"
    ),
    "C-NMC leukaemia, training data": Layout(
        product("C-NMC_training_data", "fold_0 fold_1 fold_2", "all hem"), ("all", "hem"), suffix=".bmp"
    ),
    "Malaria cells, Kaggle copy": Layout(
        (*product("cell_images", "Parasitized Uninfected"), *product("cell_images/cell_images", "Parasitized Uninfected")),
        ("Parasitized", "Uninfected"),
        suffix=".png",
        files=("cell_images/cell_images/Uninfected/Thumbs.db",),
    ),
    "ISIC skin lesions, nine class folders (Kaggle)": Layout(
        product("Skin cancer ISIC", "Train Test", LESIONS), tuple(LESIONS.split(",")), "folders Test/, Train/"
    ),
    "Brain tumour MRI (Nickparvar)": Layout(
        product("brain-tumor-mri-dataset", "Training Testing", BRAIN), tuple(BRAIN.split()),
        "folders Testing/ as test, Training/ as train",
    ),
    "Alzheimer MRI, four classes (Kaggle)": Layout(
        product("Alzheimer_s Dataset", "train test", DEMENTIA), tuple(DEMENTIA.split()), "folders test/, train/"
    ),
    "DermNet (Kaggle copy)": Layout(
        product("dermnet", "train test", DERMNET), tuple(DERMNET.split(",")), "folders test/, train/"
    ),
    "APTOS 2019, filtered copy (Kaggle)": Layout(
        product("gaussian_filtered_images/gaussian_filtered_images", "Mild Moderate No_DR Proliferate_DR Severe"),
        ("Mild", "Moderate", "No_DR", "Proliferate_DR", "Severe"),
        suffix=".png",
    ),
    "CRC-VAL-HE-7K": Layout(product("CRC-VAL-HE-7K", TISSUES), tuple(TISSUES.split()), suffix=".tif"),
    "MURA, body parts": Layout(
        (
            *product("MURA-v1.1/train", BODY, "patient00001 patient00002 patient00003", "study1_positive study2_negative"),
            *product("MURA-v1.1/valid", BODY, "patient11185 patient11186", "study1_positive"),
        ),
        tuple(BODY.split()),
        "folders train/, valid/",
        groups=5,
        suffix=".png",
        files=("MURA-v1.1/train_image_paths.csv", "MURA-v1.1/train_labeled_studies.csv"),
    ),
    "Tuberculosis chest X-ray database": Layout(
        product("TB_Chest_Radiography_Database", "Normal Tuberculosis"), ("Normal", "Tuberculosis"), suffix=".png",
        files=("TB_Chest_Radiography_Database/Normal.metadata.xlsx", "TB_Chest_Radiography_Database/README.md.txt"),
    ),
    "IQ-OTH/NCCD lung CT": Layout(
        product(
            "The IQ-OTHNCCD lung cancer dataset/The IQ-OTHNCCD lung cancer dataset", "Bengin cases,Malignant cases,Normal cases"
        ),
        ("Bengin cases", "Malignant cases", "Normal cases"),
        files=("The IQ-OTHNCCD lung cancer dataset/The IQ-OTHNCCD lung cancer dataset/IQ-OTH_NCCD lung cancer dataset.txt",),
    ),
    "Retinal OCT C8 (Kaggle)": Layout(
        product("RetinalOCT_Dataset/RetinalOCT_Dataset", SPLIT, RETINA), tuple(RETINA.split()), "folders test/, train/, val/"
    ),
    "Eye diseases (Kaggle)": Layout(product("dataset", EYES), tuple(EYES.split())),
}  # fmt: skip


def commands() -> dict[str, str]:
    """Set → the words after ``tametail inspect``, as documented."""
    section = DOCS.read_text(encoding="utf-8").partition("### Public sets with folder layouts")[2]
    return {row["name"]: row["command"] for row in ROW.finditer(section)}


def write(layout: Layout, root: Path) -> None:
    """Empty files: nothing is decoded."""
    for folder in layout.folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(IMAGES):
            (root / folder / f"{Path(folder).name} {number}{layout.suffix}").touch()
    for file in layout.files:
        (root / file).touch()


def test_every_documented_layout_is_imitated() -> None:
    assert commands().keys() == LAYOUTS.keys()


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("name", LAYOUTS)
def test_the_documented_command_reads_the_layout(
    name: str, zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = LAYOUTS[name]
    write(layout, tmp_path)
    monkeypatch.chdir(tmp_path)
    source, *options = shlex.split(commands()[name])
    if zipped:
        source = shutil.make_archive(source, "zip", source)
    words = ["compare", source, *options, "--dry-run", "--weights", "none", "--folds", "3"]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 0, found.stderr
    facts = dict(line.split(": ", 1) for line in found.stdout.splitlines() if ": " in line)
    assert facts["Class"].endswith(f": {', '.join(sorted(layout.classes))} ({len(layout.classes)} classes)")
    assert facts["Groups"].endswith(f"({layout.groups} groups)" if layout.groups else "as its own patient")
    assert facts["Split"].startswith(layout.split)
    masks = IMAGES * sum(folder.endswith("masks") for folder in layout.folders)
    masks += sum("_mask" in file for file in layout.files)
    assert (f"{masks} masks of other images" in facts["Left out"]) == bool(masks)

"""The 2D sets of MedMNIST v2 and MedMNIST+: names of classes, licences, checksums, and where their files are.

Source of the facts: ``INFO`` of the package medmnist 3.0.2 (https://github.com/MedMNIST/MedMNIST).
"""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from tametail.core.errors import DataError, TametailError
from tametail.data.decoding.cache import cache_dir
from tametail.data.decoding.cache_folder import explained, lock

SOURCE = "https://zenodo.org/records/10519652"
_TIMEOUT = 60  # seconds without a byte
_CHUNK = 1 << 20
SIZES = (28, 64, 128, 224)


@dataclass(frozen=True)
class MedMnistSet:
    """One set.

    Attributes:
        terms: licence.
        classes: names in the order of the labels 0, 1, ...
        md5: checksum of the .npz per size of `SIZES`.
    """

    terms: str
    classes: tuple[str, ...]
    md5: tuple[str, str, str, str]


_ORGANS = (
    "bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right", "liver", "lung-left", "lung-right",
    "pancreas", "spleen",
)  # fmt: skip

MEDMNIST_SETS = {
    "pathmnist": MedMnistSet(
        "CC BY 4.0",
        (
            "adipose",
            "background",
            "debris",
            "lymphocytes",
            "mucus",
            "smooth muscle",
            "normal colon mucosa",
            "cancer-associated stroma",
            "colorectal adenocarcinoma epithelium",
        ),
        (
            "a8b06965200029087d5bd730944a56c1",
            "55aa9c1e0525abe5a6b9d8343a507616",
            "ac42d08fb904d92c244187169d1fd1d9",
            "2c51a510bcdc9cf8ddb2af93af1eadec",
        ),
    ),
    "chestmnist": MedMnistSet(
        "CC BY 4.0",
        (
            "atelectasis",
            "cardiomegaly",
            "effusion",
            "infiltration",
            "mass",
            "nodule",
            "pneumonia",
            "pneumothorax",
            "consolidation",
            "edema",
            "emphysema",
            "fibrosis",
            "pleural",
            "hernia",
        ),
        (
            "02c8a6516a18b556561a56cbdd36c4a8",
            "9de6cd0b934ebb5b7426cfba5efbae16",
            "db107e5590b27930b62dbaf558aebee3",
            "45bd33e6f06c3e8cdb481c74a89152aa",
        ),
    ),
    "dermamnist": MedMnistSet(
        "CC BY-NC 4.0",
        (
            "actinic keratoses and intraepithelial carcinoma",
            "basal cell carcinoma",
            "benign keratosis-like lesions",
            "dermatofibroma",
            "melanoma",
            "melanocytic nevi",
            "vascular lesions",
        ),
        (
            "0744692d530f8e62ec473284d019b0c7",
            "b70a2f5635c6199aeaa28c31d7202e1f",
            "2defd784463fa5243564e855ed717de1",
            "8974907d8e169bef5f5b96bc506ae45d",
        ),
    ),
    "octmnist": MedMnistSet(
        "CC BY 4.0",
        (
            "choroidal neovascularization",
            "diabetic macular edema",
            "drusen",
            "normal",
        ),
        (
            "c68d92d5b585d8d81f7112f81e2d0842",
            "e229e9440236b774d9f0dfef9d07bdaf",
            "0a97e76651ace45c5d943ee3f65b63ae",
            "abc493b6d529d5de7569faaef2773ba3",
        ),
    ),
    "pneumoniamnist": MedMnistSet(
        "CC BY 4.0",
        (
            "normal",
            "pneumonia",
        ),
        (
            "28209eda62fecd6e6a2d98b1501bb15f",
            "8f4eceb4ccffa70c672198ea285246c6",
            "05b46931834c231683c68f40c47b2971",
            "d6a3c71de1b945ea11211b03746c1fe1",
        ),
    ),
    "retinamnist": MedMnistSet(
        "CC BY 4.0",
        (
            "0",
            "1",
            "2",
            "3",
            "4",
        ),
        (
            "bd4c0672f1bba3e3a89f0e4e876791e4",
            "afda852cc34dcda56f86ad2b2457dbcc",
            "e48e916a24454daf90583d4e6efb1a18",
            "eae7e3b6f3fcbda4ae613ebdcbe35348",
        ),
    ),
    "breastmnist": MedMnistSet(
        "CC BY 4.0",
        (
            "malignant",
            "normal, benign",
        ),
        (
            "750601b1f35ba3300ea97c75c52ff8f6",
            "742edef2a1fd1524b2efff4bd7ba9364",
            "363e4b3f8d712e9b5de15470a2aaadf1",
            "b56378a6eefa9fed602bb16d192d4c8b",
        ),
    ),
    "bloodmnist": MedMnistSet(
        "CC BY 4.0",
        (
            "basophil",
            "eosinophil",
            "erythroblast",
            "immature granulocytes(myelocytes, metamyelocytes and promyelocytes)",
            "lymphocyte",
            "monocyte",
            "neutrophil",
            "platelet",
        ),
        (
            "7053d0359d879ad8a5505303e11de1dc",
            "2b94928a2ae4916078ca51e05b6b800b",
            "adace1e0ed228fccda1f39692059dd4c",
            "b718ff6835fcbdb22ba9eacccd7b2601",
        ),
    ),
    "tissuemnist": MedMnistSet(
        "CC BY 4.0",
        (
            "Collecting Duct, Connecting Tubule",
            "Distal Convoluted Tubule",
            "Glomerular endothelial cells",
            "Interstitial endothelial cells",
            "Leukocytes",
            "Podocytes",
            "Proximal Tubule Segments",
            "Thick Ascending Limb",
        ),
        (
            "ebe78ee8b05294063de985d821c1c34b",
            "123ece2eba09d0aa5d698fda57103344",
            "61b955355d7425a89687b06cca3ce0c2",
            "b077128c4a949f0a4eb01517f9037b9c",
        ),
    ),
    "organamnist": MedMnistSet(
        "CC BY 4.0",
        _ORGANS,
        (
            "68e3f8846a6bd62f0c9bf841c0d9eacc",
            "2dcccc29b88e6da5a01161ef20cda288",
            "eeae80d0a227a8d099027e1b3cfd3b60",
            "50747347e05c87dd3aaf92c49f9f3170",
        ),
    ),
    "organcmnist": MedMnistSet(
        "CC BY 4.0",
        _ORGANS,
        (
            "b9ceb9546e10131b32923c5bbeaea2b1",
            "3ce34a8724ea6f548e6db4744d03b6a9",
            "773c1f009daa3fe5d9a2a201b2a7ed94",
            "050f5e875dc056f6768abf94ec9995d1",
        ),
    ),
    "organsmnist": MedMnistSet(
        "CC BY 4.0",
        _ORGANS,
        (
            "9ab87b696fb54e2a387ebe992d6ed5f1",
            "53a6d115339d874c25e309a994ff46d3",
            "ded0c5fa01a95dc4978b956f613e9b8e",
            "b354719e553fbbb2513d5533f52a4cb1",
        ),
    ),
}

MEDMNIST_NAMES = tuple(
    f"{flag}{suffix}" for flag in MEDMNIST_SETS for suffix in ("", *(f"_{size}" for size in SIZES[1:]))
)
"""All sets, the size appended where it is not 28: ``dermamnist``, ``dermamnist_64``, ..."""


def medmnist_file(name: str, root: Path | None, *, download: bool) -> Path:
    """Find the .npz of a set: in ``root``, else in the cache folder, else by a download to it.

    Args:
        name: one of `MEDMNIST_NAMES`.
        root: folder of the file, or the file itself.
        download: download it from Zenodo and verify its checksum.

    Raises:
        DataError: the file is missing, or the download has another checksum.
        TametailError: the download failed.
    """
    if root is not None:
        file = root if root.is_file() else root / f"{name}.npz"
        if not file.is_file():
            raise DataError(f"expected {name}.npz in {root}, but it is not there; {_how_to_get(name)}")
        return file
    file = cache_dir() / "medmnist" / f"{name}.npz"
    if not file.is_file():
        if not download:
            raise DataError(f"{name} is not on this machine; {_how_to_get(name)}")
        with explained(file.parent), lock(file.parent, file.name):
            if not file.is_file():  # another process may have downloaded it meanwhile
                _download(name, file)
    return file


def terms_of(name: str) -> str:
    """Licence of a set, by its name."""
    return MEDMNIST_SETS[name.partition("_")[0]].terms


def _how_to_get(name: str) -> str:
    return (
        f"--download fetches it from {_url(name)} (terms: {terms_of(name)}), or fetch it yourself and name its "
        f"folder with --root"
    )


def _url(name: str) -> str:
    return f"{SOURCE}/files/{name}.npz?download=1"


def md5_of(name: str) -> str:
    """Checksum of the file of a set, by its name."""
    flag, _, size = name.partition("_")
    return MEDMNIST_SETS[flag].md5[SIZES.index(int(size or SIZES[0]))]


def _download(name: str, file: Path) -> None:
    """Download and verify; the caller holds the lock of the file, so that its temporary name is free."""
    logging.getLogger(__name__).info("fetching %s (terms: %s)", _url(name), terms_of(name))
    unfinished = file.with_name(f"{file.name}.part")
    try:
        found = _fetch(_url(name), unfinished)
        if found != md5_of(name):
            raise DataError(
                f"the download from {_url(name)} has the MD5 {found}, not {md5_of(name)}; it was thrown away; try again, "
                f"and if this persists, check for a proxy that changes downloads"
            )
        os.replace(unfinished, file)
    finally:
        unfinished.unlink(missing_ok=True)


def _fetch(url: str, path: Path) -> str:
    """Write the content of ``url`` to a file; returns its MD5, the checksum that the authors publish."""
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "wb") as file:
        try:
            request = urllib.request.Request(url, headers={"User-Agent": "tametail"})
            with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
                while chunk := answer.read(_CHUNK):
                    digest.update(chunk)
                    file.write(chunk)
        except (OSError, http.client.HTTPException) as error:
            raise TametailError(
                f"{url} could not be fetched ({error}); try again, or fetch it elsewhere and name its folder with --root"
            ) from error
    return digest.hexdigest()

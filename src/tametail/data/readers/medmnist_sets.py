"""The 2D sets of MedMNIST v2 and MedMNIST+: names of classes, licences, checksums, and where their files are.

The facts are in medmnist_sets.json, from ``INFO`` of the package medmnist 3.0.2 (https://github.com/MedMNIST/MedMNIST).
"""

from __future__ import annotations

import hashlib
import http.client
import json
import logging
import os
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from tametail.core.errors import DataError, TametailError
from tametail.data.decoding.cache import cache_dir
from tametail.data.decoding.cache_folder import cache_lock, explain_cache_error

MEDMNIST_SOURCE = "https://zenodo.org/records/10519652"
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
    md5: tuple[str, ...]


def _read_sets() -> dict[str, MedMnistSet]:
    facts = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
    return {
        name: MedMnistSet(of_set["terms"], tuple(of_set["classes"]), tuple(of_set["md5"]))
        for name, of_set in facts.items()
    }


MEDMNIST_SETS = _read_sets()
"""Name → set."""
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
        with explain_cache_error(file.parent), cache_lock(file.parent, file.name):
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
    return f"{MEDMNIST_SOURCE}/files/{name}.npz?download=1"


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

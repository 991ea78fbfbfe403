"""Where the file of a MedMNIST set is on this machine, or how it gets there."""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import urllib.request
from pathlib import Path

from tametail.core.errors import DataError, TametailError
from tametail.data.decoding.cache import cache_dir
from tametail.data.decoding.cache_folder import explained, lock
from tametail.data.readers.medmnist_facts import MEDMNIST_SETS, SIZES

SOURCE = "https://zenodo.org/records/10519652"
NAMES = tuple(
    f"{flag}{suffix}" for flag in MEDMNIST_SETS for suffix in ("", *(f"_{size}" for size in SIZES[1:]))
)
_TIMEOUT = 60  # seconds without a byte
_CHUNK = 1 << 20


def medmnist_file(name: str, root: Path | None, *, download: bool) -> Path:
    """The .npz of a set: below ``root``, else in the cache folder, else downloaded to it.

    Args:
        name: one of `NAMES`.
        root: folder that holds the file, or the file itself.
        download: fetch it from Zenodo; the checksum is compared before the file counts.

    Raises:
        DataError: it is not there, or what came has another checksum.
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
            if not file.is_file():  # another process may have brought it meanwhile
                _download(name, file)
    return file


def terms_of(name: str) -> str:
    """Licence of a set."""
    return MEDMNIST_SETS[name.partition("_")[0]].terms


def _how_to_get(name: str) -> str:
    return (
        f"--download fetches it from {_url(name)} (terms: {terms_of(name)}), or fetch it yourself and name its "
        f"folder with --root"
    )


def _url(name: str) -> str:
    return f"{SOURCE}/files/{name}.npz?download=1"


def _md5(name: str) -> str:
    flag, _, size = name.partition("_")
    return MEDMNIST_SETS[flag].md5[SIZES.index(int(size or SIZES[0]))]


def _download(name: str, file: Path) -> None:
    """Runs under the lock of the file, so that its temporary name is free."""
    logging.getLogger(__name__).info("fetching %s (terms: %s)", _url(name), terms_of(name))
    unfinished = file.with_name(f"{file.name}.part")
    try:
        found = _fetch(_url(name), unfinished)
        if found != _md5(name):
            raise DataError(
                f"what came from {_url(name)} has the MD5 {found}, not {_md5(name)}; it was thrown away; try again, "
                f"and if it stays so, a proxy may stand between"
            )
        os.replace(unfinished, file)
    finally:
        unfinished.unlink(missing_ok=True)


def _fetch(url: str, path: Path) -> str:
    """Write what is at ``url``; its MD5 (as a checksum: it is the one that the authors publish)."""
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

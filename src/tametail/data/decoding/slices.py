"""Slices of volumes: NIfTI files and DICOM files of several frames → images in the cache, by one rule.

The same rule gives the same pixels wherever it is applied: when a study is made, and when its models predict new volumes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tametail.core.atomic import atomic_directory, atomic_path
from tametail.core.errors import DataError, UsageError
from tametail.core.regular_file import regular
from tametail.data.decoding.cache import content_digests
from tametail.data.decoding.cache_folder import cache_dir, cache_lock, explain_cache_error, make_room
from tametail.data.decoding.nifti import NIFTI_SUFFIXES, NiftiHeader, nifti_slices, read_nifti_header
from tametail.data.decoding.png import save_png

VERSION = 1  # increase it whenever slices get other pixels
_RULE = re.compile(r"every:([1-9]\d{0,3})")
_MOST_FRAMES = 10_000
_ADVICE = "Free some disk space, raise TAMETAIL_CACHE_GB, name a folder on another disk by TAMETAIL_CACHE, or take fewer slices with --slices"


def check_rule(rule: str) -> str:
    """Return a rule of ``--slices``: middle, all, or every:N.

    Raises:
        UsageError: it is another.
    """
    if rule not in ("middle", "all") and not _RULE.fullmatch(rule):
        raise UsageError(f"expected --slices middle, all or every:N with N from 1 to 9999, got {rule!r}")
    return rule


def chosen_slices(count: int, rule: str) -> list[int]:
    """The numbers, from 0, of the slices that a rule takes of a volume: with every:N those in the middle of N, at least one."""
    if rule == "middle":
        return [count // 2]
    step = 1 if rule == "all" else int(rule.partition(":")[2])
    return list(range(min(step // 2, max(count - 1, 0)), count, step))


def is_nifti(name: str) -> bool:
    """Whether a file is a NIfTI volume by its name."""
    return name.lower().endswith(NIFTI_SUFFIXES)


def is_volume(path: Path) -> bool:
    """Whether a file is a NIfTI volume by its name, or a DICOM file of several frames.

    Raises:
        DataError: see `frames_of`.
    """
    from tametail.data.decoding.decode import is_dicom

    if is_nifti(path.name):
        return True
    with open(regular(path), "rb") as file:
        return is_dicom(file.read(132)) and frames_of(path) > 1


@dataclass(frozen=True)
class _Plan:
    """What is stored of a file: slices, or the file as it is."""

    image: str
    count: int
    numbers: tuple[int, ...]
    header: NiftiHeader | None  # of NIfTI

    @property
    def stored(self) -> list[str]:
        """The ids of its images."""
        if not self.numbers:
            return [self.image]
        return [
            f"{self.image}/slice_{number + 1:0{max(len(str(self.count)), 3)}d}.png" for number in self.numbers
        ]


def stored_slices(
    root: Path, images: Sequence[str], rule: str
) -> tuple[Path, list[list[str]], tuple[int, int]]:
    """Write the chosen slices of volumes to the cache, unless they are there.

    DICOM files of one frame are copied, as they are.

    Args:
        root: folder that the N ``images``, NIfTI and DICOM files, are relative to.
        rule: see `chosen_slices`.

    Returns:
        The folder of the slices, N lists of their ids relative to it (``scan.nii.gz/slice_021.png``), and the fewest and most
        slices of a volume.

    Raises:
        DataError: a file is damaged, or larger than is read.
        TametailError: the cache folder cannot be written or is full.
    """
    plans = [_planned(root, image, rule) for image in images]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = content_digests(root, images, pool, cache_dir() / "digests.sqlite")
    described = json.dumps([VERSION, rule, list(zip(images, digests, strict=True))])
    place = cache_dir() / "slices" / hashlib.sha256(described.encode()).hexdigest()[:32]
    with explain_cache_error(place), cache_lock(place.parent, place.name):
        missing = [plan for plan in plans if not all((place / each).is_file() for each in plan.stored)]
        if missing:
            make_room(sum(map(_size, missing)), advice=_ADVICE)
        for plan in missing:
            _store(root, plan, place)
    counts = [plan.count for plan in plans]
    return place, [plan.stored for plan in plans], (min(counts, default=0), max(counts, default=0))


def frames_of(path: Path) -> int:
    """Number of frames that a DICOM file declares, at least 1.

    Raises:
        DataError: pydicom is absent, or the number is above any that is read.
    """
    from tametail.data.decoding.dicom import read_header

    header = read_header(path, ("NumberOfFrames",))
    try:
        frames = int(header.get("NumberOfFrames") or 1) if header is not None else 1
    except Exception:  # noqa: BLE001 - values are parsed on access
        frames = 1
    if frames > _MOST_FRAMES:
        raise DataError(
            f"expected at most {_MOST_FRAMES:,} frames in {path}, found {frames:,} by its header; save fewer in a file"
        )
    return max(frames, 1)


def _planned(root: Path, image: str, rule: str) -> _Plan:
    if is_nifti(image):
        header = read_nifti_header(root / image)
        return _Plan(image, header.slices, tuple(chosen_slices(header.slices, rule)), header)
    frames = frames_of(root / image)
    return _Plan(image, frames, tuple(chosen_slices(frames, rule)) if frames > 1 else (), None)


def _size(plan: _Plan) -> int:
    """Bytes that its slices take at most; for DICOM those of usual ones."""
    return len(plan.numbers) * plan.header.slice_pixels if plan.header else (len(plan.numbers) or 1) * 2**20


def _store(root: Path, plan: _Plan, place: Path) -> None:
    path, target = root / plan.image, place / plan.image
    target.parent.mkdir(parents=True, exist_ok=True)
    if not plan.numbers:
        with atomic_path(target) as temporary:
            shutil.copyfile(path, temporary)
        return
    with atomic_directory(target) as unfinished:
        names = [each.rpartition("/")[2] for each in plan.stored]
        if plan.header is not None:
            for name, pixels in zip(names, nifti_slices(path, plan.header, plan.numbers), strict=True):
                save_png(pixels, unfinished / name)
            return
        from tametail.data.decoding.decode import MAX_PIXELS, without_warnings
        from tametail.data.decoding.dicom import read_dicom

        for name, number in zip(names, plan.numbers, strict=True):
            try:
                with without_warnings():
                    shown = read_dicom(path, MAX_PIXELS, frame=number)
            except DataError as error:
                raise DataError(
                    f"frame {number + 1} of {path} cannot be read: {error}; take the file away"
                ) from error
            save_png(np.rint(np.clip(shown, 0, 255)).astype(np.uint8), unfinished / name)

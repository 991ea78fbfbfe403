"""Slices of volumes as the images of a table, each volume one group."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from tametail.core.errors import DataError
from tametail.core.text import counted, sample_of
from tametail.data.decoding.decode import is_dicom
from tametail.data.decoding.nifti import PERCENTILES
from tametail.data.decoding.slices import chosen_slices, is_nifti, stored_slices
from tametail.data.readers.dicom_headers import read_headers
from tametail.data.readers.image_entries import first_bytes
from tametail.data.reading import NO_GROUPS
from tametail.data.table import ImageTable

SERIES = "SeriesInstanceUID"
_POSITION_TAGS = (SERIES, "NumberOfFrames", "InstanceNumber", "ImagePositionPatient", "ImageOrientationPatient")  # fmt: skip
_VOLUME_MODALITIES = {"CT", "MR", "PT", "NM"}
_NUMBER = re.compile(r"-?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?")
_OF_VOLUME = "the volume that a slice is of"
_OWN = re.compile(r"file_\d+")  # the group of a DICOM file that names no patient


def with_slices(table: ImageTable, rule: str) -> ImageTable:
    """The slices that a rule takes of the volumes of a table; other tables with a note that there are none.

    Volumes are NIfTI files, DICOM files of several frames, and DICOM files of one series in one folder. Slices have the label
    and split of their file, and its group if it is that of the whole volume, or else the volume.

    Args:
        table: whose images are files.
        rule: see `chosen_slices`.

    Raises:
        DataError: there are other images beside volumes, or a volume is damaged.
    """
    images = table.frame["image"].tolist()
    volumes = [image for image in images if is_nifti(image)]
    others = [image for image in images if not is_nifti(image)]
    scans = [image for image in others if is_dicom(first_bytes(table.root / image))]
    if (volumes or scans) and len(volumes) != len(images) and len(scans) != len(images):
        rest = [image for image in images if image not in {*volumes, *scans}] or volumes
        raise DataError(
            f"expected either NIfTI volumes or DICOM files alone with --slices, found {counted(len(rest), 'other image')} beside them "
            f"({sample_of(rest)}); read each kind by itself"
        )
    if volumes:
        return _of_files(table, images, rule)
    if scans:
        return _of_dicom(table, images, rule)
    return _noted(table, f"--slices {rule}: no image is a volume")


def _noted(table: ImageTable, *notes: str) -> ImageTable:
    reading = table.reading and replace(table.reading, notes=(*table.reading.notes, *notes))
    return replace(table, reading=reading)


def _of_files(table: ImageTable, images: Sequence[str], rule: str) -> ImageTable:
    """The slices of files of a volume each."""
    root, stored, (fewest, most) = stored_slices(table.root, images, rule)
    places = dict(zip(images, stored, strict=True))
    frame = table.frame[table.frame["image"].isin(places)]
    rows = np.repeat(np.arange(len(frame)), [len(places[image]) for image in frame["image"]])
    expanded = frame.iloc[rows].reset_index(drop=True)
    files = expanded["image"].tolist()
    expanded["image"] = [each for image in frame["image"] for each in places[image]]
    files_of = Counter(frame["group"])  # a group of several files is of a table
    expanded["group"] = [
        image if _OWN.fullmatch(group) and files_of[group] == 1 else group
        for image, group in zip(files, expanded["group"], strict=True)
    ]
    grey = (
        f"; axial, grey from percentile {PERCENTILES[0]:g} to {PERCENTILES[1]:g} of each volume"
        if is_nifti(images[0])
        else ""
    )
    span = f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"
    note = f"--slices {rule}: {counted(len(expanded), 'slice')} of {counted(len(places), 'volume')} of {span} slices{grey}"
    return _sorted(replace(table, root=root), expanded, rule, note)


def _sorted(table: ImageTable, frame: object, rule: str, note: str) -> ImageTable:
    import pandas as pd

    assert isinstance(frame, pd.DataFrame)
    ordered = frame.sort_values("image", ignore_index=True).astype({"image": "str", "group": "str"})
    reading = table.reading
    if reading is not None and reading.groups == NO_GROUPS:
        reading = replace(reading, groups=_OF_VOLUME)
    return _noted(replace(table, frame=ordered, reading=reading, slices=rule), note)


def _of_dicom(table: ImageTable, images: Sequence[str], rule: str) -> ImageTable:
    headers = list(read_headers([table.root / image for image in images], _POSITION_TAGS))
    by_image = dict(zip(images, headers, strict=True))
    series = group_series(images, [header[SERIES] for header in headers])
    kept: list[str] = []
    counts: list[int] = []
    owner: dict[str, str] = {}
    groups = dict(zip(table.frame["image"], table.frame["group"], strict=True))
    several_frames = {image for image in images if _frames(by_image[image]) > 1}
    for members in series:
        name = PurePosixPath(members[0]).parent.as_posix() if len(members) > 1 else members[0]
        single = [image for image in members if image not in several_frames]
        ordered = sorted(single, key=lambda image: (*_position(by_image[image]), image))
        chosen = [ordered[number] for number in chosen_slices(len(ordered), rule)] if ordered else []
        kept += [*chosen, *(image for image in members if image in several_frames)]
        counts += [len(ordered)] if ordered else []
        if len({groups[image] for image in members}) > 1:
            owner |= dict.fromkeys(members, f"{name} ({members[0]})" if name == "." else name)
    frame = table.frame[table.frame["image"].isin(kept)].reset_index(drop=True)
    frame["group"] = [
        owner.get(image, group) for image, group in zip(frame["image"], frame["group"], strict=True)
    ]
    if several_frames:
        return _of_files(replace(table, frame=frame), frame["image"].tolist(), rule)
    span = f"{min(counts):,}" if min(counts) == max(counts) else f"{min(counts):,} to {max(counts):,}"
    note = f"--slices {rule}: {counted(len(kept), 'slice')} of {counted(len(counts), 'series', 'series')} of {span} files"
    return _sorted(table, frame, rule, note)


def group_series(images: Sequence[str], uids: Sequence[str]) -> list[list[str]]:
    """The files of each series in a folder; those that name none by themselves."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for image, uid in zip(images, uids, strict=True):
        found[(PurePosixPath(image).parent.as_posix(), uid or image)].append(image)
    return list(found.values())


def refuse_series(root: Path, images: Sequence[str], headers: Sequence[Mapping[str, str]]) -> None:
    """Refuse volumes of which no slices were chosen.

    Args:
        headers: of the images, with the attributes `SERIES` and Modality.

    Raises:
        DataError: files of one folder are of one series of CT, MR, PET or nuclear medicine.
    """
    flat = [header[SERIES] if header["Modality"].upper() in _VOLUME_MODALITIES else "" for header in headers]
    several = [members for members in group_series(images, flat) if len(members) > 1]
    if several:
        raise DataError(
            f"expected single images in {root}, found {counted(len(several), 'volume')} of up to {max(map(len, several)):,} slices: files of "
            f"one series, such as those in {PurePosixPath(several[0][0]).parent.as_posix()}/; choose slices with --slices middle, all or every:N"
        )


def _frames(header: Mapping[str, str]) -> int:
    text = header["NumberOfFrames"]
    return int(text) if text.isdecimal() and len(text) <= 12 else 1


def _position(header: Mapping[str, str]) -> tuple[float, float]:
    """Place of a slice along the normal of its plane, then its number in the series; 0 where they are not given."""
    at, axes = ([float(text) for text in _NUMBER.findall(header[tag])] for tag in _POSITION_TAGS[-2:])
    number = float(header["InstanceNumber"]) if header["InstanceNumber"].lstrip("-").isdecimal() else 0.0
    if len(at) != 3 or len(axes) != 6 or not all(map(math.isfinite, (*at, *axes))):
        return 0.0, number
    return round(float(np.dot(np.cross(axes[:3], axes[3:]), at)), 3), number

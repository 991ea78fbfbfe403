"""Files that belong to an image but are none to classify: masks, segmentations and heatmaps beside it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from tametail.core.errors import DataError
from tametail.core.text import sample_of

_WORDS = (
    r"masks?|segmentations?|segs?|heat[ _-]?maps?|super[ _-]?pixels?|ground[ _-]?truths?|gt|attribute_\w+"
)
_SUFFIX = re.compile(rf"(.+?)[ _.-]+(?:{_WORDS})(?:[ _-]?\d+)?", re.IGNORECASE)
_FOLDER = re.compile(rf"(?:\w*[ _-])?(?:{_WORDS}|annotations?)", re.IGNORECASE)
_IMAGES = re.compile(r"(?:\w*[ _-])?(?:images?|imgs?|originals?|scans?|pictures?|photos?)", re.IGNORECASE)
_SAME = 0.5  # least fraction of a folder's files that are named like the images of a neighbour


def find_companions(images: Sequence[Path]) -> set[Path]:
    """The masks among image files (paths relative to one folder).

    A mask is named like an image of its folder with a suffix (``12_mask.png`` next to ``12.png``), or lies in a folder
    named like ``masks`` next to one named like ``images``, or named after a neighbour (``benign_masks``) or with other
    folders inside, if the files of the neighbours have the same names.

    Raises:
        DataError: a file is named like a mask, but its image is absent; or a folder may be one of masks or a class, as equal
            names prove nothing where files are numbered anew in each folder.
    """
    stems: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for file in images:
        stems[file.parts[:-1]].add(file.stem)
    masked = {folder for folder in stems if _is_of_masks(folder, stems)}
    found, orphans = set(), []
    for file in images:
        folder = file.parts[:-1]
        named = None if folder in masked else _SUFFIX.fullmatch(file.stem)
        if folder in masked or (named and named[1] in stems[folder]):
            found.add(file)
        elif named:
            orphans.append(file.as_posix())
    if orphans:
        raise DataError(
            f"{len(orphans)} files are named like the mask of an image, but the image is not beside them "
            f"({sample_of(orphans)}); remove them, or read them as images with --keep-masks"
        )
    return found


def _is_of_masks(folder: tuple[str, ...], stems: dict[tuple[str, ...], set[str]]) -> bool:
    for level, name in enumerate(folder):
        if not _FOLDER.fullmatch(name):
            continue
        neighbours = [
            other
            for other in stems
            if len(other) > level and other[:level] == folder[:level] and not _FOLDER.fullmatch(other[level])
        ]
        if any(_IMAGES.fullmatch(other[level]) for other in neighbours):
            return True
        known = {stem for other in neighbours for stem in stems[other]}
        same = sum(stem in known or _base(stem) in known for stem in stems[folder])
        if neighbours and same >= _SAME * len(stems[folder]):
            if len(folder) == level + 1 and not any(
                _is_named_after(name, other[level]) for other in neighbours
            ):
                raise DataError(
                    f"expected masks beside a folder named images, but the folder {'/'.join(folder)}/ is beside "
                    f"{sample_of(sorted({other[level] + '/' for other in neighbours}))} and may be a class; read it as one with "
                    f"--keep-masks, or take it out"
                )
            return True
    return False


def _is_named_after(name: str, neighbour: str) -> bool:
    return re.match(rf"{re.escape(neighbour)}[ _-]", name, re.IGNORECASE) is not None


def _base(stem: str) -> str:
    named = _SUFFIX.fullmatch(stem)
    return named[1] if named else stem

"""Groups from the paths of images: from a folder, by a regular expression, or by a published scheme of file names."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from tametail.core.errors import DataError, UsageError
from tametail.core.registry import nearest
from tametail.core.text import sample_of

_USE = "--group-from folder, folder:LEVEL, name:REGEX or known:NAME"


@dataclass(frozen=True)
class KnownScheme:
    """A published scheme of file names.

    Attributes:
        example: path of an image.
        owner: matches somewhere in a path; its first group is the patient, or what else the images belong to.
    """

    example: str
    owner: re.Pattern[str]

    def owner_of(self, image: str) -> str | None:
        """The patient of an image, by its POSIX path; None if the path is of another scheme."""
        found = self.owner.search(image)
        return found[1] if found else None


def _scheme(example: str, pattern: str) -> KnownScheme:
    return KnownScheme(example, re.compile(pattern))


KNOWN_SCHEMES = {
    "breakhis": _scheme(
        "SOB_M_DC-14-2523-40-010.png", r"(?:^|/)SOB_[BM]_[A-Z]+-(\d+-\d+[A-Z]*)-\d+-\d+\.\w+$"
    ),
    "chexpert": _scheme("patient00001/study1/view1_frontal.jpg", r"(?:^|/)(patient\d+)/study\d+/[^/]+$"),
    "ddsm": _scheme("P_00001_LEFT_CC.png", r"(?:^|/|_)(P_\d{5})_(?:LEFT|RIGHT)_(?:CC|MLO)"),
    "eyepacs": _scheme("10_left.jpeg", r"(?:^|/)(\d+)_(?:left|right)\.\w+$"),
    "kermany_oct": _scheme("CNV-1016042-1.jpeg", r"(?:^|/)(?:CNV|DME|DRUSEN|NORMAL)-(\d+)-\d+\.\w+$"),
    "kermany_xray": _scheme(
        "person1_bacteria_1.jpeg", r"(?:^|/)(person\d+(?=_)|(?:NORMAL2-)?IM-\d+(?=-))[^/]*\.\w+$"
    ),
    "mimic_cxr": _scheme("p10/p10000032/s50414267/02aa804e.jpg", r"(?:^|/)(p\d{8})/s\d{8}/[^/]+$"),
    "nih_chest": _scheme("00000001_000.png", r"(?:^|/)(\d{8})_\d{3}\.\w+$"),
    "tcga": _scheme("TCGA-02-0001-01Z-00-DX1.png", r"(?:^|/)(TCGA-\w{2}-\w{4})[-.][^/]*$"),
}
"""Name → scheme."""


def known_scheme(images: Sequence[str], share: float = 0.9) -> str | None:
    """The name of the known scheme that at least this share of the paths follow; None if there is none."""
    for name, scheme in KNOWN_SCHEMES.items():
        if images and sum(scheme.owner_of(image) is not None for image in images) >= share * len(images):
            return name
    return None


def groups_from(images: Sequence[str], rule: str) -> tuple[list[str], str]:
    """Take groups from paths.

    Args:
        images: N POSIX paths relative to the folder of the data set.
        rule: ``folder``, the name of the folder that holds the image; ``folder:LEVEL``, that of the folder at a level
            counted from the top (1, 2, ...) or from the image (-1, -2, ...); ``name:REGEX``, a regular expression that is
            searched in the file name and whose groups, or else whole match, are the group; ``known:NAME``, a key of
            `KNOWN_SCHEMES`.

    Returns:
        N groups, and where they are from, in words.

    Raises:
        UsageError: another rule, or an invalid expression.
        DataError: an image has no such folder, or its name is of another form.
    """
    kind, _, value = rule.partition(":")
    if kind == "folder":
        level = _level(value, rule)
        words = f"folder level {level}" if level > 0 else f"folder level {-level} above the image"
        return _all_matched(images, lambda image: _folder(image, level), rule), words
    if kind == "name" and value:
        try:
            expression = re.compile(value)
        except re.error as error:
            raise UsageError(f"expected a regular expression in --group-from {rule}, but {error}") from error
        return _all_matched(images, lambda image: _in_name(image, expression), rule), f"file name by {value}"
    if kind == "known" and value:
        if value not in KNOWN_SCHEMES:
            listed = ", ".join(f"{name} ({scheme.example})" for name, scheme in KNOWN_SCHEMES.items())
            raise UsageError(
                f"expected a known scheme of file names in --group-from {rule}; {nearest(value, KNOWN_SCHEMES)}. "
                f"Known: {listed}"
            )
        return _all_matched(images, KNOWN_SCHEMES[value].owner_of, rule), f"file name, as of {value}"
    raise UsageError(f"expected {_USE}, got {rule!r}")


def _level(value: str, rule: str) -> int:
    if re.fullmatch(r"-?[1-9]\d?", value or "-1"):
        return int(value or "-1")
    raise UsageError(
        f"expected a level in --group-from {rule}: 1, 2, ... from the top, or -1, -2, ... from the image"
    )


def _folder(image: str, level: int) -> str | None:
    folders = PurePosixPath(image).parts[:-1]
    index = level - 1 if level > 0 else level
    return folders[index] if -len(folders) <= index < len(folders) else None


def _in_name(image: str, expression: re.Pattern[str]) -> str | None:
    found = expression.search(PurePosixPath(image).name)
    if found is None:
        return None
    return "_".join(filter(None, found.groups())) if found.groups() else found[0]


def _all_matched(images: Sequence[str], owner_of: Callable[[str], str | None], rule: str) -> list[str]:
    groups = [owner_of(image) for image in images]
    lost = [image for image, group in zip(images, groups, strict=True) if not group]
    if lost:
        raise DataError(
            f"expected a group for every image by --group-from {rule}, but {len(lost)} of {len(images)} images have none "
            f"({sample_of(lost)}); give another rule, or name a column with --group-col"
        )
    return [group for group in groups if group]

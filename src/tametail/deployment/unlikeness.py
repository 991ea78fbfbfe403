"""What predictions say of images that are unlike the training images, see `tametail.evaluation.unlikeness`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tametail.core.arrays import FloatArray
from tametail.core.console import Console
from tametail.core.text import counted
from tametail.data.table import LABEL_SEPARATOR
from tametail.deployment.quality import QUALITY
from tametail.evaluation.unlikeness import FALSE_ALARMS

if TYPE_CHECKING:
    import pandas as pd

UNLIKENESS, UNLIKE = "unlikeness", "unlike_training"
UNLIKE_IMAGES = "unlike_images"  # of a group
COLUMNS = (UNLIKENESS, UNLIKE, QUALITY)
GROUP_COLUMNS = (UNLIKENESS, UNLIKE, UNLIKE_IMAGES, QUALITY)


@dataclass(frozen=True)
class Likeness:
    """By what a model says whether an image is like its training images.

    Attributes:
        images, groups: of the training set, by whose scores the threshold was chosen.
        grey: share of the training images that are grey; None if it is not known.
        reason: why no score can be given, and what to do; empty if one can.
    """

    images: int = 0
    groups: int = 0
    grey: float | None = None
    reason: str = ""


UNKNOWN = Likeness(reason="the model does not say by what to recognise them")


def columns_of(unlikeness: FloatArray, likeness: Likeness) -> list[dict[str, object]]:
    """The columns of N images with these scores (N,), of which 1 is the threshold; none where no score can be given."""
    if likeness.reason:
        return [{} for _ in unlikeness]
    return [{UNLIKENESS: score, UNLIKE: int(not score <= 1)} for score in unlikeness.tolist()]


def of_group(images: pd.DataFrame) -> dict[str, object]:
    """The columns of a group, from those of its images: it is as unlike as the most unlike one, and has the flags of all."""
    flags = {flag for each in images[QUALITY] for flag in _flags(each)}
    found: dict[str, object] = {QUALITY: LABEL_SEPARATOR.join(sorted(flags))}
    if images[UNLIKE].notna().all():
        found[UNLIKENESS] = float(images[UNLIKENESS].max())
        found[UNLIKE] = int(images[UNLIKE].max())
        found[UNLIKE_IMAGES] = int(images[UNLIKE].sum())
    return found


def say_unlike(table: pd.DataFrame, likeness: Likeness, console: Console) -> None:
    """Say how many images, or groups, are unlike the training images or of poor quality."""
    read = table[table["error"] == ""]
    grouped = UNLIKE_IMAGES in table
    row = "group" if grouped else "image"
    rate = (
        f"False-alarm rate: {100 * FALSE_ALARMS:.3g} % of new images like the training images (threshold from "
        f"{counted(likeness.images, 'image')} of {counted(likeness.groups, 'group')}, each scored by a fit of other groups)"
    )
    if likeness.reason:
        console.say(f"Whether images are unlike the training images is not known: {likeness.reason}")
    elif unlike := int(read[UNLIKE].sum()):
        images = f" ({counted(int(read[UNLIKE_IMAGES].sum()), 'image')})" if grouped else ""
        one = unlike == 1
        console.warn(
            f"{unlike} of {counted(len(read), row)}{images} {'is' if one else 'are'} unlike the training images: the model has seen "
            f"nothing like {'it' if one else 'them'}; do not use {'its prediction' if one else 'their predictions'}, see columns "
            f"{UNLIKENESS} and {UNLIKE}. {rate}"
        )
    elif len(read):
        console.say(f"No {row} is unlike the training images. {rate}")
    flags = Counter(flag for each in read[QUALITY] for flag in _flags(each))
    if flags:
        named = "; ".join(f"{count} {flag}" for flag, count in sorted(flags.items()))
        console.warn(f"of {counted(len(read), row)}, check these (column {QUALITY}): {named}")


def _flags(quality: str) -> Sequence[str]:
    return [flag for flag in quality.split(LABEL_SEPARATOR) if flag]

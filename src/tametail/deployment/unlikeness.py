"""How unlike the training images of a study new images are, see `tametail.evaluation.unlikeness`.

Shape legend: N images, D features.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

from tametail.core.arrays import FloatArray
from tametail.core.console import Console
from tametail.core.run_files import UNLIKENESS
from tametail.core.text import counted
from tametail.data.table import LABEL_SEPARATOR
from tametail.deployment.quality import QUALITY
from tametail.evaluation.unlikeness import FALSE_ALARMS, Unlikeness, fewest_groups, threshold
from tametail.storage.identity import digest_of_identity
from tametail.storage.run_file import intact
from tametail.training.run import Run
from tametail.training.unlikeness_file import OF_RUN, load_unlikeness

if TYPE_CHECKING:
    import pandas as pd

UNLIKENESS_COLUMN, UNLIKE = "unlikeness", "unlike_training"
UNLIKE_IMAGES = "unlike_images"  # of a group
COLUMNS = (UNLIKENESS_COLUMN, UNLIKE, QUALITY)


@dataclass(frozen=True)
class StudyUnlikeness:
    """Scores of new images, relative to the threshold.

    Attributes:
        members: for the features that all fold models share, or those of each fold model; empty where no score can be given.
        shared: which of the two.
        threshold: of the mean of the members' scores.
        images, groups: of the training set, by whose scores it was chosen.
        reason: why no score can be given, and what to do.
    """

    members: tuple[Unlikeness, ...] = ()
    shared: bool = True
    threshold: float = math.nan
    images: int = 0
    groups: int = 0
    reason: str = ""

    @contextmanager
    def watching(self, models: Sequence[nn.Module], features: Tensor) -> Iterator[list[FloatArray]]:
        """Yield the scores (N,) by each member, which are complete when each fold model has predicted, once, in the block.

        Args:
            models: fold models, each a representation and a head.
            features: (N, D), the inputs of the models.
        """
        found: list[FloatArray] = []
        with ExitStack() as hooks:
            if self.shared:
                found += [self._score(member, features) for member in self.members]
            else:
                for member, model in zip(self.members, models, strict=False):
                    keep = partial(self._keep, found, member)
                    hooks.callback(next(model.children()).register_forward_hook(keep).remove)
            yield found

    def values(self, found: Sequence[FloatArray]) -> list[dict[str, object]]:
        """The columns of N images, from what `watching` yielded; empty for no score."""
        if not found:
            return []
        scores = np.mean(found, axis=0).tolist()
        return [{UNLIKENESS_COLUMN: score, UNLIKE: int(not score <= 1)} for score in scores]

    def _keep(
        self, found: list[FloatArray], member: Unlikeness, _: nn.Module, __: Any, output: Tensor
    ) -> None:
        found.append(self._score(member, output))

    def _score(self, member: Unlikeness, features: Tensor) -> FloatArray:
        scores = member.gaussian.score(features.detach().float().cpu().numpy())
        return np.asarray(scores / self.threshold, dtype=np.float64)

    def say(self, table: pd.DataFrame, console: Console, *, grouped: bool = False) -> None:
        """Say how many images, or groups, are unlike the training images or of poor quality."""
        read = table[table["error"] == ""]
        row = "group" if grouped else "image"
        if self.reason:
            console.say(f"Whether images are unlike the training images is not known: {self.reason}")
        elif unlike := int(read[UNLIKE].sum()):
            images = f" ({counted(int(read[UNLIKE_IMAGES].sum()), 'image')})" if grouped else ""
            console.warn(
                f"{unlike} of {counted(len(read), row)}{images} {'is' if unlike == 1 else 'are'} unlike the training images, whose "
                f"model has seen nothing like {'it' if unlike == 1 else 'them'}: do not use "
                f"{'its prediction' if unlike == 1 else 'their predictions'}; see columns {UNLIKENESS_COLUMN} and {UNLIKE}. "
                f"{self._rate}"
            )
        elif len(read):
            console.say(f"No {row} is unlike the training images. {self._rate}")
        flags = Counter(flag for each in read[QUALITY] for flag in each.split(LABEL_SEPARATOR) if flag)
        if flags:
            named = "; ".join(f"{count} {flag}" for flag, count in sorted(flags.items()))
            console.warn(f"of {counted(len(read), row)}, check these (column {QUALITY}): {named}")

    @property
    def _rate(self) -> str:
        return (
            f"False-alarm rate: {100 * FALSE_ALARMS:.3g} % of new images like the training images (threshold from "
            f"{counted(self.images, 'image')} of {counted(self.groups, 'group')}, each scored by a fit of other groups)"
        )


UNKNOWN = StudyUnlikeness(reason="the classifier was made without it")


def study_unlikeness(
    study: Path, described: Mapping[str, Any], runs: Sequence[Run], *, frozen: bool
) -> StudyUnlikeness:
    """What the files of a study say for the fold models of these runs.

    Args:
        described: the content of study.json.
        frozen: whether the backbone is, so that all share the features.

    Raises:
        DataError: a file is damaged, or of another study.
    """
    remedy = f"tametail resume {study} " + ("writes it again" if frozen else "trains the run again")
    try:
        if frozen:
            found = [load_unlikeness(study, digest_of_identity(described), remedy)]
        else:
            folders = [run.base.directory(study) for run in runs]
            for folder in folders:
                if (folder / UNLIKENESS).exists():
                    intact(folder / UNLIKENESS)
            found = [load_unlikeness(folder, OF_RUN, remedy) for folder in folders]
    except FileNotFoundError as error:
        what = f"{error.args[0]} is missing, which earlier versions did not write"
        again = f"tametail resume {study} writes it" if frozen else "a new study of these methods has it"
        return StudyUnlikeness(reason=f"{what}; {again}")
    members = [each for each in found if isinstance(each, Unlikeness)]
    if len(members) < len(found):
        reasons = [each for each in found if isinstance(each, str)]
        return StudyUnlikeness(
            reason=f"the study has nothing to compare with ({reasons[0]}); it takes more images"
        )
    held_out = [member.held_out for member in members]
    repeats = 1 if frozen else len({run.seed for run in runs})
    images = sum(each.images for each in held_out) // repeats
    groups = sum(each.groups for each in held_out) // repeats
    limit = threshold(held_out, repeats)
    if not math.isfinite(limit):
        return StudyUnlikeness(
            reason=f"the training images are of {counted(groups, 'group')} (patients), and a false-alarm rate of "
            f"{100 * FALSE_ALARMS:.3g} % takes {fewest_groups()}"
        )
    return StudyUnlikeness(tuple(members), frozen, limit, images, groups)


def of_group(images: pd.DataFrame) -> dict[str, object]:
    """The columns of a group, from those of its images: it is as unlike as the most unlike one, and has the flags of all."""
    flags = {flag for each in images[QUALITY] for flag in each.split(LABEL_SEPARATOR) if flag}
    found: dict[str, object] = {QUALITY: LABEL_SEPARATOR.join(sorted(flags))}
    if images[UNLIKE].notna().all():
        found[UNLIKENESS_COLUMN] = float(images[UNLIKENESS_COLUMN].max())
        found[UNLIKE] = int(images[UNLIKE].max())
        found[UNLIKE_IMAGES] = int(images[UNLIKE].sum())
    return found

"""By what a study recognises images that are unlike its training images, from its files or those of its runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tametail.core.run_files import UNLIKENESS
from tametail.core.text import counted
from tametail.deployment.unlikeness import Likeness
from tametail.evaluation.unlikeness import (
    FALSE_ALARMS,
    FeatureGaussian,
    Unlikeness,
    fewest_groups,
    threshold,
)
from tametail.storage.identity import digest_of_identity
from tametail.storage.run_file import intact
from tametail.training.run import ALL_FOLDS, Run
from tametail.training.unlikeness_file import OF_RUN, load_unlikeness


class StudyUnlikeness(NamedTuple):
    """Gaussians of features and their common threshold.

    Attributes:
        likeness: the facts.
        gaussians: one for the features that all models share, or one for those of each model; none if no score can be given.
        threshold: of the mean of the scores.
    """

    likeness: Likeness
    gaussians: tuple[FeatureGaussian, ...] = ()
    threshold: float = math.nan


def study_unlikeness(
    study: Path, described: Mapping[str, Any], runs: Sequence[Run], *, frozen: bool
) -> StudyUnlikeness:
    """What the files of a study say for the models of these runs.

    Args:
        described: the content of study.json.
        frozen: whether the backbone is, so that all models share the features.

    Raises:
        DataError: a file is damaged, or of another study.
    """
    grey = described.get("grey")

    def unknown(reason: str) -> StudyUnlikeness:
        return StudyUnlikeness(Likeness(grey=grey, reason=reason))

    if not frozen and any(run.fold == ALL_FOLDS for run in runs):
        return unknown("the model was trained on all training images, and none is left to compare with")
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
        again = f"tametail resume {study} writes it" if frozen else "a new study of these methods has it"
        return unknown(f"{error.args[0]} is missing, which earlier versions did not write; {again}")
    members = [each for each in found if isinstance(each, Unlikeness)]
    reasons = [each for each in found if isinstance(each, str)]
    if reasons:
        return unknown(f"there is too little to compare with ({reasons[0]}); it takes more images")
    held_out = [member.held_out for member in members]
    repeats = 1 if frozen else len({run.seed for run in runs})
    images = sum(each.images for each in held_out) // repeats
    groups = sum(each.groups for each in held_out) // repeats
    limit = threshold(held_out, repeats)
    if not math.isfinite(limit):
        return unknown(
            f"the training images are of {counted(groups, 'group')} (patients), and a false-alarm rate of "
            f"{100 * FALSE_ALARMS:.3g} % takes {fewest_groups()}"
        )
    gaussians = tuple(member.gaussian for member in members)
    return StudyUnlikeness(Likeness(images, groups, grey), gaussians, limit)

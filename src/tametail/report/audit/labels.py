"""A second look at the labels of a study: `inspect_labels` ranks those that its best method contradicts.

Only out-of-fold predictions of the training set are read; the test set takes no part.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from tametail.core.errors import DataError, UsageError
from tametail.core.option import takes
from tametail.core.options import ImageRootOptions
from tametail.core.regular_file import regular
from tametail.evaluation import Estimate
from tametail.evaluation.calibration_maps import calibrate_out_of_fold
from tametail.evaluation.label_errors import LabelErrors, SuspectLabel, find_label_errors, score_if_wrong
from tametail.predictions.single_label import Predictions, ensemble
from tametail.report.formatting import count_of, percent_with_interval
from tametail.report.study.runs import best_method, disagreeing, find_runs
from tametail.storage.study_file import read_study_file, remembered_root

LABELS_SCHEMA = "tametail.labels/1"
CAVEAT = (
    "A suspect is a label that the method contradicts with confidence, not a proven error: look at each image. The score "
    "with suggested labels can hardly fall, as the method scores its own suggestions; it shows how much depends on these labels"
)


@dataclass(frozen=True, eq=False)
class LabelInspection:
    """What `inspect_labels` found.

    Attributes:
        name: of the data set.
        synthetic: whether its images are drawn by a program.
        method: the best method of the study, whose predictions were used.
        class_names: C names.
        images, groups: of the training set with out-of-fold predictions.
        label_counts: (C,) images of each given label.
        errors: suspects, thresholds and confident joint.
        moves: balanced accuracy if the first k suspects had the suggested labels, for 0 and growing k.
        predictions: what the suspects were found in: out-of-fold, calibrated and averaged over repeats.
        root: the folder of the images; None if unknown.
        bit_depth: see `tametail.data.decode_image`.
    """

    name: str
    synthetic: bool
    method: str
    class_names: tuple[str, ...]
    images: int
    groups: int
    label_counts: tuple[int, ...]
    errors: LabelErrors
    moves: tuple[tuple[int, Estimate], ...]
    predictions: Predictions
    root: Path | None
    bit_depth: int | None

    def __repr__(self) -> str:
        return f"LabelInspection({self.name!r}, {self.images} images, suspected label errors: {self.errors.count})"

    def summary(self) -> str:
        """One sentence: how many labels are suspected."""
        return f"{count_of(self.errors.count, 'label')} of {self.images:,} suspected by out-of-fold predictions of {self.method}"

    def facts(self) -> list[tuple[str, str]]:
        """What was looked at, and how the headline would move, as pairs of a term and its text."""
        listed = len(self.errors.suspects)
        moved = [
            (f"Balanced accuracy, %, if the first {step} were wrong", percent_with_interval(score))
            for step, score in self.moves[1:]
        ]
        return [
            ("Images", f"{self.images:,} of {count_of(self.groups, 'group')}, from the training set"),
            ("Listed", f"{listed:,}, at most two of a group"),
            ("Balanced accuracy, %", percent_with_interval(self.moves[0][1])),
            *moved,
        ]

    def group_text(self, suspect: SuspectLabel) -> str:
        """How the images of the suspect's group agree, such as ``4 images: 4 labelled nv, 3 predicted mel with confidence``."""
        if suspect.group_images == 1:
            return "one image"
        given, suggested = self.class_names[suspect.given], self.class_names[suspect.suggested]
        return (
            f"{suspect.group_images} images: {suspect.group_given} labelled {given}, "
            f"{suspect.group_suggested} predicted {suggested} with confidence"
        )

    def as_dict(self) -> dict[str, Any]:
        """As JSON; docs/data.md describes the schema."""
        names, errors = self.class_names, self.errors
        by_class = zip(
            names, self.label_counts, errors.thresholds.tolist(), errors.joint.tolist(), strict=True
        )
        return {
            "schema": LABELS_SCHEMA,
            "name": self.name,
            "method": self.method,
            "images": self.images,
            "groups": self.groups,
            "suspects": errors.count,
            "classes": [
                {
                    "name": name,
                    "images": images,
                    "threshold": threshold if np.isfinite(threshold) else None,
                    "confident": dict(zip(names, row, strict=True)),
                }
                for name, images, threshold, row in by_class
            ],
            "listed": [
                asdict(one)
                | {"given": names[one.given], "suggested": names[one.suggested], "margin": one.margin}
                for one in errors.suspects
            ],
            "balanced_accuracy": [{"replaced": step} | score.as_dict() for step, score in self.moves],
        }


@takes(ImageRootOptions)
def inspect_labels(study: str | Path, **options: Unpack[ImageRootOptions]) -> LabelInspection:
    """Rank suspected label errors of a study by confident learning (Northcutt et al. 2021).

    It uses the out-of-fold probabilities of the study's best method, calibrated and averaged over repeats as in its report. No
    image of a patient was in the training set of the model that predicted it. Images of the test set are never looked at.

    Args:
        study: its folder.
        options: see below.

    Returns:
        The suspects, the most suspect first, and how the balanced accuracy would move if they were wrong.

    Raises:
        DataError: there is no study, or one of its files is damaged.
        UsageError: its images may have several labels.
        TametailError: no method has all its runs finished.

    Example:
        >>> found = tt.inspect_labels("runs/skin")
        >>> [(one.image, one.p_suggested) for one in found.errors.suspects]
    """
    directory, image_root = Path(study), options["image_root"]
    settings = read_study_file(directory)
    if settings.get("multi_label"):
        raise UsageError(
            f"expected a study of one label per image with --labels, but {directory} ({settings['name']}) is a multi-label study; "
            f"its labels cannot be inspected"
        )
    best = best_method(directory)
    runs = next(of_method for of_method in find_runs(directory, settings) if of_method.method == best)
    _check_training(directory, runs.replicates)
    try:
        tables = calibrate_out_of_fold(runs.replicates).tables
        joined = ensemble(tables)
    except ValueError as error:
        raise disagreeing(best, error) from error
    errors = find_label_errors(joined)
    return LabelInspection(
        settings["name"],
        settings["synthetic"],
        best,
        joined.class_names,
        len(joined),
        len(np.unique(joined.group)),
        tuple(np.bincount(joined.target, minlength=len(joined.class_names)).tolist()),
        errors,
        score_if_wrong(tables, errors.suspects),
        joined,
        Path(image_root) if image_root is not None else remembered_root(directory),
        settings["table"].get("bit_depth"),
    )


def _check_training(directory: Path, tables: list[Predictions]) -> None:
    """Refuse predictions of images that are not in the training set."""
    import pandas as pd

    path = directory / "splits.csv"
    try:
        splits = pd.read_csv(
            regular(path), dtype={"image": str}, keep_default_na=False, usecols=["image", "part"]
        )
    except (OSError, ValueError) as error:
        raise DataError(
            f"expected the splits of a study at {path}, but they cannot be read: {error}"
        ) from error
    training = splits["image"][splits["part"] == "train"].to_numpy(dtype=np.str_)
    for table in tables:
        if outside := int((~np.isin(table.image, training)).sum()):
            raise DataError(
                f"expected out-of-fold predictions of training images only in {directory}, found {count_of(outside, 'image')} that "
                f"splits.csv does not have in the training set; restore both from a copy"
            )

"""Clinical results of a report: operating points, subgroups by a column of the image table, and the order of grades."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tametail.core.errors import DataError, UsageError
from tametail.core.parquet_file import read_frame
from tametail.data.table import COLUMNS, UNKNOWN_COLUMN
from tametail.evaluation.class_order import ordinal_classes
from tametail.evaluation.operating import OperatingPoint, operating_point
from tametail.evaluation.subgroup_contrasts import SubgroupContrasts, subgroup_contrasts
from tametail.evaluation.subgroups import (
    Subgroup,
    as_texts,
    in_ranges,
    label_subgroups,
    subgroup_values,
    subgroups,
)
from tametail.predictions.multi_label import LabelPredictions
from tametail.predictions.single_label import Predictions
from tametail.report.options import ReportOptions


@dataclass(frozen=True)
class ClinicalResults:
    """Computes the requested operating points and subgroups.

    Attributes:
        operating: class indices, each with its required sensitivity.
        columns: the value of each image, by column.
        class_order: all classes from the lowest grade to the highest; empty unless they are ordinal.
    """

    operating: tuple[tuple[int, float], ...]
    columns: Mapping[str, Mapping[str, str]]
    class_order: tuple[str, ...]

    def points(self, replicates: Sequence[Predictions]) -> tuple[OperatingPoint, ...]:
        """One operating point for each requested class, with thresholds chosen on the other folds."""
        return tuple(operating_point(replicates, index, sensitivity) for index, sensitivity in self.operating)

    def label_points(self, replicates: Sequence[LabelPredictions]) -> tuple[OperatingPoint, ...]:
        """The same of labels, each on the images of which it is known."""
        return tuple(
            operating_point([table.of_label(index) for table in replicates], 1, sensitivity)
            for index, sensitivity in self.operating
        )

    def label_groups(self, replicates: Sequence[LabelPredictions]) -> tuple[Subgroup, ...]:
        """One subgroup for each value of each requested column, of images with several labels."""
        return tuple(
            group
            for name, of_image in self.columns.items()
            for group in label_subgroups(replicates, _values(of_image, replicates[0].image), name)
        )

    def contrasts(self, replicates: Sequence[Predictions]) -> tuple[SubgroupContrasts, ...]:
        """Each subgroup against the rest, by column; none for a column of one value."""
        return tuple(
            subgroup_contrasts(replicates, values, name)
            for name, of_image in self.columns.items()
            if len(set((values := _values(of_image, replicates[0].image)).tolist())) > 1
        )

    def groups(self, replicates: Sequence[Predictions]) -> tuple[Subgroup, ...]:
        """One subgroup for each value of each requested column."""
        return tuple(
            group
            for name, of_image in self.columns.items()
            for group in subgroups(replicates, _values(of_image, replicates[0].image), name)
        )


def clinical_results(directory: Path, options: ReportOptions, settings: Mapping[str, Any]) -> ClinicalResults:
    """Look up the classes and columns of the options in a study.

    Raises:
        UsageError: the study lacks a class or column, the order of its classes is unknown, a column has too many values, or
            the study is multi-label.
        DataError: the study's table cannot be read.
    """

    names = list(settings["class_names"])
    order = options.class_order or settings.get("class_order")
    ordinal = options.ordered or (order and options.ordered is None)
    if not (options.by or options.operating or ordinal):
        return ClinicalResults((), {}, ())
    if settings.get("multi_label") and options.by and options.predict_by != "image":
        raise UsageError(
            f"expected --by or --predict-by {options.predict_by}, got both: a column describes images, not groups of them; "
            '--by "" or --predict-by image takes one of them back'
        )
    if settings.get("multi_label") and ordinal:
        raise UsageError(
            f"--ordered and --class-order are for images of one class each, but those of {directory} may have several "
            f"labels; omit them"
        )
    for name, _ in options.operating:
        if name not in names:
            raise UsageError(
                f"expected a class of the study with --operating ({', '.join(names)}), got {name!r}"
            )
    class_order = ordinal_classes(names, ordered=options.ordered, given=order)
    try:
        frame = read_frame(directory / "table.parquet").set_index("image")
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"expected the table of a study in {directory}: {error}") from error
    available = [name for name in frame.columns if name not in (*COLUMNS, UNKNOWN_COLUMN)]
    for name in options.by:
        if name not in available:
            choices = ", ".join(available) or "none"
            raise UsageError(
                f"expected with --by a column of the image table (available: {choices}), got {name!r}"
            )
    texts = {name: as_texts(frame[name].tolist()) for name in options.by}
    for name, values in texts.items():
        subgroup_values(values, name)  # refuses too many values before any work
    columns = {name: dict(zip(frame.index, values.tolist(), strict=True)) for name, values in texts.items()}
    return ClinicalResults(
        tuple((names.index(name), sensitivity) for name, sensitivity in options.operating),
        columns,
        class_order,
    )


def _values(of_image: Mapping[str, str], images: NDArray[np.str_]) -> NDArray[np.str_]:
    return in_ranges(np.array([of_image[image] for image in images.tolist()], dtype=np.str_))

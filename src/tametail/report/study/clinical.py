"""What the report of a study is asked for beyond the usual: operating points, and subgroups by a column carried along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tametail.core.errors import DataError, UsageError
from tametail.data.table import COLUMNS
from tametail.evaluation.operating import OperatingPoint, operating_point
from tametail.evaluation.subgroups import Subgroup, as_texts, in_ranges, subgroup_values, subgroups
from tametail.predictions.single_label import Predictions
from tametail.report.options import ReportOptions


@dataclass(frozen=True)
class ClinicalResults:
    """What is asked for, in the terms of the study.

    Attributes:
        operating: class indices, each with the sensitivity required.
        columns: by name of the column the value of each image.
        ordered: the classes are grades.
    """

    operating: tuple[tuple[int, float], ...]
    columns: Mapping[str, Mapping[str, str]]
    ordered: bool

    def points(self, replicates: Sequence[Predictions]) -> tuple[OperatingPoint, ...]:
        """One for each class asked for, thresholds chosen on the other folds."""
        return tuple(operating_point(replicates, index, asked) for index, asked in self.operating)

    def groups(self, replicates: Sequence[Predictions]) -> tuple[Subgroup, ...]:
        """One for each value of each column asked for."""
        return tuple(
            group
            for name, of_image in self.columns.items()
            for group in subgroups(replicates, _values(of_image, replicates[0].image), name)
        )


def clinical_results(directory: Path, asked: ReportOptions, settings: Mapping[str, Any]) -> ClinicalResults:
    """Look up in a study what is asked for.

    Raises:
        UsageError: a class or a column that the study has not, a column of too many values, or a study of several
            labels per image.
        DataError: the study's table cannot be read.
    """
    import pandas as pd

    names = list(settings["class_names"])
    if not (asked.by or asked.operating or asked.ordered):
        return ClinicalResults((), {}, False)
    if settings.get("multi_label"):
        raise UsageError(
            f"--by, --operating and --ordered are for images of one class each, but those of {directory} may have several "
            f"labels; leave them out"
        )
    for name, _ in asked.operating:
        if name not in names:
            raise UsageError(
                f"expected a class of the study with --operating ({', '.join(names)}), got {name!r}"
            )
    try:
        frame = pd.read_parquet(directory / "table.parquet").set_index("image")
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"expected the table of a study in {directory}: {error}") from error
    carried = [name for name in frame.columns if name not in COLUMNS]
    for name in asked.by:
        if name not in carried:
            there = f"these are there: {', '.join(carried)}" if carried else "none was"
            raise UsageError(
                f"expected with --by a column that was carried along with the images ({there}), got {name!r}"
            )
    texts = {name: as_texts(frame[name].tolist()) for name in asked.by}
    for name, values in texts.items():
        subgroup_values(values, name)  # of too many values, it says so before any work
    columns = {name: dict(zip(frame.index, values.tolist(), strict=True)) for name, values in texts.items()}
    return ClinicalResults(
        tuple((names.index(name), sensitivity) for name, sensitivity in asked.operating),
        columns,
        asked.ordered,
    )


def _values(of_image: Mapping[str, str], images: NDArray[np.str_]) -> NDArray[np.str_]:
    return in_ranges(np.array([of_image[image] for image in images.tolist()], dtype=np.str_))

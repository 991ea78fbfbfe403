"""calibration.json: the calibration map of each finished method of a study, and what prediction sets and label shift need."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from tametail.core.errors import DataError
from tametail.core.json_file import read_json
from tametail.evaluation.calibration_maps import CalibrationMap, calibrate_out_of_fold
from tametail.evaluation.conformal import ScoreDistribution, score_distributions
from tametail.evaluation.label_calibration import LabelMap, calibrate_labels
from tametail.evaluation.label_shift import ShiftReference, shift_reference
from tametail.report.study.partial import largest_block
from tametail.report.study.results import MethodResults, StudyResults
from tametail.report.study.runs import find_runs
from tametail.storage.study_file import read_study_file

CALIBRATION_JSON = "calibration.json"
_MOST_NUMBERS = 600_000  # of label shift in the file, 6 MB; of more methods it is computed when it is needed


class ForNewImages(NamedTuple):
    """What the predictions of a method for new images need beside its models.

    Attributes:
        map: of the probabilities of each model.
        distributions: the scores of each class, for prediction sets; empty for several labels.
        shift: the reference for the prevalence in a batch of new images; None for several labels.
    """

    map: CalibrationMap | LabelMap
    distributions: tuple[ScoreDistribution, ...] = ()
    shift: ShiftReference | None = None


def calibration_json(results: StudyResults) -> str | None:
    """The content of the file; None if no method has a map."""
    found = {
        result.method: (result, result.label_calibration or result.calibration) for result in results.methods
    }
    numbers = sum(result.shift.p.size for result, _ in found.values() if result.shift is not None)
    maps = {
        method: {"runs": result.finished, "map": calibration.map.described()}
        | _described_sets(result, with_shift=numbers <= _MOST_NUMBERS)
        for method, (result, calibration) in found.items()
        if calibration is not None and calibration.map is not None
    }
    return json.dumps(maps) + "\n" if maps else None


def _described_sets(result: MethodResults, *, with_shift: bool) -> dict[str, Any]:
    """What prediction sets and label shift need; nothing for several labels."""
    if result.prediction_sets is None:
        return {}
    sets = [one.described() for one in result.prediction_sets.distributions]
    if result.shift is None:
        return {"prediction_sets": sets, "label_shift": None}
    return {"prediction_sets": sets} | ({"label_shift": result.shift.described()} if with_shift else {})


def calibration_for_new_images(directory: Path, method: str) -> ForNewImages:
    """The calibration map of a method, and what prediction sets and label shift need.

    They are those of the file, or, if it is of other runs, of their predictions. A `LabelMap` alone for a multi-label study.

    Raises:
        DataError: the file or one of the predictions is damaged.
    """
    described = read_study_file(directory)
    labels = len(described["class_names"]) if described.get("multi_label") else 0
    runs = next(each for each in find_runs(directory, described) if each.method == method)
    path = directory / CALIBRATION_JSON
    try:
        saved: dict[str, Any] = {"runs": 0}
        if path.is_file():
            saved = read_json(path).get(method, saved)
        if saved["runs"] == len(runs.finished):
            if labels:
                return ForNewImages(LabelMap.from_description(saved["map"], labels))
            if "prediction_sets" in saved and "label_shift" in saved:  # which earlier versions lack
                found = tuple(map(ScoreDistribution.from_description, saved["prediction_sets"]))
                calibration = CalibrationMap.from_description(saved["map"])
                if len(found) != len(calibration.slope):
                    raise ValueError(f"expected scores of {len(calibration.slope)} classes, got {len(found)}")
                if saved["label_shift"] is None:  # too many classes
                    return ForNewImages(calibration, found)
                shift = ShiftReference.from_description(saved["label_shift"])
                if len(shift.images) != len(found):
                    raise ValueError(f"expected {len(found)} classes of images, got {len(shift.images)}")
                return ForNewImages(calibration, found, shift)
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise DataError(
            f"expected the calibration maps of the study at {path}, but they cannot be read ({error!r}); "
            f"tametail report {directory} writes them again"
        ) from error
    chosen = runs.only(largest_block(tuple(runs.finished), runs.wanted))
    if labels:
        return ForNewImages(calibrate_labels(chosen.label_replicates).map)
    calibrated = calibrate_out_of_fold(chosen.replicates)
    return ForNewImages(
        calibrated.map, score_distributions(calibrated.tables), shift_reference(calibrated.tables)
    )

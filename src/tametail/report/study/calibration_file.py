"""calibration.json: the calibration map of each finished method of a study, for the probabilities of new images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tametail.core.errors import DataError
from tametail.core.json_file import read_json
from tametail.evaluation.calibration_maps import CalibrationMap, calibrate_out_of_fold
from tametail.evaluation.label_calibration import LabelMap, calibrate_labels
from tametail.report.study.results import StudyResults
from tametail.report.study.runs import find_runs
from tametail.storage.study_file import read_study_file

CALIBRATION_JSON = "calibration.json"


def calibration_json(results: StudyResults) -> str | None:
    """The content of the file; None if no method has a map."""
    found = {
        result.method: (result, result.label_calibration or result.calibration) for result in results.methods
    }
    maps = {
        method: {"runs": result.finished, "map": calibration.map.described()}
        for method, (result, calibration) in found.items()
        if calibration is not None and calibration.map is not None
    }
    return json.dumps(maps, indent=1) + "\n" if maps else None


def calibration_map(directory: Path, method: str) -> CalibrationMap | LabelMap:
    """The calibration map of a method: that of the file, or, if it is of other runs, fitted on their predictions.

    A `LabelMap` for a multi-label study.

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
                return LabelMap.from_description(saved["map"], labels)
            return CalibrationMap.from_description(saved["map"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"expected the calibration maps of the study at {path}, but they cannot be read ({error!r}); "
            f"tametail report {directory} writes them again"
        ) from error
    if labels:
        return calibrate_labels(runs.only(tuple(runs.finished)).label_replicates).map
    return calibrate_out_of_fold(runs.only(tuple(runs.finished)).replicates).map

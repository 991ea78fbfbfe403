"""run.json is checked as a whole: damage is named with the file and the place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fixtures.class_study import write_study
from tametail.core.errors import DataError
from tametail.report import read_results
from tametail.report.study.runs import find_runs
from tametail.storage.run_file import read_run_file
from tametail.storage.study_file import read_study_file
from tametail.training.run import load_class_counts

WHOLE = {
    "method": "ce", "seed": 0, "fold": 1, "status": "finished", "message": "", "class_counts": {"a": 3, "b": 2}, "images": 5,
    "seconds": 1.5, "environment": {"python": "3.11", "processes": 1}, "trained_with": ["ce"], "micro_batch": None,
    "convergence": {"converged": True, "gradient": 1e-6, "iterations": 3, "objective": 0.1, "l2": 0.1, "start": "zero", "starts": {"zero": 0.1}},
}  # fmt: skip
STRANGE: list[tuple[str, object]] = [
    ("method", 3), ("method", ""), ("seed", "0"), ("seed", 2**63), ("fold", -1), ("fold", 1.5), ("status", None), ("message", "x" * 100_000),
    ("class_counts", []), ("class_counts", {"a": -1}), ("class_counts", {"a": 10**30}), ("images", "5"), ("seconds", -1), ("seconds", float("nan")),
    ("environment", {"python": []}), ("trained_with", "ce"), ("convergence", {}), ("convergence.starts", {"zero": 0.0}),
    ("convergence.iterations", None), ("still_falling", 1), ("still_falling", None),
]  # fmt: skip


@pytest.mark.parametrize(("place", "value"), STRANGE)
def test_damage_is_named_with_its_place(place: str, value: object, tmp_path: Path) -> None:
    path, content = tmp_path / "run.json", json.loads(json.dumps(WHOLE))
    path.write_text(json.dumps(content))
    assert read_run_file(path) == content
    *above, last = place.split(".")
    (content[above[0]] if above else content)[last] = value
    path.write_text(json.dumps(content))
    with pytest.raises(
        DataError, match=rf"{path}, but it cannot be read: {place}.*remove the folder of the run"
    ):
        read_run_file(path)


@pytest.mark.parametrize("content", ["", "[]", "3", "[" * 100_000, '{"method": "ce"}'])
def test_what_is_no_description_is_refused(content: str, tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", methods=["ce"])
    path = study / "runs/ce/seed0-fold0/run.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"expected the description of a run at .*run\.json"):
        read_results(study)


def test_an_ending_that_is_null_is_none(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", methods=["ce"])
    path = study / "runs/ce/seed0-fold0/run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"convergence": None}))
    assert len(find_runs(study, read_study_file(study))[0].endings) < 3


@pytest.mark.parametrize("counts", [{}, {"a": 3}, {"a": 3, "c": 2}, {"a": 3, "b": 2, "c": 1}])
def test_counts_of_other_classes_are_refused(counts: dict[str, int], tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(WHOLE))
    assert load_class_counts(tmp_path, ["b", "a"]) == ([2, 3], 5)
    (tmp_path / "run.json").write_text(json.dumps(WHOLE | {"class_counts": counts}))
    with pytest.raises(DataError, match=r"expected the training images of a, b in .*run\.json"):
        load_class_counts(tmp_path, ["a", "b"])

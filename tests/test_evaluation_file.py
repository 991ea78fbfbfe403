from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest

from predictions_csv import CLASSES, expected_of, frame_of
from tametail.errors import DataError, TametailError
from tametail.evaluation_file import (
    Answers,
    Evaluated,
    is_evaluation,
    prepare_folder,
    read_columns,
    read_evaluation_file,
    read_tables,
    write_evaluation,
)
from tametail.report import write_report
from tametail.report.evaluation_results import read_evaluation


def written(folder: Path, names: tuple[str, ...] = ("a",)) -> Path:
    tables = [expected_of(frame_of())]
    about = Evaluated("x", CLASSES, (), by=("image", "site"), operating=(("mel", 0.9),), facts=(("a", "b"),))
    values = np.array([f"v{number % 3}" for number in range(150)])
    folder.mkdir(exist_ok=True)
    answers = {name: Answers(tables, [1.5], [None], [1, 2, 3]) for name in names}
    write_evaluation(folder, answers, {"image": values, "site": values}, about)
    return folder


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    folder = written(tmp_path / "e")
    assert is_evaluation(folder)
    about = read_evaluation_file(folder)
    assert (about.name, about.class_names, about.by) == ("x", CLASSES, ("image", "site"))
    assert about.operating == (("mel", 0.9),)
    model = about.models[0]
    assert (model.temperatures, model.thresholds, model.train_counts) == ((1.5,), (None,), (1, 2, 3))
    (table,) = read_tables(folder, model)
    np.testing.assert_array_equal(table.logits, expected_of(frame_of()).logits)
    columns = read_columns(folder, about, table.image)
    assert columns["image"].tolist() == columns["site"].tolist() == [f"v{n % 3}" for n in range(150)]


def test_models_of_alike_names_have_files_of_their_own(tmp_path: Path) -> None:
    names = ("a/b", "a b", "A-B", "..", "/", "x" * 300, "ce, ensemble of 3")
    about = read_evaluation_file(written(tmp_path / "e", names))
    files = [path for model in about.models for path in model.tables]
    assert len({path.lower() for path in files}) == len(names)
    assert all(path.startswith("predictions/") and ".." not in path for path in files)
    assert tuple(model.name for model in about.models) == names


def damage_json(folder: Path) -> None:
    (folder / "evaluation.json").write_text("{", encoding="utf-8")


def other_format(folder: Path) -> None:
    path = folder / "evaluation.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}), encoding="utf-8")


def unknown_field(folder: Path) -> None:
    path = folder / "evaluation.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"more": 2}), encoding="utf-8")


def no_predictions(folder: Path) -> None:
    (folder / "predictions" / "a.parquet").unlink()


def no_columns(folder: Path) -> None:
    (folder / "columns.parquet").unlink()


def no_models(folder: Path) -> None:
    path = folder / "evaluation.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"models": []}), encoding="utf-8")


def other_classes(folder: Path) -> None:
    path = folder / "evaluation.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"class_names": ["a", "b"]}), encoding="utf-8")


@pytest.mark.parametrize(
    "change",
    [damage_json, other_format, unknown_field, no_predictions, no_columns, no_models, other_classes],
)
def test_a_damaged_folder_is_told(tmp_path: Path, change: object) -> None:
    folder = written(tmp_path / "e")
    change(folder)  # type: ignore[operator]
    with pytest.raises(DataError, match="expected"):
        write_report(folder)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TametailError, match="cannot be written"):
        prepare_folder(tmp_path / "file" / "out")


def test_no_threshold_is_chosen_on_these_images_where_none_came_with_the_model(tmp_path: Path) -> None:
    """`written` has images of the class, so that one could be chosen, and says that none was chosen elsewhere."""
    folder = written(tmp_path / "e")
    write_report(folder)
    (model,) = read_evaluation(folder).losses
    (point,) = model.operating
    assert math.isnan(point.threshold)
    assert point.sensitivity.n == point.flagged.n == 0
    for name in ("evaluation.json", "metrics.json"):
        content = (folder / name).read_text(encoding="utf-8")
        json.loads(content, parse_constant=pytest.fail)
    (row,) = csv.DictReader((folder / "results.csv").read_text(encoding="utf-8").splitlines())
    assert row["operating_mel_0.9_threshold"] == row["operating_mel_0.9_sensitivity"] == ""

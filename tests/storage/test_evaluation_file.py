from __future__ import annotations

import csv
import json
import math
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

from fixtures.predictions_csv import CLASSES, expected_of, frame_of, write
from tametail.core.atomic import atomic_path
from tametail.core.errors import DataError, TametailError, UsageError
from tametail.external.evaluate_files import evaluate_files
from tametail.report import write_report
from tametail.report.study.evaluation_results import read_evaluation
from tametail.storage import evaluation_file, identity
from tametail.storage.evaluation_file import (
    EvaluationSettings,
    ModelPredictions,
    is_evaluation,
    prepare_evaluation,
    read_columns,
    read_evaluation_file,
    read_tables,
    write_evaluation,
)


def written(folder: Path, names: tuple[str, ...] = ("a",)) -> Path:
    tables = [expected_of(frame_of())]
    about = EvaluationSettings(
        "x", CLASSES, (), by=("image", "site"), operating=(("mel", 0.9),), facts=(("a", "b"),)
    )
    values = np.array([f"v{number % 3}" for number in range(150)])
    folder.mkdir(exist_ok=True)
    answers = {name: ModelPredictions(tables, [None], [1, 2, 3]) for name in names}
    write_evaluation(folder, answers, {"image": values, "site": values}, about)
    return folder


def test_round_trip(tmp_path: Path) -> None:
    folder = written(tmp_path / "e")
    assert is_evaluation(folder)
    about = read_evaluation_file(folder)
    assert (about.name, about.class_names, about.by) == ("x", CLASSES, ("image", "site"))
    assert about.operating == (("mel", 0.9),)
    model = about.models[0]
    assert (model.thresholds, model.train_counts) == ((None,), (1, 2, 3))
    (table,) = read_tables(folder, model)
    np.testing.assert_array_equal(table.logits, expected_of(frame_of()).logits)
    columns = read_columns(folder, about, table.image)
    assert columns["image"].tolist() == columns["site"].tolist() == [f"v{n % 3}" for n in range(150)]


STRANGE: list[tuple[str, object]] = [
    ("class_names", ["mel", "mel"]), ("class_order", ["mel"]), ("models", []), ("models.0.tables", ["../../secret.parquet"]),
    ("models.0.tables", []), ("models.0.tables", ["predictions/a.parquet\n"]), ("models.0.thresholds", [0.5, 0.5]), ("models.0.train_counts", [1]),
    ("models.0.train_counts", [1, 2, -3]), ("operating", [["mel"]]), ("operating", [["mel", "0.9"]]), ("operating", [["x", 0.9]]), ("operating", [["mel", 7.0]]),
    ("facts", [["a"]]), ("by", "site"), ("grouped", 1), ("name", None), ("command", ["a"]),
]  # fmt: skip


@pytest.mark.parametrize(("place", "value"), STRANGE)
def test_damage_is_named(place: str, value: object, tmp_path: Path) -> None:
    folder = written(tmp_path / "e")
    content = json.loads((folder / "evaluation.json").read_text())
    *above, last = place.split(".")
    (content[above[0]][int(above[1])] if above else content)[last] = value
    (folder / "evaluation.json").write_text(json.dumps(content))
    with pytest.raises(
        DataError, match=r"its evaluation\.json is damaged: .*make it again with tametail evaluate"
    ):
        read_evaluation_file(folder)


def test_models_with_similar_names_have_separate_files(tmp_path: Path) -> None:
    names = ("a/b", "a b", "A-B", "..", "/", "x" * 300, "ce, ensemble of 3")
    about = read_evaluation_file(written(tmp_path / "e", names))
    files = [path for model in about.models for path in model.tables]
    assert len({path.lower() for path in files}) == len(names)
    assert all(path.startswith("predictions/") and ".." not in path for path in files)
    assert tuple(model.name for model in about.models) == names


def damage_json(folder: Path) -> None:
    (folder / "evaluation.json").write_text("{", encoding="utf-8")


def other_schema(folder: Path) -> None:
    path = folder / "evaluation.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 99}), encoding="utf-8")


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
    [damage_json, other_schema, no_predictions, no_columns, no_models, other_classes],
)
def test_a_damaged_folder_is_reported(tmp_path: Path, change: object) -> None:
    folder = written(tmp_path / "e")
    change(folder)  # type: ignore[operator]
    with pytest.raises(DataError, match="expected"):
        write_report(folder)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TametailError, match="cannot be written"):
        prepare_evaluation(tmp_path / "file" / "out")


def test_no_threshold_is_chosen_on_the_evaluated_images(tmp_path: Path) -> None:
    """`written` has images of the class, so that one could be chosen, and says that none was chosen elsewhere."""
    folder = written(tmp_path / "e")
    write_report(folder)
    (model,) = read_evaluation(folder).methods
    (point,) = model.operating
    assert math.isnan(point.threshold)
    assert point.sensitivity.n == point.alert_rate.n == 0
    for name in ("evaluation.json", "metrics.json"):
        content = (folder / name).read_text(encoding="utf-8")
        json.loads(content, parse_constant=pytest.fail)
    (row,) = csv.DictReader((folder / "results.csv").read_text(encoding="utf-8").splitlines())
    assert row["threshold_mel_0.9"] == row["sensitivity_at_0.9_mel"] == ""


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("failing", range(4))
def test_an_interrupted_evaluation_can_be_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int, earlier: bool
) -> None:
    """The disk is full at the marker, at the first table, at the columns, or at evaluation.json."""
    folder, calls = tmp_path / "e", iter(range(9))
    if earlier:
        written(folder, ("old", "a"))

    def full(path: Path) -> AbstractContextManager[Path]:
        if next(calls) == failing:
            raise OSError(28, "No space left on device")
        return atomic_path(path)

    def full_atomically(path: Path, content: str) -> None:
        with full(path) as temporary:
            temporary.write_text(content, encoding="utf-8")

    with monkeypatch.context() as patch:
        patch.setattr(evaluation_file, "atomic_path", full)
        patch.setattr(identity, "write_atomically", full_atomically)
        with pytest.raises(TametailError, match="cannot be written"):
            written(folder)
    if failing:
        with pytest.raises(DataError, match="not written to the end"):
            read_evaluation_file(folder)
    prepare_evaluation(folder)
    written(folder)
    assert [model.name for model in read_evaluation_file(folder).models] == ["a"]
    assert [path.name for path in (folder / "predictions").iterdir()] == ["a.parquet"]


def test_only_files_of_an_evaluation_are_removed(tmp_path: Path) -> None:
    folder = written(tmp_path / "e", ("old", "a"))
    mine = [folder / "predictions" / "mine.csv", folder / "figures" / "mine.svg", tmp_path / "mine.parquet"]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine", encoding="utf-8")
    path = folder / "evaluation.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["models"][1]["tables"] += [
        "../mine.parquet",
        "predictions/../../mine.parquet",
        "predictions/mine.csv",
    ]
    path.write_text(json.dumps(content), encoding="utf-8")
    written(folder)
    assert all(path.read_text(encoding="utf-8") == "mine" for path in mine)
    assert sorted(path.name for path in (folder / "predictions").iterdir()) == ["a.parquet", "mine.csv"]
    (folder / "predictions" / "b.parquet").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="did not write"):
        written(folder, ("b",))
    assert (folder / "predictions" / "b.parquet").read_text(encoding="utf-8") == "mine"
    assert [model.name for model in read_evaluation_file(folder).models] == ["a"]


def test_inputs_in_the_folder_that_is_replaced_are_refused(tmp_path: Path) -> None:
    folder = written(tmp_path / "e")
    path, before = folder / "predictions" / "a.parquet", (folder / "evaluation.json").read_bytes()
    content = path.read_bytes()
    (tmp_path / "link").symlink_to(folder)
    for out in (folder, tmp_path / "link", folder / "predictions" / ".."):
        with pytest.raises(UsageError, match="contains none of its inputs"):
            prepare_evaluation(out, [tmp_path / "other.csv", path])
    own = write(frame_of(), folder / "own.csv")
    with pytest.raises(UsageError, match="contains none of its inputs"):
        evaluate_files([own], folder)
    assert (path.read_bytes(), (folder / "evaluation.json").read_bytes()) == (content, before)
    prepare_evaluation(folder, [tmp_path / "other.csv"])


def test_no_results_of_an_earlier_evaluation_stay(tmp_path: Path) -> None:
    folder = written(tmp_path / "e")
    write_report(folder)
    assert (folder / "results_long.csv").is_file()
    written(tmp_path / "e")
    assert not list(folder.glob("re*")) + list(folder.glob("metrics*"))

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from fixtures.plain_figures import figures_not_rendered
from fixtures.skin import QUICK, SIZES, TRAINING
from tametail.core.errors import DataError, UsageError
from tametail.report import read_results
from tametail.reproduce import Reproduction, reproduce
from tametail.reproduce.experiments import EXPERIMENTS
from tametail.storage.study_file import read_test_set_evaluations

pytestmark = pytest.mark.slow

COLUMNS = ("ALPA", "ASL", "CE", "Focal")


def trained(directory: Path) -> dict[Path, int]:
    files = sorted(directory.glob("runs/*/*/*"))
    return {file: file.stat().st_mtime_ns for file in files}


def test_what_is_measured_is_the_studys_own_evaluation(table4: Reproduction) -> None:
    results = {result.method: result for result in read_results(table4.study.directory).methods}
    for column in table4.comparison.columns:
        assert column.method is not None
        result = results[column.method]
        assert result.test is not None
        assert result.test_ensemble is not None
        for kind, evaluation in (("fold_models", result.test), ("ensemble", result.test_ensemble)):
            for one in evaluation.classes:
                assert column.rows[kind][one.name].recall.measured == evaluation["recall", one.name]
                assert column.rows[kind][one.name].f1.measured == evaluation["f1", one.name]
            assert column.balanced_accuracy[kind].measured == evaluation["balanced_accuracy"]


def test_the_text_says_differences_first_and_then_everything(table4: Reproduction) -> None:
    text = table4.text
    parts = [
        "Table 4 of the paper",
        "Differs from the paper in:\n  - images: 46 (the paper: 10,015)",
        "epochs 1 (",
        "Not stated in the paper; used here:",
        "This command evaluates on the test set",
        "It was evaluated once, which the study records",
        "Balanced accuracy, %",
        "ALPA (alpa): test set, mean over the fold models",
        "Notes on the published numbers:",
        "Interpretation:",
        "is not refuted",
    ]
    places = [text.find(part) for part in parts]
    assert -1 not in places, parts[places.index(-1)]
    assert places == sorted(places)
    for column in COLUMNS:
        assert f"\n{column} (" in text
    assert all(f"\n  {name} " in text for name in SIZES)


def test_the_files_hold_the_same(table4: Reproduction) -> None:
    markdown = table4.markdown.read_text(encoding="utf-8")
    assert "## Classes: test set, ensemble of the fold models" in markdown
    assert all(phrase in markdown for phrase in table4.comparison.differences.stated)
    content = json.loads((table4.study.directory / "reproduce.json").read_text(encoding="utf-8"))
    assert content["test_set_evaluations"] == 1
    assert content["models_per_method"] == 2
    assert [method["column"] for method in content["methods"]] == list(COLUMNS)
    akiec = content["methods"][1]["measured"]["fold_models"]["classes"]["akiec"]["recall"]
    assert akiec["published"] == "16.9"
    assert akiec["published_share"] == 0.169
    assert akiec["low"] <= akiec["value"] <= akiec["high"]
    assert content["classes"][0] == {
        "class": "akiec",
        "here": "akiec",
        "train": {"published": 256, "here": SIZES["akiec"] - akiec["n"]},
        "test": {"published": 71, "here": akiec["n"]},
    }


def test_the_evaluation_is_recorded_and_a_repetition_trains_and_evaluates_nothing(
    table4: Reproduction, skin: Path, tmp_path: Path
) -> None:
    out = tmp_path / "again"
    shutil.copytree(table4.study.directory, out)
    before, written = trained(out), (out / "reproduce.json").read_text(encoding="utf-8")
    (out / "reproduce.md").unlink()
    with figures_not_rendered():
        again = reproduce("table4", skin, out=out, **TRAINING)
    assert trained(out) == before
    assert len(read_test_set_evaluations(out)) == 1
    assert again.text == table4.text
    assert (out / "reproduce.json").read_text(encoding="utf-8") == written
    assert again.markdown.is_file()


def test_what_cannot_be_run_is_refused_before_anything_is_written(skin: Path, tmp_path: Path) -> None:
    out = tmp_path / "none"
    with pytest.raises(UsageError, match="expected one of table2"):
        reproduce("table1", skin, out=out)
    with pytest.raises(DataError, match="17 classes"):
        reproduce("table5", skin, out=out)
    with pytest.raises(DataError, match="Harvard Dataverse"):
        reproduce("table4", tmp_path / "absent", out=out)
    with pytest.raises(UsageError, match="--variant as one of paper, code, pade"):
        reproduce("table4", skin, out=out, variant="taylor")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="tametail compare --engine plan"):
        reproduce("table4", skin, out=out, engine="plan")
    with pytest.raises(UsageError, match="--rivals as one of figure1, defaults"):
        reproduce("table4", skin, out=out, rivals="best")  # type: ignore[arg-type]
    assert not out.exists()


def test_several_processes_leave_the_test_set_closed(skin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="expected --no-test-set with several processes"):
        reproduce("table4", skin)


def test_the_default_folder_is_named_by_the_experiment(
    skin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, object] = {}

    def stop(*_: object, **options: object) -> None:
        asked.update(options)
        raise RuntimeError

    monkeypatch.setattr("tametail.reproduce.runner.compare", stop)
    with pytest.raises(RuntimeError):
        reproduce("table4", skin, jobs=2, threads=3, **QUICK)
    assert (asked["jobs"], asked["threads"]) == (2, 3)
    assert asked["out"] == Path("runs/reproduce-table4")
    assert asked["folds"] == 5
    assert asked["recipe"] == "paper"
    assert EXPERIMENTS["table4"].methods("paper", "figure1")["ALPA"] == "alpa"

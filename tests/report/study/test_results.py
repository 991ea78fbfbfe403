from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import balanced_accuracy_score, confusion_matrix

from tametail.core.errors import DataError, TametailError
from tametail.predictions.single_label import read_predictions, scores, write_predictions
from tametail.report import best_method, read_results, results_frame, results_table, write_report
from tametail.report.study import narrative
from tametail.report.writers.json import metrics_json
from tametail.report.writers.markdown import results_markdown

MakeStudy = Callable[..., Path]


def test_folds_are_pooled_and_seeds_averaged(evaluated_study: Path) -> None:
    result = {each.method: each for each in read_results(evaluated_study).methods}["ce"]
    scores, matrices = [], []
    for seed in (0, 3):
        tables = [
            read_predictions(p) for p in evaluated_study.glob(f"runs/ce/seed{seed}-*/predictions.parquet")
        ]
        assert len(tables) == 3
        target = np.concatenate([table.target for table in tables])
        predicted = np.concatenate([table.logits.argmax(axis=1) for table in tables])
        scores.append(balanced_accuracy_score(target, predicted))
        matrices.append(confusion_matrix(target, predicted))
    assert result.score == pytest.approx(np.mean(scores), abs=1e-12)
    assert result.out_of_fold is not None
    assert result.out_of_fold["balanced_accuracy"].value == pytest.approx(result.score, abs=1e-12)
    assert result.out_of_fold.confusion is not None
    np.testing.assert_allclose(result.out_of_fold.confusion, np.mean(matrices, axis=0))
    assert result.out_of_fold.replicates == 2


def test_the_test_set_is_a_mean_over_fold_models_and_an_ensemble(evaluated_study: Path) -> None:
    result = {each.method: each for each in read_results(evaluated_study).methods}["ce"]
    tables = [read_predictions(p) for p in sorted(evaluated_study.glob("runs/ce/*/test_predictions.parquet"))]
    target = tables[0].target
    each = [balanced_accuracy_score(target, table.logits.argmax(axis=1)) for table in tables]
    together = np.mean([scores(table.logits, "softmax") for table in tables], axis=0).argmax(axis=1)
    assert result.test is not None
    assert result.test_ensemble is not None
    assert result.test.replicates == 6
    assert result.test["balanced_accuracy"].value == pytest.approx(np.mean(each))
    assert result.test_ensemble["balanced_accuracy"].value == pytest.approx(
        balanced_accuracy_score(target, together)
    )


def test_a_removed_or_shortened_record_does_not_make_the_test_set_held_out(
    make_study: MakeStudy,
) -> None:
    study = make_study(methods=("ce",), test_set_evaluations=1)
    assert not any("missing" in entry for entry in read_results(study).test_set_evaluations)
    (study / "test_set_evaluations.jsonl").unlink()
    results = read_results(study)
    assert results.methods[0].test is not None
    assert narrative.status_of_test_set(results) == "evaluated once"
    assert "The record of 1 of these evaluations is missing" in " ".join(narrative.state_of_test_set(results))
    predictions = next(study.glob("runs/*/*/test_predictions.parquet"))
    write_predictions(read_predictions(predictions), predictions, evaluation=3)
    assert json.loads(metrics_json(read_results(study)))["test_set_evaluations"] == 3
    entry = {"evaluation": 3, "methods": ["ce"], "runs": 3, "best_out_of_fold": "ce", "new_runs": 0}
    (study / "test_set_evaluations.jsonl").write_text(json.dumps(entry) + "\n", encoding="utf-8")
    missing = ["missing" in entry for entry in read_results(study).test_set_evaluations]
    assert missing == [True, True, False]
    assert "Evaluation 2: its record is missing." in results_markdown(read_results(study))


def test_a_test_set_before_its_evaluation_is_held_out(held_out_study: Path) -> None:
    results = read_results(held_out_study)
    assert not results.test_set_evaluated
    assert results.methods[0].test is None


def test_a_loss_that_came_after_the_opening_has_no_test_numbers(make_study: MakeStudy) -> None:
    study = make_study(methods=("alpa", "ce"), test_set_evaluations=1)
    (study / "runs" / "ce" / "seed0-fold1" / "test_predictions.parquet").unlink()
    tested = {result.method: result.test is not None for result in read_results(study).methods}
    assert tested == {"alpa": True, "ce": False}


def test_unfinished_losses_come_last_with_their_state(
    make_study: MakeStudy, fail_run: Callable[[Path, str], None]
) -> None:
    study = make_study(methods=("alpa", "ce", "asl", "focal"))
    fail_run(study / "runs" / "alpa" / "seed0-fold2", "the loss became nan at step 7")
    shutil.rmtree(study / "runs" / "focal" / "seed0-fold0")
    (study / "runs" / "focal" / ".seed0-fold0.123").mkdir()
    (study / "runs" / "focal" / ".seed0-fold0.123" / "run.json").write_text("{", encoding="utf-8")
    results = read_results(study)
    assert [(each.method, each.status) for each in results.methods[2:]] == [
        ("alpa", "2 of 3 runs"),
        ("focal", "2 of 3 runs"),
    ]
    assert results.methods[2].failures == ("seed 0, fold 2: the loss became nan at step 7",)
    assert results.methods[2].out_of_fold is None
    assert {each.method for each in results.ranking} == {"asl", "ce"}


def test_runs_of_another_seed_fold_or_loss_are_not_counted(make_study: MakeStudy) -> None:
    study = make_study(methods=("ce",))
    for change in ({"seed": 5}, {"fold": 3}, {"method": "bce"}):
        other = study / "runs" / "other" / "-".join(change)
        shutil.copytree(study / "runs" / "ce" / "seed0-fold0", other)
        described = json.loads((other / "run.json").read_text(encoding="utf-8"))
        (other / "run.json").write_text(json.dumps(described | change), encoding="utf-8")
    assert read_results(study).methods[0].finished == 3


def test_the_ranking_is_by_score_and_equal_losses_by_name(make_study: MakeStudy) -> None:
    study = make_study(methods=("ce", "alpa", "ldam"))
    results = read_results(study)
    scores = [result.score for result in results.ranking]
    assert scores == sorted(scores, reverse=True)  # type: ignore[type-var]
    assert results.ranking[0].method == best_method(study) == "alpa"
    for run in (study / "runs" / "alpa").iterdir():
        shutil.copy(run / "predictions.parquet", study / "runs" / "ce" / run.name / "predictions.parquet")
        shutil.copy(run / "predictions.parquet", study / "runs" / "ldam" / run.name / "predictions.parquet")
    assert [result.method for result in read_results(study).ranking] == ["alpa", "ce", "ldam"]
    assert best_method(study) == "alpa"


def test_best_loss_computes_no_interval(held_out_study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tametail.evaluation.intervals.wilson", lambda *_: pytest.fail("intervals computed"))
    assert best_method(held_out_study) == "alpa"


def test_no_best_loss_among_unfinished_ones(make_study: MakeStudy) -> None:
    study = make_study(methods=("ce",))
    shutil.rmtree(study / "runs" / "ce" / "seed0-fold1")
    with pytest.raises(TametailError, match=r"ce 2 of 3.*tametail resume") as caught:
        best_method(study)
    assert caught.value.exit_code == 1


def test_counts_are_those_of_table_and_splits(held_out_study: Path) -> None:
    results = read_results(held_out_study)
    table = pd.read_parquet(held_out_study / "table.parquet").merge(
        pd.read_csv(held_out_study / "splits.csv")
    )
    for part, counts in (("train", results.counts.train), ("test", results.counts.test)):
        assert counts == table[table["part"] == part]["label"].value_counts().to_dict()
    assert results.counts.test_groups == table[table["part"] == "test"]["group"].nunique()
    in_order = [results.counts.train[results.class_names[index]] for index in results.by_frequency]
    assert in_order == sorted(in_order, reverse=True)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("study.json", "{"),
        ("table.parquet", "no table"),
        ("splits.csv", "image,fold\n"),
        ("splits.csv", "image,part\nimages/00000.png,train\n"),
        ("runs/ce/seed0-fold0/run.json", "{"),
        ("runs/ce/seed0-fold0/predictions.parquet", "no table"),
        ("runs/ce/seed0-fold0/history.csv", ""),
        ("runs/ce/seed0-fold0/history.csv", "epoch,step,loss,lr\n1,1,x,0.1\n"),
        ("runs/ce/seed0-fold0/history.csv", "epoch,step\n1,1\n"),
        ("test_set_evaluations.jsonl", '{"evaluation": 1, "methods": "ce"}'),
        ("test_set_evaluations.jsonl", '{"evaluation": 1, "runs": -1}'),
        ("test_set_looks.jsonl", '{"command": "predict", "images": {"same": true}}'),
    ],
)
def test_damage_is_a_data_error(make_study: MakeStudy, file: str, content: str) -> None:
    study = make_study(methods=("ce",))
    (study / file).write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match="expected"):
        read_results(study)


def test_runs_that_disagree_are_a_data_error(make_study: MakeStudy) -> None:
    study = make_study(methods=("ce",), seeds=(0, 1))
    runs = study / "runs" / "ce"
    shutil.copy(runs / "seed0-fold0" / "predictions.parquet", runs / "seed1-fold1" / "predictions.parquet")
    for read in (read_results, best_method):
        with pytest.raises(DataError, match="runs of ce to predict the same images"):
            read(study)
    other = make_study(methods=("ce",), seeds=(0,), counts=(14, 40, 90, 160, 60, 300, 30))
    shutil.copy(other / "runs" / "ce" / "seed0-fold1" / "predictions.parquet", runs / "seed1-fold1")
    with pytest.raises(DataError, match="runs of ce to predict the same images"):
        read_results(study)


def test_a_folder_without_a_study_is_a_data_error(tmp_path: Path) -> None:
    for read in (read_results, best_method):
        with pytest.raises(DataError, match="expected a study"):
            read(tmp_path)


def test_methods_that_predict_other_images_are_a_data_error(make_study: MakeStudy) -> None:
    study = make_study(methods=("alpa", "ce"))
    path = study / "runs" / "ce" / "seed0-fold0" / "predictions.parquet"
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)
    with pytest.raises(DataError, match="expected the runs of alpa and ce to predict the same images"):
        read_results(study)


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"a\n1\n", b"method,status\n,complete\n", b'method\n"']
)
def test_damaged_results_are_a_data_error(content: bytes, make_study: MakeStudy) -> None:
    study = make_study(methods=("ce",))
    write_report(study, images=False)
    assert results_frame(study)["method"].tolist() == ["ce"]
    (study / "results.csv").write_bytes(content)
    for read in (results_frame, results_table):
        with pytest.raises(DataError, match=r"expected results.csv in .*tametail report"):
            read(study)

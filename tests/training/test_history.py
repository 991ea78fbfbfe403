from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, balanced_accuracy_score, recall_score

from tametail.core.errors import DataError
from tametail.training.history import EpochRecord, Validation, history_csv, read_history, timing_csv, validate

RECORDS = [
    EpochRecord(1, 5, 0.1 + 0.2, 1e-3, 2.5, 31.25, 2 / 3, None),
    EpochRecord(2, 10, 1 / 7, 3.3e-10, 2.25, 33.0),
]


def test_validation_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    target, scores = rng.integers(0, 6, 200), rng.normal(size=(200, 6))
    scores[np.arange(200), target] += 1
    counts = [500, 3, 100, 90, 4, 80]
    found = validate(scores, target, counts)
    assert found.balanced_accuracy == pytest.approx(balanced_accuracy_score(target, scores.argmax(1)))
    tail = recall_score(target, scores.argmax(1), labels=[1, 4], average="macro")
    assert found.few_shot_recall == pytest.approx(tail)


def test_absent_classes_do_not_count() -> None:
    target = np.array([0, 0, 1, 1])
    found = validate(np.eye(4)[[0, 1, 1, 1]], target, [90, 80, 70, 1])
    assert found.balanced_accuracy == pytest.approx(0.75)
    assert np.isnan(found.few_shot_recall)


def test_unknown_labels_are_left_out() -> None:
    rng = np.random.default_rng(3)
    labels = (rng.random((300, 3)) < 0.4).astype(np.float32)
    scores = rng.normal(size=(300, 3)).round(1) + labels
    known = rng.random((300, 3)) < 0.7
    pairs = [(labels[of, k], scores[of, k]) for k, of in enumerate(known.T)]
    found = validate(scores, np.where(known, labels, np.nan), [150, 90, 60])
    expected = np.mean([average_precision_score(*pair) for pair in pairs])
    assert found.balanced_accuracy == pytest.approx(expected)


def test_several_labels_are_judged_by_average_precision() -> None:
    rng = np.random.default_rng(1)
    labels = rng.random((300, 5)) < [0.5, 0.3, 0.2, 0.05, 0.0]
    scores = rng.normal(size=(300, 5)).round(1) + labels  # rounded: with ties
    expected = [average_precision_score(labels[:, k], scores[:, k]) for k in range(4)]
    found = validate(scores, labels, [150, 90, 60, 15, 40])
    assert found.balanced_accuracy == pytest.approx(np.mean(expected))
    assert found.few_shot_recall == pytest.approx(expected[3])


@pytest.mark.parametrize("shapes", [((4, 3), (3,)), ((4, 2), (4,)), ((4, 3), (4, 2)), ((4,), (4,))])
def test_shapes_that_do_not_fit_are_refused(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match=r"expected scores \(N, 3\)"):
        validate(np.zeros(shapes[0]), np.zeros(shapes[1], np.int64), [3, 2, 1])


def test_a_record_keeps_what_was_seen_and_nothing_where_nothing_could_be() -> None:
    looked = EpochRecord(1, 5, 0.25, 1e-3, 2.0, 40.0).with_validation(Validation(0.5, float("nan")))
    assert looked == EpochRecord(1, 5, 0.25, 1e-3, 2.0, 40.0, 0.5, None)
    assert EpochRecord(1, 5, 0.25, 1e-3, 2.0, 40.0).with_validation(None) == EpochRecord(
        1, 5, 0.25, 1e-3, 2.0, 40.0
    )
    assert EpochRecord(**asdict(looked)) == looked


def test_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    history = tmp_path / "history.csv"
    history.write_text(history_csv(RECORDS), encoding="utf-8")
    assert read_history(history) == [replace(each, seconds=0.0, images_per_second=0.0) for each in RECORDS]
    (tmp_path / "timing.csv").write_text(timing_csv(RECORDS), encoding="utf-8")
    assert read_history(history) == RECORDS


def test_times_do_not_touch_the_history() -> None:
    again = [replace(each, seconds=9.0, images_per_second=1.0) for each in RECORDS]
    assert history_csv(again) == history_csv(RECORDS)
    assert timing_csv(again) != timing_csv(RECORDS)
    assert history_csv([EpochRecord(1, 5, 0.25, 1e-3)]) == (
        "epoch,step,loss,lr,val_balanced_accuracy,val_few_shot_recall\n1,5,0.25,0.001,,\n"
    )


def test_a_damaged_history_is_an_error_of_data(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    with pytest.raises(DataError, match="expected the history of a run"):
        read_history(path)
    for text in ("epoch,step\n1,2\n", "epoch,step,loss,lr\n1,2,much,0.1\n"):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match="expected the history of a run"):
            read_history(path)

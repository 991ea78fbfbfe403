"""The best loss beside each other one: scores of runs, and what the page says of both comparisons."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.metrics import balanced_accuracy_score

from tametail.evaluation.resampled_t import resampled_t
from tametail.report.beside import run_scores
from tametail.report.best_beside import beside
from tametail.report.reading import read_results
from tametail.report.runs import find_runs
from tametail.study_file import read_study_file


def test_scores_of_runs_are_those_of_each_fold_by_itself(opened_study: Path) -> None:
    for of_loss in find_runs(opened_study, read_study_file(opened_study)):
        expected = [
            [
                balanced_accuracy_score(table.target[table.fold == fold], table.predicted[table.fold == fold])
                for fold in sorted(set(table.fold))
            ]
            for table in of_loss.replicates
        ]
        np.testing.assert_allclose(run_scores(of_loss.replicates), expected)


def test_the_test_over_runs_knows_the_sizes_of_training_and_held_out_part(opened_study: Path) -> None:
    results = read_results(opened_study)
    best, other = results.ranking
    runs = {of_loss.loss: of_loss for of_loss in find_runs(opened_study, results.settings)}
    scores = [run_scores(runs[result.loss].replicates) for result in (best, other)]
    folds = scores[0].shape[1]
    n = results.counts.train_images
    assert results.over_runs == {other.loss: resampled_t(*scores, n * (folds - 1) / folds, n / folds)}


def test_the_page_has_every_class_in_the_order_of_the_tail(opened_study: Path) -> None:
    results = read_results(opened_study)
    shown = beside(results)
    assert [row.name for row in shown.classes[0][1]] == [
        results.class_names[index] for index in results.class_order
    ]
    runs = find_runs(opened_study, results.settings)[0].replicates
    assert (shown.run_count, shown.left_out) == (run_scores(runs).size, 0)


def test_one_loss_alone_is_compared_with_none(make_study: Callable[..., Path]) -> None:
    results = read_results(make_study(losses=("ce",)))
    assert (results.by_class, results.over_runs, beside(results).classes) == ({}, {}, ())

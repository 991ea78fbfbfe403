"""The best method compared with each other one: scores of runs, and both comparisons on the page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.metrics import balanced_accuracy_score

from fixtures.statsmodels_holm import holm_by_statsmodels
from tametail.evaluation.resampled_t import resampled_t
from tametail.predictions.single_label import Predictions
from tametail.report import write_report
from tametail.report.sections import REPORT_SECTIONS
from tametail.report.study.comparisons import RunComparison, compare_runs, run_scores
from tametail.report.study.reading import read_results
from tametail.report.study.runs import find_runs
from tametail.report.study.tables import class_tests_table, runs_table
from tametail.storage.study_file import read_study_file


def test_scores_of_runs_are_those_of_each_fold_by_itself(evaluated_study: Path) -> None:
    for of_method in find_runs(evaluated_study, read_study_file(evaluated_study)):
        expected = [
            [
                balanced_accuracy_score(table.target[table.fold == fold], table.predicted[table.fold == fold])
                for fold in sorted(set(table.fold))
            ]
            for table in of_method.replicates
        ]
        np.testing.assert_allclose(run_scores(of_method.replicates), expected)


def test_the_test_over_runs_knows_the_sizes_of_training_and_held_out_part(evaluated_study: Path) -> None:
    results = read_results(evaluated_study)
    best, other = results.ranking
    runs = {of_method.method: of_method for of_method in find_runs(evaluated_study, results.settings)}
    scores = [run_scores(runs[result.method].replicates) for result in (best, other)]
    folds = scores[0].shape[1]
    n = results.counts.train_images
    found = resampled_t(*scores, n * (folds - 1) / folds, n / folds)
    assert results.across_runs == {other.method: RunComparison(found, found.p)}


def test_the_best_of_equal_losses_is_not_called_better_over_runs() -> None:
    """Holm over all pairs: the best method was selected by the scores that are tested."""
    rng, wrong = np.random.default_rng(0), 0
    for _ in range(40):
        tables = {f"loss {number}": [_guesses(rng)] for number in range(6)}
        ordered = dict(sorted(tables.items(), key=lambda item: -run_scores(item[1]).mean()))
        compared = compare_runs(ordered, 300, 300).values()
        wrong += any(one.p_holm <= 0.05 for one in compared)
        assert all(one.p_holm >= one.found.p for one in compared)
    assert wrong <= 6


def test_a_single_fold_says_nothing_of_other_training_sets() -> None:
    rng = np.random.default_rng(0)
    tables = {name: [_guesses(rng, folds=1) for _ in range(3)] for name in ("a", "b")}
    assert compare_runs(tables, 300, 300) == {}


def test_class_tests_are_corrected_over_all_tables_shown(evaluated_study: Path) -> None:
    results = read_results(evaluated_study)
    tests = [test for of_method in results.by_class.values() for test in of_method]
    expected = holm_by_statsmodels([test.p for test in tests])
    np.testing.assert_allclose([test.p_holm for test in tests], expected)


def _guesses(rng: np.random.Generator, folds: int = 5) -> Predictions:
    n = 300
    target = np.repeat([0, 1, 2], n // 3)
    logits = rng.normal(size=(n, 3)) + 1.2 * np.eye(3)[target]
    names = np.array([f"{index:03}" for index in range(n)])
    return Predictions(
        names, names, target, np.arange(n) % folds, logits.astype(np.float32), ("a", "b", "c"), "softmax"
    )


def test_the_page_has_every_class_from_the_most_frequent(evaluated_study: Path) -> None:
    results = read_results(evaluated_study)
    table = class_tests_table(results, next(iter(results.by_class)))
    assert [row.cells[0].text for row in table.rows] == [
        results.class_names[index] for index in results.by_frequency
    ]
    runs = find_runs(evaluated_study, results.settings)[0].replicates
    table_of_runs = runs_table(results)
    assert table_of_runs is not None
    assert len(table_of_runs.rows) == len(results.ranking) - 1
    assert next(iter(results.across_runs.values())).difference.n == run_scores(runs).size


def test_a_single_method_is_compared_with_none(make_study: Callable[..., Path]) -> None:
    results = read_results(make_study(methods=("ce",)))
    assert (results.by_class, results.across_runs) == ({}, {})
    shown = REPORT_SECTIONS.get("methods").context(results)
    assert shown is not None
    assert (shown["compared"], shown["matrix"], len(shown["folded_tables"])) == (False, (), 1)


def test_one_primary_test_and_the_test_over_runs_from_three_repeats_on(
    evaluated_study: Path, make_study: Callable[..., Path]
) -> None:
    three = make_study(methods=("ce", "focal"), seeds=(0, 1, 2), folds=3)
    write_report(three)
    few, enough = ((study / "report.html").read_text(encoding="utf-8") for study in (evaluated_study, three))
    for page in (few, enough):
        assert page.count("The primary test:") == 1
    assert "is shown from 3 repeats on; this study has 2." in few
    assert "corrected resampled t test" not in few
    assert "repeats on;" not in enough
    assert "corrected resampled t test" in enough

"""Tables that are evaluated by blocks of rows and one class at a time have the results of whole ones, in less memory."""

from __future__ import annotations

import dataclasses
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from fixtures.close import assert_same
from fixtures.small_blocks import ROWS, use_small_blocks
from tametail.evaluation import evaluate, intervals
from tametail.evaluation.bootstrap import group_bootstrap
from tametail.evaluation.calibration import calibration_of
from tametail.evaluation.calibration_maps import apply_map, calibrate_out_of_fold
from tametail.evaluation.log_loss import log_loss
from tametail.evaluation.operating import operating_point
from tametail.predictions.single_label import (
    LinkName,
    Predictions,
    read_predictions,
    scores,
    write_predictions,
)


def made(
    images: int = 300, classes: int = 5, *, seed: int = 0, link: LinkName = "softmax", posterior: bool = True
) -> Predictions:
    """Patients of about three images, a long tail of classes, and five folds."""
    rng = np.random.default_rng(seed)
    target = rng.choice(classes, images, p=(share := 0.6 ** np.arange(classes)) / share.sum())
    logits = (rng.normal(size=(images, classes)) + 2 * np.eye(classes)[target]).astype(np.float32)
    return Predictions(
        np.array([f"{index:06}.png" for index in range(images)]),
        rng.integers(0, images // 3, images).astype(np.str_),
        target,
        rng.integers(0, 5, images),
        logits,
        tuple(f"c{index:02}" for index in range(classes)),
        link,
        scores(3 * logits, link).astype(np.float32) if posterior else None,
    )


KINDS = [("softmax", True), ("softmax", False), ("sigmoid", True), ("sigmoid", False)]


@pytest.mark.parametrize(("link", "posterior"), KINDS)
def test_blocks_cover_all_rows_and_classes_once(
    monkeypatch: pytest.MonkeyPatch, link: LinkName, posterior: bool
) -> None:
    table = made(link=link, posterior=posterior)
    whole = table.probabilities
    np.testing.assert_allclose(whole.sum(axis=1), 1)
    use_small_blocks(monkeypatch)
    blocks = list(table.probability_blocks())
    assert [rows.start for rows, _ in blocks] == list(range(0, 300, ROWS))
    np.testing.assert_array_equal(np.concatenate([p for _, p in blocks]), whole)
    by_class = np.stack(
        [made(link=link, posterior=posterior).class_probabilities(c) for c in range(5)], axis=1
    )
    np.testing.assert_allclose(by_class, whole, rtol=1e-14)


def test_a_row_of_zeros_has_equal_probabilities() -> None:
    table = made(images=9)
    assert table.posterior is not None
    empty = dataclasses.replace(table, posterior=table.posterior * (np.arange(9) != 4)[:, None])
    assert empty.class_probabilities(2)[4] == pytest.approx(0.2)
    np.testing.assert_array_equal(empty.class_probabilities(2), empty.probabilities[:, 2])


def results(tables: list[Predictions]) -> list[object]:
    calibrated = calibrate_out_of_fold(tables)
    assert calibrated.map.kind != "identity"
    return [
        evaluate(
            tables, class_order=tables[0].class_names, train_counts=[300, 100, 50, 20, 5], resamples=200
        ),
        calibration_of(tables, calibrated),
        log_loss(calibrated.tables),
        operating_point(tables, 3, 0.8),
        log_loss([apply_map(calibrated.map, table) for table in tables]),
    ]


def test_results_of_small_blocks_are_those_of_whole_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = [made(seed=0), dataclasses.replace(made(seed=0), logits=made(seed=0).logits[:, ::-1].copy())]
    expected = results(tables)
    use_small_blocks(monkeypatch)
    for found, of_whole in zip(results(tables), expected, strict=True):
        assert repr(found) == repr(of_whole)


def test_files_of_small_blocks_are_those_of_whole_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = made()
    write_predictions(table, tmp_path / "whole.parquet")
    use_small_blocks(monkeypatch)
    write_predictions(table, tmp_path / "blocks.parquet")
    for name in ("whole.parquet", "blocks.parquet"):
        assert_same(read_predictions(tmp_path / name), table)


def test_sparse_counts_have_the_intervals_of_dense_ones() -> None:
    rng = np.random.default_rng(3)
    trials = rng.poisson(0.4, (500, 6))
    trials[:, 5] = 0
    hits = rng.binomial(trials, 0.8)
    hits[:, 4] = trials[:, 4]
    value = hits[:, :5].sum(axis=0) / trials[:, :5].sum(axis=0)
    value, n = np.append(value, np.nan), trials.sum(axis=0)
    dense = intervals.proportions(value, hits, trials, n)
    found = intervals.proportions(value, sparse.csr_array(hits), sparse.csr_array(trials), n)
    for name in ("low", "high", "trials"):
        np.testing.assert_allclose(getattr(found, name), getattr(dense, name), rtol=1e-12)
    assert isinstance(found.residuals, sparse.csr_array)
    np.testing.assert_allclose(found.residuals.toarray(), dense.residuals, rtol=1e-12, atol=1e-15)
    present = np.arange(6) < 5
    assert found.mean(present, 9).as_dict() == pytest.approx(dense.mean(present, 9).as_dict())

    def means(summed: np.ndarray) -> np.ndarray:
        return np.asarray(summed[:, :5].sum(axis=1) / summed.sum(axis=1))

    strata = rng.integers(0, 3, 500)
    table = np.concatenate([hits, trials - hits], axis=1)
    np.testing.assert_array_equal(
        group_bootstrap(sparse.csr_array(table), strata, means), group_bootstrap(table, strata, means)
    )


def peak(work: Callable[[], object]) -> int:
    """Bytes of NumPy and Python that some work takes beyond those that were in use."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        work()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "work", [lambda table: evaluate([table], resamples=50), lambda table: calibration_of([table])]
)
def test_no_copy_of_all_probabilities_is_made(
    monkeypatch: pytest.MonkeyPatch, work: Callable[[Predictions], object]
) -> None:
    use_small_blocks(monkeypatch, 500)
    table = made(images=40_000, classes=100)
    assert peak(lambda: work(table)) < table.probabilities.nbytes

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import special

from fixtures.close import assert_same
from tametail.core.errors import DataError
from tametail.predictions.multi_label import (
    LabelPredictions,
    check_same_images,
    concatenate_labels,
    ensemble_labels,
    read_label_predictions,
    write_label_predictions,
)
from tametail.predictions.single_label import Predictions, read_predictions, write_predictions

ODD_NAMES = ("naïve 细胞", "a,b;c", "image", "label_", "", 'q"\n\\')


def make_table(
    rows: int = 8, names: tuple[str, ...] = ("a", "b", "c"), seed: int = 0, prefix: str = "im"
) -> LabelPredictions:
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=3, size=(rows, len(names))).astype(np.float32)
    return LabelPredictions(
        np.array([f"{prefix}/{index:03}.png" for index in range(rows)], dtype=np.str_),
        np.array([f"p{index // 2}" for index in range(rows)], dtype=np.str_),
        np.random.default_rng(99).random((rows, len(names))) < 0.3,
        np.arange(rows, dtype=np.int64) % 3,
        logits,
        names,
        special.expit(logits).astype(np.float32),
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logits": np.zeros((8, 2), dtype=np.float32)}, r"expected logits \(8, 3\), got \(8, 2\)"),
        ({"labels": np.zeros((8, 2), dtype=bool)}, r"expected labels \(8, 3\)"),
        ({"labels": np.zeros((8, 3), dtype=np.int64)}, "labels of dtype bool, got int64"),
        ({"posterior": np.full((8, 3), 1.5, dtype=np.float32)}, r"posterior probabilities in \[0, 1\]"),
        ({"group": np.array(["p"])}, "8 entries in group, got 1"),
        ({"image": np.array(list("abcdefga"))}, "each image once"),
        ({"class_names": ("a", "b", "a")}, "different class names"),
        ({"logits": np.full((8, 3), np.inf, dtype=np.float32)}, "finite logits"),
    ],
)
def test_a_table_that_does_not_fit_together_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(make_table(), **change)


@pytest.mark.parametrize("rows", [0, 1, 40])
@pytest.mark.parametrize("names", [("a", "b", "c"), ODD_NAMES])
def test_round_trip(tmp_path: Path, rows: int, names: tuple[str, ...]) -> None:
    table = make_table(rows, names)
    write_label_predictions(table, tmp_path / "p.parquet")
    assert_same(read_label_predictions(tmp_path / "p.parquet"), table)


def test_unknown_labels_are_stored_where_there_are_any(tmp_path: Path) -> None:
    table = make_table(40)
    unknown = (np.random.default_rng(1).random(table.labels.shape) < 0.3) & ~table.labels
    given = dataclasses.replace(table, unknown=unknown)
    write_label_predictions(given, tmp_path / "p.parquet")
    found = read_label_predictions(tmp_path / "p.parquet")
    assert_same(found, given)
    np.testing.assert_array_equal(found.known, ~unknown)
    assert make_table().known.all()
    np.testing.assert_array_equal(ensemble_labels([given, given]).known, ~unknown)
    np.testing.assert_array_equal(given.take(np.array([3, 1])).known, ~unknown[[3, 1]])
    with pytest.raises(ValueError, match="the same unknown in every table"):
        check_same_images([table, given])
    with pytest.raises(ValueError, match="False where they are unknown"):
        dataclasses.replace(table, unknown=table.labels)


def test_the_file_reads_without_tametail(tmp_path: Path) -> None:
    write_label_predictions(make_table(names=("a", "b")), tmp_path / "p.parquet")
    frame = pq.ParquetFile(tmp_path / "p.parquet").read().to_pandas()
    each = [f"{column}_{name}" for name in "ab" for column in ("label", "logit", "p")]
    assert list(frame) == ["image", "group", "fold", *each]
    assert frame["label_b"].tolist() == make_table(names=("a", "b")).labels[:, 1].tolist()


def test_a_reader_can_tell_the_kinds_apart(tmp_path: Path) -> None:
    one = Predictions(
        np.array(["i"]), np.array(["g"]), np.array([0]), np.array([0]), np.zeros((1, 2), np.float32),
        ("a", "b"), "sigmoid",
    )  # fmt: skip
    write_predictions(one, tmp_path / "single.parquet")
    write_label_predictions(make_table(), tmp_path / "multi.parquet")
    with pytest.raises(DataError, match="expected kind multi_label, found single_label"):
        read_label_predictions(tmp_path / "single.parquet")
    with pytest.raises(DataError, match="expected kind single_label, found multi_label"):
        read_predictions(tmp_path / "multi.parquet")


def test_damage_is_a_data_error(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    with pytest.raises(DataError, match=r"p\.parquet"):
        read_label_predictions(path)
    write_label_predictions(make_table(), path)
    table = pq.ParquetFile(path).read()
    pq.write_table(table.drop_columns(["p_a"]), path)
    with pytest.raises(DataError, match="no labels, logits or probabilities"):
        read_label_predictions(path)
    pq.write_table(table.drop_columns(["p_b"]), path)
    with pytest.raises(DataError, match="p_b"):
        read_label_predictions(path)
    path.write_bytes(b"PAR1" * 3)
    with pytest.raises(DataError, match="cannot be read"):
        read_label_predictions(path)


def test_a_label_is_given_from_its_threshold_on() -> None:
    posterior = np.array([[0.2, 0.5], [0.3, 0.7]], dtype=np.float32)
    table = dataclasses.replace(make_table(2, ("a", "b")), posterior=posterior)
    assert table.decided([0.25, 0.5]).tolist() == [[False, True], [True, True]]
    assert table.decided([[0.1, 0.6], [0.4, 0.6]]).tolist() == [[True, False], [False, True]]


def test_concatenate_joins_folds_sorted_by_image() -> None:
    whole = make_table(9)
    parts = [whole.take(rows) for rows in np.split(np.random.default_rng(1).permutation(9), [2, 5])]
    assert_same(concatenate_labels(parts), whole)
    with pytest.raises(ValueError, match="each image once"):
        concatenate_labels([whole, whole])
    with pytest.raises(ValueError, match="tables of the labels"):
        concatenate_labels([whole, make_table(names=("a", "c", "b"), prefix="b")])
    with pytest.raises(ValueError, match="at least one table"):
        concatenate_labels([])


def test_an_ensemble_is_the_mean_probability() -> None:
    tables = [make_table(seed=seed) for seed in range(3)]
    found = ensemble_labels([tables[0], tables[1].take(np.arange(8)[::-1]), tables[2]])
    mean = np.mean([special.expit(table.logits.astype(np.float64)) for table in tables], axis=0)
    np.testing.assert_allclose(found.posterior, mean, rtol=1e-5)
    np.testing.assert_allclose(found.logits, special.logit(mean), rtol=1e-5)
    assert (found.fold == -1).all()
    assert_same(dataclasses.replace(ensemble_labels(tables[:1]), fold=tables[0].fold), tables[0])


def test_the_logits_of_an_ensemble_go_on_where_probabilities_end() -> None:
    table = make_table(2, ("a", "b"))
    far = dataclasses.replace(table, logits=np.array([[500, -500], [600, -600]], dtype=np.float32))
    found = ensemble_labels([far, far])
    np.testing.assert_allclose(found.logits, far.logits)


def test_tables_of_other_images_are_refused() -> None:
    table = make_table()
    with pytest.raises(ValueError, match="same image in every table, table 1 differs"):
        ensemble_labels([table, make_table(prefix="other")])
    with pytest.raises(ValueError, match="same labels in every table"):
        check_same_images([table, dataclasses.replace(table, labels=~table.labels)])

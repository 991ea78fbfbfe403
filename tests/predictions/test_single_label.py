"""The table of predictions: what it accepts, joins and averages, and its round trip through parquet."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from fixtures.close import assert_same
from tametail.core.errors import DataError
from tametail.predictions.single_label import (
    Predictions,
    concatenate,
    ensemble,
    exclusive,
    for_prevalence,
    read_predictions,
    scores,
    write_predictions,
)

ODD_NAMES = (
    "naïve Zelle 细胞",
    "<script>alert('x')</script>",
    "a,b;c",
    "=cmd()",
    "image",
    "logit_",
    "",
    " ",
    'q"\n\\',
)


def _table(rows=6, names=("a", "b", "c"), link="softmax", seed=0, prefix="im", fold=0):
    rng = np.random.default_rng(seed)
    return Predictions(
        np.array([f"{prefix}/{index:03}.png" for index in range(rows)], dtype=np.str_),
        np.array([f"p{index // 2}" for index in range(rows)], dtype=np.str_),
        rng.integers(0, len(names), rows),
        np.arange(rows, dtype=np.int64) % 3 + fold,
        rng.normal(size=(rows, len(names))).astype(np.float32),
        names,
        link,
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logits": np.zeros((6, 2), dtype=np.float32)}, r"expected logits \(6, 3\), got \(6, 2\)"),
        ({"target": np.zeros(5, dtype=np.int64)}, "6 entries in target, got 5"),
        ({"group": np.array(["p"])}, "6 entries in group, got 1"),
        ({"target": np.array([0, 1, 2, 3, 0, 0])}, r"targets in 0\.\.2"),
        ({"target": np.array([0, 1, 2, -1, 0, 0])}, r"targets in 0\.\.2"),
        ({"image": np.array(list("abcdea"))}, "each image once"),
        ({"class_names": ("a", "b", "a")}, "different class names"),
        ({"logits": np.full((6, 3), np.nan, dtype=np.float32)}, "finite logits"),
        ({"link": "probit"}, "expected link"),
    ],
)
def test_a_table_that_does_not_fit_together_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(_table(), **change)


def test_probabilities_agree_with_scipy():
    logits = np.random.default_rng(0).normal(scale=4, size=(50, 5)).astype(np.float32)
    wide = logits.astype(np.float64)
    np.testing.assert_allclose(scores(logits, "softmax"), special.softmax(wide, axis=1))
    yes = special.expit(wide)
    np.testing.assert_allclose(scores(logits, "sigmoid"), yes / yes.sum(axis=1, keepdims=True))


@settings(deadline=None)
@given(
    st.lists(
        st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=3, max_size=3), min_size=1, max_size=9
    ),
    st.sampled_from(["softmax", "sigmoid"]),
)
def test_probabilities_sum_to_one_and_keep_the_order(rows, link):
    logits = np.array(rows, dtype=np.float32)
    found = scores(logits, link)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert (found >= 0).all()
    best = logits.argmax(axis=1)[:, None]
    assert (np.take_along_axis(found, best, axis=1)[:, 0] == found.max(axis=1)).all()


def test_an_unknown_link_is_refused():
    with pytest.raises(ValueError, match="probit"):
        scores(np.zeros((1, 2)), "probit")


@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
def test_round_trip(tmp_path, link):
    table = _table(names=ODD_NAMES, link=link, rows=40)
    write_predictions(table, tmp_path / "predictions.parquet")
    assert_same(read_predictions(tmp_path / "predictions.parquet"), table)


def test_equal_tables_are_equal_files(tmp_path):
    for name in ("first", "second"):
        write_predictions(_table(), tmp_path / name)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_round_trip_of_no_rows(tmp_path):
    write_predictions(_table(rows=0), tmp_path / "none.parquet")
    assert_same(read_predictions(tmp_path / "none.parquet"), _table(rows=0))


def test_round_trip_in_folders_that_look_like_partitions(tmp_path):
    folder = tmp_path / "fold=9" / "image=x"
    folder.mkdir(parents=True)
    write_predictions(_table(fold=3), folder / "predictions.parquet")
    assert_same(read_predictions(folder / "predictions.parquet"), _table(fold=3))


def test_the_file_reads_without_tametail(tmp_path):
    table = _table()
    write_predictions(table, tmp_path / "p.parquet")
    frame = pq.ParquetFile(tmp_path / "p.parquet").read().to_pandas()
    assert list(frame) == ["image", "group", "label", "fold", "logit_a", "logit_b", "logit_c"]
    assert frame["label"].tolist() == [table.class_names[code] for code in table.target]
    assert frame["logit_b"].dtype == np.float32


def test_an_absent_file_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match=r"gone\.parquet"):
        read_predictions(tmp_path / "gone.parquet")


@pytest.mark.parametrize("content", [b"", b"image,group\n", b"PAR1" * 3])
def test_a_file_of_something_else_is_a_data_error(tmp_path, content):
    (tmp_path / "p.parquet").write_bytes(content)
    with pytest.raises(DataError, match="cannot be read"):
        read_predictions(tmp_path / "p.parquet")


def test_parquet_of_something_else_is_a_data_error(tmp_path):
    pq.write_table(pa.table({"image": ["a"]}), tmp_path / "p.parquet")
    with pytest.raises(DataError, match="cannot be read"):
        read_predictions(tmp_path / "p.parquet")


@pytest.mark.parametrize(
    "described", ["null", "{", '{"class_names": null}', '{"class_names": ["a"], "link": "x"}']
)
def test_a_damaged_description_is_a_data_error(tmp_path, described):
    path = tmp_path / "p.parquet"
    write_predictions(_table(), path)
    table = pq.ParquetFile(path).read().replace_schema_metadata({"tametail": described})
    pq.write_table(table, path)
    with pytest.raises(DataError):
        read_predictions(path)


def test_a_missing_value_is_a_data_error(tmp_path):
    path = tmp_path / "p.parquet"
    write_predictions(_table(), path)
    table = pq.ParquetFile(path).read()
    for column, kind in (("fold", pa.int64()), ("image", pa.string()), ("group", pa.string())):
        emptied = pa.array([None, *table[column].to_pylist()[1:]], kind)
        pq.write_table(table.set_column(table.column_names.index(column), column, emptied), path)
        with pytest.raises(DataError):
            read_predictions(path)


def test_a_cut_file_is_a_data_error(tmp_path):
    path = tmp_path / "p.parquet"
    write_predictions(_table(), path)
    whole = path.read_bytes()
    for size in range(0, len(whole), 97):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError):
            read_predictions(path)


def test_no_flipped_byte_changes_numbers_unnoticed(tmp_path):
    path, table = tmp_path / "p.parquet", _table(rows=200)
    write_predictions(table, path)
    whole = path.read_bytes()
    body = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    noticed = 0
    for position in range(4, body, 29):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x10]) + whole[position + 1 :])
        try:
            assert_same(read_predictions(path), table)
        except DataError:
            noticed += 1
    assert noticed > 100


def test_concatenate_joins_folds_sorted_by_image():
    whole = _table(rows=9)
    order = np.random.default_rng(1).permutation(9)
    columns = ("image", "group", "target", "fold", "logits")
    parts = [
        dataclasses.replace(whole, **{name: getattr(whole, name)[rows] for name in columns})
        for rows in np.split(order, [2, 5])
    ]
    assert_same(concatenate(parts), whole)
    assert_same(concatenate(parts[::-1]), whole)
    assert_same(concatenate([whole]), whole)


def test_concatenate_refuses_what_does_not_belong_together():
    with pytest.raises(ValueError, match="same classes and link"):
        concatenate([_table(), _table(prefix="b", link="sigmoid")])
    with pytest.raises(ValueError, match="same classes and link"):
        concatenate([_table(), _table(prefix="b", names=("a", "c", "b"))])
    with pytest.raises(ValueError, match="each image once"):
        concatenate([_table(), _table()])
    with pytest.raises(ValueError, match="at least one table"):
        concatenate([])


def test_ensemble_averages_probabilities():
    tables = [
        _table(seed=0),
        dataclasses.replace(_table(seed=0), logits=-_table(seed=0).logits, link="sigmoid"),
    ]
    found = ensemble(tables)
    expected = np.mean([table.probabilities for table in tables], axis=0)
    np.testing.assert_allclose(found.probabilities, expected, rtol=1e-6)
    np.testing.assert_array_equal(found.predicted, expected.argmax(axis=1))
    assert (found.fold == -1).all()
    assert found.link == "softmax"


@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
def test_ensemble_of_copies_is_the_model_itself(link):
    table = _table(link=link)
    for found in (ensemble([table]), ensemble([table] * 4)):
        np.testing.assert_allclose(found.probabilities, table.probabilities, rtol=1e-6)


def test_ensemble_does_not_depend_on_order():
    tables = [dataclasses.replace(_table(), logits=_table(seed=seed).logits) for seed in range(3)]
    turned = dataclasses.replace(
        tables[1],
        **{n: getattr(tables[1], n)[::-1] for n in ("image", "group", "target", "fold", "logits")},
    )
    expected = ensemble(tables).logits
    np.testing.assert_allclose(ensemble([tables[2], turned, tables[0]]).logits, expected, rtol=1e-6)


def test_ensemble_survives_a_probability_of_zero():
    table = dataclasses.replace(_table(), logits=np.full((6, 3), [0, 1e4, -1e4], dtype=np.float32))
    np.testing.assert_allclose(ensemble([table]).probabilities, [[0, 1, 0]] * 6, atol=1e-300)


def test_ensemble_refuses_what_does_not_belong_together():
    table = _table()
    with pytest.raises(ValueError, match="same images and classes"):
        ensemble([table, _table(prefix="other")])
    with pytest.raises(ValueError, match="same images and classes"):
        ensemble([table, dataclasses.replace(table, class_names=("x", "y", "z"))])
    with pytest.raises(ValueError, match="same target"):
        ensemble([table, dataclasses.replace(table, target=(table.target + 1) % 3)])
    with pytest.raises(ValueError, match="at least one table"):
        ensemble([])


def test_a_posterior_is_kept_beside_the_logits(tmp_path):
    table = _table()
    posterior = np.random.default_rng(1).dirichlet(np.ones(3), size=6).astype(np.float32)
    both = dataclasses.replace(table, posterior=posterior)
    np.testing.assert_allclose(both.probabilities, posterior, atol=1e-6)
    np.testing.assert_array_equal(both.scores, table.scores)
    np.testing.assert_array_equal(both.predicted, table.predicted)
    write_predictions(both, tmp_path / "predictions.parquet")
    assert_same(read_predictions(tmp_path / "predictions.parquet"), both)
    np.testing.assert_array_equal(both.sorted_by_image().posterior, posterior[np.argsort(both.image)])
    with pytest.raises(ValueError, match="posterior probabilities in all tables or in none"):
        concatenate([both, _table(prefix="other")])
    for bad in (posterior[:, :2], posterior + 1):
        with pytest.raises(ValueError, match="expected posterior"):
            dataclasses.replace(table, posterior=bad)


def test_an_ensemble_decides_by_scores_and_tells_posteriors():
    tables = [dataclasses.replace(_table(seed=seed), posterior=None) for seed in (1, 2)]
    tables = [dataclasses.replace(t, target=tables[0].target, fold=tables[0].fold) for t in tables]
    swapped = [dataclasses.replace(t, posterior=t.scores[:, ::-1].astype(np.float32)) for t in tables]
    np.testing.assert_array_equal(ensemble(swapped).predicted, ensemble(tables).predicted)
    np.testing.assert_allclose(ensemble(swapped).probabilities, ensemble(tables).scores[:, ::-1], atol=1e-6)


def test_other_prevalences_by_bayes_rule():
    p = np.array([[0.8, 0.2], [0.5, 0.5]])
    found = for_prevalence(p, np.array([90.0, 10.0]), np.array([0.5, 0.5]))
    np.testing.assert_allclose(found, [[0.8 / 0.9 / (0.8 / 0.9 + 2), 2 / (0.8 / 0.9 + 2)], [0.1, 0.9]])
    np.testing.assert_allclose(for_prevalence(p, np.array([3.0, 7.0]), np.array([0.3, 0.7])), p)
    np.testing.assert_allclose(exclusive(np.array([[0.0, 0.0], [0.2, 0.6]])), [[0.5, 0.5], [0.25, 0.75]])

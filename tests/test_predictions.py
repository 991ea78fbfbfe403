from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import special

from tametail.errors import DataError
from tametail.predictions import (
    Link,
    Predictions,
    concatenate,
    ensemble,
    probabilities,
    read_predictions,
    write_predictions,
)

ODD_NAMES = ("<script>alert(1)</script>", "=cmd()", 'naïve, "quoted"', "核")


def table(
    n: int = 6,
    names: tuple[str, ...] = ("a", "b", "c"),
    link: Link = "softmax",
    seed: int = 0,
    **changes: Any,
) -> Predictions:
    rng = np.random.default_rng(seed)
    fields: dict[str, Any] = {
        "image": np.array([f"i{index}.png" for index in range(n)][::-1], dtype=np.str_),
        "group": np.array([f"g{index % 2}" for index in range(n)], dtype=np.str_),
        "target": np.arange(n) % len(names),
        "fold": np.arange(n) % 2,
        "logits": rng.normal(0, 2, (n, len(names))).astype(np.float32),
        "class_names": names,
        "link": link,
    }
    return Predictions(**(fields | changes))


def same(a: Predictions, b: Predictions) -> bool:
    columns = ("image", "group", "target", "fold", "logits")
    return (a.class_names, a.link) == (b.class_names, b.link) and all(
        np.array_equal(getattr(a, name), getattr(b, name)) for name in columns
    )


@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
@pytest.mark.parametrize("names", [("a", "b", "c"), ODD_NAMES])
def test_a_table_comes_back_from_parquet_as_it_was(
    tmp_path: Path, names: tuple[str, ...], link: Link
) -> None:
    written = table(names=names, link=link)
    write_predictions(written, tmp_path / "p.parquet")
    assert same(read_predictions(tmp_path / "p.parquet"), written)


def test_equal_tables_are_equal_files(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_predictions(table(), tmp_path / name)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_damaged_absent_and_foreign_files_are_refused(tmp_path: Path) -> None:
    import pandas as pd

    path = tmp_path / "p.parquet"
    write_predictions(table(), path)
    whole = path.read_bytes()
    for damage in (b"", whole[:100], whole[:-20], b"no parquet at all"):
        path.write_bytes(damage)
        with pytest.raises(DataError, match="cannot be read"):
            read_predictions(path)
    pd.DataFrame({"image": ["a"]}).to_parquet(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_predictions(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_predictions(tmp_path / "absent.parquet")


@given(
    arrays.arrays(np.float64, (3, 4), elements=st.floats(-1e4, 1e4)), st.sampled_from(["softmax", "sigmoid"])
)
def test_probabilities_are_finite_and_sum_to_one_and_keep_the_order(logits: np.ndarray, link: Link) -> None:
    p = probabilities(logits, link)
    assert np.isfinite(p).all()
    np.testing.assert_allclose(p.sum(axis=1), 1)
    chosen = p[np.arange(3), logits.argmax(axis=1)]
    np.testing.assert_allclose(chosen, p.max(axis=1))


def test_links_agree_with_scipy() -> None:
    logits = np.random.default_rng(0).normal(0, 3, (5, 4))
    np.testing.assert_allclose(probabilities(logits, "softmax"), special.softmax(logits, axis=1))
    sigmoid = special.expit(logits)
    np.testing.assert_allclose(probabilities(logits, "sigmoid"), sigmoid / sigmoid.sum(axis=1, keepdims=True))
    with pytest.raises(ValueError, match="'softmax' or 'sigmoid', got 'probit'"):
        probabilities(logits, "probit")  # type: ignore[arg-type]


@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
def test_an_ensemble_is_the_mean_of_probabilities(link: Link) -> None:
    first, second = table(link=link), table(link=link, seed=1)
    shuffled = second.sorted_by_image()
    joined = ensemble([first, shuffled])
    expected = (first.sorted_by_image().probabilities + shuffled.probabilities) / 2
    np.testing.assert_allclose(joined.probabilities, expected, rtol=1e-5)
    assert set(joined.fold) == {-1}
    np.testing.assert_allclose(
        ensemble([first]).probabilities, first.sorted_by_image().probabilities, rtol=1e-5
    )


def test_an_ensemble_needs_the_same_images() -> None:
    with pytest.raises(ValueError, match="same images"):
        ensemble([table(), table(5)])


def test_folds_join_into_one_table() -> None:
    whole = table()
    parts = [
        Predictions(
            *(
                getattr(whole, name)[whole.fold == fold]
                for name in ("image", "group", "target", "fold", "logits")
            ),
            whole.class_names,
            whole.link,
        )
        for fold in (1, 0)
    ]
    assert same(concatenate(parts), whole.sorted_by_image())
    with pytest.raises(ValueError, match="same classes and link"):
        concatenate([whole, table(link="sigmoid")])


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match=r"expected logits \(6, 3\), got \(6, 2\)"):
        table(logits=np.zeros((6, 2), np.float32))
    with pytest.raises(ValueError, match="expected 6 entries in fold, got 5"):
        table(fold=np.zeros(5, np.int64))

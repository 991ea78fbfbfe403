from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tametail.data import RowStore
from tametail.data.row_store import ArrayRows, as_rows

WHOLE = np.random.default_rng(0).integers(0, 256, (40, 3, 2), np.uint8)


@given(
    st.lists(st.integers(0, 40), max_size=4).map(sorted),
    st.lists(st.integers(0, 39), max_size=60),
)
def test_shards_give_the_rows_of_the_whole_array(cuts: list[int], rows: list[int]) -> None:
    store = ArrayRows(np.split(WHOLE, cuts))
    chosen = np.array(rows, dtype=np.int64)
    taken = store.take(chosen)
    assert taken.dtype == store.dtype == np.uint8
    assert np.array_equal(taken, WHOLE[chosen])
    assert (store.shape, len(store)) == (WHOLE.shape, 40)
    assert np.array_equal(np.asarray(store), WHOLE)
    assert np.array_equal(np.stack(list(store)), WHOLE)
    assert np.array_equal(store[7], WHOLE[7])


def test_taken_rows_are_copies() -> None:
    array = WHOLE.copy()
    for store in (ArrayRows([array]), ArrayRows([array[:3], array[3:]])):
        store.take(np.arange(40))[:] = 0
        assert np.array_equal(array, WHOLE)


@pytest.mark.parametrize("rows", [[-1], [40], [3, -2]])
def test_rows_outside_are_refused(rows: list[int]) -> None:
    for store in (ArrayRows([WHOLE]), ArrayRows([WHOLE[:3], WHOLE[3:]])):
        with pytest.raises(IndexError, match=r"expected rows in 0\.\.39"):
            store.take(np.array(rows))


def test_arrays_of_other_rows_are_refused() -> None:
    for arrays in ([], [WHOLE, WHOLE[:, :2]], [WHOLE, WHOLE.astype(np.float32)]):
        with pytest.raises(ValueError, match="rows of one type and shape"):
            ArrayRows(arrays)


def test_an_array_becomes_a_store_once() -> None:
    store = as_rows(WHOLE)
    assert isinstance(store, RowStore)
    assert as_rows(store) is store


class Doubled(RowStore):
    """A store of another kind, which has only what it must."""

    def __init__(self, array: NDArray[np.uint8]) -> None:
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        return 2 * self.array[rows]


def test_what_a_store_need_not_define() -> None:
    store = Doubled(WHOLE)
    assert np.array_equal(np.asarray(store), 2 * WHOLE)
    assert np.array_equal(np.stack(list(store)), 2 * WHOLE)


def test_memory_mapped_files_go_to_another_process_by_their_names(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (500, 16, 16, 3), np.uint8)
    np.save(tmp_path / "pixels.npy", pixels)
    mapped = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    for arrays in ([mapped], [mapped, mapped], [mapped[100:]], [pixels]):
        sent = pickle.dumps(ArrayRows(arrays))
        again = pickle.loads(sent)
        assert np.array_equal(np.asarray(again), np.concatenate(arrays))
        assert (len(sent) < pixels.nbytes / 10) == (arrays[0] is mapped)
    assert isinstance(next(iter(pickle.loads(pickle.dumps(ArrayRows([mapped]))))), np.memmap)

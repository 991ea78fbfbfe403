from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tametail.core.errors import UsageError
from tametail.data.sampling.samplers import (
    ClassOrder,
    SamplerName,
    ShuffledOrder,
    make_order,
    occurrences,
    uniform_draws,
)

COUNTS = [60, 25, 10, 5]
TARGET = np.repeat(np.arange(4), COUNTS)
ALL: list[SamplerName] = ["shuffled", "balanced", "sqrt", "progressive", "deferred"]


def shown(sampler: SamplerName, epoch: int, *, epochs: int = 5, target: np.ndarray = TARGET) -> np.ndarray:
    return make_order(sampler, target, seed=1, epochs=epochs).positions(epoch)


def class_counts(sampler: SamplerName, epoch: int, **how: object) -> list[int]:
    return np.bincount(TARGET[shown(sampler, epoch, **how)], minlength=4).tolist()  # type: ignore[arg-type]


def test_frequencies_are_those_asked_for() -> None:
    assert class_counts("shuffled", 3) == COUNTS
    assert class_counts("balanced", 3) == [25, 25, 25, 25]
    roots = np.sqrt(COUNTS)
    np.testing.assert_allclose(class_counts("sqrt", 3), 100 * roots / roots.sum(), atol=1)


def test_progressive_goes_from_the_classes_own_frequencies_to_equal_ones() -> None:
    assert class_counts("progressive", 0) == COUNTS
    assert class_counts("progressive", 4) == [25, 25, 25, 25]
    np.testing.assert_allclose(class_counts("progressive", 2), (np.array(COUNTS) + 25) / 2, atol=1)
    assert class_counts("progressive", 0, epochs=1) == COUNTS


def test_deferred_is_the_shuffled_order_and_balanced_in_the_last_epochs() -> None:
    for epoch in range(4):
        np.testing.assert_array_equal(shown("deferred", epoch), shown("shuffled", epoch))
    assert class_counts("deferred", 4) == [25, 25, 25, 25]
    assert not np.array_equal(
        shown("deferred", 4), shown("balanced", 4)
    )  # it goes on where shuffled has stopped
    assert class_counts("deferred", 0, epochs=1) == [25, 25, 25, 25]


@given(st.integers(1, 40), st.floats(0.01, 0.99))
@settings(max_examples=40, deadline=None)
def test_deferred_begins_with_the_epoch_that_the_recipe_names(epochs: int, share: float) -> None:
    from tametail.training.recipe import Recipe

    fields = {"name": "a", "trains": "head", "backbone": "b", "batch_size": 1, "optimizer": {"lr": 1}}
    recipe = Recipe.model_validate(fields | {"epochs": epochs, "deferred_from": share})
    order = make_order("deferred", TARGET, seed=1, epochs=epochs, deferred_from=share)
    for epoch in {max(recipe.deferred_epoch - 1, 0), recipe.deferred_epoch, epochs - 1}:
        counts = np.bincount(TARGET[order.positions(epoch)]).tolist()
        assert counts == ([25] * 4 if epoch >= recipe.deferred_epoch else COUNTS)


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=6).filter(any),
    st.sampled_from(ALL),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_a_class_shows_all_its_images_before_any_again(
    counts: list[int], name: SamplerName, seed: int
) -> None:
    target = np.repeat(np.arange(len(counts)), counts)
    order = make_order(name, target, seed=seed, epochs=4)
    seen = np.zeros(len(target), np.int64)
    for epoch in range(4):
        positions = order.positions(epoch)
        assert len(positions) == len(target) == len(order)
        seen += np.bincount(positions, minlength=len(target))
        assert all(np.ptp(seen[target == c]) <= 1 for c in np.unique(target))


def test_what_rounding_leaves_over_favours_no_class() -> None:
    order = make_order("balanced", np.repeat([0, 1, 2], [7, 2, 1]), seed=0)
    assert isinstance(order, ClassOrder)
    quotas = np.array([order.quotas(epoch) for epoch in range(300)])
    assert set(quotas.sum(1)) == {10}
    assert abs(quotas.mean(0) - 10 / 3).max() < 0.1


@pytest.mark.parametrize("sampler", ALL)
def test_orders_are_functions_of_seed_and_epoch(sampler: SamplerName) -> None:
    orders = {
        tuple(make_order(sampler, TARGET, seed=s, epochs=3).positions(e)) for s in (0, 1) for e in (0, 1)
    }
    assert len(orders) == 4
    order = make_order(sampler, TARGET, seed=0, epochs=3)
    first = order.positions(1)
    order.positions(0)
    assert np.array_equal(order.positions(1), first)


@pytest.mark.parametrize("sampler", ALL)
def test_orders_know_what_they_have_shown_before(sampler: SamplerName) -> None:
    order = make_order(sampler, TARGET, seed=2, epochs=3)
    for epoch in range(3):
        positions = order.positions(epoch)
        assert np.array_equal(order.occurrences(epoch, positions), occurrences(positions))


def test_the_shuffled_order_is_torchs_own_permutation() -> None:
    state = int(np.random.SeedSequence([4, 2, 0]).generate_state(1, np.uint64)[0])
    expected = torch.randperm(30, generator=torch.Generator().manual_seed(state >> 1))
    assert ShuffledOrder(30, seed=4).positions(2).tolist() == expected.tolist()


@given(st.lists(st.integers(0, 6)))
def test_occurrences_count_what_came_before(values: list[int]) -> None:
    expected = [values[:place].count(value) for place, value in enumerate(values)]
    assert occurrences(np.array(values, np.int64)).tolist() == expected


def test_draws_are_splitmix64_at_any_place() -> None:
    def reference(state: int) -> int:
        """Steele, Lea & Flood's nextSeed and mix64, in whole numbers."""
        z = state & (2**64 - 1)
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)

    key = int(np.random.SeedSequence([6, 1, 1]).generate_state(1, np.uint64)[0])
    draws = uniform_draws(6, 1, np.array([0, 5]), 3)
    places = [1, 2, 3, 16, 17, 18]
    expected = [(reference(key + place * 0x9E3779B97F4A7C15) >> 40) / 2**24 for place in places]
    assert draws.ravel().tolist() == expected


def test_draws_are_uniform_and_independent_of_each_other() -> None:
    draws = uniform_draws(3, 0, np.arange(20_000), 4)
    assert draws.dtype == np.float32
    assert draws.min() >= 0
    assert draws.max() < 1
    np.testing.assert_allclose(draws.mean(0), 0.5, atol=0.01)
    np.testing.assert_allclose(draws.var(0), 1 / 12, atol=0.003)
    together = np.column_stack([draws, uniform_draws(3, 1, np.arange(20_000), 4), np.roll(draws, 1, axis=0)])
    assert abs(np.corrcoef(together.T) - np.eye(12)).max() < 0.03


def test_wrong_use_is_named() -> None:
    with pytest.raises(UsageError, match=r"got 'balance'; did you mean balanced"):
        make_order("balance", TARGET, seed=0)  # type: ignore[arg-type]
    for sampler in ("progressive", "deferred"):
        with pytest.raises(ValueError, match=f"expected the number of epochs.* for the {sampler} sampler"):
            make_order(sampler, TARGET, seed=0)
    with pytest.raises(ValueError, match=r"expected deferred_from in \(0, 1\).*got 1"):
        make_order("deferred", TARGET, seed=0, epochs=5, deferred_from=1)

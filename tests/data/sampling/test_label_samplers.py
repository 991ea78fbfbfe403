from __future__ import annotations

import numpy as np
import pytest

from tametail.data.sampling.label_samplers import WeightedOrder, label_weights, make_label_order


def labels(n: int = 2000, seed: int = 0) -> np.ndarray:
    """A frequent, a medium and a rare label; the rare one mostly occurs with the frequent one."""
    rng = np.random.default_rng(seed)
    frequent = rng.random(n) < 0.4
    rare = (rng.random(n) < 0.05) & (frequent | (rng.random(n) < 0.2))
    return np.stack([frequent, rng.random(n) < 0.1, rare], axis=1).astype(np.float32)


def test_labels_are_shown_equally_often_although_they_occur_together() -> None:
    given = labels()
    before = given.sum(axis=0)
    shown = label_weights(given > 0, 0.0) @ given
    assert before.max() / before.min() > 14
    assert shown.max() / shown.min() < 1.3
    # The weight of each image alone, by its rarest label, leaves the frequent label ahead.
    naive = (given / before).max(axis=1) @ given
    assert shown.max() / shown.min() < naive.max() / naive.min()


def test_without_labels_that_occur_together_the_balance_is_exact() -> None:
    given = np.repeat(np.eye(3), [600, 100, 50], axis=0)
    assert label_weights(given > 0, 0.0) @ given == pytest.approx([250, 250, 250], rel=1e-6)
    roots = np.sqrt([600, 100, 50])
    assert label_weights(given > 0, 0.5) @ given == pytest.approx(750 * roots / roots.sum(), rel=1e-6)
    assert label_weights(given > 0, 1.0) == pytest.approx(np.ones(750))


def test_weights_are_bounded_and_images_without_labels_keep_theirs() -> None:
    given = np.zeros((1000, 2))
    given[:500, 0] = 1
    given[0] = [0, 1]
    weights = label_weights(given > 0, 0.0)
    assert weights.max() <= 20 + 1e-9
    assert (weights[500:] == 1).all()
    assert (label_weights(np.zeros((5, 2), bool), 0.0) == 1).all()


def test_counts_of_an_epoch_are_within_one_of_the_exact_ones() -> None:
    weights = np.random.default_rng(0).gamma(1.0, size=300)
    order = WeightedOrder(300, 7, lambda epoch: weights)
    exact = weights / weights.sum() * 300
    for epoch in range(3):
        counts = np.bincount(order.positions(epoch), minlength=300)
        assert counts.sum() == 300
        assert (np.abs(counts - exact) < 1 + 1e-9).all()
    total = sum(np.bincount(order.positions(epoch), minlength=300) for epoch in range(300)) / 300
    assert total == pytest.approx(exact, abs=0.12)


@pytest.mark.parametrize("sampler", ["shuffled", "balanced", "sqrt", "progressive", "deferred"])
def test_the_order_depends_on_seed_and_epoch_alone(sampler: str) -> None:
    def make(seed: int = 3) -> list[list[int]]:
        order = make_label_order(sampler, labels(200), seed=seed, epochs=5)  # type: ignore[arg-type]
        return [order.positions(epoch).tolist() for epoch in (4, 0, 2)]

    assert make() == make()
    assert make() != make(4)
    assert all(len(epoch) == 200 for epoch in make())


def test_deferred_and_progressive_end_balanced() -> None:
    given = labels()
    for sampler in ("deferred", "progressive"):
        order = make_label_order(sampler, given, seed=0, epochs=10)  # type: ignore[arg-type]
        first, last = (given[order.positions(epoch)].sum(axis=0) for epoch in (0, 9))
        assert first == pytest.approx(given.sum(axis=0), abs=1)
        assert last.max() / last.min() < 2.4


def test_unknown_labels_count_as_absent() -> None:
    given = labels(500)
    unknown = given.copy()
    unknown[given[:, 1] > 0, 1] = np.nan
    absent = np.nan_to_num(unknown)
    orders = [make_label_order("balanced", each, seed=1) for each in (unknown, absent)]
    assert np.array_equal(orders[0].positions(0), orders[1].positions(0))


def test_missing_epochs_are_refused() -> None:
    for sampler in ("progressive", "deferred"):
        with pytest.raises(ValueError, match="expected the number of epochs"):
            make_label_order(sampler, labels(50), seed=0)  # type: ignore[arg-type]


def test_bounds_hold_for_what_is_shown() -> None:
    """Images at the bound of 20 leave weights to the others, not to images without labels."""
    for seed in range(3):
        prevalence = np.array([0.5, 0.3, 0.1, 0.01, 0.003, 0.001])
        has = np.random.default_rng(seed).random((2000, 6)) < prevalence
        weights = label_weights(has, 0.0)
        assert weights.mean() == pytest.approx(1.0, abs=1e-9)
        assert weights.max() == pytest.approx(20.0)
        assert np.all(weights[~has.any(axis=1)] == 1)

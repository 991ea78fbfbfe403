from __future__ import annotations

import numpy as np
import pytest
import torch

from tametail.data.row_store import ArrayRows
from tametail.data.sampling.loaders import Batch, training_batches
from tametail.data.sampling.samplers import SamplerName


def epoch_of(seed: int, epoch: int, batch_size: int = 4) -> list[tuple[list[int], torch.Tensor]]:
    array = np.arange(30, dtype=np.float32).reshape(10, 3)
    batches = training_batches(array, np.arange(10), np.arange(10), batch_size=batch_size, seed=seed)
    return [(batch.target.tolist(), batch.draws) for batch in batches.epoch(epoch)]


def test_order_and_draws_are_a_function_of_seed_and_epoch() -> None:
    for (target, draws), (target_again, draws_again) in zip(epoch_of(1, 2), epoch_of(1, 2), strict=True):
        assert target == target_again
        assert torch.equal(draws, draws_again)
    orders = {
        tuple(t for target, _ in epoch_of(seed, epoch) for t in target)
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(orders) == 9


def test_an_images_draws_do_not_depend_on_the_batch_it_is_in() -> None:
    def by_image(batch_size: int) -> dict[int, list[float]]:
        return {
            t: d.tolist()
            for target, draws in epoch_of(5, 1, batch_size)
            for t, d in zip(target, draws, strict=True)
        }

    assert by_image(4) == by_image(5)


def test_every_row_comes_once_with_its_inputs_and_target() -> None:
    array = np.arange(30, dtype=np.float32).reshape(10, 3)
    rows = np.array([1, 4, 7])
    batches = training_batches(array, rows, np.array([10, 40, 70]), batch_size=3, seed=0)
    seen = {
        int(t): x.tolist()
        for batch in batches.epoch(0)
        for x, t in zip(batch.inputs, batch.target, strict=True)
    }
    assert seen == {10: [3, 4, 5], 40: [12, 13, 14], 70: [21, 22, 23]}


def test_no_batch_of_one_is_made_but_of_a_single_image() -> None:
    array = np.zeros((9, 2), np.float32)
    for n, sizes in ((9, [4, 4]), (8, [4, 4]), (6, [4, 2]), (1, [1])):
        batches = training_batches(array, np.arange(n), np.zeros(n, np.int64), batch_size=4, seed=0)
        assert [len(batch.target) for batch in batches.epoch(0)] == sizes
        assert [batches.size(step) for step in range(batches.steps)] == sizes


def batches_of(
    sampler: SamplerName, *, batch_size: int = 7, epochs: int = 2, **options: int
) -> list[list[Batch]]:
    """One list per epoch, of a tail of 40, 12 and 5 images."""
    target = np.repeat([0, 1, 2], [40, 12, 5])
    array = np.arange(len(target) * 3, dtype=np.float32).reshape(-1, 3)
    batches = training_batches(
        array,
        np.arange(len(target)),
        target,
        batch_size=batch_size,
        seed=8,
        sampler=sampler,
        epochs=epochs,
        **options,
    )
    return [list(batches.epoch(epoch)) for epoch in range(epochs)]


@pytest.mark.parametrize("first", [0, 1, 5, 8])
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("workers", [0, 1])
def test_the_rest_of_an_epoch_is_what_the_whole_epoch_ends_with(first: int, workers: int) -> None:
    array = np.arange(57 * 3, dtype=np.float32).reshape(-1, 3)
    target = np.repeat([0, 1, 2], [40, 12, 5])
    batches = training_batches(
        array, np.arange(57), target, batch_size=7, seed=8, sampler="balanced", workers=workers
    )
    whole = list(batches.epoch(3))
    assert len(whole) == batches.steps == 8
    for ours, theirs in zip(batches.epoch(3, first), whole[first:], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert len(list(batches.epoch(4))) == 8, "the next epoch is whole again"


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("sampler", ["shuffled", "balanced"])
def test_processes_share_every_batch_out_among_them(sampler: SamplerName, world: int) -> None:
    lock = batches_of(sampler, batch_size=9)
    shares = [batches_of(sampler, batch_size=9, rank=rank, world=world) for rank in range(world)]
    for epoch, whole in enumerate(lock):
        for step, batch in enumerate(whole):
            parts = [share[epoch][step] for share in shares]
            joined = torch.cat([part.draws for part in parts])
            sharing = min(world, len(batch.target) // 2)
            expected = torch.cat([batch.draws[rank::sharing] for rank in range(sharing)])
            assert torch.equal(joined[: len(expected)], expected)


def test_a_process_without_images_of_its_own_keeps_the_others_company() -> None:
    options = {"batch_size": 8, "seed": 0, "world": 4}
    shares = [
        training_batches(np.zeros((10, 2)), np.arange(10), np.arange(10), rank=rank, **options)  # type: ignore[arg-type]
        for rank in range(4)
    ]
    last = [list(share.epoch(0))[1] for share in shares]  # of two images
    assert [len(batch.target) for batch in last] == [2, 2, 2, 2]
    assert [share.share(1) for share in shares] == [1.0, 0.0, 0.0, 0.0]
    assert all(share.share(0) == 0.25 for share in shares)


# Newer Pythons warn of any fork in a process with threads, and torch has some.
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("workers", [1, 2])
def test_batches_do_not_depend_on_the_number_of_worker_processes(workers: int) -> None:
    for here, there in zip(batches_of("balanced"), batches_of("balanced", workers=workers), strict=True):
        for ours, theirs in zip(here, there, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("sampler", ["shuffled", "balanced", "sqrt", "progressive"])
def test_order_and_draws_do_not_depend_on_the_batch_size(sampler: SamplerName) -> None:
    def joined(batch_size: int) -> list[torch.Tensor]:
        return [
            torch.cat(field)
            for epoch in batches_of(sampler, batch_size=batch_size)
            for field in zip(*epoch, strict=True)
        ]

    assert all(torch.equal(a, b) for a, b in zip(joined(4 * 57), joined(3), strict=True))


def test_an_image_shown_again_in_an_epoch_gets_other_draws() -> None:
    for epoch in batches_of("balanced"):
        inputs = torch.cat([batch.inputs for batch in epoch])
        draws = torch.cat([batch.draws for batch in epoch])
        assert len(inputs.unique(dim=0)) < len(inputs)
        assert len(draws.unique(dim=0)) == len(draws)


def test_batches_of_several_shards_are_those_of_one_array() -> None:
    array = np.arange(30, dtype=np.float32).reshape(10, 3)
    rows = np.array([1, 4, 7, 9, 0])
    options = {"batch_size": 2, "seed": 3}
    for store in (array, ArrayRows([array]), ArrayRows([array[:2], array[2:2], array[2:8], array[8:]])):
        seen = [
            batch.inputs
            for batch in training_batches(store, rows, rows, **options).epoch(0)  # type: ignore[arg-type]
        ]
        whole = [batch.inputs for batch in training_batches(array, rows, rows, **options).epoch(0)]  # type: ignore[arg-type]
        assert all(torch.equal(a, b) for a, b in zip(seen, whole, strict=True))

from __future__ import annotations

import numpy as np
import pytest
import torch

from tametail.data.loaders import DRAWS, EpochOrder, Preprocess, training_batches


def epoch_of(seed: int, epoch: int, batch_size: int = 4) -> list[tuple[list[int], torch.Tensor]]:
    array = np.arange(30, dtype=np.float32).reshape(10, 3)
    loader, order = training_batches(array, np.arange(10), np.arange(10), batch_size=batch_size, seed=seed)
    order.set_epoch(epoch)
    return [(batch.target.tolist(), batch.draws) for batch in loader]


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
    loader, _ = training_batches(array, rows, np.array([10, 40, 70]), batch_size=3, seed=0)
    seen = {int(t): x.tolist() for batch in loader for x, t in zip(batch.inputs, batch.target, strict=True)}
    assert seen == {10: [3, 4, 5], 40: [12, 13, 14], 70: [21, 22, 23]}


def test_no_batch_of_one_is_made_but_of_a_single_image() -> None:
    array = np.zeros((9, 2), np.float32)
    for n, sizes in ((9, [4, 4]), (8, [4, 4]), (6, [4, 2]), (1, [1])):
        loader, _ = training_batches(array, np.arange(n), np.zeros(n, np.int64), batch_size=4, seed=0)
        assert [len(batch.target) for batch in loader] == sizes


def test_draws_are_uniform_and_differ_between_epochs() -> None:
    order = EpochOrder(2000, seed=3)
    first = order.draws()
    order.set_epoch(1)
    assert first.shape == (2000, DRAWS)
    assert not torch.equal(first, order.draws())
    assert abs(float(first.mean()) - 0.5) < 0.01


def test_evaluation_takes_the_centre_and_normalises() -> None:
    pixels = torch.zeros(1, 6, 6, 3, dtype=torch.uint8)
    pixels[:, 1:5, 1:5] = 255
    inputs = Preprocess(4, (0.5, 0.5, 0.5), (0.25, 0.5, 1.0))(pixels)
    assert inputs.shape == (1, 3, 4, 4)
    assert [float(channel.unique()) for channel in inputs[0]] == [2.0, 1.0, 0.5]


def asymmetric() -> torch.Tensor:
    pixels = torch.arange(8 * 8 * 3, dtype=torch.uint8).reshape(1, 8, 8, 3)
    return pixels


def moved(draws: list[float], **how: object) -> torch.Tensor:
    preprocess = Preprocess(8, (0, 0, 0), (1 / 255, 1 / 255, 1 / 255), **how)  # type: ignore[arg-type]
    return preprocess(asymmetric(), torch.tensor([draws]))[0]


STILL = asymmetric()[0].permute(2, 0, 1).float()


def test_draws_in_the_middle_of_no_augmentation_change_nothing() -> None:
    torch.testing.assert_close(moved([0.3, 0.9, 0.1, 0.9, 0.2, 0.8]), STILL, rtol=0, atol=1e-3)


@pytest.mark.parametrize(("draws", "axes"), [((0.9, 0.1), (2,)), ((0.1, 0.9), (1,)), ((0.9, 0.9), (1, 2))])
def test_flips_mirror_exactly(draws: tuple[float, float], axes: tuple[int, ...]) -> None:
    turned = moved([0.0, 0.5, *draws, 0.5, 0.5], flip=True)
    torch.testing.assert_close(turned, STILL.flip(axes), rtol=0, atol=1e-3)


def test_a_quarter_turn_turns_and_keeps_its_sense_under_a_flip() -> None:
    turned = moved([0.0, 1.0, 0.1, 0.1, 0.5, 0.5], rotation=90, flip=True)
    torch.testing.assert_close(turned, STILL.rot90(1, (1, 2)), rtol=0, atol=1e-2)


def test_scale_and_shift_look_at_a_part_of_the_image() -> None:
    corner = moved([0.0, 0.5, 0.1, 0.1, 0.0, 0.0], scale=(0.5, 0.5))
    assert float(corner.max()) <= float(STILL[:, :5, :5].max()) + 1e-3

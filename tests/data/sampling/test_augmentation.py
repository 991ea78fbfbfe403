from __future__ import annotations

import pytest
import torch

from tametail.data.sampling.augmentation import Preprocess


def test_evaluation_takes_the_centre_and_normalises() -> None:
    pixels = torch.zeros(1, 6, 6, 3, dtype=torch.uint8)
    pixels[:, 1:5, 1:5] = 255
    inputs = Preprocess(4, (0.5, 0.5, 0.5), (0.25, 0.5, 1.0))(pixels)
    assert inputs.shape == (1, 3, 4, 4)
    assert [float(channel.unique()) for channel in inputs[0]] == [2.0, 1.0, 0.5]


def sharpness(inputs: torch.Tensor) -> float:
    """Mean difference between neighbours."""
    return float(inputs.diff(dim=2).abs().mean() + inputs.diff(dim=3).abs().mean())


def test_a_larger_canvas_is_judged_as_sharp_as_it_is_learned_from() -> None:
    torch.manual_seed(0)
    crop, low = 128 / 146, 0.7
    pixels = torch.randint(0, 256, (32, 183, 183, 3), dtype=torch.uint8)
    preprocess = Preprocess(128, (0, 0, 0), (1, 1, 1), crop=crop, flip=True, scale=(low, 1.0))
    judged, learned = sharpness(preprocess(pixels)), sharpness(preprocess(pixels, torch.rand(32, 8)))
    assert learned == pytest.approx(judged, rel=0.1)
    own = preprocess(torch.randint(0, 256, (2, 146, 146, 3), dtype=torch.uint8))
    assert sharpness(own) > 1.2 * judged  # pixels as they are, which no augmentation shows


def test_the_centre_of_a_larger_canvas_is_the_same_part_of_the_image() -> None:
    ramp = torch.linspace(0, 255, 80).round().to(torch.uint8)
    pixels = ramp.view(1, 1, 80, 1).expand(1, 80, 80, 3)
    inputs = Preprocess(32, (0, 0, 0), (1 / 255, 1 / 255, 1 / 255), crop=0.8)(pixels)
    step = 255 / 79 * 2
    expected = (torch.arange(32) * step + 8.5 * step / 2).expand(1, 3, 32, 32)
    torch.testing.assert_close(inputs, expected, rtol=0, atol=1.0)


def asymmetric() -> torch.Tensor:
    pixels = torch.arange(8 * 8 * 3, dtype=torch.uint8).reshape(1, 8, 8, 3)
    return pixels


def moved(draws: list[float], **how: object) -> torch.Tensor:
    preprocess = Preprocess(8, (0, 0, 0), (1 / 255, 1 / 255, 1 / 255), **how)  # type: ignore[arg-type]
    return preprocess(asymmetric(), torch.tensor([draws + [0.5] * (8 - len(draws))]))[0]


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


def test_one_flip_alone_leaves_the_other_axis() -> None:
    for flip, axes in (("horizontal", (2,)), ("vertical", (1,))):
        turned = moved([0.0, 0.5, 0.9, 0.9, 0.5, 0.5], flip=flip)
        torch.testing.assert_close(turned, STILL.flip(axes), rtol=0, atol=1e-3)


def test_colour_changes_brightness_and_contrast_by_the_share_asked_for() -> None:
    brighter = moved([0.0, 0.5, 0.1, 0.1, 0.5, 0.5, 1.0, 0.5], colour=0.2)
    torch.testing.assert_close(brighter, STILL + 0.2 * STILL.mean(), rtol=0, atol=1e-2)
    reduced = moved([0.0, 0.5, 0.1, 0.1, 0.5, 0.5, 0.5, 0.0], colour=0.2)
    torch.testing.assert_close(reduced, 0.8 * STILL + 0.2 * STILL.mean(), rtol=0, atol=1e-2)
    torch.testing.assert_close(moved([0.0, 0.5, 0.1, 0.1, 0.5, 0.5, 0.9, 0.9]), STILL, rtol=0, atol=1e-3)

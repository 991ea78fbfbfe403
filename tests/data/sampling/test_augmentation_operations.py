"""The further changes: which are drawn, how far they go, and what they leave alone."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from tametail.data.sampling.augmentation import (
    DRAWS,
    EXTRA_DRAWS,
    LARGEST,
    Preprocess,
    drawn_amounts,
    erased,
    sharpened,
    toned,
)
from tametail.data.sampling.samplers import extra_draws, uniform_draws

SIDE = 32
KINDS = list(LARGEST)


def smooth_images(n: int) -> torch.Tensor:
    """Coloured waves without noise (n, SIDE, SIDE, 3) uint8."""
    torch.manual_seed(0)
    coarse = torch.rand(n, 3, 5, 5) * 200 + 25
    fine = torch.nn.functional.interpolate(coarse, SIDE, mode="bicubic").clamp(0, 255)
    return fine.permute(0, 2, 3, 1).round().byte()


PIXELS = smooth_images(24)
STILL = PIXELS.permute(0, 3, 1, 2).float()


def draws_of(n: int, operations: Mapping[int, tuple[str, float]]) -> torch.Tensor:
    """Draws that name an operation's kind and its strength in [-1, 1] by its place, and change nothing else."""
    draws = torch.full((n, DRAWS + EXTRA_DRAWS), 0.5)
    draws[:, 2:4] = 0.1
    for place, (kind, strength) in operations.items():
        draws[:, DRAWS + 2 * place] = (KINDS.index(kind) + 0.5) / len(KINDS)
        draws[:, DRAWS + 2 * place + 1] = (strength + 1) / 2
    return draws


def random_draws(n: int, epoch: int = 0) -> torch.Tensor:
    counters = np.arange(n)
    both = [uniform_draws(5, epoch, counters, DRAWS), extra_draws(5, epoch, counters, EXTRA_DRAWS)]
    return torch.from_numpy(np.concatenate(both, axis=1))


def changed(draws: torch.Tensor, **how: object) -> torch.Tensor:
    preprocess = Preprocess(SIDE, (0, 0, 0), (1 / 255,) * 3, **how)  # type: ignore[arg-type]
    return preprocess(PIXELS[: len(draws)], draws)


def one(kind: str, strength: float, magnitude: float = 1.0) -> torch.Tensor:
    return changed(draws_of(24, {0: (kind, strength)}), operations=1, magnitude=magnitude)


def test_all_operations_at_no_strength_leave_the_image() -> None:
    for kind in KINDS:
        torch.testing.assert_close(one(kind, 0.0), STILL, rtol=0, atol=1e-2)
    weak = changed(random_draws(24), operations=4, magnitude=1e-6)
    torch.testing.assert_close(weak, STILL, rtol=0, atol=1e-2)


def test_each_operation_does_something_and_stronger_does_more() -> None:
    for kind in KINDS:
        for sign in (-1, 1):
            far = [float((one(kind, sign, magnitude) - STILL).abs().mean()) for magnitude in (0.3, 1.0)]
            assert 0.02 < far[0] < far[1], kind


@pytest.mark.parametrize(
    ("kind", "matrix"),
    [
        ("rotate", [[math.cos(math.pi / 4), -math.sin(math.pi / 4), 0], [math.sin(math.pi / 4), math.cos(math.pi / 4), 0]]),
        ("shear_x", [[1, 0.3, 0], [0, 1, 0]]),
        ("shear_y", [[1, 0, 0], [0.3, 1, 0]]),
        ("shift_x", [[1, 0, 0.4], [0, 1, 0]]),
        ("shift_y", [[1, 0, 0], [0, 1, 0.4]]),
        ("zoom", [[1 / 1.3, 0, 0], [0, 1 / 1.3, 0]]),
    ],
)  # fmt: skip
def test_geometry_is_the_named_map(kind: str, matrix: list[list[float]]) -> None:
    """Against torch's sampling by a matrix written out: x and y from -1 to 1, so that a fifth of the side is 0.4."""
    grid = torch.nn.functional.affine_grid(
        torch.tensor(matrix).expand(24, 2, 3), [24, 3, SIDE, SIDE], align_corners=False
    )
    expected = torch.nn.functional.grid_sample(STILL, grid, padding_mode="reflection", align_corners=False)
    torch.testing.assert_close(one(kind, 1.0), expected, rtol=0, atol=0.05)


def test_operations_follow_each_other_in_one_sampling() -> None:
    """A shift by a tenth and then one back is the image itself; a turn between them is not."""
    there_and_back = changed(
        draws_of(24, {0: ("shift_x", 0.5), 1: ("shift_x", -0.5)}), operations=2, magnitude=1.0
    )
    torch.testing.assert_close(there_and_back, STILL, rtol=0, atol=1e-2)
    turned = {0: ("shift_x", 0.5), 1: ("rotate", 1.0), 2: ("shift_x", -0.5)}
    between = changed(draws_of(24, turned), operations=3, magnitude=1.0)
    assert float((between - one("rotate", 1.0)).abs().mean()) > 1


def test_geometry_leaves_every_colour() -> None:
    """Images of one colour each come out as they were, whatever geometry is drawn."""
    flat = torch.randint(0, 256, (24, 1, 1, 3), dtype=torch.uint8).expand(24, SIDE, SIDE, 3)
    draws = random_draws(24)
    kinds = (draws[:, DRAWS : DRAWS + 8 : 2] * len(KINDS)).long()
    draws[:, DRAWS : DRAWS + 8 : 2] = (kinds % 6 + 0.5) / len(KINDS)
    preprocess = Preprocess(SIDE, (0, 0, 0), (1 / 255,) * 3, flip=True, operations=4, magnitude=1.0)
    outcome = preprocess(flat, draws)
    torch.testing.assert_close(outcome, flat.permute(0, 3, 1, 2).float(), rtol=0, atol=1e-3)
    preprocess = Preprocess(SIDE, (0, 0, 0), (1 / 255,) * 3, operations=1, magnitude=1.0)
    bright = preprocess(flat, draws_of(24, {0: ("brightness", 1.0)}))
    assert float((bright - flat.permute(0, 3, 1, 2)).abs().max()) > 10


def test_images_without_a_change_of_tone_are_left_to_the_bit() -> None:
    """At a strength of exactly 0, tone is no change: such images are those of a recipe without operations."""
    draws = draws_of(24, {0: ("brightness", 0.0)})
    draws[::2] = draws_of(12, {0: ("brightness", 1.0)})
    outcome, plain = changed(draws, operations=1), changed(draws)
    assert torch.equal(outcome[1::2], plain[1::2])
    assert not torch.equal(outcome[::2], plain[::2])


def test_an_image_is_changed_by_its_own_draws_alone() -> None:
    draws = random_draws(24)
    how = {
        "flip": True,
        "rotation": 10.0,
        "operations": 3,
        "magnitude": 0.7,
        "sharpening": 0.5,
        "erasing": 0.5,
    }
    whole = changed(draws, **how)
    order = torch.randperm(24)
    preprocess = Preprocess(SIDE, (0, 0, 0), (1 / 255,) * 3, **how)  # type: ignore[arg-type]
    torch.testing.assert_close(preprocess(PIXELS[order], draws[order]), whole[order], rtol=0, atol=1e-3)
    torch.testing.assert_close(preprocess(PIXELS[7:8], draws[7:8]), whole[7:8], rtol=0, atol=1e-3)


def test_further_columns_change_nothing_unless_asked_for() -> None:
    draws = random_draws(24)
    how = {"flip": True, "scale": (0.6, 1.0), "rotation": 20.0, "colour": 0.1}
    assert torch.equal(changed(draws, **how), changed(draws[:, :DRAWS], **how))


def test_values_stay_in_the_range_of_pixels() -> None:
    for epoch in range(5):
        outcome = changed(random_draws(24, epoch), operations=4, magnitude=1.0, sharpening=1.0, erasing=0.5)
        assert float(outcome.min()) >= 0
        assert float(outcome.max()) <= 255


def test_kinds_are_equally_frequent_and_strengths_uniform_up_to_the_magnitude() -> None:
    draws = torch.from_numpy(extra_draws(1, 0, np.arange(20_000), EXTRA_DRAWS))[:, :2]
    amounts = drawn_amounts(draws, 0.5)
    for amount, largest in zip(amounts, LARGEST.values(), strict=True):
        chosen = amount[amount != 0] / largest
        assert len(chosen) / 20_000 == pytest.approx(1 / 9, abs=0.01)
        assert float(chosen.abs().max()) == pytest.approx(0.5, abs=0.01)
        assert float(chosen.mean()) == pytest.approx(0, abs=0.03)


def test_brightness_and_contrast_keep_the_hue_and_saturation_of_the_mean() -> None:
    for brightness, contrast in ((0.2, 0.0), (-0.2, 0.0), (0.0, -0.3), (0.1, 0.1)):
        outcome = toned(STILL, torch.full((24,), brightness), torch.full((24,), contrast))
        mean = STILL.mean(dim=(2, 3))
        torch.testing.assert_close(outcome.mean(dim=(2, 3)), mean * (1 + brightness), rtol=0.01, atol=0.5)
    spread = toned(STILL, torch.zeros(24), torch.full((24,), -0.3)).std(dim=(2, 3))
    torch.testing.assert_close(spread, 0.7 * STILL.std(dim=(2, 3)), rtol=1e-3, atol=1e-3)


def test_sharpness_is_pillows_inside_the_border() -> None:
    """Pillow: the smoothed image, and (factor - 1) times the image's difference from it."""
    pixels = torch.randint(60, 190, (4, SIDE, SIDE, 3), dtype=torch.uint8)
    images = pixels.permute(0, 3, 1, 2).float()
    smooth = np.stack([np.array(Image.fromarray(p.numpy()).filter(ImageFilter.SMOOTH)) for p in pixels])
    for sharpness in (-1.0, 0.5, 1.0):
        expected = images + sharpness * (images - torch.from_numpy(smooth).permute(0, 3, 1, 2))
        outcome = sharpened(images, torch.full((4,), sharpness))
        inside = (outcome - expected.clamp(0, 255))[:, :, 1:-1, 1:-1]
        assert float(inside.abs().max()) <= 0.51 * abs(sharpness) + 1e-3  # Pillow rounds


def test_sharpening_and_erasing_befall_their_share_of_the_images() -> None:
    draws = random_draws(24)
    for name, column in (("sharpening", 8), ("erasing", 9)):
        outcome = changed(draws, **{name: 0.5})
        plain = changed(draws)
        differ = (outcome != plain).flatten(1).any(dim=1)
        assert torch.equal(differ, draws[:, DRAWS + column] < 0.5)
        assert 0 < int(differ.sum()) < 24


def test_a_rectangle_of_two_to_thirty_three_percent_is_black() -> None:
    draws = torch.from_numpy(uniform_draws(2, 0, np.arange(400), 4))
    black = erased(torch.ones(400, 1, 64, 64), draws)[:, 0] == 0
    shares = black.float().mean(dim=(1, 2))
    assert float(shares.min()) > 0.01
    assert 0.3 < float(shares.max()) <= 0.35
    rows, columns = black.any(dim=2), black.any(dim=1)
    assert torch.equal(black, rows[:, :, None] & columns[:, None, :])
    ratio = (rows.sum(1) / columns.sum(1)).log()
    assert float(ratio.abs().max()) < math.log(3.3) + 0.5
    assert abs(float(ratio.mean())) < 0.15


def test_draws_of_too_few_columns_are_named() -> None:
    with pytest.raises(
        ValueError, match=rf"expected draws of shape \(B, {DRAWS + EXTRA_DRAWS}\), got \(2, 8\)"
    ):
        changed(torch.zeros(2, DRAWS), operations=1)


def test_further_draws_are_uniform_and_apart_from_the_others() -> None:
    counters = np.arange(20_000)
    further = extra_draws(3, 0, counters, EXTRA_DRAWS)
    both = np.column_stack([further, uniform_draws(3, 0, counters, DRAWS)])
    assert further.min() >= 0
    assert further.max() < 1
    assert abs(np.corrcoef(both.T) - np.eye(both.shape[1])).max() < 0.03
    assert np.array_equal(extra_draws(3, 0, counters[7:9], EXTRA_DRAWS), further[7:9])
    assert not np.array_equal(extra_draws(3, 1, counters, EXTRA_DRAWS), further)


EVERYTHING = {
    "flip": True,
    "scale": (0.6, 1.0),
    "rotation": 20.0,
    "colour": 0.1,
    "operations": 3,
    "magnitude": 0.7,
    "sharpening": 0.5,
    "erasing": 0.5,
}


def test_off_the_cpu_no_value_is_read() -> None:
    """Tensors of the meta device have none: whatever asked for a value, as a choice of rows does, would fail."""
    preprocess = Preprocess(SIDE, (0.5,) * 3, (0.25,) * 3, **EVERYTHING)  # type: ignore[arg-type]
    for draws in (None, random_draws(24).to("meta")):
        assert preprocess(PIXELS.to("meta"), draws).shape == (24, 3, SIDE, SIDE)
    with pytest.raises((NotImplementedError, RuntimeError)):
        PIXELS.to("meta")[random_draws(24).to("meta")[:, 0] < 0.5]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_cpus_images_and_is_not_waited_for() -> None:
    preprocess = Preprocess(SIDE, (0.5,) * 3, (0.25,) * 3, **EVERYTHING)  # type: ignore[arg-type]
    pixels, draws = PIXELS.cuda(), random_draws(24).cuda()
    preprocess(pixels, draws)
    torch.cuda.set_sync_debug_mode("error")
    try:
        outcome = preprocess(pixels, draws)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    expected = preprocess(PIXELS, random_draws(24))
    assert float((outcome.cpu() - expected).abs().mean()) < 1e-3  # an edge of a rectangle may round otherwise

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tametail.data.sampling.mixing import BatchMixing, Mix, MixingKind, cutmix, mixup, remix

KINDS: list[MixingKind] = ["mixup", "cutmix", "remix"]
IMAGES = torch.randn(6, 3, 20, 30, generator=torch.Generator().manual_seed(0))
TARGET = torch.tensor([0, 1, 2, 0, 0, 1])
PARTNER = torch.tensor([1, 0, 3, 2, 5, 4])
COUNTS = torch.tensor([100.0, 20.0, 50.0])


def mixed(kind: MixingKind, mix: Mix, counts: Tensor = COUNTS) -> tuple[Tensor, Tensor]:
    if kind == "remix":
        return remix(IMAGES, TARGET, counts, mix)
    return {"mixup": mixup, "cutmix": cutmix}[kind](IMAGES, TARGET, 3, mix)


def one_hot(target: Tensor) -> Tensor:
    return torch.eye(3)[target]


@pytest.mark.parametrize("kind", KINDS)
def test_all_of_an_image_is_the_image_and_none_of_it_its_partner(kind: MixingKind) -> None:
    images, target = mixed(kind, Mix(1.0, PARTNER))
    assert torch.equal(images, IMAGES)
    assert torch.equal(target, one_hot(TARGET))
    images, target = mixed(kind, Mix(0.0, PARTNER))
    assert torch.equal(images, IMAGES[PARTNER])
    assert torch.equal(target, one_hot(TARGET[PARTNER]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.1, 0.4, 0.5, 0.8])
def test_soft_targets_sum_to_one_and_nothing_is_written_to_the_batch(kind: MixingKind, share: float) -> None:
    before = IMAGES.clone()
    images, target = mixed(kind, Mix(share, PARTNER, (0.3, 0.9)))
    assert images.shape == IMAGES.shape
    assert target.shape == (6, 3)
    torch.testing.assert_close(target.sum(1), torch.ones(6))
    assert torch.equal(IMAGES, before)


def test_mixup_is_its_formula() -> None:
    images, target = mixed("mixup", Mix(0.3, PARTNER))
    torch.testing.assert_close(images, 0.3 * IMAGES + 0.7 * IMAGES[PARTNER])
    torch.testing.assert_close(target, 0.3 * one_hot(TARGET) + 0.7 * one_hot(TARGET[PARTNER]))


@pytest.mark.parametrize("centre", [(0.5, 0.5), (0.0, 0.99), (0.2, 0.7)])
def test_cutmix_labels_go_by_the_pixels_that_are_left(centre: tuple[float, float]) -> None:
    images, target = mixed("cutmix", Mix(0.64, PARTNER, centre))
    own = images == IMAGES
    assert bool((own | (images == IMAGES[PARTNER])).all())
    share = float(own.float().mean())
    torch.testing.assert_close(target, share * one_hot(TARGET) + (1 - share) * one_hot(TARGET[PARTNER]))
    if centre == (0.5, 0.5):
        assert share == pytest.approx(0.64)


def test_remix_is_mixup_when_the_classes_are_balanced() -> None:
    for share in (0.2, 0.7):
        ours, theirs = (
            mixed("remix", Mix(share, PARTNER), torch.full((3,), 9.0)),
            mixed("mixup", Mix(share, PARTNER)),
        )
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("share", [0.3, 0.5, 0.6])
def test_remix_labels_by_the_papers_three_cases(share: float) -> None:
    _, target = mixed("remix", Mix(share, PARTNER))
    for row in range(6):
        i, j = int(TARGET[row]), int(TARGET[PARTNER[row]])
        own = share
        if COUNTS[i] / COUNTS[j] >= 3 and share < 0.5:
            own = 0.0
        elif COUNTS[i] / COUNTS[j] <= 1 / 3 and 1 - share < 0.5:
            own = 1.0
        expected = torch.zeros(3)
        expected[i] += own
        expected[j] += 1 - own
        torch.testing.assert_close(target[row], expected)


def test_cutmix_of_features_is_refused_and_the_others_mix_them() -> None:
    features = torch.randn(6, 8)
    assert mixup(features, TARGET, 3, Mix(0.5, PARTNER))[0].shape == (6, 8)
    assert remix(features, TARGET, COUNTS, Mix(0.5, PARTNER))[0].shape == (6, 8)
    with pytest.raises(ValueError, match=r"images \(B, 3, H, W\) for cutmix, got shape \(6, 8\)"):
        cutmix(features, TARGET, 3, Mix(0.5, PARTNER))


def mixing(kind: MixingKind = "mixup", **changes: float) -> BatchMixing:
    settings = {"alpha": 1.0, "probability": 1.0} | changes
    return BatchMixing(kind, class_counts=[100, 20, 50], seed=3, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_mixed_by_seed_epoch_and_step_alone(kind: MixingKind) -> None:
    torch.manual_seed(0)
    images, target = mixing(kind)(IMAGES, TARGET, epoch=1, step=4)
    torch.manual_seed(1)
    again, _ = mixing(kind)(IMAGES, TARGET, epoch=1, step=4)
    other, _ = mixing(kind)(IMAGES, TARGET, epoch=1, step=5)
    assert torch.equal(images, again)
    assert not torch.equal(images, other)
    assert target.shape == (6, 3)


def test_the_share_of_mixed_batches_and_their_shares_are_as_asked() -> None:
    drawn = [mixing(probability=0.25, alpha=0.2).draw(6, 0, step) for step in range(4000)]
    shares = [mix.share for mix in drawn if mix is not None]
    assert len(shares) / 4000 == pytest.approx(0.25, abs=0.02)
    assert np.mean(shares) == pytest.approx(0.5, abs=0.04)
    assert np.std(shares) == pytest.approx(math.sqrt(1 / (4 * 1.4)), abs=0.02)  # of Beta(0.2, 0.2)
    unmixed = next(step for step, mix in enumerate(drawn) if mix is None)
    images, target = mixing(probability=0.25, alpha=0.2)(IMAGES, TARGET, epoch=0, step=unmixed)
    assert images is IMAGES
    assert target is TARGET


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="got 'mixdown'"):
        mixing("mixdown")  # type: ignore[arg-type]

"""Class indices give the value and the gradient that the same classes give as one-hot labels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tametail.losses import Loss, create_loss, list_losses
from tametail.losses.cross_entropy import CrossEntropyLoss

COUNTS = [400, 90, 30, 7, 1, 0]
METHODS = [
    *list_losses(),
    "ce[label_smoothing=0.2]",
    "ce[tau=0.5]",
    "poly1[base=focal]",
    "poly1[epsilon=-1]",
    "asl_single_label[gamma_pos=2]",
    "class_balanced[base=bce]",
    "class_balanced[base=focal]",
    "focal_softmax[gamma=0.5]",
    "weighted_ce[power=0.5]",
]


def batch(size: float) -> tuple[Tensor, Tensor]:
    """Logits (60, 6) of about a size, and class indices."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(60, len(COUNTS), generator=generator, dtype=torch.float64) * size
    return logits, torch.randint(0, len(COUNTS), (60,), generator=generator)


def value_and_gradient(loss: Loss, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)  # of a stochastic loss
    leaf = logits.clone().requires_grad_()
    value = loss(leaf, target)
    outer = torch.linspace(1, 2, value.numel(), dtype=value.dtype).view_as(value)
    return value.detach(), torch.autograd.grad(value, leaf, outer)[0]


@pytest.mark.filterwarnings("ignore:LDAMLoss expects")
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("size", [1.0, 15.0])
@pytest.mark.parametrize("text", METHODS)
def test_indices_are_one_hot_labels(text: str, size: float, reduction: str) -> None:
    loss = create_loss(text, class_counts=COUNTS, reduction=reduction)
    logits, index = batch(size)
    labels = torch.nn.functional.one_hot(index, len(COUNTS)).double()
    torch.testing.assert_close(
        value_and_gradient(loss, logits, index),
        value_and_gradient(loss, logits, labels),
        rtol=1e-9,
        atol=1e-12,
    )


@pytest.mark.filterwarnings("ignore:LDAMLoss expects")
@pytest.mark.parametrize("text", METHODS)
def test_samples_that_are_left_out_count_for_nothing_whatever_their_logits(text: str) -> None:
    loss = create_loss(text, class_counts=COUNTS)
    logits, index = batch(1.0)
    left_out = torch.arange(len(index)) % 4 == 0
    index[left_out] = -100
    hostile = logits.clone()
    hostile[left_out] = torch.tensor([torch.nan, torch.inf, -torch.inf, 0, 0, 0], dtype=torch.float64)
    found, gradient = value_and_gradient(loss, hostile, index)
    assert not gradient[left_out].any()
    if not loss.stochastic:  # other samples draw other numbers
        expected, of_rest = value_and_gradient(loss, logits[~left_out], index[~left_out])
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(gradient[~left_out], of_rest)


def test_a_subclass_that_changes_the_terms_alone_is_obeyed() -> None:
    class Doubled(CrossEntropyLoss):
        def terms(self, z: Tensor, y: Tensor) -> Tensor:
            return 2 * super().terms(z, y)

    logits, index = batch(1.0)
    torch.testing.assert_close(Doubled()(logits, index), 2 * CrossEntropyLoss()(logits, index))


@pytest.mark.parametrize("index", [[0, 6], [-1, 2], [-100, 7]])
def test_indices_out_of_range_are_named(index: list[int]) -> None:
    with pytest.raises(ValueError, match=r"class indices from 0 to 5 .* got indices from"):
        create_loss("ce")(torch.zeros(2, 6), torch.tensor(index))

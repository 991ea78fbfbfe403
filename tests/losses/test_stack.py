"""Stacks of losses: each head's values and gradients are those of its own loss."""

from __future__ import annotations

import pytest
import torch

from fixtures.zoo import ALL
from tametail.losses import ALPALoss, Loss, create_loss
from tametail.losses.stack import LossStack, stack_key
from tametail.testing.batches import COUNTS, all_exponents, make

STACKED = [text for text in ALL if stack_key(make(text)) is not None]


def _batch(heads: int, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (H, C, B) and labels (C, B), among them extreme logits."""
    drawn = torch.randn(heads, 4, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 4
    drawn[:, :, 7:] *= 300
    labels = torch.nn.functional.one_hot(torch.tensor([0, 1, 2, 3, 1, 0, 3, 0, 3]), 4).T
    return drawn.to(dtype), labels.to(dtype)


def _both(losses: list[Loss], logits: torch.Tensor, labels: torch.Tensor) -> None:
    """Value and gradient of the stack are those of each loss alone."""
    together = logits.clone().requires_grad_()
    values = LossStack(losses, logits, 4)(together, labels)
    assert values.shape == (len(losses), 9)
    values.mean(dim=1).sum().backward()
    exact = {"rtol": 1e-10, "atol": 1e-12} if logits.dtype == torch.float64 else {"rtol": 2e-4, "atol": 2e-6}
    for head, loss in enumerate(losses):
        leaf = logits[head].T.clone().requires_grad_()
        loss.reduction = "none"
        value = loss(leaf, labels.T)
        value.mean().backward()
        torch.testing.assert_close(values[head].detach(), value.detach(), **exact)
        torch.testing.assert_close(together.grad[head].T, leaf.grad, **exact)


@pytest.mark.parametrize("text", STACKED)
def test_each_head_has_the_value_and_gradient_of_its_own_loss(text: str) -> None:
    groups: dict[object, list[Loss]] = {}
    for tau in (0.0, 0.7):
        for loss in all_exponents(text, tau=tau):
            groups.setdefault(stack_key(loss), []).append(loss)
    for losses in groups.values():
        _both(losses, *_batch(len(losses)))
        _both(losses, *_batch(len(losses), torch.float32))


def test_every_number_of_alpa_may_differ() -> None:
    numbers = torch.rand(12, 4, generator=torch.Generator().manual_seed(2)) * 3
    losses: list[Loss] = [
        ALPALoss(alpha=a, beta=b, gamma_pos=p, gamma_neg=n, lam=1 + a, variant="pade", order=(2, 2))
        for a, b, p, n in numbers.tolist()
    ]
    assert len({stack_key(loss) for loss in losses}) == 1
    _both(losses, *_batch(12))


def test_vector_scaling_differs_in_its_scale_per_class() -> None:
    losses: list[Loss] = [
        create_loss("vs", class_counts=COUNTS, gamma=gamma, tau=tau) for gamma in (0, 0.4) for tau in (0, 1.5)
    ]
    _both(losses, *_batch(4))


@pytest.mark.parametrize("text", [text for text in STACKED if make(text).family == "sigmoid"])
def test_unknown_labels_add_nothing_to_value_and_gradient(text: str) -> None:
    """As in the loss itself, which takes nan for unknown; whatever the labels and logits there are."""
    logits, labels = _batch(1)
    unknown = torch.rand(labels.shape, generator=torch.Generator().manual_seed(3)) < 0.4
    loss = make(text)
    loss.reduction = "none"
    leaf = logits[0].T.clone().requires_grad_()
    expected = loss(leaf, labels.masked_fill(unknown, torch.nan).T)
    expected.sum().backward()
    stack = LossStack([make(text)], logits, 4)
    for label, logit in ((torch.nan, 0.0), (1.0, torch.inf), (0.0, torch.nan)):
        given = torch.where(unknown, logits + logit, logits).requires_grad_()
        values = stack(given, labels.masked_fill(unknown, label), ~unknown)
        values.sum().backward()
        torch.testing.assert_close(values[0], expected, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(given.grad[0].T, leaf.grad, rtol=1e-10, atol=1e-12)
        assert (given.grad[0][unknown] == 0).all()


def test_soft_labels() -> None:
    labels = torch.rand(4, 9, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    losses: list[Loss] = [ALPALoss(gamma_neg=gamma) for gamma in (0.0, 2.5)]
    _both(losses, _batch(2)[0], labels)


@pytest.mark.parametrize(
    "name", ["ldam", "seql", "lade", "weighted_ce", "class_balanced", "label_aware_smoothing"]
)
def test_a_formula_with_class_vectors_or_batches_is_not_stacked(name: str) -> None:
    assert stack_key(create_loss(name, class_counts=COUNTS)) is None


def test_a_subclass_does_not_inherit_that_it_can_be_stacked() -> None:
    class Mine(ALPALoss):
        """Another formula."""

    assert stack_key(Mine()) is None


def test_losses_of_other_forms_are_other_stacks() -> None:
    losses = [ALPALoss(), ALPALoss(variant="pade"), ALPALoss(lam=1.5), ALPALoss(double_focus=False)]
    assert len({stack_key(loss) for loss in losses}) == 4

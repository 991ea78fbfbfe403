"""LADE and its regulariser in plain floats, and how a batch shares it."""

from __future__ import annotations

import math

import pytest
import torch

from tametail.losses import create_loss, lade_loss, lade_regulariser

LOGITS = [[0.3, -1.2, 2.0], [1.0, 0.5, -0.5], [-0.2, 0.0, 0.7], [2.0, 1.0, -3.0]]
LABELS = [0, 2, 0, 0]


def _reference(logits: list[list[float]], labels: list[int], counts: list[int], remine: float) -> float:
    total = 0.0
    for c, count in enumerate(counts):
        prior = max(count, 1) / sum(counts)
        own = [row[c] for row, label in zip(logits, labels, strict=True) if label == c]
        ratios = [math.exp(row[c] - math.log(prior) - math.log(len(counts))) for row in logits]
        level = math.log(sum(ratios) / len(ratios))
        total -= prior * ((sum(own) / len(own) if own else 0) - level - remine * level**2)
    return total


def _cross_entropy(row: list[float], label: int, counts: list[int]) -> float:
    adjusted = [z + math.log(max(count, 1) / sum(counts)) for z, count in zip(row, counts, strict=True)]
    return math.log(sum(math.exp(z) for z in adjusted)) - adjusted[label]


@pytest.mark.parametrize("counts", [[70, 25, 5], [5, 95, 0]])
@pytest.mark.parametrize(("weight", "remine"), [(0.1, 0.1), (1, 0), (0.3, 2), (0, 1)])
def test_is_its_formula_in_every_reduction(counts: list[int], weight: float, remine: float) -> None:
    logits, target = torch.tensor(LOGITS, dtype=torch.float64), torch.tensor(LABELS)
    regulariser = _reference(LOGITS, LABELS, counts, remine)
    one_hot = torch.nn.functional.one_hot(target, 3).double()
    assert lade_regulariser(logits, one_hot, counts, remine).item() == pytest.approx(regulariser, rel=1e-13)
    own = [_cross_entropy(row, label, counts) for row, label in zip(LOGITS, LABELS, strict=True)]
    expected = torch.tensor(own, dtype=torch.float64) + weight * regulariser
    for reduction, value in (("none", expected), ("sum", expected.sum()), ("mean", expected.mean())):
        found = lade_loss(
            logits, target, weight=weight, remine_lambda=remine, class_counts=counts, reduction=reduction
        )  # type: ignore[arg-type]
        torch.testing.assert_close(found, value, rtol=1e-13, atol=1e-13)


def test_the_batch_is_its_known_samples() -> None:
    counts, far = [70, 25, 5], [500.0, -500.0, 0.0]
    logits = torch.tensor([*LOGITS[:2], far, *LOGITS[2:]], dtype=torch.float64)
    target = torch.tensor([*LABELS[:2], -100, *LABELS[2:]])
    found = lade_loss(logits, target, class_counts=counts, reduction="none")
    lock = lade_loss(
        torch.tensor(LOGITS, dtype=torch.float64), torch.tensor(LABELS), class_counts=counts, reduction="none"
    )
    torch.testing.assert_close(found[[0, 1, 3, 4]], lock)
    assert found[2] == 0


def test_a_sample_with_one_known_label_still_carries_the_whole_regulariser() -> None:
    counts, nan = [70, 25, 5], math.nan
    logits = torch.tensor(LOGITS[:2], dtype=torch.float64)
    complete = torch.tensor([[1.0, 0, 0], [0, 0, 1]], dtype=torch.float64)
    partial = torch.tensor([[1.0, nan, nan], [0, nan, 1]], dtype=torch.float64)
    torch.testing.assert_close(
        lade_loss(logits, partial, class_counts=counts, reduction="none"),
        lade_loss(logits, complete, class_counts=counts, reduction="none"),
    )


def test_a_soft_label_weights_the_mean_of_its_class() -> None:
    labels = torch.tensor([[0.5, 0.5, 0], [0.25, 0, 0.75]], dtype=torch.float64)
    logits = torch.tensor(LOGITS[:2], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(lade_regulariser(logits, labels, [2, 1, 1], remine_lambda=0), logits)
    level = torch.softmax(logits.detach(), dim=0) * torch.tensor([0.5, 0.25, 0.25])
    own = torch.tensor([[2 / 3, 1, 0], [1 / 3, 0, 1]], dtype=torch.float64) * torch.tensor([0.5, 0.25, 0.25])
    torch.testing.assert_close(slope, level - own)


def test_it_says_that_samples_see_one_another_and_may_cost_less_than_nothing() -> None:
    loss = create_loss("lade", weight=5, class_counts=[1, 1])
    assert loss.batchwise
    assert loss(torch.tensor([[2.0, -2.0], [-2.0, 2.0]]), torch.tensor([0, 1])) < 0

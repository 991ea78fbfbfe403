"""Logit adjustment and balanced softmax in plain floats: above all the sign of the prior."""

from __future__ import annotations

import math

import pytest
import torch

from tametail.losses import balanced_softmax_loss, create_loss, logit_adjusted_loss

LOGITS = [0.3, -1.2, 2.0]


def _reference(label: int, counts: list[int], tau: float) -> float:
    adjusted = [z + tau * math.log(max(n, 1) / sum(counts)) for z, n in zip(LOGITS, counts, strict=True)]
    return math.log(sum(math.exp(z) for z in adjusted)) - adjusted[label]


@pytest.mark.parametrize("label", range(3))
@pytest.mark.parametrize("counts", [[70, 25, 5], [5, 95, 0]])
@pytest.mark.parametrize("tau", [0, 0.5, 1, 2])
def test_is_its_formula(label: int, counts: list[int], tau: float) -> None:
    logits, target = torch.tensor([LOGITS], dtype=torch.float64), torch.tensor([label])
    value = logit_adjusted_loss(logits, target, tau=tau, class_counts=counts)
    assert value.item() == pytest.approx(_reference(label, counts, tau), rel=1e-13)
    if tau == 1:
        balanced = balanced_softmax_loss(logits, target, class_counts=counts)
        assert balanced.item() == pytest.approx(_reference(label, counts, 1), rel=1e-13)


@pytest.mark.parametrize("name", ["balanced_softmax", "logit_adjusted", "vs", "lade"])
def test_a_rare_class_has_to_have_the_larger_logit(name: str) -> None:
    """At equal logits a sample of a rare class costs more than one of a frequent class; the inverted sign has it less."""
    loss = create_loss(name, class_counts=[90, 10], reduction="none")
    frequent, rare = loss(torch.zeros(2, 2), torch.tensor([0, 1]))
    assert rare > frequent


def test_a_class_without_samples_counts_as_if_it_had_one_and_moves_no_other() -> None:
    logits, target = torch.tensor([LOGITS[:2]]), torch.tensor([0])
    two = logit_adjusted_loss(logits, target, class_counts=[60, 40])
    far = torch.cat([logits, torch.tensor([[-1e4]])], dim=1)
    assert logit_adjusted_loss(far, target, class_counts=[60, 40, 0]).item() == pytest.approx(two.item())


def test_the_link_adds_the_prior_again() -> None:
    loss = create_loss("balanced_softmax", class_counts=[70, 25, 5])
    shares = [math.exp(z) * n for z, n in zip(LOGITS, (70, 25, 5), strict=True)]
    found = loss.link(torch.tensor([LOGITS], dtype=torch.float64))[0]
    torch.testing.assert_close(found, torch.tensor(shares, dtype=torch.float64) / sum(shares))

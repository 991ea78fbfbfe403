"""Vector scaling against its formula in plain floats."""

from __future__ import annotations

import math

import pytest
import torch

from tametail.losses import create_loss, vector_scaling_loss

LOGITS = [0.3, -1.2, 2.0]


@pytest.mark.parametrize("label", range(3))
@pytest.mark.parametrize("counts", [[70, 25, 5], [5, 95, 0]])
@pytest.mark.parametrize(("gamma", "tau"), [(0.3, 1), (0, 1), (1.5, 0.5), (0.3, 0)])
def test_is_its_formula(label: int, counts: list[int], gamma: float, tau: float) -> None:
    present = [max(count, 1) for count in counts]
    adjusted = [
        z / (max(present) / n) ** gamma + tau * math.log(n / sum(counts))
        for z, n in zip(LOGITS, present, strict=True)
    ]
    expected = math.log(sum(math.exp(z) for z in adjusted)) - adjusted[label]
    value = vector_scaling_loss(
        torch.tensor([LOGITS], dtype=torch.float64),
        torch.tensor([label]),
        gamma=gamma,
        tau=tau,
        class_counts=counts,
    )
    assert value.item() == pytest.approx(expected, rel=1e-13)


def test_the_logit_of_the_largest_class_is_left_as_it_is() -> None:
    loss = create_loss("vs", tau=0, gamma=0.5, class_counts=[16, 4, 1])
    assert loss.adjusted(torch.tensor([[1.0, 1.0, 1.0]])).tolist() == [[1, 0.5, 0.25]]

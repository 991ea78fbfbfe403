"""Class-balanced weights and loss in plain floats, and their limits."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from tametail.losses import class_balanced_loss, class_balanced_weights, create_loss

LOGITS = [0.3, -1.2, 2.0]
COUNTS = [90, 9, 1]
BETA = 0.99


def _weights(counts: list[int], beta: float) -> list[float]:
    raw = [(1 - beta) / (1 - beta**count) for count in counts]
    return [weight * len(counts) / sum(raw) for weight in raw]


def _base(label: int, base: str) -> float:
    if base == "ce":
        return math.log(sum(math.exp(z) for z in LOGITS)) - LOGITS[label]
    value = 0.0
    for c, z in enumerate(LOGITS):
        right = 1 / (1 + math.exp(-z if c == label else z))
        value -= (1 - right) ** (2 if base == "focal" else 0) * math.log(right)
    return value


def test_weights_are_the_inverse_effective_numbers() -> None:
    found = class_balanced_weights(COUNTS, BETA)
    torch.testing.assert_close(found, torch.tensor(_weights(COUNTS, BETA), dtype=torch.float64))
    assert found.sum().item() == pytest.approx(3)


@pytest.mark.parametrize("label", range(3))
@pytest.mark.parametrize("base", ["ce", "bce", "focal"])
def test_all_terms_of_a_sample_have_the_weight_of_its_class(label: int, base: Any) -> None:
    value = class_balanced_loss(
        torch.tensor([LOGITS], dtype=torch.float64),
        torch.tensor([label]),
        base=base,
        beta=BETA,
        class_counts=COUNTS,
    )
    assert value.item() == pytest.approx(_weights(COUNTS, BETA)[label] * _base(label, base), rel=1e-13)


def test_a_sample_of_several_labels_has_the_mean_of_their_weights() -> None:
    weights = _weights(COUNTS, BETA)
    logits = torch.tensor([LOGITS] * 3, dtype=torch.float64)
    target = torch.tensor([[1, 0, 1], [0, 0, 0], [0.2, 0.6, 0]], dtype=torch.float64)
    found = class_balanced_loss(logits, target, base="bce", beta=BETA, class_counts=COUNTS, reduction="none")
    plain = create_loss("bce", reduction="none")(logits, target)
    expected = [(weights[0] + weights[2]) / 2, 1, (0.2 * weights[0] + 0.6 * weights[1]) / 0.8]
    torch.testing.assert_close(found / plain, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("beta", [1 - 1e-9, 1 - 1e-15])
def test_near_one_the_weights_are_inverse_frequencies(beta: float) -> None:
    inverse = torch.tensor([1 / count for count in COUNTS], dtype=torch.float64)
    torch.testing.assert_close(
        class_balanced_weights(COUNTS, beta), inverse * 3 / inverse.sum(), rtol=1e-6, atol=0
    )


def test_counts_of_any_size() -> None:
    weights = class_balanced_weights([10**12, 10**6, 1], 0.9999)
    expected = _weights([10**12, 10**6, 1], 0.9999)
    torch.testing.assert_close(weights, torch.tensor(expected, dtype=torch.float64))


def test_a_class_without_samples_counts_as_if_it_had_one() -> None:
    assert torch.equal(class_balanced_weights([90, 0, 1]), class_balanced_weights([90, 1, 1]))


def test_the_family_is_the_bases() -> None:
    families = {
        base: create_loss("class_balanced", base=base, class_counts=COUNTS).family
        for base in ("ce", "bce", "focal")
    }
    assert families == {"ce": "softmax", "bce": "sigmoid", "focal": "sigmoid"}


def test_the_link_divides_by_the_weights() -> None:
    loss = create_loss("class_balanced", beta=BETA, class_counts=COUNTS)
    expected = [math.exp(z) / w for z, w in zip(LOGITS, _weights(COUNTS, BETA), strict=True)]
    found = loss.link(torch.tensor([LOGITS], dtype=torch.float64))[0]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64) / sum(expected))


def test_bad_parameters_are_named() -> None:
    with pytest.raises(ValueError, match="expected base to be one of ce, bce, focal, got 'softmax'"):
        create_loss("class_balanced", base="softmax", class_counts=COUNTS)
    with pytest.raises(ValueError, match=r"expected beta in \[0, 1\), got 1"):
        class_balanced_weights(COUNTS, 1)

"""Losses that must equal one another, in value and gradient."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tametail.losses import create_loss

PAIRS = [
    ("asl", {"gamma_pos": 0, "gamma_neg": 0, "clip": 0}, "bce", {}),
    ("focal", {"gamma": 0, "alpha": None}, "bce", {}),
    ("asl", {"gamma_pos": 2, "gamma_neg": 2, "clip": 0}, "focal", {"gamma": 2, "alpha": None}),
    ("ldam", {"max_margin": 0, "scale": 1}, "ce", {}),
    ("alpa", {"variant": "code", "clip": 0}, "alpa", {}),
    ("alpa", {"variant": "code", "clip": 0, "preset": "v1", "gamma_pos": 0.4}, "alpa", {"preset": "v1", "gamma_pos": 0.4}),
    ("alpa", {"variant": "code", "clip": 0, "double_focus": False}, "alpa", {"double_focus": False}),
    ("alpa", {"double_focus": False, "gamma_neg": 4}, "alpa", {"gamma_neg": 2}),
]  # fmt: skip


def _batch(soft: bool) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(8)
    logits = torch.randn(50, 5, generator=generator, dtype=torch.float64) * 4
    if soft:
        return logits, torch.rand(50, 5, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, 5, (50,), generator=generator)


def _value_and_gradient(
    name: str, params: dict[str, Any], logits: Tensor, target: Tensor
) -> tuple[Tensor, Tensor]:
    leaf = logits.clone().requires_grad_()
    counts = [9, 4, 3, 2, 0][: logits.shape[1]]
    value = create_loss(name, class_counts=counts, **params)(leaf, target)
    return value.detach(), torch.autograd.grad(value.sum(), leaf)[0]


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(("name", "params", "other", "other_params"), PAIRS)
def test_identity(
    name: str, params: dict[str, Any], other: str, other_params: dict[str, Any], soft: bool
) -> None:
    first = _value_and_gradient(name, params, *_batch(soft))
    second = _value_and_gradient(other, other_params, *_batch(soft))
    torch.testing.assert_close(first, second, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("soft", [False, True])
def test_cross_entropy_is_torchs(soft: bool, smoothing: float) -> None:
    logits, target = _batch(soft)
    target = target / target.sum(dim=1, keepdim=True) if soft else target
    leaf = logits.clone().requires_grad_()
    expected = F.cross_entropy(leaf, target, label_smoothing=smoothing)
    expected_gradient = torch.autograd.grad(expected, leaf)[0]
    value, gradient = _value_and_gradient("ce", {"label_smoothing": smoothing}, logits, target)
    torch.testing.assert_close((value, gradient), (expected.detach(), expected_gradient))


def test_binary_cross_entropy_is_torchs_times_the_number_of_classes() -> None:
    logits, target = _batch(soft=True)
    leaf = logits.clone().requires_grad_()
    expected = 5 * F.binary_cross_entropy_with_logits(leaf, target)
    expected_gradient = torch.autograd.grad(expected, leaf)[0]
    value, gradient = _value_and_gradient("bce", {}, logits, target)
    torch.testing.assert_close((value, gradient), (expected.detach(), expected_gradient))


def _pade_errors(degree: int, logits: Tensor, target: Tensor) -> tuple[float, float]:
    """Largest distance of [degree/degree], without focusing and weights, from bce in value and in gradient."""
    plain = {"alpha": 1, "beta": 1, "gamma_pos": 0, "gamma_neg": 0}
    params = {"variant": "pade", "order": (degree, degree), **plain, "reduction": "none"}
    value, gradient = _value_and_gradient("alpa", params, logits, target)
    exact_value, exact_gradient = _value_and_gradient("bce", {"reduction": "none"}, logits, target)
    return (value - exact_value).abs().max().item(), (gradient - exact_gradient).abs().max().item()


def test_pade_tends_to_binary_cross_entropy_as_the_order_grows() -> None:
    """For p in [0.05, 0.95]; beyond, the gradient of the hardest positives stays lost at any finite order."""
    logits = torch.logit(torch.linspace(0.05, 0.95, 181, dtype=torch.float64))[:, None].expand(-1, 2)
    target = torch.tensor([[1.0, 0.0]]).expand(len(logits), -1)
    errors = [_pade_errors(degree, logits, target) for degree in (1, 2, 4, 8)]
    for coarse, fine in pairwise(errors):
        assert fine[0] < 0.5 * coarse[0]
        assert fine[1] < 0.75 * coarse[1]
    assert errors[-1][0] < 3e-3
    assert errors[-1][1] < 1e-2
    hardest = torch.tensor([[-30.0, 30.0]], dtype=torch.float64)
    assert _pade_errors(8, hardest, target[:1])[1] == pytest.approx(1, abs=1e-6)

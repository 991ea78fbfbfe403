"""Losses that must equal one another, in value and gradient."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tametail.losses import create_loss

pytestmark = pytest.mark.filterwarnings("ignore:.*expects the cosines")
COUNTS = [9, 4, 3, 2, 0]
PAIRS = [
    ("asl", {"gamma_pos": 0, "gamma_neg": 0, "clip": 0}, "bce", {}),
    ("focal", {"gamma": 0, "alpha": None}, "bce", {}),
    ("asl", {"gamma_pos": 2, "gamma_neg": 2, "clip": 0}, "focal", {"gamma": 2, "alpha": None}),
    ("ldam", {"max_margin": 0, "scale": 1}, "ce", {}),
    ("focal_softmax", {"gamma": 0}, "ce", {}),
    ("asl_single_label", {"gamma_pos": 0, "label_smoothing": 0}, "ce", {}),
    ("asl_single_label", {"gamma_pos": 0, "gamma_neg": 0}, "ce", {"label_smoothing": 0.1}),
    ("asl_single_label", {"gamma_pos": 2, "label_smoothing": 0}, "focal_softmax", {}),
    ("balanced_softmax", {}, "logit_adjusted", {"tau": 1}),
    ("balanced_softmax", {}, "ce", {"tau": 1}),
    ("logit_adjusted", {"tau": 0}, "ce", {}),
    ("logit_adjusted", {"tau": 0.3}, "ce", {"tau": 0.3}),
    ("vs", {"gamma": 0}, "logit_adjusted", {}),
    ("vs", {"gamma": 0, "tau": 0}, "ce", {}),
    ("lade", {"weight": 0}, "balanced_softmax", {}),
    ("lade", {"weight": 0, "tau": 0.5}, "logit_adjusted", {"tau": 0.5}),
    ("seql", {"gamma": 0}, "ce", {}),
    ("seql", {"threshold": 0}, "ce", {}),
    ("label_aware_smoothing", {"smoothing_head": 0}, "ce", {}),
    ("poly1", {"epsilon": 0}, "ce", {}),
    ("poly1", {"epsilon": 0, "base": "focal"}, "focal_softmax", {}),
    ("poly1", {"base": "focal", "gamma": 0}, "poly1", {}),
    ("class_balanced", {"beta": 0}, "ce", {}),
    ("class_balanced", {"beta": 0, "base": "bce"}, "bce", {}),
    ("class_balanced", {"beta": 0, "base": "focal"}, "focal", {"alpha": None}),
    ("class_balanced", {"beta": 0.9, "base": "focal", "gamma": 0}, "class_balanced", {"beta": 0.9, "base": "bce"}),
    ("apl", {"epsilon_1": 0, "epsilon_2": 0}, "asl", {"gamma_pos": 0}),
    ("apl", {"epsilon_1": 0, "epsilon_2": 0, "gamma_pos": 0, "gamma_neg": 0, "clip": 0}, "bce", {}),
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
    name: str, params: dict[str, Any], logits: Tensor, target: Tensor, counts: list[int] | None = None
) -> tuple[Tensor, Tensor]:
    leaf = logits.clone().requires_grad_()
    value = create_loss(name, class_counts=counts or COUNTS[: logits.shape[1]], **params)(leaf, target)
    return value.detach(), torch.autograd.grad(value.sum(), leaf)[0]


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(("name", "params", "other", "other_params"), PAIRS)
def test_identity(
    name: str, params: dict[str, Any], other: str, other_params: dict[str, Any], soft: bool
) -> None:
    first = _value_and_gradient(name, params, *_batch(soft))
    second = _value_and_gradient(other, other_params, *_batch(soft))
    torch.testing.assert_close(first, second, rtol=1e-12, atol=1e-13)


# With equal counts a loss that uses them is this.
EQUAL = [
    ("balanced_softmax", {}, "ce", {}),
    ("logit_adjusted", {"tau": 2.5}, "ce", {}),
    ("vs", {}, "ce", {}),
    ("class_balanced", {}, "ce", {}),
    ("class_balanced", {"base": "bce"}, "bce", {}),
    ("class_balanced", {"base": "focal"}, "focal", {"alpha": None}),
    ("lade", {"weight": 0}, "ce", {}),
    ("seql", {}, "ce", {}),
    ("ldam", {"max_margin": 0, "scale": 1, "tau": 1}, "ce", {}),
]


@pytest.mark.parametrize("count", [1, 7, 10**6])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(("name", "params", "other", "other_params"), EQUAL)
def test_identity_of_equal_counts(
    name: str, params: dict[str, Any], other: str, other_params: dict[str, Any], soft: bool, count: int
) -> None:
    batch, counts = _batch(soft), [count] * 5
    first = _value_and_gradient(name, params, *batch, counts)
    second = _value_and_gradient(other, other_params, *batch, counts)
    torch.testing.assert_close(first, second, rtol=1e-12, atol=1e-13)


def test_seql_in_evaluation_is_cross_entropy() -> None:
    for soft in (False, True):
        loss = create_loss("seql", class_counts=COUNTS).eval()
        torch.testing.assert_close(loss(*_batch(soft)), create_loss("ce")(*_batch(soft)), rtol=1e-13, atol=0)


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

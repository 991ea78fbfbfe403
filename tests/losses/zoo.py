"""All losses with their options, and one batch for them, for the tests of what every loss promises.

Shape legend: B = 6 samples, C = 4 classes, one of which has no training samples.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from tametail.losses import Loss, create_loss, list_losses

COUNTS = [40, 7, 0, 1]
GAMMAS = (0.0, 0.3, 1.0, 2.0, 4.5)
CLIPS = (0.0, 0.05, 0.5)
INDICES = torch.tensor([0, 1, 2, 3, 1, 0])
# What a loss has beside its defaults. Every one also comes with another prior inside, see `variants`.
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "alpa": [
        {"variant": "paper"},
        {"variant": "code"},
        {"variant": "pade"},
        {"variant": "pade", "order": (3, 2), "double_focus": False},
        {"preset": "v3"},
    ],
    "asl": [{}, {"detach_focal_weight": True}],
    "asl_single_label": [{}, {"label_smoothing": 0.0}],
    "ral": [{}, {"lam": 1.0}],
    "ce": [{}, {"label_smoothing": 0.1}],
    "bce": [{}, {"label_smoothing": 0.1}],
    "focal": [{}, {"alpha": None}],
    "class_balanced": [{}, {"base": "bce"}, {"base": "focal"}],
    "poly1": [{}, {"epsilon": -1.0}, {"base": "focal"}],
    "seql": [{}, {"threshold": 0.5}],
    "label_aware_smoothing": [{}, {"shape": "linear"}, {"shape": "convex", "smoothing_tail": 0.1}],
}

Choice = tuple[str, dict[str, Any]]


def make(choice: Choice, **params: Any) -> Loss:
    name, own = choice
    return create_loss(name, class_counts=COUNTS, **{**own, **params})


def variants() -> list[Any]:
    """All losses with all their options, as parameters of a test: without a prior inside, and with the whole one."""
    found = []
    for name in list_losses():
        options = VARIANTS.get(name, [{}])
        usual = make((name, {})).tau
        choices = [*options, {**options[0], "tau": 0.0 if usual else 1.0}]
        found += [
            pytest.param((name, own), id="-".join([name, *(f"{key}={value}" for key, value in own.items())]))
            for own in choices
        ]
    return found


def differentiated_whole() -> list[Any]:
    """All but those that leave a factor out of their gradient on purpose."""
    return [case for case in variants() if not case.values[0][1].get("detach_focal_weight")]


def all_exponents(choice: Choice) -> list[Choice]:
    """A variant with every combination of GAMMAS and CLIPS that its loss takes."""
    name, own = choice
    parameters = inspect.signature(type(make(choice))).parameters
    gammas = [key for key in parameters if key.startswith("gamma")]
    values = (
        [gamma for gamma in GAMMAS if gamma <= 1] if name == "seql" else GAMMAS
    )  # there γ is a probability
    clipped = "clip" in parameters and (name != "alpa" or own.get("variant") == "code")
    grid = product(product(values, repeat=len(gammas)), CLIPS if clipped else (None,))
    return [
        (name, {**own, **dict(zip(gammas, chosen, strict=True)), **({} if clip is None else {"clip": clip})})
        for chosen, clip in grid
    ]


def logits(batch: int = 6, dtype: torch.dtype = torch.float64) -> Tensor:
    drawn = torch.randn(batch, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 3
    return drawn.to(dtype).requires_grad_()


def soft(batch: int = 6) -> Tensor:
    return torch.rand(batch, 4, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def one_hot(indices: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(indices, 4)


def drawing_nothing(loss: Loss) -> Loss:
    """A stochastic loss in evaluation mode, for laws between batches, whose draws cannot be the same."""
    return loss.eval() if loss.stochastic else loss


def value_of(loss: Callable[[Tensor, Tensor], Tensor], z: Tensor, target: Tensor) -> Tensor:
    """The value, with the draws of a stochastic loss the same each time."""
    torch.manual_seed(5)
    return loss(z, target)


def gradient(loss: Callable[[Tensor, Tensor], Tensor], z: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Value and gradient."""
    leaf = z.detach().clone().requires_grad_()
    value = value_of(loss, leaf, target)
    value.sum().backward()
    assert leaf.grad is not None
    return value.detach(), leaf.grad


def assert_same(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> None:
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)

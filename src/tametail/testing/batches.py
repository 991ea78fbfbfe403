"""One batch for every loss, and how value and gradient are compared.

Shape legend: B = 6 samples, C = 4 classes, one of which has no training samples.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from itertools import product
from typing import Any

import torch
from torch import Tensor

from tametail.losses import Loss, create_loss, parse_loss

COUNTS = [40, 7, 0, 1]
GAMMAS = (0.0, 0.3, 1.0, 2.0, 4.5)
CLIPS = (0.0, 0.05, 0.5)
INDICES = torch.tensor([0, 1, 2, 3, 1, 0])
LossFunction = Callable[[Tensor, Tensor], Tensor]


_parse = functools.cache(parse_loss)


def make(text: str, **params: Any) -> Loss:
    """The loss of a text for the batch; ``params`` replace those of the text."""
    spec = _parse(text)
    return create_loss(spec.name, **{"class_counts": COUNTS, **spec.params, **params})


def with_other_tau(text: str) -> str:
    """The text of a loss without parameters, with logit-adjusted training, or without it where that is the default."""
    return f"{text}[tau={0 if make(text).tau else 1}]"


def all_exponents(text: str, **others: Any) -> list[Loss]:
    """The loss with all of GAMMAS and CLIPS that it accepts; ``others`` replace parameters of the text.

    Of two exponents, which stand in different terms, each takes all values, equal ones and a larger other one among
    them, with every clip.
    """
    parameters = inspect.signature(type(make(text))).parameters
    names = [name for name in parameters if name.startswith("gamma")]
    shifted = [GAMMAS[index:] + GAMMAS[:index] for index in range(len(names))]
    rows = [*zip(*shifted, strict=True), (0.0,) * len(names)] if names else [()]
    grid = [others | dict(zip(names, values, strict=True)) for values in rows]
    clipped = [params | {"clip": clip} for params, clip in product(grid, CLIPS) if "clip" in parameters]
    return _accepted(text, clipped) or _accepted(text, grid)


def _accepted(text: str, choices: Iterable[Mapping[str, float]]) -> list[Loss]:
    """The losses with those parameters that they accept: one may have an upper limit, or need another option."""
    found = []
    for params in choices:
        with contextlib.suppress(ValueError):
            found.append(make(text, **params))
    return found


def logits(batch: int = 6, dtype: torch.dtype = torch.float64) -> Tensor:
    """Logits (B, C)."""
    drawn = torch.randn(batch, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 3
    return drawn.to(dtype).requires_grad_()


def extreme_logits(dtype: torch.dtype) -> Tensor:
    """Logits (18, C) up to ±1e4, among them those of the probability 0.05."""
    edges = torch.tensor([0.0, 2.944439, 5, 17, 40, 90, 120, 800, 1e4])  # sigmoid(-2.944439) = 0.05
    row = torch.cat([edges, -edges]).to(dtype)
    return torch.stack([row, row.flip(0), row.roll(5), row.roll(9)], dim=1)


def soft(batch: int = 6) -> Tensor:
    """Soft labels (B, C) in [0, 1]."""
    return torch.rand(batch, 4, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def one_hot(indices: Tensor) -> Tensor:
    """One-hot labels (B, C) of class indices (B,)."""
    return torch.nn.functional.one_hot(indices, 4)


def without_draws(loss: Loss) -> Loss:
    """A stochastic loss in evaluation mode, for comparisons between batches."""
    return loss.eval() if loss.stochastic else loss


def value_of(loss: LossFunction, z: Tensor, target: Tensor) -> Tensor:
    """The value; a stochastic loss draws the same numbers each time."""
    torch.default_generator.manual_seed(5)  # torch.manual_seed formats a traceback for each GPU backend
    return loss(z, target)


def value_and_gradient(loss: LossFunction, z: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The value, and the gradient of its sum with respect to the logits."""
    leaf = z.detach().clone().requires_grad_()
    value = value_of(loss, leaf, target)
    value.sum().backward()
    assert leaf.grad is not None, "the value does not depend on the logits"
    return value.detach(), leaf.grad


def assert_same(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor], between: str) -> None:
    """Check that values and gradients are equal up to rounding."""
    assert_close(found[0], expected[0], f"the value differs between {between}", 1e-12, 1e-14)
    assert_close(found[1], expected[1], f"the gradient differs between {between}", 1e-12, 1e-14)


def assert_close(
    found: Tensor, expected: Tensor, message: str, rtol: float | None = None, atol: float | None = None
) -> None:
    """``torch.testing.assert_close`` with a message of its own."""
    torch.testing.assert_close(found, expected, rtol=rtol, atol=atol, msg=lambda text: f"{message}\n{text}")

"""A long-tailed task of Gaussian classes, and heads trained on it. Shape legend: C = 5 classes, D = 16 features."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tametail.training.strategies import Method, parse_method

COUNTS = [300, 100, 40, 12, 5]
LOSSES = ["ce", "bce", "alpa", "ldam", "balanced_softmax"]
HEADS = ["taunorm", "crt", "lws", "ncm"]


def draw(
    counts: Sequence[int], seed: int, *, features: int = 16, apart: float = 0.8
) -> tuple[Tensor, Tensor]:
    """Features (n, D) around class means that are the same for every seed, and classes (n,)."""
    means = apart * torch.randn(20, features, generator=torch.Generator().manual_seed(0))[: len(counts)]
    target = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    noise = torch.randn(len(target), features, generator=torch.Generator().manual_seed(seed))
    return means[target] + noise, target


def trained_head(
    method: Method, counts: Sequence[int], seed: int, steps: int = 100, features: int = 16
) -> nn.Module:
    """The trained head of a method's base, by full batches of ``draw(counts, seed)``; not to be changed."""
    return _trained_head(method.base, tuple(counts), seed, steps, features)


@functools.lru_cache
def _trained_head(method: Method, counts: tuple[int, ...], seed: int, steps: int, features: int) -> nn.Module:
    inputs, target = draw(counts, seed, features=features)
    torch.manual_seed(seed)
    loss, head = method.loss.create(counts), method.build_head(features, len(counts))
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(head(inputs), target).backward()
        optimizer.step()
    return head


def fitted(text: str, counts: Sequence[int] = COUNTS, seed: int = 1, steps: int = 100) -> nn.Module:
    """The head of a method on ``draw(counts, seed)``."""
    method = parse_method(text)
    return method.fit_head(trained_head(method, counts, seed, steps), *draw(counts, seed), counts, seed)


def decided(text: str, head: nn.Module, features: Tensor, counts: Sequence[int] = COUNTS) -> Tensor:
    """(n,) the classes that a method decides for."""
    with torch.no_grad():
        return parse_method(text).judgement(counts).decision(head(features)).argmax(dim=1)


def balanced_accuracy(predicted: Tensor, target: Tensor) -> float:
    return float(torch.stack([(predicted[target == c] == c).float().mean() for c in target.unique()]).mean())

"""Preparation of batches and reduction, away from any formula."""

from __future__ import annotations

import torch

from tametail.losses.numerics import power
from tametail.losses.terms import prepare, reduce


def test_prepare_from_indices() -> None:
    logits, target, known = prepare(
        torch.ones(3, 2, dtype=torch.float16), torch.tensor([1, -1, 0]), ignore_index=-1, coupled=False
    )
    assert logits.dtype == torch.float32
    assert logits.tolist() == [[1, 1], [0, 0], [1, 1]]
    assert target.tolist() == [[0, 1], [0, 0], [1, 0]]
    assert known.tolist() == [[True, True], [False, False], [True, True]]


def test_an_unsigned_index_is_never_taken_for_the_unknown_one() -> None:
    """-100 as uint8 is 156, which is a class here."""
    _, target, known = prepare(
        torch.zeros(1, 200), torch.tensor([156], dtype=torch.uint8), ignore_index=-100, coupled=False
    )
    assert known.all()
    assert target[0, 156] == 1


def test_a_logit_in_a_softmax_counts_although_its_label_is_unknown() -> None:
    labels = torch.tensor([[1, torch.nan], [torch.nan, torch.nan]])
    for coupled, expected in ((True, [[5, 5], [0, 0]]), (False, [[5, 0], [0, 0]])):
        logits, target, known = prepare(torch.full((2, 2), 5.0), labels, ignore_index=-100, coupled=coupled)
        assert logits.tolist() == expected
        assert target.tolist() == [[1, 0], [0, 0]]
        assert known.tolist() == [[True, False], [False, False]]


def test_the_mean_counts_samples_with_a_known_term() -> None:
    per_term = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    known = torch.tensor([[True, True], [True, False], [False, False]])
    assert reduce(per_term, known, "none").tolist() == [3, 3, 0]
    assert reduce(per_term, known, "sum").item() == 6
    assert reduce(per_term, known, "mean").item() == 3


def test_power_at_zero() -> None:
    base = torch.zeros(1, requires_grad=True)
    for exponent, expected in ((0.0, 1.0), (0.3, 0.0), (2.0, 0.0)):
        value = power(base, exponent)
        (gradient,) = torch.autograd.grad(value.sum() + 0 * base.sum(), base)
        assert value.item() == expected
        assert gradient.item() == 0

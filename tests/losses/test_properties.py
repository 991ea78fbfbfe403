"""Laws that hold for any batch, tried on many."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tametail.losses import create_loss, list_losses

TEXTS = st.sampled_from(list_losses())
LOGIT = st.floats(-50, 50, allow_nan=False, width=32)
ROWS = st.lists(st.lists(LOGIT, min_size=3, max_size=3), min_size=1, max_size=5)
FEW = settings(max_examples=40, deadline=None)


def _loss(name: str, rows: list[list[float]], target: Tensor, counts: list[int] | None = None) -> Tensor:
    logits = torch.tensor(rows, dtype=torch.float64)
    value: Tensor = create_loss(name, class_counts=counts or [50, 5, 2], reduction="none")(logits, target)
    return value


def _labels(rows: list[list[float]]) -> Tensor:
    return torch.arange(len(rows)) % 3


@FEW
@given(TEXTS, ROWS)
def test_never_negative(name: str, rows: list[list[float]]) -> None:
    assert (_loss(name, rows, _labels(rows)) >= 0).all()


@FEW
@given(TEXTS, ROWS)
def test_samples_do_not_see_one_another(name: str, rows: list[list[float]]) -> None:
    together = _loss(name, rows, _labels(rows))
    alone = [_loss(name, [row], label[None]) for row, label in zip(rows, _labels(rows), strict=True)]
    torch.testing.assert_close(together, torch.cat(alone))


@FEW
@given(TEXTS, ROWS, st.permutations([0, 1, 2]))
def test_the_order_of_classes_does_not_matter(name: str, rows: list[list[float]], order: list[int]) -> None:
    counts = [50, 5, 2]
    reordered = [[row[index] for index in order] for row in rows]
    target = torch.nn.functional.one_hot(_labels(rows), 3)
    torch.testing.assert_close(
        _loss(name, rows, target, counts),
        _loss(name, reordered, target[:, order], [counts[index] for index in order]),
    )


@FEW
@given(TEXTS, ROWS, st.floats(0, 30))
def test_a_larger_logit_of_the_true_class_costs_no_more(
    name: str, rows: list[list[float]], step: float
) -> None:
    labels = _labels(rows)
    raised = [
        [z + step * (c == label) for c, z in enumerate(row)] for row, label in zip(rows, labels, strict=True)
    ]
    assert (_loss(name, raised, labels) <= _loss(name, rows, labels) + 1e-9).all()

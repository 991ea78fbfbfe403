"""Laws that hold for any batch, tested on many, for every registered loss."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from hypothesis import assume, given, note, settings
from hypothesis import strategies as st
from torch import Tensor

from tametail.losses import Loss, create_loss, list_losses
from tametail.testing.batches import value_of, without_draws

pytestmark = pytest.mark.filterwarnings("ignore:.*expects the cosines")
COUNTS = [50, 5, 2]
LOGIT = st.floats(-50, 50, allow_nan=False, width=32)
ROWS = st.lists(st.lists(LOGIT, min_size=3, max_size=3), min_size=1, max_size=5)
FEW = settings(max_examples=20, deadline=None)
# Label smoothing penalises certainty.
UNSMOOTHED: dict[str, dict[str, Any]] = {
    "asl_single_label": {"label_smoothing": 0},
    "label_aware_smoothing": {"smoothing_head": 0},
}
UNSMOOTHED["soft_ordinal"] = {"scale": 50}
# Their formula is not a function of the softmax of the logits alone.
SHIFTS_MATTER = ("vs", "lade", "corn")
# Its logits are those of exceeding a grade, not of the grade.
OF_EXCEEDING = ("corn",)


@functools.cache
def _named(batchwise: bool) -> list[str]:
    """All losses, or those whose samples are independent."""
    return [
        name for name in list_losses() if batchwise or not create_loss(name, class_counts=COUNTS).batchwise
    ]


@functools.cache
def _of_a_softmax() -> list[str]:
    return [
        name
        for name in list_losses()
        if name not in SHIFTS_MATTER and create_loss(name, class_counts=COUNTS).family == "softmax"
    ]


def _loss(
    name: str, rows: list[list[float]], target: Tensor, counts: list[int] | None = None, **params: Any
) -> Tensor:
    """Values (B,); a stochastic loss draws nothing."""
    loss = _made(name, tuple(counts or COUNTS), **{"reduction": "none"} | params)
    return value_of(loss, torch.tensor(rows, dtype=torch.float64), target)


@functools.cache
def _made(name: str, counts: tuple[int, ...], **params: Any) -> Loss:
    return without_draws(create_loss(name, class_counts=list(counts), **params))


def _labels(rows: list[list[float]]) -> Tensor:
    return torch.arange(len(rows)) % 3


@FEW
@given(ROWS)
def test_never_negative(rows: list[list[float]]) -> None:
    for name in _named(batchwise=False):
        note(name)
        # apl subtracts its first Taylor terms: for r = 1e-22 a rounding error of -1e-38 may remain.
        assert (_loss(name, rows, _labels(rows)) >= -1e-30).all()


@FEW
@given(ROWS)
def test_samples_are_independent(rows: list[list[float]]) -> None:
    for name in _named(batchwise=False):
        note(name)
        together = _loss(name, rows, _labels(rows))
        alone = [_loss(name, [row], label[None]) for row, label in zip(rows, _labels(rows), strict=True)]
        torch.testing.assert_close(together, torch.cat(alone))


@FEW
@given(ROWS)
def test_what_is_declared_batchwise_is(rows: list[list[float]]) -> None:
    # Rows that hardly differ hardly differ in their weights.
    assume(max(max(column) - min(column) for column in zip(*rows, strict=True)) > 1e-3)
    for name in set(_named(batchwise=True)) - set(_named(batchwise=False)):
        together, first = _loss(name, rows, _labels(rows)), _loss(name, rows[:1], _labels(rows[:1]))
        if torch.equal(together[:1], first):  # then samples have weights in the mean
            assume(not torch.allclose(together, together[:1]))
            mean = _loss(name, rows, _labels(rows), reduction="mean")
            assert not torch.isclose(mean, together.mean(), rtol=1e-12, atol=0)


@FEW
@given(ROWS, st.permutations([0, 1, 2]))
def test_the_order_of_classes_does_not_matter(rows: list[list[float]], order: list[int]) -> None:
    for name in _named(batchwise=True):
        note(name)
        reordered = [[row[index] for index in order] for row in rows]
        target = torch.nn.functional.one_hot(_labels(rows), 3)
        ordinal = create_loss(name, class_counts=COUNTS).ordinal
        moved = {"class_order": tuple(order.index(grade) for grade in range(3))} if ordinal else {}
        torch.testing.assert_close(
            _loss(name, rows, target),
            _loss(name, reordered, target[:, order], [COUNTS[index] for index in order], **moved),
        )


@FEW
@given(ROWS, st.randoms(use_true_random=False))
def test_the_order_of_samples_does_not_matter(rows: list[list[float]], random: Any) -> None:
    order = list(range(len(rows)))
    random.shuffle(order)
    for name in _named(batchwise=True):
        note(name)
        torch.testing.assert_close(
            _loss(name, rows, _labels(rows))[order],
            _loss(name, [rows[index] for index in order], _labels(rows)[order]),
        )


@FEW
@given(ROWS, st.floats(0, 30))
def test_a_larger_logit_of_the_true_class_costs_no_more(rows: list[list[float]], step: float) -> None:
    for name in set(_named(batchwise=False)) - set(OF_EXCEEDING):
        note(name)
        labels, params = _labels(rows), UNSMOOTHED.get(name, {})
        raised = [
            [z + step * (c == label) for c, z in enumerate(row)]
            for row, label in zip(rows, labels, strict=True)
        ]
        assert (_loss(name, raised, labels, **params) <= _loss(name, rows, labels, **params) + 1e-9).all()


@FEW
@given(ROWS, st.floats(-20, 20))
def test_a_softmax_is_invariant_to_a_shift_of_all_logits(rows: list[list[float]], shift: float) -> None:
    for name in _of_a_softmax():
        note(name)
        shifted = [[z + shift for z in row] for row in rows]
        torch.testing.assert_close(
            _loss(name, shifted, _labels(rows)), _loss(name, rows, _labels(rows)), rtol=1e-9, atol=1e-9
        )


@FEW
@given(ROWS, st.floats(0, 1))
def test_with_equal_counts_the_link_keeps_the_order_of_the_logits(
    rows: list[list[float]], tau: float
) -> None:
    for name in _named(batchwise=True):
        note(name)
        loss = create_loss(name, class_counts=[7, 7, 7], tau=tau)
        if loss.ordinal:
            continue  # a probability depends on the logits of the neighbouring grades
        z = torch.tensor(rows, dtype=torch.float64)
        found = loss.link(z).gather(1, z.argsort(dim=1))
        assert (found.diff(dim=1) >= -1e-9).all()

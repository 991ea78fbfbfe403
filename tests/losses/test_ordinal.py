"""Losses of ordinal classes: CORN and soft ordinal labels, in plain floats, in any order of the columns."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from tametail.losses import (
    CORNLoss,
    SoftOrdinalLoss,
    corn_log_probabilities,
    create_loss,
    list_losses,
    parse_loss,
    soft_ordinal_labels,
)
from tametail.losses.registry import loss_class
from tametail.testing.batches import INDICES, logits, value_and_gradient

ORDER = [2, 0, 3, 1]  # the lowest grade is column 2
GRADE = [ORDER.index(column) for column in range(4)]
COUNTS = [40, 7, 20, 1]
ORDINAL = [name for name in list_losses() if loss_class(name).ordinal]


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def _released_corn(z: Tensor, grade: Tensor) -> float:
    """The loss as its paper has it: for each question the images that have reached it, all divided by their number."""
    classes, total, asked = z.shape[1], 0.0, 0
    for k in range(classes - 1):
        for row, own in zip(z.tolist(), grade.tolist(), strict=True):
            if own >= k:
                total -= math.log(_sigmoid(row[k]) if own > k else 1 - _sigmoid(row[k]))
                asked += 1
    return total / asked


def test_both_are_ordinal_and_no_other() -> None:
    assert ORDINAL == ["corn", "soft_ordinal"]


def test_corn_is_the_papers_sum_over_questions() -> None:
    z = logits()
    asked = sum(min(grade + 1, 3) for grade in INDICES.tolist())
    found = float(CORNLoss(reduction="sum")(z, INDICES).detach())
    assert found / asked == pytest.approx(_released_corn(z, INDICES), rel=1e-12)


def test_gradients_of_corn_are_those_of_its_questions() -> None:
    """σ(z_k) - 1 for a grade above k, σ(z_k) for grade k, and 0 for questions that are not asked and the last column."""
    _, gradient = value_and_gradient(CORNLoss(reduction="sum"), logits(), INDICES)
    for row, own, slopes in zip(logits().tolist(), INDICES.tolist(), gradient.tolist(), strict=True):
        expected = [_sigmoid(row[k]) - (own > k) if k <= min(own, 2) else 0.0 for k in range(4)]
        assert slopes == pytest.approx(expected, abs=1e-12)


def test_gradients_of_soft_labels_are_softmax_less_label() -> None:
    for params in ({}, {"distance": "squared", "scale": 0.5}):
        loss = SoftOrdinalLoss(**params, reduction="sum")
        _, gradient = value_and_gradient(loss, logits(), INDICES)
        power = 2 if params else 1
        for row, own, slopes in zip(logits().tolist(), INDICES.tolist(), gradient.tolist(), strict=True):
            label = [math.exp(-loss.scale * abs(k - own) ** power) for k in range(4)]
            softmax = [math.exp(value) for value in row]
            expected = [s / sum(softmax) - q / sum(label) for s, q in zip(softmax, label, strict=True)]
            assert slopes == pytest.approx(expected, abs=1e-12)


def test_probabilities_of_corn_are_products_of_its_answers() -> None:
    row = [0.3, -1.2, 2.0, 9.0]
    f = [_sigmoid(value) for value in row]
    expected = [1 - f[0], f[0] * (1 - f[1]), f[0] * f[1] * (1 - f[2]), f[0] * f[1] * f[2]]
    found = corn_log_probabilities(torch.tensor([row], dtype=torch.float64)).exp()
    assert found[0].tolist() == pytest.approx(expected)
    assert torch.allclose(CORNLoss().link(logits()).sum(dim=1), torch.ones(6).double())


@pytest.mark.parametrize("name", ORDINAL)
@pytest.mark.parametrize("tau", [0.0, 1.0])
def test_columns_in_another_order_are_the_same_loss(name: str, tau: float) -> None:
    """Value, gradient, link and decision are those of sorted columns, for class indices and for labels."""
    counts = {"class_counts": COUNTS, "tau": tau}
    loss = create_loss(name, **counts, class_order=ORDER)
    sorted_counts = [COUNTS[column] for column in ORDER]
    plain = create_loss(name, class_counts=sorted_counts, tau=tau)
    z, grade = logits().detach(), torch.tensor(GRADE)[INDICES]
    labels = torch.nn.functional.one_hot(INDICES, 4).double()
    expected = value_and_gradient(plain, z[:, ORDER], grade)
    for target in (INDICES, labels):
        value, gradient = value_and_gradient(loss, z, target)
        torch.testing.assert_close(value, expected[0])
        torch.testing.assert_close(gradient[:, ORDER], expected[1])
    torch.testing.assert_close(loss.link(z)[:, ORDER], plain.link(z[:, ORDER]))
    torch.testing.assert_close(loss.decision(z)[:, ORDER], plain.decision(z[:, ORDER]))
    assert not torch.allclose(create_loss(name, **counts)(z, INDICES), loss(z, INDICES))


def test_corn_decides_for_the_median_as_its_paper_or_for_the_most_probable_grade() -> None:
    z = torch.randn(500, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2
    p = CORNLoss().link(z)
    exceeded = 1 - p.cumsum(dim=1)[:, :-1]  # P(grade > k)
    assert torch.equal(CORNLoss().decision(z).argmax(dim=1), (exceeded > 0.5).sum(dim=1))
    most = CORNLoss(decide="class").decision(z).argmax(dim=1)
    assert torch.equal(most, p.argmax(dim=1))
    assert (most != (exceeded > 0.5).sum(dim=1)).any()


def test_corn_with_the_prior_starts_at_the_class_frequencies_and_decides_without_them() -> None:
    loss = CORNLoss(class_counts=COUNTS, tau=1.0, class_order=ORDER, decide="class")
    start = torch.zeros(1, 4, dtype=torch.float64)
    prior = torch.tensor(COUNTS, dtype=torch.float64) / sum(COUNTS)
    torch.testing.assert_close(loss.link(start)[0], prior)
    decided = torch.softmax(loss.decision(start), dim=1)[0]
    torch.testing.assert_close(decided, torch.full((4,), 0.25, dtype=torch.float64))


def test_labels_fall_off_with_the_distance_and_become_hard() -> None:
    labels = soft_ordinal_labels(5)
    torch.testing.assert_close(labels.sum(dim=1), torch.ones(5, dtype=torch.float64))
    assert labels[2].tolist() == labels[2].flip(0).tolist()
    assert (labels[0].diff() < 0).all()
    hard = SoftOrdinalLoss(scale=50)
    ce = create_loss("ce")
    torch.testing.assert_close(hard(logits(), INDICES), ce(logits(), INDICES))
    torch.testing.assert_close(hard.link(logits()), ce.link(logits()))


@pytest.mark.parametrize("name", ORDINAL)
def test_two_classes_have_no_order_to_speak_of(name: str) -> None:
    """CORN of two classes is binary cross-entropy of one logit."""
    z, target = logits()[:, :2], INDICES % 2
    if name == "corn":
        expected = torch.nn.functional.binary_cross_entropy_with_logits(z[:, 0], target.double())
        torch.testing.assert_close(CORNLoss()(z, target), expected)
    turned = create_loss(name, class_order=[1, 0])(z.flip(1), 1 - target)
    torch.testing.assert_close(turned, create_loss(name)(z, target))


@pytest.mark.parametrize("order", [[0, 1, 1, 2], [1, 2, 3, 4], []])
def test_an_order_is_every_class_once(order: Any) -> None:
    with pytest.raises(ValueError, match=r"each class index from 0 to C - 1 once|of shape"):
        CORNLoss(class_order=order)(logits(), INDICES)
    with pytest.raises(ValueError, match=r"\(B, 3\) for an order of 3"):
        CORNLoss(class_order=[2, 0, 1])(logits(), INDICES)


def test_the_text_of_a_loss_has_no_order_and_its_spec_keeps_one() -> None:
    spec = parse_loss("corn").in_order(ORDER)
    assert (spec.text, spec) == ("corn", parse_loss("corn"))
    made = spec.create(COUNTS)
    assert isinstance(made, CORNLoss)
    assert made.class_order == tuple(ORDER)
    assert parse_loss("ce").in_order(ORDER).class_order is None
    with pytest.raises(ValueError, match="class_order"):
        parse_loss("corn[class_order=1]")

"""LDAM: its margins, and its value in plain floats."""

from __future__ import annotations

import math

import pytest
import torch

from tametail.losses import LDAMLoss, NormalisedLinear, create_loss, ldam_loss, ldam_margins


def test_margins_fall_with_the_fourth_root_of_the_count() -> None:
    margins = ldam_margins([16, 1, 81, 256], 0.6)
    torch.testing.assert_close(margins, torch.tensor([0.3, 0.6, 0.2, 0.15], dtype=torch.float64))


def test_a_class_without_samples_has_the_largest_margin_and_moves_no_other() -> None:
    with_zero, without = ldam_margins([0, 162, 2]), ldam_margins([162, 2])
    assert with_zero[0] == 0.5
    assert torch.equal(with_zero[1:], without)


def test_value_in_plain_floats() -> None:
    cosines = [0.3, -0.2, 0.9]
    for label, margin in enumerate((0.25, 0.5, 0.5 / 3)):
        scaled = [12 * (cosine - margin * (index == label)) for index, cosine in enumerate(cosines)]
        expected = math.log(sum(math.exp(value) for value in scaled)) - scaled[label]
        value = ldam_loss(
            torch.tensor([cosines], dtype=torch.float64),
            torch.tensor([label]),
            class_counts=[16, 1, 81],
            scale=12,
        )
        assert value.item() == pytest.approx(expected, rel=1e-13)


def test_counts_of_any_kind_are_kept_exactly() -> None:
    for counts in ([3, 1], torch.tensor([3, 1]), torch.tensor([3.0, 1.0])):
        loss = LDAMLoss(class_counts=counts).half()
        assert loss.class_counts.dtype == torch.int64
        assert loss.class_counts.tolist() == [3, 1]


def test_the_callers_counts_may_change_later() -> None:
    counts = torch.tensor([3, 1])
    loss = LDAMLoss(class_counts=counts)
    counts.zero_()
    assert loss.class_counts.tolist() == [3, 1]


def test_counts_are_required() -> None:
    with pytest.raises(ValueError, match=r"LDAMLoss \(ldam\) expects class_counts, .* got None"):
        create_loss("ldam")


def test_counts_must_fit_the_input() -> None:
    with pytest.raises(
        ValueError,
        match=r"LDAMLoss \(ldam\) expects input of shape \(B, 2\) for 2 class counts, got \(1, 3\)",
    ):
        ldam_loss(torch.zeros(1, 3), torch.tensor([0]), class_counts=[2, 1])


def test_it_asks_for_the_normalised_head() -> None:
    assert LDAMLoss.head == "normalised"
    assert LDAMLoss.uses_class_counts


@pytest.mark.parametrize("margin", [-1, math.nan])
def test_margins_are_not_negative(margin: float) -> None:
    with pytest.raises(ValueError, match="expected max_margin >= 0, got"):
        ldam_margins([3, 1], margin)


def test_ordinary_logits_are_warned_of_once() -> None:
    target = torch.tensor([0, 1])
    loss = LDAMLoss([3, 1])
    for cosines in (
        torch.tensor([[1.0, -1.0], [0.2, 1.01]]),
        torch.tensor([[1.0, -1.0078]]).expand(2, 2).bfloat16(),
    ):
        loss(cosines, target)  # a warning would be an error here
    features = torch.randn(2, 5) * 100
    loss(NormalisedLinear(5, 2)(features), target)
    with pytest.warns(UserWarning, match=r"expects the cosines .* values of size 3; .*NormalisedLinear$"):
        loss(torch.tensor([[3.0, 0.0], [0.0, 1.0]]), target)
    loss(torch.tensor([[30.0, 0.0], [0.0, 1.0]]), target)

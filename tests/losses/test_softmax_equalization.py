"""SEQL: what is left out of the softmax, when, and how often."""

from __future__ import annotations

import math

import pytest
import torch

from tametail.losses import create_loss, softmax_equalization_loss

LOGITS = [0.3, -1.2, 2.0, 0.7]
COUNTS = [80, 15, 5, 0]  # half of an even share is 12.5 %


def _reference(label: int, left_out: tuple[int, ...]) -> float:
    kept = [z for c, z in enumerate(LOGITS) if c == label or c not in left_out]
    return math.log(sum(math.exp(z) for z in kept)) - LOGITS[label]


@pytest.mark.parametrize("label", range(4))
@pytest.mark.parametrize(("threshold", "rare"), [(None, (2, 3)), (0.0, ()), (0.05, (3,)), (0.5, (1, 2, 3))])
def test_with_gamma_one_rare_classes_are_left_out_of_others_samples(
    label: int, threshold: float | None, rare: tuple[int, ...]
) -> None:
    value = softmax_equalization_loss(
        torch.tensor([LOGITS], dtype=torch.float64),
        torch.tensor([label]),
        gamma=1,
        threshold=threshold,
        class_counts=COUNTS,
    )
    assert value.item() == pytest.approx(_reference(label, rare), rel=1e-13)


def test_a_share_of_the_label_keeps_a_share_of_the_class() -> None:
    target = torch.tensor([[0.4, 0, 0.6, 0]], dtype=torch.float64)
    value = softmax_equalization_loss(
        torch.tensor([LOGITS], dtype=torch.float64), target, gamma=1, class_counts=COUNTS
    )
    total = math.log(sum(w * math.exp(z) for w, z in zip((1, 1, 0.6, 0), LOGITS, strict=True)))
    assert value.item() == pytest.approx(0.4 * (total - LOGITS[0]) + 0.6 * (total - LOGITS[2]), rel=1e-13)


def test_every_term_is_drawn_on_its_own_with_the_given_probability() -> None:
    torch.manual_seed(0)
    loss = create_loss("seql", gamma=0.7, class_counts=COUNTS, reduction="none")
    values = loss(torch.tensor([LOGITS], dtype=torch.float64).expand(20000, -1), torch.zeros(20000).long())
    shares = {
        left_out: torch.isclose(values, torch.tensor(_reference(0, left_out)).double()).double().mean().item()
        for left_out in ((2, 3), (2,), (3,), ())
    }
    assert sum(shares.values()) == 1
    for left_out, expected in (((2, 3), 0.49), ((2,), 0.21), ((3,), 0.21), ((), 0.09)):
        assert shares[left_out] == pytest.approx(expected, abs=0.015)  # four standard errors


def test_a_class_that_was_left_out_has_no_gradient() -> None:
    logits = torch.tensor([LOGITS], requires_grad=True)
    softmax_equalization_loss(logits, torch.tensor([0]), gamma=1, class_counts=COUNTS).backward()
    assert logits.grad is not None
    assert (logits.grad[0] == 0).tolist() == [False, False, True, True]


def test_draws_follow_torchs_seed_and_stop_in_evaluation() -> None:
    loss = create_loss("seql", gamma=0.5, class_counts=COUNTS, reduction="none")
    logits, target = torch.tensor([LOGITS] * 50), torch.zeros(50, dtype=torch.int64)
    torch.manual_seed(1)
    first, second = loss(logits, target), loss(logits, target)
    assert not torch.equal(first, second)
    torch.manual_seed(1)
    assert torch.equal(loss(logits, target), first)
    state = torch.get_rng_state()
    assert torch.equal(loss.eval()(logits, target), create_loss("ce", reduction="none")(logits, target))
    assert torch.equal(torch.get_rng_state(), state)


def test_no_digits_are_lost_where_logits_are_large() -> None:
    """In float32, logits of 10,000 have steps of 0.001."""
    logits = torch.tensor([[10000.0, 9990.0, 9990.0, 9990.0]])
    value = softmax_equalization_loss(logits, torch.tensor([0]), gamma=1, class_counts=COUNTS)
    assert value.item() == pytest.approx(math.log1p(math.exp(-10)), rel=1e-2)


def test_a_sample_that_would_lose_all_classes_keeps_them() -> None:
    loss = create_loss("seql", gamma=1, threshold=0.9, class_counts=COUNTS)
    logits = torch.tensor([LOGITS], requires_grad=True)
    loss(logits, torch.zeros(1, 4)).backward()
    assert logits.grad is not None
    assert logits.grad.tolist() == [[0] * 4]


def test_gamma_is_a_probability() -> None:
    with pytest.raises(ValueError, match=r"expected gamma in \[0, 1\], got 1.1"):
        create_loss("seql", gamma=1.1, class_counts=COUNTS)

"""What docs/paper.md says of the paper's equations, where the losses' own tests do not say it."""

from __future__ import annotations

import pytest
import torch

from tametail.losses import ALPALoss
from tametail.losses.pade import PRINTED_NEGATIVE, PRINTED_POSITIVE, PaperForm

Z = torch.linspace(-8, 12, 20001, dtype=torch.float64)


def _negative_slope(loss: ALPALoss) -> torch.Tensor:
    z = Z[:, None].clone().requires_grad_()
    loss(z, torch.zeros_like(z)).sum().backward()
    assert z.grad is not None
    return z.grad[:, 0]


def _at(form: PaperForm, x: torch.Tensor) -> torch.Tensor:
    above, below = (sum(float(c) * x**k for k, c in enumerate(part)) for part in form)
    return above / below


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize(("gamma_pos", "gamma_neg"), [(0, 4), (1, 2)])
def test_equation_11_with_a_minus_is_variant_paper(label: int, gamma_pos: int, gamma_neg: int) -> None:
    loss = ALPALoss(gamma_pos=gamma_pos, gamma_neg=gamma_neg, reduction="none")
    p = torch.sigmoid(Z)
    if label:
        expected = -0.875 * (1 - p) ** (2 * gamma_pos) * _at(PRINTED_POSITIVE, p)
    else:
        expected = -1.625 * p ** (2 * gamma_neg) * _at(PRINTED_NEGATIVE, 1 - p)
    values = loss(Z[:, None], torch.full_like(Z[:, None], label))
    torch.testing.assert_close(values, expected, rtol=1e-9, atol=0)


def test_slope_of_section_4_4_focuses_once_and_peaks_at_five_sixths() -> None:
    slope = _negative_slope(ALPALoss(double_focus=False, beta=1, reduction="sum"))
    p = torch.sigmoid(Z)
    torch.testing.assert_close(slope, 5 * p**5 * (1 - p), rtol=1e-9, atol=0)
    assert p[slope.argmax()].item() == pytest.approx(5 / 6, abs=1e-3)
    assert slope[-1] < 1e-4 * slope.max()


def test_slope_of_equation_11_peaks_at_nine_tenths() -> None:
    slope = _negative_slope(ALPALoss(reduction="sum"))
    assert torch.sigmoid(Z)[slope.argmax()].item() == pytest.approx(0.9, abs=1e-3)


def test_version_3_read_literally_rewards_false_alarms() -> None:
    """-(L- + 1.5 p) with L- = -p falls as p grows; ours, p (1.5 - p), grows where it is focused."""
    p = torch.linspace(0, 1, 101, dtype=torch.float64)
    literal = -(_at(PRINTED_NEGATIVE, 1 - p) + 1.5 * p)
    torch.testing.assert_close(literal, -0.5 * p)
    assert (_negative_slope(ALPALoss(preset="v3", reduction="sum")) >= 0).all()

"""Other libraries' implementations, where they are installed and on logits at which they keep their digits."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from tametail.losses import asymmetric_loss, asymmetric_single_label_loss, focal_loss, focal_softmax_loss
from tametail.models.torchvision_ops import ensure_importable

INDICES = torch.arange(40) % 5


@functools.cache
def _library(name: str) -> ModuleType:
    ensure_importable()
    return pytest.importorskip(name, exc_type=ImportError)  # type: ignore[no-any-return]


def _logits(dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(11)
    return (torch.randn(40, 5, generator=generator, dtype=torch.float64) * 3).to(dtype)


def _multi_hot() -> Tensor:
    return (torch.rand(40, 5, generator=torch.Generator().manual_seed(12)) > 0.6).double()


def _agree(ours: Any, theirs: Any, logits: Tensor, rtol: float, atol: float) -> None:
    """Value and gradient of two functions of logits."""
    found = []
    for function in (ours, theirs):
        leaf = logits.clone().requires_grad_()
        value = function(leaf)
        found.append((value.detach(), torch.autograd.grad(value, leaf)[0]))
    torch.testing.assert_close(*found, rtol=rtol, atol=atol)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2), (0.6, 0.5), (None, 1), (None, 0)])
def test_focal_is_torchvisions(alpha: float | None, gamma: float) -> None:
    """A negative alpha leaves the balance out there; its mean is over terms, its sum is ours."""
    ops = _library("torchvision.ops")
    _agree(
        lambda z: focal_loss(z, _multi_hot(), alpha=alpha, gamma=gamma, reduction="sum"),
        lambda z: ops.sigmoid_focal_loss(z, _multi_hot(), -1 if alpha is None else alpha, gamma, "sum"),
        _logits(),
        rtol=1e-9,
        atol=1e-10,
    )


@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize(
    ("gamma_pos", "gamma_neg", "clip"), [(1, 4, 0.05), (0, 2, 0.2), (2, 2, 0), (0, 0, 0)]
)
def test_asl_is_timms(gamma_pos: float, gamma_neg: float, clip: float, detach: bool) -> None:
    """It computes in float32 and clamps probabilities at 1e-8. Its version decides how it reduces: its sum is ours."""
    options = {"disable_torch_grad_focal_loss": detach}
    theirs = _library("timm.loss").AsymmetricLossMultiLabel(gamma_neg, gamma_pos, clip, **options)
    divided_by = len(INDICES) if getattr(theirs, "reduction", "sum") == "batchmean" else 1
    _agree(
        lambda z: (
            asymmetric_loss(
                z,
                _multi_hot(),
                gamma_pos=gamma_pos,
                gamma_neg=gamma_neg,
                clip=clip,
                detach_focal_weight=detach,
                reduction="sum",
            )
            / divided_by
        ),
        lambda z: theirs(z, _multi_hot().to(z.dtype)),
        _logits(torch.float32),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize(("gamma_pos", "gamma_neg", "smoothing"), [(1, 4, 0.1), (0, 2, 0.3), (2, 0, 0.0)])
def test_single_label_asl_is_timms(gamma_pos: float, gamma_neg: float, smoothing: float) -> None:
    """Its default γ+ is 1, ours that of the authors' code, 0; it calls the smoothing eps."""
    theirs = _library("timm.loss").AsymmetricLossSingleLabel(gamma_pos, gamma_neg, eps=smoothing)
    _agree(
        lambda z: asymmetric_single_label_loss(
            z, INDICES, gamma_pos=gamma_pos, gamma_neg=gamma_neg, label_smoothing=smoothing
        ),
        lambda z: theirs(z, INDICES),
        _logits(),
        rtol=1e-9,
        atol=1e-10,
    )


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0])
def test_focal_softmax_is_monais(gamma: float) -> None:
    """It computes in float32. Its "sum" averages logits without further axes, as they are here: terms are compared."""
    theirs = _library("monai.losses").FocalLoss(
        to_onehot_y=True, gamma=gamma, use_softmax=True, reduction="none"
    )
    _agree(
        lambda z: focal_softmax_loss(z, INDICES, gamma=gamma, reduction="sum"),
        lambda z: theirs(z, INDICES[:, None]).sum(),
        _logits(torch.float32),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (None, 1.0), (0.6, 0.5)])
def test_focal_is_monais(alpha: float | None, gamma: float) -> None:
    theirs = _library("monai.losses").FocalLoss(gamma=gamma, alpha=alpha, reduction="none")
    _agree(
        lambda z: focal_loss(z, _multi_hot(), alpha=alpha, gamma=gamma, reduction="sum"),
        lambda z: theirs(z, _multi_hot()).sum(),
        _logits(torch.float32),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (None, 1.0), (0.6, 0.5)])
def test_focal_is_kornias(alpha: float | None, gamma: float) -> None:
    theirs = _library("kornia.losses").binary_focal_loss_with_logits
    _agree(
        lambda z: focal_loss(z, _multi_hot(), alpha=alpha, gamma=gamma, reduction="sum"),
        lambda z: theirs(z, _multi_hot(), alpha=alpha, gamma=gamma, reduction="sum"),
        _logits(),
        rtol=1e-9,
        atol=1e-10,
    )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_softmax_is_kornias(gamma: float) -> None:
    """Its alpha weighs class 0 against all others, which is a binary convention: left out."""
    theirs = _library("kornia.losses").focal_loss
    _agree(
        lambda z: focal_softmax_loss(z, INDICES, gamma=gamma, reduction="sum"),
        lambda z: theirs(z, INDICES, None, gamma, "sum"),
        _logits(),
        rtol=1e-9,
        atol=1e-10,
    )

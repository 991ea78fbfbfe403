"""Losses for unbalanced classes. They need torch and nothing else.

>>> from tametail.losses import ALPALoss
>>> loss = ALPALoss()(logits, target)
"""

from __future__ import annotations

from tametail.losses.alpa import ALPALoss, alpa_loss
from tametail.losses.asymmetric import AsymmetricLoss, asymmetric_loss
from tametail.losses.base import Loss
from tametail.losses.cross_entropy import (
    BinaryCrossEntropyLoss,
    CrossEntropyLoss,
    binary_cross_entropy_loss,
    cross_entropy_loss,
)
from tametail.losses.focal import FocalLoss, FocalSoftmaxLoss, focal_loss, focal_softmax_loss
from tametail.losses.grammar import LossSpec, parse_loss, split_losses
from tametail.losses.ldam import LDAMLoss, ldam_loss, ldam_margins
from tametail.losses.links import Link
from tametail.losses.pade import pade_coefficients
from tametail.losses.registry import create_loss, describe_losses, list_losses

__all__ = [
    "ALPALoss",
    "AsymmetricLoss",
    "BinaryCrossEntropyLoss",
    "CrossEntropyLoss",
    "FocalLoss",
    "FocalSoftmaxLoss",
    "LDAMLoss",
    "Link",
    "Loss",
    "LossSpec",
    "alpa_loss",
    "asymmetric_loss",
    "binary_cross_entropy_loss",
    "create_loss",
    "cross_entropy_loss",
    "describe_losses",
    "focal_loss",
    "focal_softmax_loss",
    "ldam_loss",
    "ldam_margins",
    "list_losses",
    "pade_coefficients",
    "parse_loss",
    "split_losses",
]

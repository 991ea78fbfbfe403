"""Post-hoc logit adjustment (la): the decision of a trained model, for equally frequent classes.

Shape legend: C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tametail.losses.links import Family
from tametail.losses.validation import check_number
from tametail.training.strategies.decision_rule import DecisionRule, PriorAdjustedDecision
from tametail.training.strategies.strategy import Strategy, register_strategy


@register_strategy
@dataclass(frozen=True)
class LogitAdjustment(Strategy):
    """Post-hoc logit adjustment: decides by the posterior divided by the class prior; trains nothing.

    Decides by log η - τ log π (softmax losses) or logit η - τ logit π (sigmoid losses), where η is the posterior by the
    loss's own link and π the class frequency in the training set. With τ = 1 the largest log η - log π is the optimal
    decision for balanced accuracy, as far as η is correct; the ratio of odds, which treats classes separately as a
    sigmoid loss does, may decide otherwise for a likely class among three or more. It replaces the loss's own
    adjustment for rare classes: after balanced_softmax, τ = 1 decides as before, and τ = 0 for the class frequencies of
    the training set. The posterior stays that of the training population.

    Attributes:
        tau: τ >= 0, the power of the prior that is divided out (1 in the paper).

    Reference:
        Menon, Jayasumana, Rawat, Jain, Veit, Kumar: Long-Tail Learning via Logit Adjustment, ICLR 2021, Eq. 9.
    """

    name: ClassVar[str] = "la"
    source: ClassVar[str] = "Menon et al., ICLR 2021"
    multi_label: ClassVar[bool] = True
    tau: float = 1.0

    def __post_init__(self) -> None:
        check_number("tau", self.tau)

    def decision_rule(self, inner: DecisionRule, class_counts: Tensor, images: int) -> DecisionRule:
        return PriorAdjustedDecision(inner, self.tau * log_prior_odds(class_counts, images, inner.family))


def log_prior_odds(class_counts: Tensor, images: int, family: Family) -> Tensor:
    """Log class frequencies log π (C,) float64 among ``images``, or, for sigmoid losses, their log-odds.

    A class without images counts as one image; a class that all images have counts as absent from one.
    """
    counts = class_counts.double()
    rest = torch.full_like(counts, images) if family == "softmax" else (images - counts).clamp(min=1)
    return counts.clamp(min=1).log() - rest.log()

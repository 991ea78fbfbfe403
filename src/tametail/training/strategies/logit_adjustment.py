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
from tametail.training.strategies.after_training import AfterTraining
from tametail.training.strategies.decision_rule import DecisionRule, PriorAdjustedDecision


@dataclass(frozen=True)
class LogitAdjustment(AfterTraining):
    """Decide by log η - τ log π (softmax losses) or logit η - τ logit π (sigmoid losses). Nothing is trained.

    η is the posterior by the loss's own link, π the share of the class in training. With τ = 1 the largest log η - log π
    is the best decision for balanced accuracy, as far as η is right; odds over odds, which keep the classes apart as a
    sigmoid loss does, may decide otherwise where a class is likely, with three classes or more. What a loss does for rare classes in its own decision is
    replaced, not added to: after balanced_softmax, τ = 1 decides as it did already, and τ = 0 for the trained
    population. The posterior stays that of the trained population.

    Attributes:
        tau: τ >= 0, the power of the prior that is taken out (1 in the paper).

    Reference:
        Menon, Jayasumana, Rawat, Jain, Veit, Kumar: Long-Tail Learning via Logit Adjustment, ICLR 2021, Eq. 9.
    """

    name: ClassVar[str] = "la"
    summary: ClassVar[str] = "decides by the posterior over the class's share; trains nothing"
    source: ClassVar[str] = "Menon et al., ICLR 2021"
    tau: float = 1.0

    def __post_init__(self) -> None:
        check_number("tau", self.tau)

    def judge(self, decision_rule: DecisionRule, class_counts: Tensor, images: int) -> DecisionRule:
        return PriorAdjustedDecision(
            decision_rule, self.tau * log_shares(class_counts, images, decision_rule.family)
        )


def log_shares(class_counts: Tensor, images: int, family: Family) -> Tensor:
    """log π (C,) float64 of the classes' shares π among ``images``, or, for sigmoid losses, their log-odds.

    A class without images counts as if it had one, and one that all images have as if one more had it not.
    """
    counts = class_counts.double()
    rest = torch.full_like(counts, images) if family == "softmax" else (images - counts).clamp(min=1)
    return counts.clamp(min=1).log() - rest.log()

"""Fold models that answer together, by the mean of what they say.

Shape legend: N images, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tametail.core.arrays import BoolArray, FloatArray
from tametail.predictions.single_label import exclusive, for_prevalence, scores
from tametail.training.inference import eval_mode
from tametail.training.strategies import DecisionRule


@dataclass(frozen=True)
class FoldModel:
    """One fold model, how its outputs are read, and the images per class (C,) that it was trained on."""

    model: nn.Module
    decision_rule: DecisionRule
    class_counts: FloatArray

    @torch.no_grad()
    def outputs(self, features: Tensor) -> Tensor:
        """(N, C) float32 on the CPU."""
        with eval_mode(self.model):
            outputs: Tensor = self.model(features).float().cpu()
        return outputs


def predict_classes(
    fold_models: Sequence[FoldModel], features: Tensor, shares: FloatArray | None
) -> tuple[FloatArray, NDArray[np.int64], BoolArray]:
    """Probabilities (N, C) that sum to one, the class decided for (N,), and whether its probability is saturated (N,).

    Args:
        features: what the models take, of N images.
        shares: (C,) of the classes in the population asked for; None for the trained one.
    """
    posteriors, decisions, saturated = [], [], []
    for member in fold_models:
        outputs, decision_rule = member.outputs(features), member.decision_rule
        p = exclusive(decision_rule.posterior(outputs).numpy())
        posteriors.append(p if shares is None else for_prevalence(p, member.class_counts, shares))
        decisions.append(scores(decision_rule.decision(outputs).numpy(), decision_rule.family))
        saturated.append(decision_rule.saturated(outputs).numpy())
    p = np.asarray(np.mean(posteriors, axis=0))
    chosen = (np.mean(decisions, axis=0) if shares is None else p).argmax(axis=1)
    return p, chosen, np.any(saturated, axis=0)[np.arange(len(p)), chosen]


def predict_labels(fold_models: Sequence[FoldModel], features: Tensor) -> tuple[FloatArray, BoolArray]:
    """The probability (N, C) of each label by itself, and whether it is saturated for any of the models (N, C)."""
    posteriors, saturated = [], []
    for member in fold_models:
        outputs = member.outputs(features)
        posteriors.append(member.decision_rule.posterior(outputs).double().numpy())
        saturated.append(member.decision_rule.saturated(outputs).numpy())
    return np.asarray(np.mean(posteriors, axis=0)), np.any(saturated, axis=0)

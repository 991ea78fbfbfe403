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

from tametail.predictions.single_label import exclusive, for_prevalence, scores
from tametail.training.inference import evaluating
from tametail.training.strategies import Judgement

FloatArray = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Member:
    """One fold model, how its outputs are read, and the images per class (C,) that it was trained on."""

    model: nn.Module
    judgement: Judgement
    class_counts: FloatArray

    @torch.no_grad()
    def outputs(self, features: Tensor) -> Tensor:
        """(N, C) float32 on the CPU."""
        with evaluating(self.model):
            outputs: Tensor = self.model(features).float().cpu()
        return outputs


def class_answers(
    members: Sequence[Member], features: Tensor, shares: FloatArray | None
) -> tuple[FloatArray, NDArray[np.int64], Mask]:
    """Probabilities (N, C) that sum to one, the class decided for (N,), and whether its probability is saturated (N,).

    Args:
        features: what the models take, of N images.
        shares: (C,) of the classes in the population asked for; None for the trained one.
    """
    posteriors, decisions, saturated = [], [], []
    for member in members:
        outputs, judgement = member.outputs(features), member.judgement
        p = exclusive(judgement.posterior(outputs).numpy())
        posteriors.append(p if shares is None else for_prevalence(p, member.class_counts, shares))
        decisions.append(scores(judgement.decision(outputs).numpy(), judgement.family))
        saturated.append(judgement.saturated(outputs).numpy())
    p = np.asarray(np.mean(posteriors, axis=0))
    chosen = (np.mean(decisions, axis=0) if shares is None else p).argmax(axis=1)
    return p, chosen, np.any(saturated, axis=0)[np.arange(len(p)), chosen]


def label_answers(members: Sequence[Member], features: Tensor) -> tuple[FloatArray, Mask]:
    """The probability (N, C) of each label by itself, and whether it is saturated for any of the models (N, C)."""
    posteriors, saturated = [], []
    for member in members:
        outputs = member.outputs(features)
        posteriors.append(member.judgement.posterior(outputs).double().numpy())
        saturated.append(member.judgement.saturated(outputs).numpy())
    return np.asarray(np.mean(posteriors, axis=0)), np.any(saturated, axis=0)

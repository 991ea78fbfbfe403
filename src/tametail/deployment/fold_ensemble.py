"""Ensemble of fold models: the mean of their probabilities.

Shape legend: N images, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from tametail.core.arrays import BoolArray, FloatArray
from tametail.evaluation.calibration_maps import CalibrationMap
from tametail.evaluation.label_calibration import LabelMap
from tametail.predictions.single_label import exclusive, for_prevalence, scores
from tametail.training.inference import eval_mode
from tametail.training.strategies import DecisionRule


@dataclass(frozen=True)
class FoldModel:
    """One fold model with its decision rule and its training images per class (C,)."""

    model: nn.Module
    decision_rule: DecisionRule
    class_counts: FloatArray

    @torch.no_grad()
    def outputs(self, features: Tensor) -> Tensor:
        """Outputs (N, C), float32 on the CPU."""
        with eval_mode(self.model):
            outputs: Tensor = self.model(features).float().cpu()
        return outputs


def predict_classes(
    fold_models: Sequence[FoldModel],
    features: Tensor,
    calibration: CalibrationMap,
    prevalence: FloatArray | None,
) -> tuple[FloatArray, FloatArray, BoolArray, FloatArray]:
    """Predict classes of N images.

    Returns:
        Probabilities (N, C) that sum to one; scores (N, C) that sum to one, of which the predicted class has the highest: by the
        decision rule of the method, or with a prevalence the probabilities; whether the probability of the predicted class is
        saturated (N,); and the probabilities (N, C) at the class frequencies of the training set.

    Args:
        features: inputs of the models for N images.
        calibration: of the probabilities of each model.
        prevalence: (C,) of the target population; None for that of the training set.
    """
    trained, posteriors, decisions, saturated = [], [], [], []
    for fold_model in fold_models:
        outputs, decision_rule = fold_model.outputs(features), fold_model.decision_rule
        p = calibration(exclusive(decision_rule.posterior(outputs).numpy()))
        trained.append(p)
        posteriors.append(p if prevalence is None else for_prevalence(p, fold_model.class_counts, prevalence))
        decisions.append(scores(decision_rule.decision(outputs).numpy(), decision_rule.family))
        saturated.append(decision_rule.saturated(outputs).numpy())
    p = np.asarray(np.mean(posteriors, axis=0))
    score = np.asarray(np.mean(decisions, axis=0)) if prevalence is None else p
    at_limit = np.any(saturated, axis=0)[np.arange(len(p)), score.argmax(axis=1)]
    return p, score, at_limit, np.asarray(np.mean(trained, axis=0))


def predict_labels(
    fold_models: Sequence[FoldModel], features: Tensor, calibration: LabelMap
) -> tuple[FloatArray, BoolArray]:
    """Calibrated probabilities (N, C) of the labels, and whether they are saturated for any of the models (N, C)."""
    posteriors, saturated = [], []
    for fold_model in fold_models:
        outputs = fold_model.outputs(features)
        posteriors.append(calibration(fold_model.decision_rule.posterior(outputs).double().numpy()))
        saturated.append(fold_model.decision_rule.saturated(outputs).numpy())
    return np.asarray(np.mean(posteriors, axis=0)), np.any(saturated, axis=0)

"""`Loss.probabilities` is what `predict` writes before calibration."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tametail.deployment.network import Network, TrainedModel
from tametail.evaluation.calibration_maps import identity
from tametail.losses import create_loss, list_losses
from tametail.models.backbones import BackboneSpec
from tametail.training.strategies import parse_method

COUNTS = [40, 7, 2, 1]


@pytest.mark.parametrize("name", list_losses())
def test_a_single_model_predicts_the_probabilities_of_its_loss(name: str) -> None:
    outputs = torch.randn(20, 4, generator=torch.Generator().manual_seed(1)) * 3
    decision_rule = parse_method(name).decision_rule(COUNTS, sum(COUNTS))
    model = TrainedModel(nn.Identity(), nn.Identity(), decision_rule)
    spec = BackboneSpec("none", 4, 8, canvas=8, crop=1.0)
    predicted, score, *_ = Network(spec, nn.Identity(), [model], identity(4)).decide(outputs)
    expected = create_loss(name, COUNTS).probabilities(outputs)
    np.testing.assert_allclose(predicted, expected.numpy(), rtol=1e-6)
    assert expected.dtype == torch.float32
    np.testing.assert_allclose(score.sum(dim=1), 1, rtol=1e-6)
    assert torch.equal(score.argmax(dim=1), decision_rule.decision(outputs).argmax(dim=1))

"""Steps, rates, weights and labels, each against a definition written out anew."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tametail.core.errors import UsageError
from tametail.models.backbones import build_backbone, describe_backbone
from tametail.training.optimisation import (
    build_optimizer,
    class_weights,
    learning_rate,
    set_learning_rate,
    smooth_labels,
)
from tametail.training.recipe import OptimizerSettings, Recipe

COUNTS = st.lists(st.integers(1, 20_000), min_size=2, max_size=8)


def recipe(**changes: object) -> Recipe:
    fields: dict[str, object] = {
        "name": "test",
        "trains": "all",
        "backbone": "none",
        "epochs": 10,
        "batch_size": 4,
        "optimizer": {"lr": 0.1},
    }
    return Recipe.model_validate(fields | changes)


def small_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4)), nn.Linear(4, 2))


def stepped(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 3) -> list[torch.Tensor]:
    for step in range(steps):
        optimizer.zero_grad()
        torch.manual_seed(step)
        model(torch.randn(5, 3)).square().sum().backward()
        optimizer.step()
    return [parameter.detach().clone() for parameter in model.parameters()]


def same(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def split(model: nn.Module, decay: float) -> list[dict[str, Any]]:
    return [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]


@pytest.mark.parametrize("kind", ["adamw", "adam", "sgd"])
def test_steps_are_torchs_own(kind: str) -> None:
    """Adam as a paper's reader would write it; AdamW and SGD with matrices alone decaying."""
    chosen = OptimizerSettings(kind=kind, lr=0.01, weight_decay=0.1, momentum=0.8)  # type: ignore[arg-type]
    model, other = small_model(), small_model()
    expected: torch.optim.Optimizer
    if kind == "adam":
        expected = torch.optim.Adam(other.parameters(), lr=0.01, betas=(0.8, 0.999), weight_decay=0.1)
    elif kind == "adamw":
        expected = torch.optim.AdamW(split(other, 0.1), lr=0.01, betas=(0.8, 0.999))
    else:
        expected = torch.optim.SGD(split(other, 0.1), lr=0.01, momentum=0.8)
    assert same(stepped(model, build_optimizer(model, chosen)), stepped(other, expected))
    assert not same(stepped(small_model(), expected, steps=0), list(model.parameters()))


def test_frozen_weights_are_in_no_group() -> None:
    model = small_model()
    model[0].requires_grad_(False)
    groups = build_optimizer(model, OptimizerSettings(lr=1)).param_groups
    assert {id(p) for group in groups for p in group["params"]} == {id(p) for p in model[1].parameters()}


@pytest.mark.parametrize("name", ["resnet10t", "convnext_atto"])
def test_layers_learn_by_one_factor_slower_each_towards_the_input(name: str) -> None:
    backbone = build_backbone(describe_backbone(name, 64), "none")
    model = nn.Sequential(backbone, nn.Linear(8, 2))
    groups = build_optimizer(model, OptimizerSettings(lr=0.2, weight_decay=0.1, layer_decay=0.5)).param_groups
    scales = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    assert len(scales) == len(list(model.parameters()))
    steps = sorted({-math.log2(scale) for scale in scales.values()})
    assert steps == list(range(len(steps)))
    assert len(steps) > 5
    assert {scales[id(p)] for p in model[1].parameters()} == {1.0}
    in_order = [scales[id(p)] for p in backbone.parameters()]
    assert in_order == sorted(in_order)
    assert in_order[0] == min(scales.values())
    assert {(p.ndim > 1) == (g["weight_decay"] > 0) for g in groups for p in g["params"]} == {True}


def test_timm_scales_a_whole_network_of_its_own_alike() -> None:
    """timm's own groups of a network with its classifier, against those of backbone and head."""
    import timm
    from timm.optim import param_groups_layer_decay

    whole = timm.create_model("resnet10t", num_classes=2)
    expected = {
        id(p): group["lr_scale"]
        for group in param_groups_layer_decay(whole, 0.1, layer_decay=0.7)
        for p in group["params"]
    }
    backbone = build_backbone(describe_backbone("resnet10t", 64), "none")
    model = nn.Sequential(backbone, nn.Linear(8, 2))
    groups = build_optimizer(model, OptimizerSettings(lr=1, layer_decay=0.7)).param_groups
    found = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    assert [found[id(p)] for p in model.parameters()] == pytest.approx(
        [expected[id(p)] for p in whole.parameters()]
    )


def test_a_backbone_without_an_order_of_layers_is_refused() -> None:
    with pytest.raises(UsageError, match=r"layer_decay, got Sequential; .*layer_decay=null"):
        build_optimizer(small_model(), OptimizerSettings(lr=1, layer_decay=0.9))


def test_rates_are_the_schedules_times_each_groups_share() -> None:
    optimizer = torch.optim.SGD([{"params": [nn.Parameter(torch.ones(1))], "lr_scale": 0.25}], lr=1)
    set_learning_rate(optimizer, 0.4)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)


def test_a_constant_rate_rises_and_stays_and_a_cosine_falls() -> None:
    constant, cosine = recipe(schedule="constant", warmup_epochs=2), recipe(warmup_epochs=2)
    for early in (0.0, 0.7, 1.99):
        assert learning_rate(early, constant) == learning_rate(early, cosine) < 0.1
    assert [learning_rate(late, constant) for late in (2, 5.5, 10)] == [0.1] * 3
    assert [learning_rate(late, cosine) for late in (2, 6, 10)] == pytest.approx([0.1, 0.05, 0])


def effective_number_weights(counts: list[int]) -> list[float]:
    """By summing the geometric series: an image's k-th copy adds β^(k-1) to the effective number."""
    return [1 / float(np.power(0.9999, np.arange(count), dtype=np.longdouble).sum()) for count in counts]


@given(COUNTS)
@settings(max_examples=30, deadline=None)
def test_weights_are_those_of_the_effective_number(counts: list[int]) -> None:
    weights = class_weights(recipe(reweighting="always"), 0, counts)
    assert weights is not None
    assert (weights.dtype, weights.shape) == (torch.float32, (len(counts),))
    expected = np.array(effective_number_weights(counts))
    np.testing.assert_allclose(weights / weights[0], expected / expected[0], rtol=1e-5)
    assert float((weights * torch.tensor(counts)).sum() / sum(counts)) == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize(
    ("epochs", "share", "first"), [(200, 0.8, 160), (10, 0.7, 7), (10, 0.75, 8), (1, 0.8, 0)]
)
def test_deferred_weights_come_with_the_last_epochs(epochs: int, share: float, first: int) -> None:
    """200 epochs and 160 are LDAM-DRW's."""
    deferred = recipe(reweighting="deferred", deferred_from=share, epochs=epochs)
    given_by = [class_weights(deferred, epoch, [90, 10]) is not None for epoch in range(epochs)]
    assert given_by == [epoch >= first for epoch in range(epochs)]
    assert class_weights(recipe(), 9, [90, 10]) is None


def test_an_absent_class_has_a_finite_weight() -> None:
    weights = class_weights(recipe(reweighting="always"), 0, [90, 10, 0, 1])
    assert weights is not None
    assert weights[2] == weights[3]


def test_smoothed_labels_are_spread_by_the_counts() -> None:
    labels = smooth_labels(torch.tensor([1, 0]), [6, 3, 1], 0.2)
    expected = [[0.12, 0.86, 0.02], [0.92, 0.06, 0.02]]
    np.testing.assert_allclose(labels, expected, atol=1e-6)
    assert labels.dtype == torch.float32
    np.testing.assert_allclose(smooth_labels(labels, [1, 1, 1], 0.3), 0.7 * labels + 0.1, atol=1e-6)
    assert torch.equal(smooth_labels(torch.tensor([1, 0]), [6, 3, 1], 0.0), torch.eye(3)[[1, 0]])


@given(COUNTS, st.floats(0, 0.9), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_smoothing_changes_no_decision_that_divides_the_prior_out(
    counts: list[int], amount: float, seed: int
) -> None:
    posterior = torch.from_numpy(np.random.default_rng(seed).dirichlet(np.ones(len(counts)), 20))
    prior = torch.tensor(counts) / sum(counts)
    fitted = smooth_labels(posterior, counts, amount).double()
    ratios = (posterior / prior).sort(dim=1, descending=True).values
    clear = ratios[:, 0] > ratios[:, 1] * 1.01
    assert torch.equal((fitted / prior).argmax(1)[clear], (posterior / prior).argmax(1)[clear])

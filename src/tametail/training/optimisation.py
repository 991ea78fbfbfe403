"""Optimizer, learning-rate schedule, class weights, mixing and label smoothing of a recipe.

Shape legend: B batch, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tametail.core.errors import UsageError
from tametail.data.sampling.mixing import BatchMixing
from tametail.losses.class_balanced import class_balanced_weights
from tametail.losses.numerics import log_prior
from tametail.training.recipe import OptimizerSettings, Recipe

BETA = 0.9999  # of the effective number of images, as in LDAM-DRW
_HEAD = "(head)"  # not the name of any backbone layer


def build_optimizer(model: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """Build the optimizer of a recipe; each parameter group has an ``lr_scale``, a factor of the learning rate.

    AdamW and SGD (without Nesterov momentum) apply weight decay to matrices and kernels, not to biases and normalisation
    scales. Adam applies it to *all* parameters as an L2 penalty, as torch does by default, so that papers with Adam and
    weight decay are reproduced exactly.

    Args:
        model: ``nn.Sequential(backbone, head)`` with ``layer_decay``; otherwise any module.

    Raises:
        UsageError: ``layer_decay`` for a backbone whose layers timm cannot order.
    """
    scales = _layer_scales(model, settings.layer_decay)
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decays = settings.kind == "adam" or parameter.ndim > 1
        scale = scales.get(name, 1.0)
        decay = settings.weight_decay if decays else 0.0
        new = {"params": [], "weight_decay": decay, "lr_scale": scale, "lr": settings.lr * scale}
        groups.setdefault((scale, decays), new)["params"].append(parameter)
    ordered = sorted(groups.values(), key=lambda each: (each["lr_scale"], each["weight_decay"]), reverse=True)
    return make_optimizer(ordered, settings)


def make_optimizer(
    groups: list[dict[str, Any]], settings: OptimizerSettings, *, fused: bool | None = None
) -> torch.optim.Optimizer:
    """Build the optimizer for parameter groups that have their own weight decay; ``fused`` as in torch.optim."""
    if settings.kind == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, fused=fused)
    kind = torch.optim.Adam if settings.kind == "adam" else torch.optim.AdamW
    return kind(groups, lr=settings.lr, betas=(settings.momentum, 0.999), fused=fused)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of each group to ``rate`` times its ``lr_scale``."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]


def learning_rate(epochs_done: float, recipe: Recipe) -> float:
    """Linear warm-up, then cosine annealing to zero at the last epoch, or a constant rate."""
    peak = recipe.optimizer.lr
    warmup = min(recipe.warmup_epochs, recipe.epochs / 2)
    if epochs_done < warmup:
        return peak * (epochs_done + 1e-2) / (warmup + 1e-2)
    if recipe.schedule == "constant":
        return peak
    progress = (epochs_done - warmup) / (recipe.epochs - warmup)
    return peak * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def class_weights(recipe: Recipe, epoch: int, class_counts: Sequence[int]) -> Tensor | None:
    """Class weights (C,) float32 in this epoch, or None without re-weighting.

    They are proportional to (1-β) / (1-β^n) with β = 0.9999 (Cui et al., CVPR 2019, Eq. 3), from the recipe's
    ``deferred_epoch`` on for ``deferred`` (Cao et al., NeurIPS 2019, Algorithm 1, whose released code has this β).
    Deviation: their mean over the training images is 1, instead of their mean over the classes, so that the step size
    is the same as without them. A class without images has the weight of a class with one image.

    Args:
        epoch: counted from 0.
        class_counts: C training images per class.
    """
    if recipe.reweighting == "none" or (recipe.reweighting == "deferred" and epoch < recipe.deferred_epoch):
        return None
    counts = torch.as_tensor(class_counts, dtype=torch.float64)
    weights = class_balanced_weights(class_counts, BETA)
    return (weights * (counts.sum() / (counts * weights).sum())).float()


def batch_mixing(recipe: Recipe, class_counts: Sequence[int], seed: int) -> BatchMixing | None:
    """The mixing of a recipe, or None."""
    mixing = recipe.mixing
    if mixing.kind == "none":
        return None
    return BatchMixing(
        mixing.kind, alpha=mixing.alpha, probability=mixing.probability, class_counts=class_counts, seed=seed
    )


def label_smoothing_for(loss: nn.Module, recipe: Recipe) -> float:
    """The recipe's label smoothing for a loss of the softmax family; 0 for others."""
    return recipe.label_smoothing if getattr(loss, "family", "") == "softmax" else 0.0


def smooth_labels(target: Tensor, class_counts: Sequence[int], amount: float) -> Tensor:
    """Label smoothing in proportion to the class counts: labels (B, C) float32.

    For losses of the softmax family only. Deviation from Szegedy et al. (CVPR 2016, section 7), whose distribution u is
    uniform: a model fitted to labels smoothed by u gives (1-ε)p + εu, and where the prior π is then divided out (balanced
    softmax, logit adjustment) (1-ε)p/π + εu/π. With a uniform u the rarest class wins every image once ε/(C π) exceeds
    the rest; u = π adds the same ε to every class and changes no decision.

    Args:
        target: class indices (B,), or soft labels (B, C) whose rows sum to 1.
        class_counts: C training images per class; a class without images counts as one image.
        amount: ε in [0, 1).
    """
    classes = len(class_counts)
    labels = target.float() if target.ndim == 2 else F.one_hot(target, classes).float()
    prior = torch.softmax(log_prior(torch.as_tensor(class_counts), torch.float64), dim=0)
    return labels.lerp(prior.to(labels).expand_as(labels), amount)


def _layer_scales(model: nn.Module, layer_decay: float | None) -> dict[str, float]:
    """Parameter name → learning-rate factor: ``layer_decay`` to the number of layers between it and the head."""
    if layer_decay is None:
        return {}
    backbone, head = model.children()
    matcher: Any = getattr(backbone, "group_matcher", None)
    if matcher is None:
        raise UsageError(
            f"expected a backbone whose layers timm can order for optimizer.layer_decay, got {type(backbone).__name__}; "
            f"leave layer_decay null (--set optimizer.layer_decay=null) or choose another --backbone"
        )
    from timm.models import group_parameters

    names = [*(name for name, _ in backbone.named_parameters()), _HEAD]
    # timm needs only the names of a module's parameters; with the head's among them it orders the whole model.
    named: Any = SimpleNamespace(named_parameters=lambda: ((name, name) for name in names))
    layers: dict[str, int] = group_parameters(named, matcher(coarse=False), reverse=True)
    last = max(layers.values())
    scales = {f"0.{name}": layer_decay ** (last - layer) for name, layer in layers.items() if name != _HEAD}
    return scales | {f"1.{name}": 1.0 for name, _ in head.named_parameters()}

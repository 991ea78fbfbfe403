"""Strategies that set fields of the recipe, and nothing else: the trainer sees the recipe alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tametail.training.strategies.strategy import Strategy, register_strategy


@register_strategy
class BalancedSampling(Strategy):
    """Class-balanced sampling: every class is equally likely."""

    name = "balanced"
    source = "Kang et al., ICLR 2020"

    def change_recipe(self) -> Mapping[str, Any]:
        return {"sampler": "balanced"}


@register_strategy
class SquareRootSampling(Strategy):
    """Samples classes in proportion to the square roots of their counts."""

    name = "sqrt"
    source = "Mahajan et al., ECCV 2018"

    def change_recipe(self) -> Mapping[str, Any]:
        return {"sampler": "sqrt"}


@register_strategy
class ProgressiveSampling(Strategy):
    """From instance-balanced to class-balanced sampling over the epochs."""

    name = "progressive"
    source = "Kang et al., ICLR 2020"

    def change_recipe(self) -> Mapping[str, Any]:
        return {"sampler": "progressive"}


@register_strategy
class DeferredResampling(Strategy):
    """Deferred re-sampling: class-balanced sampling in the last epochs."""

    name = "drs"
    source = "Cao et al., NeurIPS 2019"

    def change_recipe(self) -> Mapping[str, Any]:
        return {"sampler": "deferred"}


@register_strategy
class DeferredReweighting(Strategy):
    """Deferred re-weighting: larger weights for rare classes in the last epochs."""

    name = "drw"
    source = "Cao et al., NeurIPS 2019; Cui et al., CVPR 2019"

    def change_recipe(self) -> Mapping[str, Any]:
        return {"reweighting": "deferred"}


@register_strategy
class Reweighting(Strategy):
    """Larger weights for rare classes, by the effective number of images."""

    name = "reweighted"
    source = "Cui et al., CVPR 2019"

    def change_recipe(self) -> Mapping[str, Any]:
        return {"reweighting": "always"}


@register_strategy
class Mixup(Strategy):
    """Convex combinations of pairs of images and their labels."""

    name = "mixup"
    source = "Zhang et al., ICLR 2018"

    def change_recipe(self) -> Mapping[str, Any]:
        return {"mixing.kind": "mixup", "mixing.alpha": 0.2}


@register_strategy
class CutMix(Strategy):
    """Pastes a patch of another image, labels mixed by area; fine-tuning only."""

    name = "cutmix"
    source = "Yun et al., ICCV 2019"

    def change_recipe(self) -> Mapping[str, Any]:
        return {"mixing.kind": "cutmix", "mixing.alpha": 1.0}


@register_strategy
class Remix(Strategy):
    """Mixup whose labels favour the rarer class."""

    name = "remix"
    source = "Chou et al., ECCV Workshops 2020"

    def change_recipe(self) -> Mapping[str, Any]:
        return {"mixing.kind": "remix", "mixing.alpha": 0.2}


@register_strategy
class NormalisedHead(Strategy):
    """Cosine classifier: features and class weights of length one, times a learned scale."""

    name = "normalised"
    source = "Gidaris and Komodakis, CVPR 2018"

    def change_recipe(self) -> Mapping[str, Any]:
        return {"head": "normalised"}

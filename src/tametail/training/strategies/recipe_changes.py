"""Strategies that set fields of the recipe, and nothing else: the trainer sees the recipe alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from tametail.training.strategies.strategy import Strategy, register_strategy


class _FixedChange(Strategy):
    changes: ClassVar[tuple[tuple[str, str | float], ...]]

    def change_recipe(self) -> Mapping[str, Any]:
        return dict(self.changes)


@register_strategy
class BalancedSampling(_FixedChange):
    """Class-balanced sampling: every class is equally likely."""

    name = "balanced"
    source = "Kang et al., ICLR 2020"
    changes = (("sampler", "balanced"),)


@register_strategy
class SquareRootSampling(_FixedChange):
    """Samples classes in proportion to the square roots of their counts."""

    name = "sqrt"
    source = "Mahajan et al., ECCV 2018"
    changes = (("sampler", "sqrt"),)


@register_strategy
class ProgressiveSampling(_FixedChange):
    """From instance-balanced to class-balanced sampling over the epochs."""

    name = "progressive"
    source = "Kang et al., ICLR 2020"
    changes = (("sampler", "progressive"),)


@register_strategy
class DeferredResampling(_FixedChange):
    """Deferred re-sampling: class-balanced sampling in the last epochs."""

    name = "drs"
    source = "Cao et al., NeurIPS 2019"
    changes = (("sampler", "deferred"),)


@register_strategy
class DeferredReweighting(_FixedChange):
    """Deferred re-weighting: larger weights for rare classes in the last epochs."""

    name = "drw"
    source = "Cao et al., NeurIPS 2019; Cui et al., CVPR 2019"
    changes = (("reweighting", "deferred"),)


@register_strategy
class Reweighting(_FixedChange):
    """Larger weights for rare classes, by the effective number of images."""

    name = "reweighted"
    source = "Cui et al., CVPR 2019"
    changes = (("reweighting", "always"),)


@register_strategy
class Mixup(_FixedChange):
    """Convex combinations of pairs of images and their labels."""

    name = "mixup"
    source = "Zhang et al., ICLR 2018"
    changes = (("mixing.kind", "mixup"), ("mixing.alpha", 0.2))


@register_strategy
class CutMix(_FixedChange):
    """Pastes a patch of another image, labels mixed by area; fine-tuning only."""

    name = "cutmix"
    source = "Yun et al., ICCV 2019"
    changes = (("mixing.kind", "cutmix"), ("mixing.alpha", 1.0))


@register_strategy
class Remix(_FixedChange):
    """Mixup whose labels favour the rarer class."""

    name = "remix"
    source = "Chou et al., ECCV Workshops 2020"
    changes = (("mixing.kind", "remix"), ("mixing.alpha", 0.2))


@register_strategy
class NormalisedHead(_FixedChange):
    """Cosine classifier: features and class weights of length one, times a learned scale."""

    name = "normalised"
    source = "Gidaris and Komodakis, CVPR 2018"
    changes = (("head", "normalised"),)

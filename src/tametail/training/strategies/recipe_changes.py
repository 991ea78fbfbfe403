"""Strategies that are other settings of the recipe, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RecipeChange:
    """A strategy that sets fields of the recipe; the trainer sees the recipe alone.

    Attributes:
        name: as it is written after a ``+``.
        assignments: dotted paths of fields of the recipe, each with its value.
        summary: one line for people.
        source: the paper.
    """

    name: str
    assignments: tuple[tuple[str, str | float], ...]
    summary: str
    source: str

    @property
    def text(self) -> str:
        """Its name: it has no parameters."""
        return self.name


def _mixing(kind: str, alpha: float) -> tuple[tuple[str, str | float], ...]:
    return (("mixing.kind", kind), ("mixing.alpha", alpha))


RECIPE_CHANGES = (
    RecipeChange(
        "balanced",
        (("sampler", "balanced"),),
        "classes are shown equally often",
        "Kang et al., ICLR 2020",
    ),
    RecipeChange(
        "sqrt",
        (("sampler", "sqrt"),),
        "classes are shown in proportion to the square roots of their counts",
        "Mahajan et al., ECCV 2018",
    ),
    RecipeChange(
        "progressive",
        (("sampler", "progressive"),),
        "from every image once per epoch to classes equally often, epoch by epoch",
        "Kang et al., ICLR 2020",
    ),
    RecipeChange(
        "drs",
        (("sampler", "deferred"),),
        "classes are shown equally often in the last epochs",
        "Cao et al., NeurIPS 2019",
    ),
    RecipeChange(
        "drw",
        (("reweighting", "deferred"),),
        "rare classes weigh more in the last epochs",
        "Cao et al., NeurIPS 2019; Cui et al., CVPR 2019",
    ),
    RecipeChange(
        "reweighted",
        (("reweighting", "always"),),
        "rare classes weigh more, by the effective number of images",
        "Cui et al., CVPR 2019",
    ),
    RecipeChange(
        "mixup",
        _mixing("mixup", 0.2),
        "images and labels of a batch are blended in pairs",
        "Zhang et al., ICLR 2018",
    ),
    RecipeChange(
        "cutmix",
        _mixing("cutmix", 1.0),
        "a part of each image is pasted from another, labels by area; fine-tuning only",
        "Yun et al., ICCV 2019",
    ),
    RecipeChange(
        "remix",
        _mixing("remix", 0.2),
        "mixup whose labels favour the rarer class",
        "Chou et al., ECCV Workshops 2020",
    ),
    RecipeChange(
        "normalised",
        (("head", "normalised"),),
        "the head compares directions alone, times a learned scale",
        "Gidaris and Komodakis, CVPR 2018",
    ),
)

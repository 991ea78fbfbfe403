"""Many-, medium- and few-shot classes by their number of training images: the one definition for all tables and reports."""

from __future__ import annotations

from typing import Literal

ClassGroupName = Literal["many", "medium", "few"]
CLASS_GROUPS: tuple[ClassGroupName, ...] = ("many", "medium", "few")
MANY_ABOVE, FEW_BELOW = 100, 20


def class_group_of(training_images: int) -> ClassGroupName:
    """The group of a class: ``many`` above 100 training images, ``few`` below 20, else ``medium``.

    Source: Liu et al., Large-Scale Long-Tailed Recognition in an Open World, CVPR 2019.
    """
    if training_images > MANY_ABOVE:
        return "many"
    return "few" if training_images < FEW_BELOW else "medium"

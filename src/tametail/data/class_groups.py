"""Many-, medium- and few-shot classes by their number of training images: the one definition for all tables and reports."""

from __future__ import annotations

from collections.abc import Sequence
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


def class_groups(train_counts: Sequence[int] | None, classes: int) -> dict[ClassGroupName, tuple[int, ...]]:
    """Class indices of each group that has a class, many-shot classes first; none without training counts.

    Raises:
        ValueError: not one count per class.
    """
    if train_counts is None:
        return {}
    if len(train_counts) != classes:
        raise ValueError(f"expected training counts of {classes} classes, got {len(train_counts)}")
    group_of = [class_group_of(int(count)) for count in train_counts]
    members = {
        name: tuple(index for index, group in enumerate(group_of) if group == name) for name in CLASS_GROUPS
    }
    return {name: found for name, found in members.items() if found}

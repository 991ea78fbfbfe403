"""The base of all losses: what a loss declares about itself."""

from __future__ import annotations

import inspect
from typing import ClassVar, Literal

from torch import Tensor, nn

from tametail.losses.validation import ClassCounts, check_class_counts, check_common

Head = Literal["linear", "normalised"]
Link = Literal["softmax", "sigmoid"]
Reduction = Literal["mean", "sum", "none"]


class Loss(nn.Module):
    """A loss on logits: ``loss(input, target)``.

    A subclass takes its hyper-parameters by keyword, keeps each as an attribute of the same name, and declares:

    Attributes:
        name: its name in the registry and on the command line.
        head: the classifier whose output it expects: ``linear`` (logits) or ``normalised`` (cosines).
        link: how logits become class probabilities.
        logit_scale: what the head's outputs are multiplied by to be the logits that ``link`` takes.
        stochastic: whether two calls on the same batch may differ.
        uses_class_counts: whether ``class_counts`` changes it; where not, they are checked and left aside.
    """

    name: ClassVar[str]
    head: ClassVar[Head] = "linear"
    link: ClassVar[Link]
    stochastic: ClassVar[bool] = False
    uses_class_counts: ClassVar[bool] = False
    logit_scale: float = 1.0

    def __init__(self, *, class_counts: ClassCounts | None, reduction: Reduction, ignore_index: int) -> None:
        super().__init__()
        check_common(reduction, ignore_index)
        if class_counts is not None:
            check_class_counts(class_counts)
        self.reduction: Reduction = reduction
        self.ignore_index = ignore_index

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """The loss of logits (B, C) for class indices (B,) or labels (B, C)."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """The hyper-parameters, as they would be given."""
        names = [name for name in inspect.signature(type(self)).parameters if name != "class_counts"]
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in names)

"""All losses by name."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable
from typing import Any

from tametail.losses.alpa import ALPALoss
from tametail.losses.asymmetric import AsymmetricLoss
from tametail.losses.asymmetric_polynomial import AsymmetricPolynomialLoss, RobustAsymmetricLoss
from tametail.losses.asymmetric_single_label import AsymmetricSingleLabelLoss
from tametail.losses.base import Loss
from tametail.losses.class_balanced import ClassBalancedLoss
from tametail.losses.cross_entropy import BinaryCrossEntropyLoss, CrossEntropyLoss
from tametail.losses.custom import import_loss, is_custom, make_loss
from tametail.losses.focal import FocalLoss, FocalSoftmaxLoss
from tametail.losses.hill import HillLoss
from tametail.losses.label_aware_smoothing import LabelAwareSmoothingLoss
from tametail.losses.lade import LADELoss
from tametail.losses.ldam import LDAMLoss
from tametail.losses.logit_adjusted import BalancedSoftmaxLoss, LogitAdjustedLoss
from tametail.losses.poly1 import Poly1Loss
from tametail.losses.softmax_equalization import SoftmaxEqualizationLoss
from tametail.losses.validation import ClassCounts
from tametail.losses.vector_scaling import VectorScalingLoss

_LOSSES: dict[str, type[Loss]] = {
    loss.name: loss
    for loss in (
        ALPALoss,
        AsymmetricLoss,
        AsymmetricSingleLabelLoss,
        AsymmetricPolynomialLoss,
        RobustAsymmetricLoss,
        HillLoss,
        FocalLoss,
        FocalSoftmaxLoss,
        CrossEntropyLoss,
        BinaryCrossEntropyLoss,
        ClassBalancedLoss,
        Poly1Loss,
        BalancedSoftmaxLoss,
        LogitAdjustedLoss,
        VectorScalingLoss,
        LADELoss,
        SoftmaxEqualizationLoss,
        LabelAwareSmoothingLoss,
        LDAMLoss,
    )
}


def list_losses() -> list[str]:
    """The names of all losses."""
    return list(_LOSSES)


def describe_losses() -> dict[str, str]:
    """One line on each loss, by name."""
    return {name: (inspect.getdoc(loss) or "").split("\n")[0] for name, loss in _LOSSES.items()}


def loss_class(name: str) -> type[Loss]:
    """The class of a loss.

    Raises:
        ValueError: an unknown name; the message lists the nearest and all known ones. Or a class of the user's own
            that cannot be had.
    """
    if name in _LOSSES:
        return _LOSSES[name]
    if is_custom(name):
        return import_loss(name)
    raise ValueError(
        f"expected the name of a loss, one of {', '.join(_LOSSES)}, got {name!r}{nearest(name, _LOSSES)}"
    )


def loss_parameters(loss: type[Loss]) -> dict[str, inspect.Parameter]:
    """What a loss's class takes by keyword, but ``class_counts``."""
    by_keyword = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {
        name: parameter
        for name, parameter in inspect.signature(loss).parameters.items()
        if parameter.kind in by_keyword and name != "class_counts"
    }


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message: the known names that look like ``name``, or nothing."""
    close = difflib.get_close_matches(name, known, cutoff=0.5)
    return f"; nearest: {', '.join(close)}" if close else ""


def create_loss(name: str, *, class_counts: ClassCounts | None = None, **params: Any) -> Loss:
    """Build the loss ``name``.

    Args:
        name: one of :func:`list_losses`, or ``package.module:Class`` for a loss of your own.
        class_counts: training samples per class, C whole numbers; every loss takes them, few need them.
        params: hyper-parameters of the loss's class, with ``reduction`` and ``ignore_index``.

    Raises:
        ValueError: an unknown name or parameter (the message lists the known ones), or a value out of range.
        TypeError: a value of the wrong type.
    """
    loss = loss_class(name)
    known = loss_parameters(loss)
    unknown = [parameter for parameter in params if parameter not in known]
    if unknown:
        raise ValueError(
            f"expected parameters of {name} among {', '.join(known) or 'none'}, "
            f"got {', '.join(unknown)}{nearest(unknown[0], known)}"
        )
    if is_custom(name):
        return make_loss(name, loss, params, class_counts)
    return loss(class_counts=class_counts, **params)

"""The losses by name: built-in ones, and those that installed packages or the user's own modules add."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from tametail.core.registry import Registry, nearest
from tametail.losses.base import Loss
from tametail.losses.custom import check_declarations, import_loss, is_custom, make_loss
from tametail.losses.validation import ClassCounts

LossClass = TypeVar("LossClass", bound=type[Loss])

# In the order in which they are listed.
_BUILT_IN = tuple(
    f"tametail.losses.{module}"
    for module in (
        "alpa",
        "asymmetric",
        "asymmetric_single_label",
        "asymmetric_polynomial",
        "robust_asymmetric",
        "hill",
        "focal",
        "focal_softmax",
        "cross_entropy",
        "binary_cross_entropy",
        "weighted_cross_entropy",
        "class_balanced",
        "poly1",
        "balanced_softmax",
        "logit_adjusted",
        "vector_scaling",
        "lade",
        "softmax_equalization",
        "label_aware_smoothing",
        "ldam",
        "corn",
        "soft_ordinal",
    )
)


def _declared_name(loss: type[Loss]) -> str:
    """The name that a loss declares, once all its declarations are checked."""
    if not (inspect.isclass(loss) and issubclass(loss, Loss)):
        raise TypeError(f"expected a subclass of tametail.losses.Loss, got {loss!r}")
    check_declarations(loss.__qualname__, loss)
    if not re.fullmatch(r"[A-Za-z]\w*", loss.name, re.ASCII):
        raise ValueError(
            f"expected the name of {loss.__qualname__} as letters, digits and _, starting with a letter, got {loss.name!r}"
        )
    return loss.name


_LOSSES: Registry[type[Loss]] = Registry("losses", _BUILT_IN, _declared_name)


def register_loss(loss: LossClass) -> LossClass:
    """Class decorator that adds a loss under its ``name`` to :func:`list_losses` and to all commands.

    An installed package lists the loss in its pyproject.toml, so that tametail finds it without an import::

        [project.entry-points."tametail.losses"]
        my_loss = "my_package.my_loss:MyLoss"

    Raises:
        TypeError, ValueError: the class is no :class:`Loss`, lacks a declaration, or its name is taken.
    """
    return _LOSSES.register(loss)


def list_losses() -> list[str]:
    """Names of all losses: built-in ones, then those of installed packages."""
    return [loss.name for loss in _in_order()]


def describe_losses() -> dict[str, str]:
    """One line on each loss, by name."""
    return {loss.name: (inspect.getdoc(loss) or "").split("\n")[0] for loss in _in_order()}


def failed_losses() -> list[str]:
    """Why losses of installed packages could not be loaded, one message each."""
    return _LOSSES.why_missing()


def package_of(name: str) -> str | None:
    """The installed package that a loss comes from, with its version; None for others."""
    return _LOSSES.packages.get(name)


def _in_order() -> list[type[Loss]]:
    place = {module: index for index, module in enumerate(_BUILT_IN)}
    return sorted(_LOSSES, key=lambda loss: place.get(loss.__module__, len(place)))


def loss_class(name: str) -> type[Loss]:
    """The class of a loss, by its registered name or as ``package.module:Class``.

    Raises:
        ValueError: an unknown name; the message lists the nearest. Or a class that cannot be imported.
    """
    if is_custom(name):
        return import_loss(name)
    try:
        return _LOSSES.get(name)
    except LookupError as error:
        raise ValueError(*error.args) from None


def loss_parameters(loss: type[Loss]) -> dict[str, inspect.Parameter]:
    """Parameters that a loss's class takes by keyword, except ``class_counts``."""
    return {
        name: one
        for name, one in inspect.signature(loss).parameters.items()
        if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY) and name != "class_counts"
    }


def build_loss(name: str, params: Mapping[str, Any], class_counts: ClassCounts | None) -> Loss:
    """An instance of the loss ``name``; raises as :func:`tametail.losses.create_loss` does."""
    loss = loss_class(name)
    known = loss_parameters(loss)
    unknown = [parameter for parameter in params if parameter not in known]
    if unknown:
        raise ValueError(
            f"expected parameters of {name} among {', '.join(known) or 'none'}, "
            f"got {', '.join(unknown)}; {nearest(unknown[0], known)}"
        )
    if is_custom(name):
        return make_loss(name, loss, params, class_counts)
    return loss(class_counts=class_counts, **params)

"""Custom losses, named ``package.module:Class`` wherever the name of a loss is accepted.

The class is a subclass of :class:`Loss`, which declares everything itself, or any torch module that maps logits (B, C)
and class indices (B,) to a scalar, such as ``torch.nn:CrossEntropyLoss``.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, get_args

import torch
from torch import Tensor, nn

from tametail.losses.base import Loss, LossHead
from tametail.losses.links import Family
from tametail.losses.validation import ClassCounts, check_choice

_IDENTIFIER = r"[A-Za-z_][A-Za-z0-9_]*"


class ModuleLoss(Loss):
    """A torch module as a loss.

    The module's attributes ``family`` (softmax), ``head`` (linear) and ``logit_scale`` (1) are used where it has them;
    a module for a normalised head multiplies the cosines by its scale itself. Probabilities are the softmax or sigmoid
    of the logits, which need not be the posteriors. Parameters of the module are not trained.
    """

    formula = "that of the module"
    family = "softmax"
    exact_link = False
    batchwise = True

    def __init__(self, module: nn.Module, *, uses_class_counts: bool) -> None:
        super().__init__()
        self.module = module
        self.logit_scale = float(getattr(module, "logit_scale", 1.0))
        self.uses_class_counts = uses_class_counts  # type: ignore[misc]  # whether this instance was given them

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the scalar that the module returns.

        Raises:
            ValueError: the module fails, or returns something else.
        """
        try:
            value = self.module(input, target)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            raise ValueError(
                f"expected {self.name} to take logits {tuple(input.shape)} and class indices {tuple(target.shape)}, "
                f"got {type(error).__name__}: {error}"
            ) from error
        if not isinstance(value, Tensor) or value.ndim:
            got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"expected {self.name} to return a scalar tensor for a batch, got {got}")
        return value

    def posterior(self, z: Tensor) -> Tensor:
        return torch.softmax(z, dim=1) if self.family == "softmax" else torch.sigmoid(z)

    def has_plain_link(self) -> bool:
        return True

    def extra_repr(self) -> str:
        return f"family={self.family}, head={self.head}"

    def __reduce__(self) -> tuple[Callable[[str], Loss], tuple[str], dict[str, Any]]:
        return _new, (self.name,), self.__dict__  # the class is created at run time: it is found by its name


def is_custom(name: str) -> bool:
    """Whether a loss's name is ``package.module:Class``."""
    return ":" in name


def import_loss(name: str) -> type[Loss]:
    """Import the class ``package.module:Class``, also from a module in the current folder.

    Raises:
        ValueError: the name is not of this form, the module cannot be imported or has no such class, or the class is
            not a torch module or lacks a declaration.
    """
    if not re.fullmatch(rf"{_IDENTIFIER}(\.{_IDENTIFIER})*:{_IDENTIFIER}", name):
        raise ValueError(f"expected a custom loss as package.module:Class, got {name!r}")
    path, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # last, so that no file in it hides an installed package
    try:
        module = importlib.import_module(path)
    except Exception as error:
        raise ValueError(
            f"expected a module {path} among the installed packages or in the current folder, "
            f"got {type(error).__name__}: {error}"
        ) from error
    if not hasattr(module, attribute):
        raise ValueError(f"expected a class {attribute} in module {path}, got a module without it")
    found = getattr(module, attribute)
    if not (inspect.isclass(found) and issubclass(found, nn.Module)):
        kind = f"the class {found.__name__}" if inspect.isclass(found) else f"a {type(found).__name__}"
        raise ValueError(f"expected {name} to be a subclass of torch.nn.Module, got {kind}")
    loss = found if issubclass(found, Loss) else _wrapper(name, found)  # type: ignore[arg-type]  # hashable it is
    check_declarations(name, loss)
    return loss


def make_loss(
    name: str, loss: type[Loss], params: Mapping[str, Any], class_counts: ClassCounts | None
) -> Loss:
    """Create an instance of a class from :func:`import_loss`, with ``class_counts`` if it has that parameter.

    Raises:
        ValueError: its ``__init__`` failed.
    """
    given = dict(params)
    if class_counts is not None and "class_counts" in inspect.signature(loss).parameters:
        given["class_counts"] = class_counts
    try:
        return loss(**given)
    except Exception as error:
        written = ", ".join(f"{key}={value!r}" for key, value in given.items())
        raise ValueError(
            f"expected {name} to be created by {name.partition(':')[2]}({written}), "
            f"got {type(error).__name__}: {error}"
        ) from error


@functools.cache
def _wrapper(name: str, module: type[nn.Module]) -> type[Loss]:
    """A subclass of :class:`ModuleLoss` with the module's signature, docstring and declarations."""

    @functools.wraps(module.__init__)
    def init(self: ModuleLoss, **params: Any) -> None:
        ModuleLoss.__init__(self, module(**params), uses_class_counts="class_counts" in params)

    declared = {key: getattr(module, key) for key in ("family", "head") if hasattr(module, key)}
    own = {
        "__init__": init,
        "__doc__": module.__doc__,
        "__signature__": inspect.signature(module),
        "name": name,
    }
    return type(module.__name__, (ModuleLoss,), own | declared)


def check_declarations(name: str, loss: type[Loss]) -> None:
    """Raise ValueError where a subclass of :class:`Loss` lacks a declaration, or has an unknown family or head."""
    missing = [key for key in ("name", "formula", "family") if not hasattr(loss, key)]
    if missing:
        raise ValueError(
            f"expected {name}, a tametail Loss, to declare name, formula and family, got none for {', '.join(missing)}"
        )
    check_choice(f"family of {name}", loss.family, get_args(Family))
    check_choice(f"head of {name}", loss.head, get_args(LossHead))


def _new(name: str) -> Loss:
    """An instance of a wrapped class, without its state."""
    loss = import_loss(name)
    return loss.__new__(loss)

"""Losses as text: ``alpa[variant=pade,order=1/1,gamma_neg=3]``, the same on the command line, in tables and in paths."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from tametail.losses.base import Loss
from tametail.losses.registry import create_loss, loss_class, nearest
from tametail.losses.validation import ClassCounts

# Given by the program, never by the text.
_NOT_IN_TEXT = ("class_counts", "reduction", "ignore_index")
_PLACEHOLDER_COUNTS = (1, 1)


@dataclass(frozen=True)
class LossSpec:
    """A loss chosen by text.

    Attributes:
        text: canonical form: no spaces, parameters in the order given, values in one spelling. It alone
            decides equality.
        name: the loss's name in the registry.
        params: its hyper-parameters that were given.
    """

    text: str
    name: str = field(compare=False)
    params: Mapping[str, Any] = field(compare=False)

    @property
    def slug(self) -> str:
        """The text as a directory name of ``a-z 0-9 . _ -`` alone; different texts have different slugs.

        Brackets and commas become ``--``, ``=`` becomes ``-``, ``/`` becomes ``_``. A parameter starts with a
        letter, and a negative number with a digit after its sign, so that ``--`` is never ambiguous.
        """
        return re.sub(r"[\[,]", "--", self.text.removesuffix("]")).replace("=", "-").replace("/", "_")

    def create(self, class_counts: ClassCounts | None = None) -> Loss:
        """Build the loss, with the training samples per class where it needs them."""
        return create_loss(self.name, class_counts=class_counts, **self.params)


def split_losses(text: str) -> list[str]:
    """Split a list of losses at the commas outside brackets: ``"alpa[preset=v1,lam=2],asl"`` → two texts.

    Raises:
        ValueError: nothing between two commas, or brackets that do not pair.
    """
    texts = [part.strip() for part in re.split(r",(?![^\[]*\])", text)]
    if not all(texts):
        raise ValueError(f"expected losses separated by commas, such as alpa,asl, got {text!r}")
    for part in texts:
        _split_brackets(part)
    return texts


def parse_loss(text: str) -> LossSpec:
    """Read ``name`` or ``name[parameter=value,...]`` and check it in full against the loss's own parameters.

    Numbers are written as usual, yes and no as ``true`` and ``false``, pairs as ``2/1``, and ``none`` where a
    parameter may be None.

    Raises:
        ValueError: an unknown loss or parameter (the message lists the known ones), a value of the wrong type
            or out of range, a parameter given twice, or text that is not of this form.
    """
    name, assignments = _split_brackets(text)
    types_by_name = _parameter_types(loss_class(name))
    params: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, value = (part.strip() for part in assignment.partition("="))
        if not equals:
            raise ValueError(
                f"expected parameter=value between the brackets of {text!r}, got {assignment.strip()!r}"
            )
        if key not in types_by_name:
            raise ValueError(
                f"expected parameters of {name} among {', '.join(types_by_name)}, "
                f"got {key!r}{nearest(key, types_by_name)}"
            )
        if key in params:
            raise ValueError(f"expected each parameter of {name} once, got {key} twice")
        params[key] = _read(key, value, types_by_name[key])
    create_loss(name, class_counts=_PLACEHOLDER_COUNTS, **params)
    written = ",".join(f"{key}={_write(value)}" for key, value in params.items())
    return LossSpec(f"{name}[{written}]" if written else name, name, params)


def _split_brackets(text: str) -> tuple[str, list[str]]:
    match = re.fullmatch(r"\s*([^\[\],\s]+)\s*(?:\[([^\[\]]*)\])?\s*", text)
    if match is None:
        raise ValueError(f"expected a loss as name or name[parameter=value,...], got {text!r}")
    name, inside = match.groups()
    return name, inside.split(",") if inside and inside.strip() else []


def _parameter_types(loss: type[Loss]) -> dict[str, Any]:
    hints = get_type_hints(loss.__init__)
    return {name: hints[name] for name in inspect.signature(loss).parameters if name not in _NOT_IN_TEXT}


def _read(name: str, text: str, kind: Any) -> Any:
    """A value from its text, by the type that the loss declares for it."""
    if get_origin(kind) in (Union, types.UnionType):
        if text == "none":
            return None
        kind = next(option for option in get_args(kind) if option is not type(None))
    if get_origin(kind) is Literal:
        if text not in get_args(kind):
            raise ValueError(f"expected {name} to be one of {', '.join(get_args(kind))}, got {text!r}")
        return text
    if kind is bool:
        if text not in ("true", "false"):
            raise ValueError(f"expected {name} to be true or false, got {text!r}")
        return text == "true"
    if get_origin(kind) is tuple:
        if not re.fullmatch(r"\d+/\d+", text):
            raise ValueError(f"expected {name} as two whole numbers, such as 2/1, got {text!r}")
        return tuple(int(part) for part in text.split("/"))
    return _read_number(name, text)


def _read_number(name: str, text: str) -> float:
    if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text):
        raise ValueError(f"expected {name} to be a number, got {text!r}")
    return float(text) + 0.0  # -0 becomes 0


def _write(value: Any) -> str:
    """The one spelling of a value: 3.0 → 3, True → true, (1, 1) → 1/1, None → none."""
    if isinstance(value, tuple):
        return "/".join(str(part) for part in value)
    if isinstance(value, float):
        return repr(value).removesuffix(".0").replace("e+", "e")
    return str(value).lower()

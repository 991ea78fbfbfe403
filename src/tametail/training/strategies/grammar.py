"""Methods as text: ``ce+la``, ``alpa[variant=pade]+crt``, ``ce+balanced+la[tau=0.5]``."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

from tametail.losses import parse_loss
from tametail.losses.grammar import assigned, split_brackets
from tametail.training.strategies.method import Method
from tametail.training.strategies.strategy import Strategy, find_strategy

_OUTSIDE_BRACKETS = r"(?![^\[\]]*\])"
_NUMBER = r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"


def split_methods(text: str) -> list[str]:
    """Split a list of methods at the commas outside brackets: ``"ce+la,alpa[preset=v1,lam=2]"`` → two texts.

    Raises:
        ValueError: nothing between two commas.
    """
    texts = [part.strip() for part in re.split("," + _OUTSIDE_BRACKETS, text)]
    if not all(texts):
        raise ValueError(f"expected methods separated by commas, such as ce,ce+la,alpa, got {text!r}")
    return texts


def parse_method(text: str) -> Method:
    """Parse ``loss``, or ``loss+strategy+...``; losses and strategies may have ``[parameter=value,...]``.

    Raises:
        ValueError: an unknown loss, strategy or parameter (the message has the nearest ones), an invalid value, a
            strategy twice, or strategies that contradict each other.
    """
    loss, *strategies = re.split(r"\+" + _OUTSIDE_BRACKETS, text)
    try:
        return Method(parse_loss(loss), tuple(map(parse_strategy, strategies)))
    except ValueError as error:
        if not strategies:
            raise
        raise ValueError(f"{text.strip()}: {error}") from error


def parse_strategy(text: str) -> Strategy:
    """Parse ``name`` or ``name[parameter=value,...]``.

    Raises:
        ValueError: an unknown name or parameter, an invalid value, or text that is not of this form.
    """
    name, assignments = split_brackets(text, "strategy")
    strategy = find_strategy(name)
    defaults = {field.name: field.default for field in fields(strategy)}
    if assignments and not defaults and (paths := strategy().change_recipe()):
        raise ValueError(
            f"expected {name} without parameters, got {','.join(assignments)!r}; for other values leave it out, and set "
            f"the recipe's {', '.join(paths)} by --set"
        )
    values = assigned(text, name, assignments, defaults)
    params: dict[str, Any] = {
        key: _whole(key, value) if isinstance(defaults[key], int) else _number(key, value)
        for key, value in values.items()
    }
    return strategy(**params)


def _number(name: str, text: str) -> float:
    if not re.fullmatch(_NUMBER, text):
        raise ValueError(f"expected {name} to be a number >= 0, got {text!r}")
    return float(text)


def _whole(name: str, text: str) -> int:
    if not re.fullmatch(r"\d+", text):
        raise ValueError(f"expected {name} to be a whole number, got {text!r}")
    return int(text)

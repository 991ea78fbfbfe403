"""Losses as text: ``alpa[variant=pade,order=1/1,gamma_neg=3]``, the same on the command line, in tables and in paths.

A loss of the user's own is written in the same way, with ``package.module:Class`` for its name.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import torch

from tametail.losses.base import Loss
from tametail.losses.registry import create_loss, loss_class, loss_parameters, nearest
from tametail.losses.validation import ClassCounts

# Given by the program, never by the text.
_NOT_IN_TEXT = ("class_counts", "reduction", "ignore_index")
_PLACEHOLDER_COUNTS = (1, 1)
_NUMBER = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
_WORD = r"[A-Za-z0-9_]+([.-][A-Za-z0-9_]+)*"
_WHOLE_UP_TO = 2.0**53  # beyond it not every whole number is a float


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
        letter, and a negative number with a digit after its sign, so that ``--`` is never ambiguous. A loss of the
        user's own has two signs more: ``:`` becomes ``@`` and a capital letter ``~`` with the small one, as there
        are file systems that do not tell the two apart.
        """
        slug = re.sub(r"[\[,]", "--", self.text.removesuffix("]")).translate(str.maketrans("=/:", "-_@"))
        return re.sub("[A-Z]", lambda capital: f"~{capital[0].lower()}", slug)

    def create(self, class_counts: ClassCounts | None = None) -> Loss:
        """Build the loss, with the training samples per class where it needs them."""
        return create_loss(self.name, class_counts=class_counts, **self.params)

    def try_out(self, classes: int, *, soft: bool = False) -> None:
        """Build the loss and take it through one batch of so many classes.

        Args:
            soft: with shares of classes (B, C) for targets, too, as mixed images and smoothed labels have them.

        Raises:
            ValueError, TypeError: it does not work; with a loss of the user's own nobody knew so far.
        """
        loss, logits = self.create([1] * classes), torch.zeros(2, classes)
        loss(logits, torch.tensor([0, classes - 1]))
        if soft:
            loss(logits, torch.full((2, classes), 1 / classes))


def split_losses(text: str) -> list[str]:
    """Split a list of losses at the commas outside brackets: ``"alpa[preset=v1,lam=2],asl"`` → two texts.

    Raises:
        ValueError: nothing between two commas, or brackets that do not pair.
    """
    texts = [part.strip() for part in re.split(r",(?![^\[]*\])", text)]
    if not all(texts):
        raise ValueError(f"expected losses separated by commas, such as alpa,asl, got {text!r}")
    for part in texts:
        split_brackets(part, "loss")
    return texts


def parse_loss(text: str) -> LossSpec:
    """Read ``name`` or ``name[parameter=value,...]`` and check it in full against the loss's own parameters.

    Numbers are written as usual, yes and no as ``true`` and ``false``, pairs as ``2/1``, and ``none`` where a
    parameter may be None. Where a loss of the user's own declares no type, its default's type decides, or else how
    the value looks.

    Raises:
        ValueError: an unknown loss or parameter (the message lists the known ones), a value of the wrong type
            or out of range, a parameter given twice, or text that is not of this form.
    """
    name, assignments = split_brackets(text, "loss")
    types_by_name = parameter_types(loss_class(name))
    written_values = assigned(text, name, assignments, types_by_name)
    params = {key: _read(key, value, types_by_name[key]) for key, value in written_values.items()}
    create_loss(name, class_counts=_PLACEHOLDER_COUNTS, **params)
    written = ",".join(f"{key}={_write(value)}" for key, value in params.items())
    return LossSpec(f"{name}[{written}]" if written else name, name, params)


def split_brackets(text: str, kind: str) -> tuple[str, list[str]]:
    """``name[parameter=value,...]`` → the name, and what stands between the commas.

    Args:
        kind: what it is the text of, for the error.

    Raises:
        ValueError: text that is not of this form.
    """
    match = re.fullmatch(r"\s*([^\[\],\s]+)\s*(?:\[([^\[\]]*)\])?\s*", text)
    if match is None:
        raise ValueError(f"expected a {kind} as name or name[parameter=value,...], got {text!r}")
    name, inside = match.groups()
    return name, inside.split(",") if inside and inside.strip() else []


def assigned(text: str, name: str, assignments: Sequence[str], known: Collection[str]) -> dict[str, str]:
    """``parameter=value`` texts as a mapping, each of the known parameters at most once.

    Args:
        text, name: where they stand and of what, for the errors.

    Raises:
        ValueError: an unknown parameter, one that comes twice, or text that is not of this form.
    """
    values: dict[str, str] = {}
    for assignment in assignments:
        key, equals, value = (part.strip() for part in assignment.partition("="))
        if not equals:
            raise ValueError(
                f"expected parameter=value between the brackets of {text.strip()!r}, got {key!r}"
            )
        if key not in known:
            raise ValueError(
                f"expected parameters of {name} among {', '.join(known) or 'none'}, got {key!r}{nearest(key, known)}"
            )
        if key in values:
            raise ValueError(f"expected each parameter of {name} once, got {key} twice")
        values[key] = value
    return values


def parameter_types(loss: type[Loss]) -> dict[str, Any]:
    """The type of each parameter that text may give; ``Any`` where nothing tells it."""
    try:
        hints = get_type_hints(loss.__init__)
    except (NameError, TypeError, AttributeError):  # a user's annotations need not exist at run time
        hints = {}
    given = {
        name: hints.get(name, _type_of_default(parameter.default))
        for name, parameter in loss_parameters(loss).items()
    }
    return {name: kind for name, kind in given.items() if name not in _NOT_IN_TEXT and name.isascii()}


def _type_of_default(default: Any) -> Any:
    return next((kind for kind in (bool, int | float, str) if isinstance(default, kind)), Any)


def _read(name: str, text: str, kind: Any) -> Any:
    """A value from its text, by the type that the loss declares for it."""
    options = set(get_args(kind)) if get_origin(kind) in (Union, types.UnionType) else {kind}
    if text == "none" and options & {type(None), Any}:
        return None
    options -= {type(None)}
    if options == {int, float}:
        return _exact(_read_number(name, text))
    kind = options.pop() if len(options) == 1 else Any
    if get_origin(kind) is Literal:
        if text not in get_args(kind):
            raise ValueError(f"expected {name} to be one of {', '.join(get_args(kind))}, got {text!r}")
        return text
    if get_origin(kind) is tuple:
        if not re.fullmatch(r"\d+/\d+", text):
            raise ValueError(f"expected {name} as two whole numbers, such as 2/1, got {text!r}")
        return tuple(int(part) for part in text.split("/"))
    if kind not in _READERS:
        raise ValueError(
            f"expected {name} to be left out, as text cannot give a {getattr(kind, '__name__', kind)}, got {text!r}"
        )
    return _READERS[kind](name, text)


def _read_number(name: str, text: str) -> float:
    if not re.fullmatch(_NUMBER, text):
        raise ValueError(f"expected {name} to be a number, got {text!r}")
    return float(text) + 0.0  # -0 becomes 0


def _read_whole(name: str, text: str) -> int:
    if not re.fullmatch(r"[+-]?\d+", text):
        raise ValueError(f"expected {name} to be a whole number, got {text!r}")
    return int(text)


def _read_flag(name: str, text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(f"expected {name} to be true or false, got {text!r}")
    return text == "true"


def _read_word(name: str, text: str) -> str:
    if not re.fullmatch(_WORD, text):
        raise ValueError(
            f"expected {name} to be a word of letters, digits and _, with single . or - inside, got {text!r}"
        )
    return text


def _read_anything(name: str, text: str) -> float | bool | str:
    if text in ("true", "false"):
        return text == "true"
    if re.fullmatch(_NUMBER, text):
        return _exact(_read_number(name, text))
    return _read_word(name, text)


def _exact(number: float) -> float:
    """A whole number as an int, as both are written alike."""
    return int(number) if number.is_integer() and abs(number) < _WHOLE_UP_TO else number


_READERS: dict[Any, Callable[[str, str], Any]] = {
    float: _read_number,
    int: _read_whole,
    bool: _read_flag,
    str: _read_word,
    Any: _read_anything,
}


def _write(value: Any) -> str:
    """The one spelling of a value: 3.0 → 3, True → true, (1, 1) → 1/1, None → none."""
    if isinstance(value, tuple):
        return "/".join(str(part) for part in value)
    if isinstance(value, float):
        return repr(value).removesuffix(".0").replace("e+", "e")
    return value if isinstance(value, str) else str(value).lower()

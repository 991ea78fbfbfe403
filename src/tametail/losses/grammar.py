"""Losses as text: ``alpa[variant=pade,order=1/1,gamma_neg=3]``, the same on the command line, in tables and in paths.

A custom loss is written in the same way, with ``package.module:Class`` as its name.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from inspect import signature
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import torch

from tametail.core.registry import nearest
from tametail.losses.base import Loss
from tametail.losses.registry import build_loss, loss_class, loss_parameters
from tametail.losses.validation import ClassCounts

# Set by the program, never in the text.
_NOT_IN_TEXT = ("class_counts", "class_order", "reduction", "ignore_index")
_PLACEHOLDER_COUNTS = (1, 1)
_NUMBER = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
_WORD = r"[A-Za-z0-9_]+([.-][A-Za-z0-9_]+)*"
_WHOLE_UP_TO = 2.0**53  # beyond it not every whole number is a float


@dataclass(frozen=True)
class LossSpec:
    """A loss with hyper-parameters, as text describes it.

    Attributes:
        text: canonical form: no spaces, parameters in the given order, values in a single spelling. Specs with equal
            texts are equal.
        name: the loss's name in the registry, or ``package.module:Class``.
        params: the given hyper-parameters.
        class_order: for ordinal losses, the class indices from the lowest grade to the highest; None for the order of the
            columns.
    """

    text: str
    name: str = field(compare=False)
    params: Mapping[str, Any] = field(compare=False)
    class_order: tuple[int, ...] | None = field(default=None, compare=False)

    @property
    def ordinal(self) -> bool:
        """Whether the loss depends on the order of the classes."""
        return bool(getattr(loss_class(self.name), "ordinal", False))

    def in_order(self, class_order: Sequence[int] | None) -> LossSpec:
        """The same loss for classes in this order; the spec itself if it does not depend on one."""
        if class_order is None or not self.ordinal:
            return self
        return replace(self, class_order=tuple(class_order))

    @property
    def slug(self) -> str:
        """The text as a directory name; different texts have different slugs, also where a file system ignores case.

        Brackets and commas become ``--``, ``=`` ``-``, ``/`` ``_``, ``:`` ``@``, and a capital ``~`` and its small letter.
        """
        slug = re.sub(r"[\[,]", "--", self.text.removesuffix("]")).translate(str.maketrans("=/:", "-_@"))
        return re.sub("[A-Z]", lambda capital: f"~{capital[0].lower()}", slug)

    def create(self, class_counts: ClassCounts | None = None) -> Loss:
        """Create the loss, with the training samples per class if it needs them."""
        ordered = {} if self.class_order is None else {"class_order": self.class_order}
        return build_loss(self.name, {**self.params, **ordered}, class_counts)

    def try_out(self, classes: int, *, soft: bool = False) -> None:
        """Build the loss for C classes and evaluate it on one small batch, with ``soft`` also for soft labels (B, C).

        Raises:
            ValueError, TypeError: it does not work, as a custom loss may not.
        """
        loss, logits = self.create([1] * classes), torch.zeros(2, classes)
        loss(logits, torch.tensor([0, classes - 1]))
        if soft:
            loss(logits, torch.full((2, classes), 1 / classes))


def split_losses(text: str) -> list[str]:
    """Split a list of losses at the commas outside brackets: ``"alpa[preset=v1,lam=2],asl"`` → two texts.

    Raises:
        ValueError: nothing between two commas, or unbalanced brackets.
    """
    texts = [part.strip() for part in re.split(r",(?![^\[]*\])", text)]
    if not all(texts):
        raise ValueError(f"expected losses separated by commas, such as alpa,asl, got {text!r}")
    for part in texts:
        split_brackets(part, "loss")
    return texts


def parse_loss(text: str) -> LossSpec:
    """Parse ``name`` or ``name[parameter=value,...]`` and check it in full against the loss's own parameters.

    Numbers are written as usual, booleans as ``true`` and ``false``, pairs as ``2/1``, and ``none`` where a
    parameter may be None. Where a custom loss declares no type, the type of the default decides, or else the form of
    the value.

    Raises:
        ValueError: an unknown loss or parameter (the message lists the nearest or all known ones), a value of the
            wrong type or out of range, a parameter given twice, or text that is not of this form.
    """
    name, params = _parse(text)
    build_loss(name, params, _PLACEHOLDER_COUNTS)
    written = ",".join(f"{key}={_write(value)}" for key, value in params.items())
    return LossSpec(f"{name}[{written}]" if written else name, name, params)


def create_loss(text: str, class_counts: ClassCounts | None = None, **params: Any) -> Loss:
    """Create a loss by its name, such as ``"focal"``, or with hyper-parameters, such as ``"focal[gamma=1]"``.

    Args:
        text: one of :func:`list_losses`, or ``package.module:Class`` for a custom loss, with parameters in brackets or
            without.
        class_counts: training samples per class, C whole numbers; every loss accepts them, few need them.
        params: other hyper-parameters of the loss's class, and ``reduction`` and ``ignore_index``.

    Raises:
        ValueError: an unknown name or parameter (the message lists the nearest or all known ones), a value out of
            range, or a parameter both in brackets and as a keyword.
        TypeError: a value of the wrong type.
    """
    name, in_brackets = _parse(text)
    twice = in_brackets.keys() & params.keys()
    if twice:
        raise ValueError(
            f"expected each parameter of {name} once, got {', '.join(sorted(twice))} in {text!r} and as a keyword"
        )
    return build_loss(name, in_brackets | params, class_counts)


def _parse(text: str) -> tuple[str, dict[str, Any]]:
    name, assignments = split_brackets(text, "loss")
    loss = loss_class(name)
    types_by_name = parameter_types(loss) if assignments else {}
    written = assigned(text, name, assignments, types_by_name)
    return name, {key: _read(key, value, types_by_name[key]) for key, value in written.items()}


def split_brackets(text: str, kind: str) -> tuple[str, list[str]]:
    """Split ``name[parameter=value,...]`` into the name and the assignments; the error names the ``kind`` of thing.

    Raises:
        ValueError: text that is not of this form.
    """
    match = re.fullmatch(r"\s*([^\[\],\s]+)\s*(?:\[([^\[\]]*)\])?\s*", text)
    if match is None:
        raise ValueError(f"expected a {kind} as name or name[parameter=value,...], got {text!r}")
    name, inside = match.groups()
    return name, inside.split(",") if inside and inside.strip() else []


def assigned(text: str, name: str, assignments: Sequence[str], known: Collection[str]) -> dict[str, str]:
    """Parse the assignments of the text ``name[...]`` into a mapping, each of the known parameters at most once.

    Raises:
        ValueError: an unknown or repeated parameter, or text that is not of this form.
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
                f"expected parameters of {name} among {', '.join(known) or 'none'}, got {key!r}; {nearest(key, known)}"
            )
        if key in values:
            raise ValueError(f"expected each parameter of {name} once, got {key} twice")
        values[key] = value
    return values


def parameter_types(loss: type[Loss]) -> dict[str, Any]:
    """The type of each parameter that text may set; ``Any`` where it is unknown."""
    hints: dict[str, Any] = {}
    for init in (vars(base)["__init__"] for base in loss.__mro__ if "__init__" in vars(base)):
        try:
            hints = get_type_hints(init) | hints
        except (NameError, TypeError, AttributeError):  # a user's annotations need not exist at run time
            break
        if all(one.kind is not one.VAR_KEYWORD for one in signature(init).parameters.values()):
            break
    return {
        name: hints.get(name, _type_of_default(parameter.default))
        for name, parameter in loss_parameters(loss).items()
        if name not in _NOT_IN_TEXT and name.isascii()
    }


def _type_of_default(default: Any) -> Any:
    return next((kind for kind in (bool, int | float, str) if isinstance(default, kind)), Any)


def _exact(text: str) -> float:
    """A number, as an int where it is whole: both have one spelling."""
    number = float(text) + 0.0  # -0 becomes 0
    return int(number) if number.is_integer() and abs(number) < _WHOLE_UP_TO else number


def _pair(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split("/")))


# By the type of a parameter: the form of its values, the form in words, and how they are read.
_FORMS: dict[Any, tuple[str, str, Callable[[str], Any]]] = {
    float: (_NUMBER, "to be a number", lambda text: float(text) + 0.0),
    int: (r"[+-]?\d+", "to be a whole number", int),
    int | float: (_NUMBER, "to be a number", _exact),
    bool: ("true|false", "to be true or false", lambda text: text == "true"),
    str: (_WORD, "to be a word of letters, digits and _, with single . or - inside", str),
}


def _read(name: str, text: str, kind: Any) -> Any:
    """Parse a value by the type that the loss declares for it."""
    options = set(get_args(kind)) if get_origin(kind) in (Union, types.UnionType) else {kind}
    if text == "none" and options & {type(None), Any}:
        return None
    options -= {type(None)}
    kind = int | float if options == {int, float} else options.pop() if len(options) == 1 else Any
    read: Callable[[str], Any] = str
    if get_origin(kind) is Literal:
        words = get_args(kind)
        form, expected = "|".join(map(re.escape, words)), f"to be one of {', '.join(words)}"
    elif get_origin(kind) is tuple:
        form, expected, read = r"\d+/\d+", "as two whole numbers, such as 2/1", _pair
    else:
        if kind is Any:
            kind = next((one for one in (bool, int | float) if re.fullmatch(_FORMS[one][0], text)), str)
        if kind not in _FORMS:
            kind = getattr(kind, "__name__", kind)
            raise ValueError(
                f"expected {name} to be left out, as text cannot describe a {kind}, got {text!r}"
            )
        form, expected, read = _FORMS[kind]
    if not re.fullmatch(form, text):
        raise ValueError(f"expected {name} {expected}, got {text!r}")
    return read(text)


def _write(value: Any) -> str:
    """The canonical spelling of a value: 3.0 → 3, True → true, (1, 1) → 1/1, None → none."""
    if isinstance(value, tuple):
        return "/".join(str(part) for part in value)
    if isinstance(value, float):
        return repr(value).removesuffix(".0").replace("e+", "e")
    return value if isinstance(value, str) else str(value).lower()

"""What an option is, how a function takes options, and how they are written as a command line.

An option is a field of a ``TypedDict`` whose annotation holds its type and its `Option`; `tametail.core.options` declares
them all. A function takes those of a class, checked and complete:

    @takes(CompareOptions, MethodsOptions)
    def compare(data: ..., methods: ... = None, **options: Unpack[CompareOptions]) -> Study:

Standard library only.
"""

from __future__ import annotations

import inspect
import json
import math
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, wraps
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from tametail.core.errors import UsageError
from tametail.core.registry import nearest

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=type)
MACHINE = "Machine"  # the panel of options that no result depends on
_VARIED: dict[type, dict[str, tuple[Any, str]]] = {}


class UnknownOption(UsageError, TypeError):
    """A keyword argument that a function does not have."""


@dataclass(frozen=True)
class Option:
    """One option."""

    default: Any  # its value when it is not given; ``...`` if it must be given
    help: str  # one or two sentences for the help of the command line and the docstring
    panel: str = "Options"  # heading in the help of the command line
    short: str = ""  # a one-letter flag such as ``-o``
    negative: str = ""  # flag for False; by default ``--no-<name>`` where the default is not False
    repeated: bool = False  # whether each item repeats the option, instead of commas
    whole: bool = False  # one text is passed on as it is, as it has its own grammar (methods with brackets)
    path: bool = False  # the value may be a path, of which `as_given` keeps the last component only
    least: float | None = None  # smallest valid number
    metavar: str | None = None  # placeholder in the help
    type: Any = None  # the annotated type; filled in by `declared`
    name: str = ""  # name of the field; filled in by `declared`

    @property
    def flag(self) -> str:
        """The option on the command line: ``--label-col``."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def flags(self) -> list[str]:
        """All of its flags, as typer takes them."""
        both = self.is_flag and self.default is not False
        off = self.negative or f"--no-{self.flag[2:]}"
        return [*([self.short] if self.short else []), f"{self.flag}/{off}" if both else self.flag]

    @property
    def types(self) -> set[Any]:
        """The types that a value may have, without None."""
        members = get_args(self.type) if get_origin(self.type) in (Union, UnionType) else (self.type,)
        return set(members) - {NoneType}

    @property
    def choices(self) -> tuple[str, ...]:
        """The valid texts, if only some are."""
        return next((get_args(one) for one in self.types if get_origin(one) is Literal), ())

    @property
    def is_flag(self) -> bool:
        """Whether it is given without a value."""
        return bool in self.types

    @property
    def plural(self) -> bool:
        """Whether it holds several items."""
        return any(get_origin(one) in (Sequence, Mapping) for one in self.types)

    def check(self, value: Any) -> Any:
        """The value in one form: items as a list, pairs as ``key=value`` texts, numbers as Python numbers.

        Raises:
            UsageError: a value of another type or out of range.
        """
        if value is None and (self.default is None or None in get_args(self.type)):
            return None
        checked = self._items(value) if self.plural else self._item(value)
        if checked is None:
            raise UsageError(f"expected {self._expected()} for {self.flag}, got {value!r}")
        if self.choices and checked not in self.choices:
            raise UsageError(f"expected {self.flag} as one of {', '.join(self.choices)}, got {value!r}")
        if self.least is not None and checked < self.least:
            raise UsageError(f"expected {self.flag} of at least {self.least:g}, got {checked:g}")
        return checked

    def _item(self, value: Any) -> Any:
        """A single value, or None if it is of another type."""
        types = self.types
        if isinstance(value, bool) or bool in types:
            return value if isinstance(value, bool) and bool in types else None
        if int in types and isinstance(value, Integral):
            return int(value)
        if float in types and isinstance(value, Real) and math.isfinite(value):
            return float(value)
        if isinstance(value, str):
            return value if str in types or self.choices else None
        return value if Path in types and isinstance(value, PathLike) else None

    def _items(self, value: Any) -> Any:
        """A list of items, or None if one is of another type."""
        if isinstance(value, str | PathLike):
            if self.whole:
                return value
            value = [value] if self.repeated else filter(None, map(str.strip, str(value).split(",")))
        if isinstance(value, Mapping):
            value = value.items() if any(get_origin(one) is Mapping for one in self.types) else [None]
        if not isinstance(value, Iterable):
            return None
        items = [_number(item) if Sequence[int] in self.types else _text(item) for item in value]
        return None if None in items else items

    def _expected(self) -> str:
        if self.plural:
            return "whole numbers with commas" if Sequence[int] in self.types else "a list of texts"
        words = {
            bool: "True or False",
            int: "a whole number",
            float: "a number",
            str: "a text",
            Path: "a path",
        }
        return " or ".join(word for one, word in words.items() if one in self.types) or "a text"

    def written(self, value: Any) -> list[str]:
        """The option and its value as words of a command line."""
        if isinstance(value, bool):
            on, _, off = self.flags[-1].partition("/")
            return [on if value else off]
        if isinstance(value, list | tuple):
            if self.repeated:
                return [word for item in value for word in (self.flag, str(item))]
            value = ",".join(map(str, value))
        if isinstance(value, float) and float(f"{value:g}") == value:
            value = f"{value:g}"
        return [self.flag, str(value)]


def _number(item: Any) -> int | None:
    try:
        return None if isinstance(item, bool) or not isinstance(item, str | Integral) else int(item)
    except ValueError:
        return None


def _text(item: Any) -> Any:
    if isinstance(item, tuple) and len(item) == 2:
        key, value = item
        return f"{key}={value if isinstance(value, str | PathLike) else json.dumps(value)}"
    return item if isinstance(item, str | PathLike) else None


def varied(**changes: tuple[Any, str]) -> Callable[[C], C]:
    """Give options another default and help text in one function: ``@varied(out=("ranks", "Output folder."))``."""

    def mark(group: C) -> C:
        _VARIED[group] = changes
        return group

    return mark


@cache
def declared(*groups: type) -> dict[str, Option]:
    """The options of classes by name, with their types and the variations of these classes."""
    varied = {name: change for group in groups for name, change in _VARIED.get(group, {}).items()}
    found = {}
    for group in groups:
        for name, hint in get_type_hints(group, include_extras=True).items():
            option: Option = hint.__metadata__[0]
            default, text = varied.get(name, (option.default, option.help))
            found[name] = replace(option, default=default, help=text, name=name, type=hint.__origin__)
    return found


def takes(*groups: type) -> Callable[[F], F]:
    """Have a function take the options of classes, checked and complete; its signature and docstring list them all.

    Options that are parameters of the function itself, such as ``methods``, are checked and keep their place.
    """

    def decorate(function: F) -> F:
        signature = inspect.signature(function)
        own = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
        options = declared(*groups)
        known = dict.fromkeys([*(one.name for one in own), *options])

        @wraps(function)
        def call(*args: Any, **given: Any) -> Any:
            unknown = next((name for name in given if name not in known), None)
            if unknown is not None:
                raise UnknownOption(
                    f"{function.__name__}() got an unknown option {unknown!r}; {nearest(unknown, known)}"
                )
            values = signature.bind_partial(*args).arguments | given
            for name, option in options.items():
                if name in values or name not in signature.parameters:
                    values[name] = option.check(values[name]) if name in values else option.default
            return function(**values)

        rest = {name: one for name, one in options.items() if name not in signature.parameters}
        keywords = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=one.type)
            for name, one in rest.items()
        ]
        positional = [one for one in own if one.kind is not one.KEYWORD_ONLY]
        last = [one for one in own if one.kind is one.KEYWORD_ONLY]
        call.__signature__ = signature.replace(parameters=[*positional, *keywords, *last])  # type: ignore[attr-defined]
        call.__doc__ = f"{inspect.getdoc(function)}\n\nOptions:\n" + "\n".join(
            f"    {name}: {one.help}{'' if one.default is None else f' Default: {one.default!r}.'}"
            for name, one in rest.items()
        )
        return call  # type: ignore[return-value]

    return decorate


def pick(group: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a class out of those of a larger one."""
    return {name: options[name] for name in declared(group) if name in options}


def as_given(group: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that differ from their defaults, without those of the machine and without folders, for JSON."""
    return {
        name: _private(option, options[name])
        for name, option in declared(group).items()
        if name in options and options[name] != option.default and option.panel != MACHINE and name != "out"
    }


def _private(option: Option, value: Any) -> Any:
    """A path's last component, as folders are private; other values as they are."""
    if not option.path or value is None:
        return value
    if isinstance(value, list):
        return [_private(option, item) for item in value]
    if option.plural and "=" in str(value):
        key, path = str(value).split("=", 1)
        return f"{key}={_private(option, path)}"
    return str(value).replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]


def recorded(options: Mapping[str, Any], *groups: type) -> dict[str, Any]:
    """The options of a JSON file that are ones of these classes and have valid values; others are of another version, or damaged."""
    known, found = declared(*groups), {}
    for name in known.keys() & options.keys():
        with suppress(UsageError):
            found[name] = known[name].check(options[name])
    return {name: found[name] for name in options if name in found}


def command_line(command: str, arguments: Sequence[object], options: Mapping[str, Any], *groups: type) -> str:
    """A command with options of these classes, quoted for a shell; those that are None are left out."""
    known = declared(*groups)
    words = [w for name, value in options.items() if value is not None for w in known[name].written(value)]
    return shlex.join(["tametail", command, *map(str, arguments), *words])


def read_operating(texts: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """``CLASS=0.95`` of each text: a class and the sensitivity that is required for it.

    Raises:
        UsageError: a text of another form.
    """
    found = []
    for text in texts:
        name, _, number = text.rpartition("=")
        try:
            sensitivity = float(number)
        except ValueError:
            sensitivity = math.nan
        if not (name.strip() and 0 < sensitivity <= 1):
            raise UsageError(
                f"expected --operating CLASS=SENSITIVITY with a sensitivity above 0 and at most 1, such as melanoma=0.95, "
                f"got {text!r}"
            )
        found.append((name.strip(), sensitivity))
    return tuple(dict.fromkeys(found))

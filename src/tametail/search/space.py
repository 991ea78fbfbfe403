"""What is searched: ranges and choices of a loss's parameters, and of the recipe's rate and decay.

Written as text, ``gamma_neg=0:5``, ``lr=1e-4:1e-2:log``, ``order=1/1|2/2``, and checked by building the loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pydantic import ValidationError

from tametail.core.errors import UsageError
from tametail.core.registry import nearest
from tametail.losses.grammar import parameter_types, parse_loss, split_brackets
from tametail.losses.registry import loss_class
from tametail.search.default_spaces import DEFAULT_SPACES
from tametail.training.heads.head_experiments import Trial
from tametail.training.recipe import Recipe
from tametail.training.strategies import Method

OF_RECIPE = ("lr", "weight_decay")
_DIGITS = 3  # significant, so that a method's text stays readable and means the same when it is typed again
_MOST_CHOICES = 100


class Suggester(Protocol):
    """What draws values: a trial of Optuna."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...
    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int: ...
    def suggest_categorical(self, name: str, choices: Sequence[str]) -> str: ...


@dataclass(frozen=True)
class Numbers:
    """A range of numbers, both ends included; drawn evenly, or on a logarithmic scale."""

    name: str
    low: float
    high: float
    log: bool = False
    whole: bool = False

    @property
    def text(self) -> str:
        """As it is written for ``--space``."""
        return f"{self.name}={_written(self.low)}:{_written(self.high)}{':log' if self.log else ''}"

    @property
    def ends(self) -> tuple[str, ...]:
        """The values that stand for all when it is checked what can be."""
        return _written(self.low), _written(self.high)

    def suggest(self, trial: Suggester) -> str:
        """A value as text, of three significant digits."""
        if self.whole:
            return str(trial.suggest_int(self.name, int(self.low), int(self.high), log=self.log))
        value = float(f"{trial.suggest_float(self.name, self.low, self.high, log=self.log):.{_DIGITS}g}")
        return _written(min(max(value, self.low), self.high))


@dataclass(frozen=True)
class Choice:
    """A few values, of which each is as likely."""

    name: str
    options: tuple[str, ...]

    @property
    def text(self) -> str:
        """As it is written for ``--space``."""
        return f"{self.name}={'|'.join(self.options)}"

    @property
    def ends(self) -> tuple[str, ...]:
        """The values that stand for all when it is checked what can be."""
        return self.options

    def suggest(self, trial: Suggester) -> str:
        """A value as text."""
        return trial.suggest_categorical(self.name, self.options)


Dimension = Numbers | Choice


@dataclass(frozen=True)
class Space:
    """The method and recipe that are searched from, and what of them is drawn."""

    method: Method
    recipe: Recipe
    dimensions: tuple[Dimension, ...]

    @property
    def texts(self) -> list[str]:
        """One line for each dimension."""
        return [dimension.text for dimension in self.dimensions]

    @property
    def default(self) -> Trial:
        """The method as it was asked for, with nothing drawn."""
        return Trial(self.method, self.recipe)

    def suggest(self, trial: Suggester) -> dict[str, str]:
        """A value for each dimension, as text."""
        return {dimension.name: dimension.suggest(trial) for dimension in self.dimensions}

    def trial(self, values: Mapping[str, str]) -> Trial:
        """The method and recipe with these values.

        Raises:
            ValueError, TypeError: the loss cannot have them.
        """
        own = {name: value for name, value in values.items() if name not in OF_RECIPE}
        name, given = split_brackets(self.method.loss.text, "loss")
        inside = ",".join([*given, *(f"{key}={value}" for key, value in own.items())])
        method = Method(parse_loss(f"{name}[{inside}]" if inside else name), self.method.strategies)
        of_recipe = {name: float(values[name]) for name in OF_RECIPE if name in values}
        settings = self.recipe.model_dump()
        settings["optimizer"] |= of_recipe
        return Trial(method, Recipe.model_validate(settings))


def make_space(method: Method, recipe: Recipe, texts: Sequence[str] = ()) -> Space:
    """The default space of a method's loss, with what is asked for in place of or beside it.

    Parameters that the method's text gives are fixed. Of the default space only what the loss can have beside them is
    searched.

    Args:
        texts: ``name=low:high``, ``name=low:high:log`` or ``name=a|b|c``.

    Raises:
        UsageError: a text that cannot be read, a name that is no parameter, a value that the loss cannot have, or
            nothing to search.
    """
    types = parameter_types(loss_class(method.loss.name))
    asked: dict[str, Dimension] = {}
    for text in texts:
        dimension = _read(text, method, types)
        if dimension.name in asked:
            raise UsageError(f"expected --space {dimension.name} once, got it twice; leave one out")
        asked[dimension.name] = dimension
    declared = [_read(text, None, types) for text in DEFAULT_SPACES.get(method.loss.name, ())]
    kept = [
        asked.pop(dimension.name, dimension)
        for dimension in declared
        if dimension.name in asked or _fits(dimension, method, recipe)
    ]
    dimensions = (*kept, *asked.values())
    if not dimensions:
        raise UsageError(
            f"expected something to search for {method.text}, but it has no default space or its text fixes all of it; "
            f"say what to search, such as --space {next(iter(types), 'lr')}=0:1 or --space lr=1e-4:1e-2:log"
        )
    space = Space(method, recipe, dimensions)
    for values in _corners(dimensions):
        try:
            trial = space.trial(values)
        except (ValueError, TypeError, ValidationError) as error:
            written = ", ".join(f"{name}={value}" for name, value in values.items())
            raise UsageError(
                f"expected a space in which {method.loss.name} can be built everywhere, but not with {written}: "
                f"{_in_short(error)}; change --space"
            ) from error
        trial.method.configure(trial.recipe)
    return space


def _fits(dimension: Dimension, method: Method, recipe: Recipe) -> bool:
    if dimension.name in method.loss.params:
        return False
    try:
        for value in dimension.ends:
            Space(method, recipe, (dimension,)).trial({dimension.name: value})
    except (ValueError, TypeError):
        return False
    return True


def _corners(dimensions: Sequence[Dimension]) -> Iterator[dict[str, str]]:
    """All at their lowest, all at their highest, and each of the others with the rest at their lowest."""
    lowest = {dimension.name: dimension.ends[0] for dimension in dimensions}
    yield lowest
    yield {dimension.name: dimension.ends[-1] for dimension in dimensions}
    for dimension in dimensions:
        for value in dimension.ends[1:]:
            yield lowest | {dimension.name: value}


def _read(text: str, method: Method | None, types: Mapping[str, object]) -> Dimension:
    name, equals, inside = (part.strip() for part in text.partition("="))
    if not equals or not inside:
        raise UsageError(
            f"expected --space name=low:high, name=low:high:log or name=a|b|c, got {text!r}; such as gamma_neg=0:5"
        )
    if name not in types and name not in OF_RECIPE:
        known = [*types, *OF_RECIPE]
        raise UsageError(
            f"expected --space for a parameter of the loss, lr or weight_decay, got {name!r}; {nearest(name, known)}"
        )
    if method and name in method.loss.params:
        raise UsageError(
            f"expected --space for a parameter that the loss's text leaves open, but {method.loss.text} fixes {name}; "
            "leave it out in one of the two"
        )
    if ":" not in inside:
        options = tuple(dict.fromkeys(part.strip() for part in inside.split("|")))
        if not all(options) or len(options) > _MOST_CHOICES:
            raise UsageError(
                f"expected 1 to {_MOST_CHOICES} values between | for --space {name}, got {inside!r}"
            )
        return Choice(name, options)
    low, high, *scale = inside.split(":")
    if scale not in ([], ["log"]):
        raise UsageError(f"expected --space {name}=low:high or {name}=low:high:log, got {text!r}")
    return _range(name, low, high, log=bool(scale), whole=types.get(name) is int)


def _range(name: str, low: str, high: str, *, log: bool, whole: bool) -> Numbers:
    try:
        ends = float(low), float(high)
    except ValueError:
        raise UsageError(
            f"expected two numbers for --space {name}, such as {name}=0:5, got {low}:{high}"
        ) from None
    if not all(map(math.isfinite, ends)) or not ends[0] < ends[1]:
        raise UsageError(f"expected --space {name} from a number to a larger one, got {low}:{high}")
    if not whole and f"{ends[0]:.{_DIGITS}g}" == f"{ends[1]:.{_DIGITS}g}":
        raise UsageError(
            f"expected --space {name} from a number to one that differs in its first {_DIGITS} digits, to which values are rounded, "
            f"got {low}:{high}; widen it, or fix the value in the loss's text"
        )
    if log and ends[0] <= 0:
        raise UsageError(f"expected a logarithmic range above 0 for --space {name}, got {low}:{high}")
    if whole and not all(end.is_integer() for end in ends):
        raise UsageError(f"expected whole numbers for --space {name}, got {low}:{high}")
    return Numbers(name, *ends, log=log, whole=whole)


def _written(value: float) -> str:
    return repr(float(value)).removesuffix(".0")


def _in_short(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(problem["msg"] for problem in error.errors())
    return str(error)

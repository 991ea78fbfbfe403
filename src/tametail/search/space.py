"""The search space: ranges and categories of a loss's parameters, of the learning rate and of the weight decay.

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
from tametail.training.heads.minimum import is_minimised
from tametail.training.recipe import RECIPE_PARAMETERS, Recipe, with_recipe_values
from tametail.training.strategies import Method

_DIGITS = 3  # significant digits of sampled values, so that the text of a method stays readable and exact
_MAX_CATEGORIES = 100


class Suggester(Protocol):
    """Samples values; satisfied by an Optuna trial."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...
    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int: ...
    def suggest_categorical(self, name: str, choices: Sequence[str]) -> str: ...


@dataclass(frozen=True)
class NumericRange:
    """A range of numbers, both ends included, sampled uniformly or log-uniformly."""

    name: str
    low: float
    high: float
    log: bool = False
    integer: bool = False

    @property
    def text(self) -> str:
        """The notation of ``--space``."""
        return f"{self.name}={_number_text(self.low)}:{_number_text(self.high)}{':log' if self.log else ''}"

    @property
    def ends(self) -> tuple[str, ...]:
        """The values at which the space is checked."""
        return _number_text(self.low), _number_text(self.high)

    def suggest(self, trial: Suggester) -> str:
        """A sampled value as text, rounded to three significant digits."""
        if self.integer:
            return str(trial.suggest_int(self.name, int(self.low), int(self.high), log=self.log))
        value = float(f"{trial.suggest_float(self.name, self.low, self.high, log=self.log):.{_DIGITS}g}")
        return _number_text(min(max(value, self.low), self.high))


@dataclass(frozen=True)
class Categories:
    """A list of values, sampled uniformly."""

    name: str
    values: tuple[str, ...]

    @property
    def text(self) -> str:
        """The notation of ``--space``."""
        return f"{self.name}={'|'.join(self.values)}"

    @property
    def ends(self) -> tuple[str, ...]:
        """The values at which the space is checked."""
        return self.values

    def suggest(self, trial: Suggester) -> str:
        """A sampled value."""
        return trial.suggest_categorical(self.name, self.values)


Dimension = NumericRange | Categories


@dataclass(frozen=True)
class Space:
    """A method and recipe, and the dimensions of them that are sampled."""

    method: Method
    recipe: Recipe
    dimensions: tuple[Dimension, ...]

    @property
    def texts(self) -> list[str]:
        """The notation of each dimension."""
        return [dimension.text for dimension in self.dimensions]

    @property
    def default(self) -> Trial:
        """The method as given, with nothing sampled."""
        return Trial(self.method, self.recipe)

    def suggest(self, trial: Suggester) -> dict[str, str]:
        """A sampled value for each dimension, as text."""
        return {dimension.name: dimension.suggest(trial) for dimension in self.dimensions}

    def trial(self, values: Mapping[str, str]) -> Trial:
        """The method and recipe with these values.

        Raises:
            ValueError, TypeError: the loss rejects them.
        """
        sampled = [f"{name}={value}" for name, value in values.items() if name not in RECIPE_PARAMETERS]
        name, fixed = split_brackets(self.method.loss.text, "loss")
        parameters = ",".join([*fixed, *sampled])
        loss = parse_loss(f"{name}[{parameters}]" if parameters else name)
        method = Method(loss.in_order(self.method.loss.class_order), self.method.strategies)
        recipe = with_recipe_values(self.recipe.model_dump(), recipe_values(values))
        return Trial(method, Recipe.model_validate(recipe))


def recipe_values(values: Mapping[str, str]) -> dict[str, float]:
    """The part of sampled values that belongs to the recipe: learning rate, weight decay, penalty."""
    return {name: float(values[name]) for name in RECIPE_PARAMETERS if name in values}


def make_space(method: Method, recipe: Recipe, texts: Sequence[str] = ()) -> Space:
    """The default space of a method's loss, changed and extended by the given dimensions.

    Parameters that the method's text gives are fixed. Dimensions of the default space that the loss rejects in combination
    with them are dropped.

    Args:
        texts: ``name=low:high``, ``name=low:high:log`` or ``name=a|b|c``.

    Raises:
        UsageError: a text that cannot be parsed, an unknown parameter, a value that the loss rejects, or an empty space.
    """
    types = parameter_types(loss_class(method.loss.name))
    given: dict[str, Dimension] = {}
    for text in texts:
        dimension = _parse(text, method, types)
        if dimension.name in given:
            raise UsageError(f"expected --space {dimension.name} once, got it twice; leave one out")
        given[dimension.name] = dimension
    _check_recipe_parameters(given, recipe)
    default = [_parse(text, None, types) for text in DEFAULT_SPACES.get(method.loss.name, ())]
    used = [
        given.pop(dimension.name, dimension)
        for dimension in default
        if dimension.name in given or _accepts(dimension, method, recipe)
    ]
    dimensions = (*used, *given.values())
    if not dimensions:
        free = [name for name in types if name not in method.loss.params]
        parameters = f"its free parameters are {', '.join(free)}" if free else "it has no free parameters"
        raise UsageError(
            f"expected --space for {method.text}, whose loss has no default space or whose text fixes all of it: {parameters}; "
            f"give at least one, such as --space {next(iter(free), 'l2')}=0:1, --space l2=0.003:10:log or, when fine-tuning, --space lr=1e-4:1e-2:log"
        )
    space = Space(method, recipe, dimensions)
    for values in _corners(dimensions):
        try:
            trial = space.trial(values)
        except (ValueError, TypeError, ValidationError) as error:
            written = ", ".join(f"{name}={value}" for name, value in values.items())
            raise UsageError(
                f"expected a space in which {method.loss.name} can be built everywhere, but it rejects {written}: "
                f"{_short_message(error)}; change --space"
            ) from error
        trial.method.configure(trial.recipe)
    return space


def _check_recipe_parameters(given: Mapping[str, Dimension], recipe: Recipe) -> None:
    """Refuse parameters of the recipe that have no effect on its trainings."""
    minimised = is_minimised(recipe)
    useless = [name for name in (("lr", "weight_decay") if minimised else ("l2",)) if name in given]
    if useless:
        reason = (
            "trains heads to the minimum, so that only l2 matters; search l2, or add --set optimizer.kind=adamw"
            if minimised
            else "trains step by step; search lr or weight_decay"
        )
        raise UsageError(f"expected --space without {', '.join(useless)}: recipe {recipe.name} {reason}")


def _accepts(dimension: Dimension, method: Method, recipe: Recipe) -> bool:
    if dimension.name in method.loss.params:
        return False
    try:
        for value in dimension.ends:
            Space(method, recipe, (dimension,)).trial({dimension.name: value})
    except (ValueError, TypeError):
        return False
    return True


def _corners(dimensions: Sequence[Dimension]) -> Iterator[dict[str, str]]:
    """All lowest ends, all highest ends, and each other end combined with the lowest of the rest."""
    lowest = {dimension.name: dimension.ends[0] for dimension in dimensions}
    yield lowest
    yield {dimension.name: dimension.ends[-1] for dimension in dimensions}
    for dimension in dimensions:
        for value in dimension.ends[1:]:
            yield lowest | {dimension.name: value}


def _parse(text: str, method: Method | None, types: Mapping[str, object]) -> Dimension:
    name, equals, values = (part.strip() for part in text.partition("="))
    if not equals or not values:
        raise UsageError(
            f"expected --space name=low:high, name=low:high:log or name=a|b|c, got {text!r}; such as gamma_neg=0:5"
        )
    if name not in types and name not in RECIPE_PARAMETERS:
        known = [*types, *RECIPE_PARAMETERS]
        raise UsageError(
            f"expected --space for a parameter of the loss, lr, weight_decay or l2, got {name!r}; {nearest(name, known)}"
        )
    if method and name in method.loss.params:
        raise UsageError(
            f"expected --space for a free parameter, but {method.loss.text} fixes {name}; "
            "remove it from one of the two"
        )
    if ":" not in values:
        categories = tuple(dict.fromkeys(part.strip() for part in values.split("|")))
        if not all(categories) or len(categories) > _MAX_CATEGORIES:
            raise UsageError(
                f"expected 1 to {_MAX_CATEGORIES} values between | for --space {name}, got {values!r}"
            )
        return Categories(name, categories)
    low, high, *scale = values.split(":")
    if scale not in ([], ["log"]):
        raise UsageError(f"expected --space {name}=low:high or {name}=low:high:log, got {text!r}")
    return _range(name, low, high, log=bool(scale), integer=types.get(name) is int)


def _range(name: str, low: str, high: str, *, log: bool, integer: bool) -> NumericRange:
    try:
        ends = float(low), float(high)
    except ValueError:
        raise UsageError(
            f"expected two numbers for --space {name}, such as {name}=0:5, got {low}:{high}"
        ) from None
    if not all(map(math.isfinite, ends)) or not ends[0] < ends[1]:
        raise UsageError(f"expected --space {name} from a number to a larger one, got {low}:{high}")
    if not integer and f"{ends[0]:.{_DIGITS}g}" == f"{ends[1]:.{_DIGITS}g}":
        raise UsageError(
            f"expected the ends of --space {name} to differ in their first {_DIGITS} digits, to which values are rounded, "
            f"got {low}:{high}; widen it, or fix the value in the text of the method"
        )
    if log and ends[0] <= 0:
        raise UsageError(f"expected a logarithmic range above 0 for --space {name}, got {low}:{high}")
    if integer and not all(end.is_integer() for end in ends):
        raise UsageError(f"expected integers for --space {name}, got {low}:{high}")
    return NumericRange(name, *ends, log=log, integer=integer)


def _number_text(value: float) -> str:
    return repr(float(value)).removesuffix(".0")


def _short_message(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(problem["msg"] for problem in error.errors())
    return str(error)

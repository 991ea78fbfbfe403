"""The families of methods that `new_loss.py` compares, each with configurations drawn from its own ranges.

Every family gets the same number of configurations, at the same learning rates and weight decays. The first has the
family's defaults and the recipe's rate and decay.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tametail.training.recipe import Recipe, load_recipe
from tametail.training.strategies import Method, parse_method

CONFIGURATIONS = 16
STRENGTHS, WEAKER = (
    (0.75, 1.0, 1.25, 1.5),
    (0.25, 0.375, 0.5, 0.625),
)  # powers of the prior that are divided out
RIVALS = ("ce+la", "balanced_softmax", "ce+la, weaker")
ALSO_COMPARED = ("bce, prior", "ce+taunorm", "balanced_softmax, cosine", "bce, prior, cosine")
REFERENCES = ("lade", "ce+crt", "alpa", "alpa[tau=1]+crt")
_ORDERS = ("1/1", "2/2", "4/4", "8/8")

Draw = Callable[[float, float], str]
Text = Callable[[Draw, Draw, str], str]


@dataclass(frozen=True)
class Configuration:
    """A method with its learning rate, weight decay and strengths of logit adjustment."""

    method: Method
    recipe: Recipe
    strengths: tuple[float, ...] = STRENGTHS

    @property
    def text(self) -> str:
        """For tables."""
        settings = self.recipe.optimizer
        method = self.method.text.replace("new_loss_variants:", "")
        return f"{method}, rate {settings.lr:.2g}, decay {settings.weight_decay:.2g}"


def _counted(extra: str = "", prior: bool = True) -> Text:
    """CountedPade; ``extra`` has one more parameter as name:default:low:high."""

    def text(uniform: Draw, power: Draw, order: str) -> str:
        parts = [
            f"alpha={power(-1, 2) or 1}",
            f"gamma_pos={uniform(0, 1) or 0}",
            f"gamma_neg={uniform(0, 2) or 1}",
            f"order={order}",
            f"tau={uniform(0.25, 1.5) or 1}" if prior else "tau=0",
        ]
        if extra:
            name, default, low, high = extra.split(":")
            parts.append(f"{name}={uniform(float(low), float(high)) or default}")
        return f"new_loss_variants:CountedPade[{','.join(parts)}]"

    return text


def _softmax(both: bool) -> Text:
    def text(uniform: Draw, power: Draw, order: str) -> str:
        parts = [
            f"gamma_pos={uniform(0, 2) or 0}",
            f"order={order}",
            f"tau={uniform(0.25, 1.5) or 1}",
        ]
        if both:
            parts += [f"beta={power(-2, 1) or 0.5}", f"gamma_neg={uniform(0, 2) or 1}"]
        return f"new_loss_variants:SoftmaxPade[{','.join(parts)}]"

    return text


def _paper(prior: bool) -> Text:
    def text(uniform: Draw, power: Draw, order: str) -> str:
        ratio = power(-1, 2)
        own = f"alpha={ratio},beta=1," if ratio else ""
        own += f"gamma_pos={uniform(0, 2) or 0},gamma_neg={uniform(0, 4) or 4}"
        return f"alpa[{own},tau={uniform(0.25, 1.5) or 1}]" if prior else f"alpa[{own}]+la"

    return text


def _taunorm(uniform: Draw, power: Draw, order: str) -> str:
    return f"{_counted()(uniform, power, order)}+taunorm[tau={uniform(0.25, 1.25) or 1}]"


FAMILIES: dict[str, Text] = {
    "ce+la": lambda uniform, power, order: "ce+la",
    "balanced_softmax": lambda uniform, power, order: f"balanced_softmax[tau={uniform(0.5, 1.5) or 1}]",
    "bce, prior": lambda uniform, power, order: f"bce[tau={uniform(0.5, 1.5) or 1}]",
    "ce+taunorm": lambda uniform, power, order: f"ce+taunorm[tau={uniform(0.25, 1.25) or 1}]",
    "paper+la": _paper(prior=False),
    "paper, prior": _paper(prior=True),
    "pade, prior": _counted(),
    "pade, margin": _counted("margin:1:0:3"),
    "pade, focus by count": _counted("kappa:0.25:-0.25:0.5"),
    "pade, weights": _counted("omega:1:0.25:1.25", prior=False),
    "pade, scales": _counted("growth:0.1:-0.3:0.3"),
    "softmax pade, prior": _softmax(both=False),
    "softmax pade, both sides": _softmax(both=True),
    "pade, prior, cosine": _counted(),
    "pade, prior + taunorm": _taunorm,
    # Added in the second round; the first one is a rival.
    "ce+la, weaker": lambda uniform, power, order: "ce+la",
    "pade, focus by count, cosine": _counted("kappa:0.25:-0.25:0.5"),
    "balanced_softmax, cosine": lambda uniform, power, order: (
        f"balanced_softmax[tau={uniform(0.5, 1.5) or 1}]"
    ),
    "bce, prior, cosine": lambda uniform, power, order: f"bce[tau={uniform(0.5, 1.5) or 1}]",
}


def configurations(family: str, count: int = CONFIGURATIONS) -> list[Configuration]:
    """A family's configurations, the same in every call."""
    recipe = load_recipe("head")
    if family.endswith("cosine"):
        recipe = recipe.model_copy(update={"head": "normalised"})
    rates, own = np.random.default_rng(1), np.random.default_rng(2)
    found = []
    for number in range(count):
        drawn = number > 0  # the first has the defaults: nothing is drawn, and each range's "or" decides

        def uniform(low: float, high: float, drawn: bool = drawn) -> str:
            value = own.uniform(low, high)
            return f"{value:.3f}" if drawn else ""

        def power(low: float, high: float, drawn: bool = drawn) -> str:
            value = 2 ** own.uniform(low, high)
            return f"{value:.3f}" if drawn else ""

        rate, decay = 0.002 * 2 ** rates.uniform(-3, 1), 10 ** rates.uniform(-2, 1)
        order = str(own.choice(_ORDERS)) if drawn else "4/4"
        method = parse_method(FAMILIES[family](uniform, power, order))
        settings = recipe.optimizer.model_copy(update={"lr": rate, "weight_decay": decay} if drawn else {})
        strengths = WEAKER if family.endswith("weaker") else STRENGTHS
        found.append(Configuration(method, recipe.model_copy(update={"optimizer": settings}), strengths))
    return found

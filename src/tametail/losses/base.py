"""The base class of all losses: what a loss declares about itself, and how a batch becomes a number."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ClassVar, Literal, ParamSpec, Protocol, TypedDict

import torch
from torch import Tensor, nn

from tametail.losses.links import Family, Link, stationary_log_odds, stationary_posterior
from tametail.losses.numerics import log_odds, log_prior
from tametail.losses.terms import prepare, prepare_indices, reduce, reduce_samples
from tametail.losses.validation import ClassCounts, check_class_counts, check_common, check_number

LossHead = Literal["linear", "normalised"]
Reduction = Literal["mean", "sum", "none"]
_P = ParamSpec("_P")
_SHOWN_COUNTS = 10


class ReductionParameters(TypedDict, total=False):
    """Parameters that every loss hands on to :class:`Loss`."""

    reduction: Reduction
    ignore_index: int


class CommonParameters(ReductionParameters, total=False):
    """Parameters that a loss hands on to :class:`Loss` unless it has defaults of its own for them."""

    tau: float
    class_counts: ClassCounts | None


class Loss(nn.Module):
    """Base class of losses on logits: ``loss(input, target)``.

    A subclass declares the attributes below, takes its hyper-parameters by keyword, stores each under its own name,
    hands the others on, and defines :meth:`terms`::

        @register_loss
        class SquaredErrorLoss(Loss):
            \"\"\"Squared error: the squared distance between probabilities and labels.\"\"\"

            name = "squared_error"
            formula = "weight Σ_c (y_c - s_c)^2"
            family = "softmax"

            def __init__(self, *, weight: float = 1.0, **common: Unpack[CommonParameters]) -> None:
                super().__init__(**common)
                self.weight = weight

            def terms(self, z: Tensor, y: Tensor) -> Tensor:
                return self.weight * (y - torch.softmax(z, dim=1)) ** 2

    ``inspect.signature`` of the subclass lists all parameters, those handed on included.

    Attributes:
        name: its name in the registry and on the command line.
        formula: one line of mathematics, with z the logits, y the target, p = sigmoid(z), s = softmax(z).
        family: whether its classes share one ``softmax`` or have one ``sigmoid`` each.
        head: the classifier whose output it expects: ``linear`` (logits) or ``normalised`` (cosines).
        logit_scale: factor that turns the head's outputs into logits.
        stochastic: whether two calls on the same batch may differ.
        batchwise: whether a sample's loss, or its weight in the mean, depends on the other samples of its batch.
        uses_class_counts: whether its formula needs ``class_counts``. Every loss accepts them, and every loss uses
            them when ``tau`` is not 0; otherwise they are checked and ignored.
        exact_link: whether ``link`` gives the posteriors where the loss is at its minimum.
        ordinal: whether its formula depends on the order of the classes, see :class:`tametail.losses.OrdinalLoss`.
        stackable: whether :meth:`terms` also takes z (H, C, B) and y (C, B), with tensors (H, 1, 1) in place of its
            numeric hyper-parameters, see :mod:`tametail.losses.stack`. Not inherited: each class declares it anew.

    Args:
        tau: strength of logit-adjusted training, >= 0: during training ``tau`` times the classes' log prior (softmax)
            or log odds (sigmoid) is added to the logits. :meth:`decision` then decides for a population in which the
            prior to the power of ``tau`` is divided out (1: all classes equally frequent).
        class_counts: number of training samples per class, C whole numbers >= 0. A class without samples counts as one.
        reduction: ``mean`` over samples with a known label, ``sum``, or ``none`` for (B,). A sample's loss is the
            sum over its classes.
        ignore_index: class index that means unknown.

    Raises:
        TypeError, ValueError: shapes, dtypes or values that do not fit.
    """

    name: ClassVar[str]
    formula: str
    family: Family
    head: ClassVar[LossHead] = "linear"
    stochastic: ClassVar[bool] = False
    batchwise: ClassVar[bool] = False
    uses_class_counts: ClassVar[bool] = False
    exact_link: ClassVar[bool] = True
    ordinal: ClassVar[bool] = False
    stackable: ClassVar[bool] = False
    logit_scale: float = 1.0
    class_counts: Tensor | None
    _by_index: ClassVar[type | None] = None  # the class that defines terms and of_indices

    def __init__(
        self,
        *,
        tau: float = 0.0,
        class_counts: ClassCounts | None = None,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__()
        check_common(reduction, ignore_index)
        counts = None if class_counts is None else check_class_counts(class_counts)
        self.tau = check_number("tau", tau)
        if counts is None and (self.uses_class_counts or self.tau):
            condition = "" if self.uses_class_counts else f" with tau={tau!r}"
            raise ValueError(
                f"{self._title()}{condition} expects class_counts, the number of training samples per class, got None"
            )
        used = counts is not None and (self.uses_class_counts or self.tau != 0)
        self.register_buffer("class_counts", counts.clone() if used and counts is not None else None)
        self.reduction: Reduction = reduction
        self.ignore_index = int(ignore_index)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        one = owner(cls, "of_indices")
        cls._by_index = one if one is owner(cls, "terms") and one is not Loss else None
        if "__init__" in vars(cls) and "__signature__" not in vars(cls):
            cls.__signature__ = _signature(cls)  # type: ignore[attr-defined]

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Loss of logits (B, C) for class indices (B,) or labels (B, C): a scalar, or (B,) for ``none``."""
        if self._takes_indices(target):
            z, index, known = prepare_indices(input, target, ignore_index=self.ignore_index)
            return reduce_samples(self.of_indices(self.adjusted(z), index), known, self.reduction)
        z, y, known_terms = prepare(
            input, target, ignore_index=self.ignore_index, coupled=self.family == "softmax"
        )
        return reduce(self.terms(self.adjusted(z), y), known_terms, self.reduction)

    def _takes_indices(self, target: Tensor) -> bool:
        """Whether a target is class indices (B,) and :meth:`of_indices` counts."""
        return self._by_index is not None and isinstance(target, Tensor) and target.ndim == 1

    def terms(self, z: Tensor, y: Tensor) -> Tensor:
        """Per-term loss (B, C) of adjusted logits and target, both (B, C) float32 or float64."""
        raise NotImplementedError

    def of_indices(self, z: Tensor, index: Tensor) -> Tensor:
        """Sums (B,) of :meth:`terms` over the classes, for class indices (B,): without labels (B, C), several times faster.

        Optional; for losses whose classes share one softmax. It is used only where one class defines both: a subclass that
        overrides ``terms`` alone is evaluated by them.
        """
        raise NotImplementedError

    def adjusted(self, z: Tensor) -> Tensor:
        """The head's outputs (B, C) as the logits of the formula: scaled, and shifted by the prior."""
        if self.logit_scale != 1:
            z = self.logit_scale * z
        return z if self.tau == 0 else z + self.prior_shift(z)

    def prior_shift(self, like: Tensor) -> Tensor:
        """``tau`` times the log prior or log odds (C,), for logits (B, C)."""
        shift = log_prior if self.family == "softmax" else log_odds
        return self.tau * shift(self.counts_for(like), like.dtype)

    def counts_for(self, like: Tensor) -> Tensor:
        """The class counts (C,), int64, for logits (B, C)."""
        counts = self.class_counts
        assert counts is not None
        if len(counts) != like.shape[1]:
            raise ValueError(
                f"{self._title()} expects input of shape (B, {len(counts)}) for {len(counts)} class counts, "
                f"got {tuple(like.shape)}"
            )
        return counts.to(like.device)

    @property
    def link(self) -> Link:
        """How logits become class probabilities."""
        plain = self.family if self.has_plain_link() else "inverse"
        name = f"{plain}+prior" if self.tau else plain
        rises, ceiling = self._range()
        return Link(name, self.exact_link and rises, ceiling, functools.partial(_linked, self))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities of mutually exclusive classes: the output of the link, scaled so that each row sums to one.

        ``tametail predict`` writes these (B, C), float32 or float64, before calibration. A row in which every class has
        probability 0 becomes 1 / C for each. For images with several labels call ``loss.link(logits)``.
        """
        p = self.link(logits)
        total = p.double().sum(dim=1, keepdim=True)
        return torch.where(total > 0, p / torch.where(total > 0, total, 1.0), 1 / p.shape[1]).to(p.dtype)

    def decision(self, input: Tensor) -> Tensor:
        """Logits (B, C) of the head's outputs (B, C) that decide: the predicted class has the largest.

        Without logit-adjusted training they are the head's own. With it they are those of a population with the prior
        to the power of ``tau`` divided out: posterior / prior^tau. Where the link is the plain softmax or sigmoid that
        is the head's own logits again, as the prior was only added during training. A class whose posterior is 0 comes
        after all others, and among such classes the head's own logits decide.
        """
        z = self.logit_scale * _raised(input)
        if self.tau == 0 or self.has_plain_link():
            return z
        adjusted = self.adjusted(_raised(input).double())
        if self.family == "softmax":
            logits = self.posterior(adjusted).clamp(min=torch.finfo(adjusted.dtype).tiny).log()
        else:
            logits = stationary_log_odds(self.terms, adjusted)
        # No finite log odds of float64 gradients reach ±1000.
        end = torch.sign(logits) * 1000 + z
        return torch.where(logits.isinf(), end, logits - self.prior_shift(logits)).to(z.dtype)

    def posterior(self, z: Tensor) -> Tensor:
        """Probabilities (B, C) of adjusted logits (B, C)."""
        return torch.softmax(z, dim=1) if self.family == "softmax" else stationary_posterior(self.terms, z)

    def has_plain_link(self) -> bool:
        """Whether :meth:`posterior` is softmax or sigmoid itself."""
        return self.family == "softmax" and type(self).posterior is Loss.posterior

    def extra_repr(self) -> str:
        """The parameters in the form in which they are given."""
        shown = []
        for name in inspect.signature(type(self)).parameters:
            if name != "class_counts":
                shown.append(f"{name}={getattr(self, name)!r}")
            elif self.class_counts is not None:
                first = [*map(str, self.class_counts[:_SHOWN_COUNTS].tolist())]
                more = ["..."] * (len(self.class_counts) > _SHOWN_COUNTS)
                shown.append(f"class_counts=[{', '.join(first + more)}]")
        return ", ".join(shown)

    def _range(self) -> tuple[bool, float]:
        """Whether the posterior of a class rises with its logit, and the largest value that it reaches."""
        if self.family == "softmax" or self.has_plain_link():
            return True, 1.0
        classes = 1 if self.class_counts is None else len(self.class_counts)
        grid = torch.linspace(-30, 30, 6001, dtype=torch.float64).unsqueeze(1).expand(-1, classes)
        p = self.posterior(grid)
        steps = p.diff(dim=0)
        return bool((steps >= -1e-9).all() and (steps > 0).any()), float(p.max())

    def _title(self) -> str:
        return f"{type(self).__name__} ({self.name})"


def owner(cls: type, method: str) -> type:
    """The class whose definition of a method counts for ``cls``."""
    return next(base for base in cls.__mro__ if method in vars(base))


class LossFunction(Protocol[_P]):
    """A loss as a function of a batch, with its parameters by keyword."""

    def __call__(self, input: Tensor, target: Tensor, *args: _P.args, **kwargs: _P.kwargs) -> Tensor:
        """Loss of logits (B, C) for class indices (B,) or labels (B, C)."""


def functional(name: str, loss: Callable[_P, Loss]) -> LossFunction[_P]:
    """The function form of a loss class: ``name(input, target, **parameters)``."""

    def function(input: Tensor, target: Tensor, *args: _P.args, **kwargs: _P.kwargs) -> Tensor:
        value: Tensor = loss(*args, **kwargs)(input, target)
        return value

    own = inspect.signature(loss).parameters.values()
    batch = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ("input", "target")]
    functools.update_wrapper(function, loss, updated=())
    function.__name__ = function.__qualname__ = name
    function.__signature__ = inspect.Signature([*batch, *own])  # type: ignore[attr-defined]
    return function


def _signature(loss: type[Loss]) -> inspect.Signature:
    """The parameters of a class's ``__init__``, with those of its base class in place of ``**common``."""
    _, *parameters = inspect.signature(loss.__init__).parameters.values()
    if parameters and parameters[-1].kind is inspect.Parameter.VAR_KEYWORD:
        own = {parameter.name for parameter in parameters[:-1]}
        base = next(parent for parent in loss.__mro__[1:] if issubclass(parent, Loss))
        parameters[-1:] = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in inspect.signature(base).parameters.values()
            if parameter.name not in own
        ]
    return inspect.Signature(parameters)


def _linked(loss: Loss, logits: Tensor) -> Tensor:
    return loss.posterior(loss.adjusted(_raised(logits)))


def _raised(logits: Tensor) -> Tensor:
    """Logits in float32 at least."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))

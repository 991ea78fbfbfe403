"""Linear heads on frozen features, trained to the minimum of their penalised training loss.

The strength of the L2 penalty is chosen by the inner folds of the training images. Losses with several minima are started
from several weights.

Shape legend: n training images, m other images, D features, R columns of the components, H heads, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from tametail.core.arrays import IntArray, TextArray
from tametail.losses import Loss, create_loss
from tametail.losses.convexity import is_convex
from tametail.losses.custom import ModuleLoss
from tametail.training.heads.components import Components, principal_components
from tametail.training.heads.full_batch import FullBatch, formula_key
from tametail.training.heads.head_step import HeadTask, positions_by
from tametail.training.heads.lbfgs import Minima, minimise
from tametail.training.heads.logistic_regression import ABSENT, fit_logistic_regression
from tametail.training.recipe import Recipe

L2_GRID = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
RANDOM_STARTS = 3
_CHOICE_TOLERANCE = 1e-3  # the score of a penalty does not need more
_LEAST = 1e-7  # probability in a log-loss
_BATCH_BYTES = 32 * 2**20  # of weights, outputs and memory of heads that are minimised at once
_PER_WEIGHT, _PER_OUTPUT = 28, 16  # floats per weight and output


@dataclass(frozen=True)
class Convergence:
    """How the training of a head ended.

    Attributes:
        converged: whether the norm of the gradient is at most the tolerance.
        gradient: that norm, relative to the one at weights of 0.
        iterations: of the start that was kept.
        objective: mean training loss and penalty.
        l2: strength λ of the penalty λ/2 ‖W‖².
        l2_scores: by λ, the log-loss on the inner folds by which it was chosen; empty where it was given.
        start: the start that was kept: that of the lowest objective, the first of those that agree to 1e-6.
        starts: by start, the objective that it led to.
    """

    converged: bool
    gradient: float
    iterations: int
    objective: float
    l2: float
    l2_scores: Mapping[str, float]
    start: str
    starts: Mapping[str, float]

    def described(self) -> dict[str, Any]:
        """JSON values for run.json."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class MinimisedHeads:
    """H heads at their minima, in the order of their tasks.

    Attributes:
        heads: linear heads for the standardised features.
        convergence: of each.
        paths: objectives of each after every iteration, the start first.
        products, evaluations: passes over the training images, see `tametail.training.heads.lbfgs.Minima`, of the final
            fits, of the further starts among them, and of the choice of the penalty.
    """

    heads: list[nn.Linear]
    convergence: list[Convergence]
    paths: list[list[float]]
    products: Mapping[str, int]
    evaluations: Mapping[str, int]


def reaches_minimum(task: HeadTask) -> bool:
    """Whether a head can be trained to its minimum: deterministic loss, linear head, all images alike.

    Others are trained step by step: a stochastic loss, a custom module (which may be anything), cosines, mixed images or
    class-balanced sampling.
    """
    recipe, loss = task.recipe, task.loss
    if task.classical:
        return True
    plain = recipe.mixing.kind == "none" and recipe.sampler == "shuffled"
    wanted = recipe.optimizer.kind == "lbfgs" and isinstance(task.head, nn.Linear)
    return wanted and plain and not loss.stochastic and not isinstance(loss, ModuleLoss)


def inner_folds(fold: IntArray, target: NDArray[Any], groups: TextArray | None = None) -> IntArray:
    """(n,) the folds by which penalties are chosen: the given ones, or three new ones where there are fewer than two.

    Args:
        fold: (n,) folds of the training images; the fold that is held out is not among them.
        target: (n,) class indices or (n, C) labels.
        groups: (n,) images of one group stay together.
    """
    if len(np.unique(fold)) >= 2:
        return fold
    of_class = target if target.ndim == 1 else target.argmax(axis=1)
    of_image = np.arange(len(fold)) if groups is None else groups
    _, first, member = np.unique(of_image, return_index=True, return_inverse=True)
    order = np.argsort(of_class[first], kind="stable")
    place = np.empty(len(first), dtype=np.int64)
    place[order] = np.arange(len(first)) % 3
    return place[member]


@torch.no_grad()
def train_to_minimum(
    features: Tensor,
    target: Tensor,
    tasks: Sequence[HeadTask],
    *,
    class_counts: Sequence[int],
    fold: IntArray,
    seed: int,
    advance: Callable[[int], None] = lambda heads: None,
    stop: Callable[[], None] = lambda: None,
) -> MinimisedHeads:
    """Train heads to the minimum of their penalised loss.

    The penalty of a head is ``recipe.l2``: a number; ``chosen``, the value for which cross-entropy has the lowest log-loss on
    the inner folds, for losses of the softmax family, and for others the best of this one and its two neighbours on
    `L2_GRID`; or ``per_method``, the best of the grid for each loss.

    Args:
        features: (n, D) float32, standardised.
        target: (n,) class indices, or (n, C) float labels.
        tasks: H heads that satisfy `reaches_minimum`.
        class_counts: C training images per class.
        fold: (n,) inner folds, at least two.
        seed: of random starts.
        advance: called with the number of heads that have just been finished.
        stop: called in between; may raise to stop.
    """
    components = principal_components(features)
    problem = _Problem(components, target, class_counts, fold, stop)
    chosen = _Penalties(problem, tasks)
    weights: dict[int, Tensor] = {}
    results: dict[int, Convergence] = {}
    paths: dict[int, list[float]] = {}
    cost = {"choice": chosen.products, "final": 0, "further starts": 0}
    evaluations = {"choice": chosen.evaluations, "final": 0, "further starts": 0}
    for at in (at for at, task in enumerate(tasks) if task.classical):
        stop()
        weights[at], results[at], paths[at] = _classical(problem, chosen.l2[at], chosen.scores[at])
        advance(1)
    others = [at for at, task in enumerate(tasks) if not task.classical]
    for within in _batches([tasks[at] for at in others], components, len(class_counts)):
        places = [others[at] for at in within]
        group = [tasks[at] for at in places]
        l2 = [chosen.l2[at] for at in places]
        losses = FullBatch(group, target, class_counts, components.columns)
        found = {"zero": _fit(problem, losses, l2, None)}
        cost["final"] += found["zero"].products
        evaluations["final"] += found["zero"].evaluations
        if not is_convex(group[0].loss, len(class_counts)):
            for name, start in _starts(problem, chosen, l2, seed):
                found[name] = _fit(problem, losses, l2, start)
                cost["further starts"] += found[name].products
                evaluations["further starts"] += found[name].evaluations
        for row, at in enumerate(places):
            kept = _best(found, row)
            minima = found[kept]
            weights[at] = minima.weights[row]
            paths[at] = minima.paths[row]
            results[at] = Convergence(
                bool(minima.converged[row]),
                float(minima.gradient[row]),
                int(minima.iterations[row]),
                float(minima.objective[row]),
                l2[row],
                chosen.scores[at],
                kept,
                {name: float(each.objective[row]) for name, each in found.items()},
            )
        advance(len(places))
    heads = [_linear(components, weights[at]) for at in range(len(tasks))]
    everything = range(len(tasks))
    return MinimisedHeads(
        heads, [results[at] for at in everything], [paths[at] for at in everything], cost, evaluations
    )


def _classical(
    problem: _Problem, l2: float, scores: Mapping[str, float]
) -> tuple[Tensor, Convergence, list[float]]:
    """scikit-learn's logistic regression on the components, as weights (C, R)."""
    columns, target = problem.components.columns, problem.target.numpy(force=True)
    fitted = fit_logistic_regression(columns[:, :-1].numpy(force=True), target, l2)
    weights = columns.new_zeros(problem.shape)
    weights[fitted.classes, :-1] = columns.new_tensor(fitted.weight)
    weights[:, -1] = ABSENT
    weights[fitted.classes, -1] = columns.new_tensor(fitted.bias)
    ending = Convergence(
        fitted.converged,
        fitted.gradient,
        fitted.iterations,
        fitted.objective,
        l2,
        scores,
        "zero",
        {"zero": fitted.objective},
    )
    return weights, ending, [fitted.objective]


@dataclass(frozen=True, eq=False)
class _Problem:
    """The training images of some heads, as components, with their inner folds."""

    components: Components
    target: Tensor
    class_counts: Sequence[int]
    fold: IntArray
    stop: Callable[[], None]

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (C, R) of a head's weights."""
        return len(self.class_counts), self.components.columns.shape[1]


def _fit(
    problem: _Problem, losses: FullBatch, l2: Sequence[float], start: Tensor | None, **options: Any
) -> Minima:
    """Minima for all training images."""
    columns = problem.components.columns
    begin = columns.new_zeros(len(l2), *problem.shape) if start is None else start
    return minimise(
        losses,
        columns,
        problem.components.variances,
        columns.new_tensor(l2),
        begin,
        stop=lambda iteration, gradients: problem.stop(),
        **options,
    )


def _starts(
    problem: _Problem, chosen: _Penalties, l2: Sequence[float], seed: int
) -> list[tuple[str, Tensor]]:
    """Weights other than 0 from which a loss with several minima is minimised, by name."""
    entropy = torch.stack([chosen.reference_solution(value) for value in l2])
    found = [(chosen.reference, entropy)]
    generator = torch.Generator().manual_seed(seed)
    scale = 1 / problem.components.variances.sum().sqrt()
    for number in range(1, RANDOM_STARTS + 1):
        drawn = torch.randn(problem.shape, generator=generator)
        drawn[:, :-1] *= scale  # outputs of variance 1
        found.append((f"random {number}", drawn.expand(len(l2), -1, -1).clone()))
    return found


def _best(found: Mapping[str, Minima], row: int) -> str:
    """The start with the lowest objective; the first of those that agree to 1e-6."""
    objectives = {name: float(each.objective[row]) for name, each in found.items()}
    finite = [value for value in objectives.values() if np.isfinite(value)]
    if not finite:
        return next(iter(found))
    limit = min(finite) + 1e-6 * abs(min(finite))
    return next(name for name, value in objectives.items() if value <= limit)


def _batches(tasks: Sequence[HeadTask], components: Components, classes: int) -> list[list[int]]:
    """Positions of heads with one formula, as many as fit into a processor's cache."""
    images, columns = components.columns.shape
    each = 4 * classes * (_PER_WEIGHT * columns + _PER_OUTPUT * images)
    size = max(_BATCH_BYTES // each, 1)
    keys = [formula_key(task) for task in tasks]
    groups = positions_by(at if key is None else key for at, key in enumerate(keys))
    return [group[first : first + size] for group in groups for first in range(0, len(group), size)]


def _linear(components: Components, weights: Tensor) -> nn.Linear:
    """The head for the features from weights (C, R) on the components."""
    weight = components.weights(weights)
    head: nn.Linear = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0])
    head.weight.copy_(weight)
    head.bias.copy_(weights[:, -1])
    return head


class _Penalties:
    """The strength of the penalty of each task.

    Attributes:
        l2: of each task.
        scores: of each task, by λ, the log-loss on the inner folds.
        reference: ``ce``, or ``bce`` where images may have several labels.
        products, evaluations: passes that the choice took.
    """

    def __init__(self, problem: _Problem, tasks: Sequence[HeadTask]) -> None:
        self._problem = problem
        self.reference = "ce" if problem.target.ndim == 1 else "bce"
        self.products, self.evaluations = 0, 0
        self._solutions: dict[float, Tensor] = {}
        plain = tasks[0].recipe.model_copy(update={"reweighting": "none", "label_smoothing": 0.0})
        self._reference_task = HeadTask(create_loss(self.reference), plain, tasks[0].head)
        self.l2 = [0.0] * len(tasks)
        self.scores: list[dict[str, float]] = [{} for _ in tasks]
        asked: dict[float | str, list[int]] = {}
        for at, task in enumerate(tasks):
            asked.setdefault(task.recipe.l2, []).append(at)
        for value, places in asked.items():
            if isinstance(value, str):
                self._choose(value, tasks, places)
            else:
                for at in places:
                    self.l2[at] = value

    def _choose(self, how: str, tasks: Sequence[HeadTask], places: Sequence[int]) -> None:
        if how == "per_method":
            self._best_of([tasks[at] for at in places], places, L2_GRID)
            return
        scores = self._score([self._reference_task], L2_GRID)[0]
        best = L2_GRID.index(_lowest(scores))
        shared = [at for at in places if tasks[at].loss.family == "softmax"]
        for at in shared:
            self.l2[at], self.scores[at] = L2_GRID[best], _named(scores)
        others = [at for at in places if at not in shared]
        if others:
            neighbours = L2_GRID[max(best - 1, 0) : best + 2]
            self._best_of([tasks[at] for at in others], others, neighbours)

    def _best_of(self, tasks: Sequence[HeadTask], places: Sequence[int], grid: Sequence[float]) -> None:
        for at, scores in zip(places, self._score(tasks, grid), strict=True):
            self.l2[at], self.scores[at] = _lowest(scores), _named(scores)

    def _score(self, tasks: Sequence[HeadTask], grid: Sequence[float]) -> list[dict[float, float]]:
        """For each task, by λ, the log-loss of all images in their inner folds, by heads trained without the fold."""
        problem, columns = self._problem, self._problem.components.columns
        found: list[dict[float, float]] = [{} for _ in tasks]
        for places in _batches(tasks, problem.components, len(problem.class_counts)):
            group = [tasks[at] for at in places]
            repeated = [task for task in group for _ in grid]
            l2 = columns.new_tensor(list(grid) * len(group))
            total = torch.zeros(len(repeated), dtype=torch.float64)
            for held in np.unique(problem.fold):
                rows = torch.from_numpy(np.flatnonzero(problem.fold != held))
                others = torch.from_numpy(np.flatnonzero(problem.fold == held))
                inner, target = columns[rows], problem.target[rows]
                minima = minimise(
                    FullBatch(repeated, target, problem.class_counts, columns),
                    inner,
                    inner.square().mean(0),
                    l2,
                    columns.new_zeros(len(repeated), *problem.shape),
                    tolerance=_CHOICE_TOLERANCE,
                    stop=lambda iteration, gradients: problem.stop(),
                )
                self.products += minima.products
                self.evaluations += minima.evaluations
                outputs = minima.weights @ columns[others].T
                for row, task in enumerate(repeated):
                    total[row] += _log_loss(task.loss, outputs[row].T, problem.target[others])
            means = (total / len(problem.fold)).view(len(group), len(grid)).tolist()
            for at, values in zip(places, means, strict=True):
                found[at] = dict(zip(grid, values, strict=True))
        return found

    def reference_solution(self, l2: float) -> Tensor:
        """(C, R) the minimum of cross-entropy with a penalty."""
        if l2 not in self._solutions:
            problem = self._problem
            losses = FullBatch(
                [self._reference_task], problem.target, problem.class_counts, problem.components.columns
            )
            self._solutions[l2] = _fit(problem, losses, [l2], None).weights[0]
        return self._solutions[l2]


def _log_loss(loss: Loss, outputs: Tensor, target: Tensor) -> float:
    """Sum over images of -log probability of the class, or of the labels, for outputs (m, C)."""
    if target.ndim == 1:
        p = loss.probabilities(outputs).double().gather(1, target.unsqueeze(1))
        return float(-p.clamp(min=_LEAST).log().sum())
    p = loss.link(outputs).double().clamp(_LEAST, 1 - _LEAST)
    return float(F.binary_cross_entropy(p, target.double(), reduction="sum"))


def _lowest(scores: Mapping[float, float]) -> float:
    """The strongest penalty of the lowest score; the strongest of all where no score is finite."""
    finite = {l2: score for l2, score in scores.items() if np.isfinite(score)}
    return max(finite or scores, key=lambda l2: (-finite.get(l2, 0.0), l2))


def _named(scores: Mapping[float, float]) -> dict[str, float]:
    return {f"{l2:g}": score for l2, score in scores.items()}


def is_minimised(recipe: Recipe) -> bool:
    """Whether a recipe trains heads to their minimum where the loss allows it."""
    return recipe.trains == "head" and recipe.optimizer.kind == "lbfgs"

"""Linear heads on frozen features, trained to the minimum of their penalised training loss.

The strength of the L2 penalty is chosen by the inner folds of the training images, of at most 50,000 of them. Losses with several minima are started
from several weights.

Shape legend: n training images, m other images, D features, R columns of the components, H heads, C classes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from tametail.core.arrays import IntArray, TextArray
from tametail.data.row_store import row_blocks
from tametail.losses import Loss, create_loss
from tametail.losses.convexity import is_convex
from tametail.losses.custom import ModuleLoss
from tametail.training.heads.components import Components, principal_components
from tametail.training.heads.full_batch import FullBatch, by_formula
from tametail.training.heads.head_step import HeadTask
from tametail.training.heads.lbfgs import TARGET, Minimum, minimise
from tametail.training.heads.logistic_regression import ABSENT, fit_logistic_regression
from tametail.training.recipe import Recipe

L2_GRID = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
RANDOM_STARTS = 2
_CHOICE_TOLERANCE = 1e-2  # the score of a penalty needs no more
_ROUGHLY = 1e-3  # tolerance of a start, and at which it shows whether it leads lower
_AGREEMENT = 1e-4  # relative difference of objectives that the tolerance may explain
_LEAST = 1e-7  # probability in a log-loss
_BATCH_BYTES = 64 * 2**20  # of weights, outputs and memory of heads that are minimised at once
_PER_WEIGHT, _PER_OUTPUT = 28, 16  # floats per weight and output
_MOST_FOR_CHOICE = 50_000  # images on which penalties are chosen


@dataclass
class Passes:
    """Passes over the training images, counted for each head.

    Attributes:
        products: multiplications of the features with weights, or with the gradients of outputs.
        evaluations: of the loss and its gradient by the outputs.
        seconds: that they took.
    """

    products: int = 0
    evaluations: int = 0
    seconds: float = 0.0

    def add(self, products: int, evaluations: int, seconds: float) -> None:
        """Count more passes."""
        self.products += products
        self.evaluations += evaluations
        self.seconds += seconds


@dataclass(frozen=True)
class Convergence:
    """How the training of a head ended.

    Attributes:
        converged: whether the norm of the gradient is at most 1e-5 of that at weights of 0; for logistic_regression, whether
            scikit-learn ended before its limit of iterations.
        gradient: that norm, relative to the one at weights of 0.
        iterations: of the start that was kept.
        objective: mean training loss and penalty.
        l2: strength λ of the penalty λ/2 ‖W‖².
        l2_scores: by λ, the log-loss on the inner folds by which it was chosen, of at most 50,000 images: of more, a
            stratified subset that depends on the seed; empty where it was given.
        start: the start that was kept: that of the lowest objective, the first of those that agree to 1e-4.
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
        cost: passes over the training images for the ``choice`` of the penalty, the ``final`` fits from weights of 0, and
            further ``starts``.
    """

    heads: list[nn.Linear]
    convergence: list[Convergence]
    paths: list[list[float]]
    cost: Mapping[str, Passes]


def reaches_minimum(task: HeadTask) -> bool:
    """Whether a head can be trained to its minimum: deterministic loss, linear head, all images alike.

    Others are trained step by step: a stochastic loss, a custom module (which may be anything), cosines, mixed images or
    class-balanced sampling.
    """
    recipe, loss = task.recipe, task.loss
    if task.classical:
        return True
    plain = recipe.mixing.kind == "none" and recipe.sampler == "shuffled"
    wanted = is_minimised(recipe) and isinstance(task.head, nn.Linear)
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
    of_class = target if target.ndim == 1 else np.nan_to_num(target).argmax(axis=1)
    of_image = np.arange(len(fold)) if groups is None else groups
    _, first, member = np.unique(of_image, return_index=True, return_inverse=True)
    order = np.argsort(of_class[first], kind="stable")
    place = np.empty(len(first), dtype=np.int64)
    place[order] = np.arange(len(first)) % 3
    return place[member]


@dataclass(frozen=True, eq=False)
class Fit:
    """One minimisation.

    Attributes:
        task: loss and recipe.
        l2: strength λ of the penalty.
        start: weights (C, R) to start from; None for 0.
        kept: the images (n,) to train on; None for all.
    """

    task: HeadTask
    l2: float
    start: Tensor | None = None
    kept: Tensor | None = None


@dataclass(frozen=True, eq=False)
class TrainingImages:
    """Training images as components (n, R), with their targets.

    Attributes:
        columns, variances: see `tametail.training.heads.components.Components`.
        target: (n,) class indices, or (n, C) labels, nan where unknown.
        class_counts: C training images per class, of all folds.
        stop: called before each iteration; may raise to stop.
    """

    columns: Tensor
    variances: Tensor
    target: Tensor
    class_counts: Sequence[int]
    stop: Callable[[], None]

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (C, R) of a head's weights."""
        return len(self.class_counts), self.columns.shape[1]

    @property
    def most_at_once(self) -> int:
        """Number of heads that are minimised at once."""
        images, columns = self.columns.shape
        bytes_each = 4 * len(self.class_counts) * (_PER_WEIGHT * columns + _PER_OUTPUT * images)
        return max(_BATCH_BYTES // bytes_each, 1)

    def minimise(self, fits: Sequence[Fit], cost: Passes, tolerance: float = TARGET) -> list[Minimum]:
        """The minima of fits, as many at once as fit into a processor's cache."""
        if not fits:
            return []
        began = time.perf_counter()
        order = [at for places in by_formula([fit.task for fit in fits]) for at in places]
        start = self.variances.new_zeros(len(order), *self.shape)
        for row, at in enumerate(order):
            if (given := fits[at].start) is not None:
                start[row] = given
        minima, products, evaluations = minimise(
            FullBatch(
                [fits[at].task for at in order],
                [fits[at].kept for at in order],
                self.target,
                self.class_counts,
                self.variances,
                row_blocks(*self.columns.shape),
            ),
            self.columns,
            self.variances,
            self.variances.new_tensor([fits[at].l2 for at in order]),
            start,
            at_once=self.most_at_once,
            tolerance=tolerance,
            stop=self.stop,
        )
        cost.add(products, evaluations, time.perf_counter() - began)
        found = dict(zip(order, minima, strict=True))
        return [found[at] for at in range(len(fits))]


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

    A loss that is not convex is minimised from weights of 0, from the minimum of cross-entropy and from `RANDOM_STARTS` random
    weights, the latter roughly unless they lead lower. The lowest minimum is kept, and the first of those that agree to 1e-4.

    Args:
        features: (n, D) float32, standardised. Large ones may be in a file, and on another device than the target.
        target: (n,) class indices, or (n, C) float labels.
        tasks: H heads that satisfy `reaches_minimum`.
        class_counts: C training images per class.
        fold: (n,) inner folds, at least two.
        seed: of random starts.
        advance: called with the number of heads that have just been finished.
        stop: called in between; may raise to stop.
    """
    components = principal_components(features, target.device)
    images = TrainingImages(components.columns, components.variances, target, class_counts, stop)
    cost = {name: Passes() for name in ("choice", "final", "starts")}
    l2, scores = _choose_penalties(*_sampled(images, fold, seed), tasks, cost["choice"])
    found: list[dict[str, Minimum]] = [{} for _ in tasks]
    for at in (at for at, task in enumerate(tasks) if task.classical):
        stop()
        found[at]["zero"] = _classical(images, l2[at])
        advance(1)
    trained = [at for at, task in enumerate(tasks) if not task.classical]
    minima = images.minimise([Fit(tasks[at], l2[at]) for at in trained], cost["final"])
    for at, minimum in zip(trained, minima, strict=True):
        found[at]["zero"] = minimum
    convex = [is_convex(task.loss, len(class_counts)) for task in tasks]
    several = [at for at in trained if not convex[at]]
    advance(len(trained) - len(several))
    starts = _starts(images, [l2[at] for at in several], tasks[0], seed, cost["starts"])
    fits = [Fit(tasks[at], l2[at], start) for at in several for _, start in starts[l2[at]]]
    others = iter(_from_starts(images, fits, [found[at]["zero"] for at in several], cost["starts"]))
    for at in several:
        found[at] |= {name: next(others) for name, _ in starts[l2[at]]}
    advance(len(several))
    kept = [_lowest_minimum(each) for each in found]
    chosen = [each[name] for each, name in zip(found, kept, strict=True)]
    convergence = [
        Convergence(
            minimum.converged,
            minimum.gradient,
            minimum.iterations,
            minimum.objective,
            l2[at],
            scores[at],
            kept[at],
            {name: each.objective for name, each in found[at].items()},
        )
        for at, minimum in enumerate(chosen)
    ]
    heads = [_linear(components, minimum.weights) for minimum in chosen]
    return MinimisedHeads(heads, convergence, [minimum.path for minimum in chosen], cost)


def _classical(images: TrainingImages, l2: float) -> Minimum:
    """scikit-learn's logistic regression on the components."""
    columns, target = images.columns, images.target.numpy(force=True)
    fitted = fit_logistic_regression(columns[:, :-1].numpy(force=True), target, l2)
    weights = images.variances.new_zeros(images.shape)
    weights[:, -1] = ABSENT
    weights[fitted.classes, :-1] = weights.new_tensor(fitted.weight)
    weights[fitted.classes, -1] = weights.new_tensor(fitted.bias)
    return Minimum(
        weights, fitted.objective, fitted.gradient, fitted.iterations, fitted.converged, [fitted.objective]
    )


def _starts(
    images: TrainingImages, l2: Sequence[float], like: HeadTask, seed: int, cost: Passes
) -> dict[float, list[tuple[str, Tensor]]]:
    """By penalty, weights other than 0 from which a loss with several minima is minimised, with their names."""
    reference, penalties = _reference_task(images.target, like), sorted(set(l2))
    solutions = images.minimise([Fit(reference, value) for value in penalties], cost, _ROUGHLY)
    generator = torch.Generator().manual_seed(seed)
    scale = 1 / images.variances[:-1].sum().sqrt()  # outputs of variance 1
    random = []
    for number in range(1, RANDOM_STARTS + 1):
        drawn = torch.randn(images.shape, generator=generator).to(images.variances)
        drawn[:, :-1] *= scale
        random.append((f"random {number}", drawn))
    name = reference.loss.name
    return {
        value: [(name, solution.weights), *random]
        for value, solution in zip(penalties, solutions, strict=True)
    }


def _from_starts(
    images: TrainingImages, fits: Sequence[Fit], first: Sequence[Minimum], cost: Passes
) -> list[Minimum]:
    """Minima from further starts: to the tolerance where they are lower than the one from weights of 0, else roughly.

    So none that was minimised roughly can be kept.

    Args:
        fits: equally many for each of the ``first`` minima, one task after the other.
    """
    found = images.minimise(fits, cost, _ROUGHLY)
    each = len(fits) // max(len(first), 1)
    limits = [minimum.objective for minimum in first for _ in range(each)]
    lower = [at for at, limit in enumerate(limits) if not found[at].objective >= limit]
    again = images.minimise([Fit(fits[at].task, fits[at].l2, found[at].weights) for at in lower], cost)
    for at, minimum in zip(lower, again, strict=True):
        found[at] = minimum
    return found


def _lowest_minimum(found: Mapping[str, Minimum]) -> str:
    """The start with the lowest objective; the first of those that agree to 1e-4."""
    finite = [minimum.objective for minimum in found.values() if np.isfinite(minimum.objective)]
    if not finite:
        return next(iter(found))
    limit = min(finite) + _AGREEMENT * abs(min(finite))
    return next(name for name, minimum in found.items() if minimum.objective <= limit)


def _linear(components: Components, weights: Tensor) -> nn.Linear:
    """The head for the features from weights (C, R) on the components."""
    weight = components.weights(weights)
    head: nn.Linear = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0])
    head.weight.copy_(weight)
    head.bias.copy_(weights[:, -1])
    return head


def _reference_task(target: Tensor, like: HeadTask) -> HeadTask:
    """Plain cross-entropy, or, where images may have several labels, binary cross-entropy."""
    plain = like.recipe.model_copy(update={"reweighting": "none", "label_smoothing": 0.0})
    return HeadTask(create_loss("ce" if target.ndim == 1 else "bce"), plain, like.head)


def _sampled(images: TrainingImages, fold: IntArray, seed: int) -> tuple[TrainingImages, IntArray]:
    """Images on which penalties are chosen, and their inner folds: all, or a subset with the same shares of classes and folds."""
    rows = stratified_rows(images.target.numpy(force=True), fold, _MOST_FOR_CHOICE, seed)
    if len(rows) == len(fold) and images.columns.device == images.target.device:
        return images, fold
    chosen = torch.from_numpy(rows)
    columns = images.columns[chosen.to(images.columns.device)].to(images.target.device)
    target = images.target[chosen.to(images.target.device)]
    return replace(images, columns=columns, target=target), fold[rows]


def stratified_rows(target: NDArray[Any], fold: IntArray, most: int, seed: int) -> IntArray:
    """At most so many rows, in ascending order, with the shares of classes and folds of all rows.

    Of each class at least one row in each fold is kept, as far as they are not more than ``most``.

    Args:
        target: (n,) class indices, or (n, C) labels, of which the first one counts.
        fold: (n,) folds.
        most: largest number of rows; all n if there are not more.
        seed: of the choice among rows of one class and fold.
    """
    if len(fold) <= most:
        return np.arange(len(fold))
    of_class = target if target.ndim == 1 else np.nan_to_num(target).argmax(axis=1)
    order = np.lexsort((np.random.default_rng(seed).permutation(len(fold)), fold, of_class))
    cells = np.stack([of_class, fold])[:, order]
    first = np.r_[True, (cells[:, 1:] != cells[:, :-1]).any(axis=0)]
    kept, others = order[first][:most], order[~first]
    evenly = np.linspace(0, len(others), most - len(kept), endpoint=False).astype(np.int64)
    return np.sort(np.concatenate([kept, others[evenly]]))


def _choose_penalties(
    images: TrainingImages, fold: IntArray, tasks: Sequence[HeadTask], cost: Passes
) -> tuple[list[float], list[dict[str, float]]]:
    """The λ of each task, and by λ the log-loss on the inner folds by which it was chosen."""
    inner = [torch.from_numpy(fold == held).to(images.target.device) for held in np.unique(fold)]
    l2 = [task.recipe.l2 if isinstance(task.recipe.l2, float) else 0.0 for task in tasks]
    scores: list[dict[str, float]] = [{} for _ in tasks]

    def best_of(places: Sequence[int], grid: Sequence[float]) -> None:
        found = _inner_scores(images, inner, [tasks[at] for at in places], grid, cost)
        for at, by_l2 in zip(places, found, strict=True):
            l2[at], scores[at] = _lowest(by_l2), _named(by_l2)

    best_of([at for at, task in enumerate(tasks) if task.recipe.l2 == "per_method"], L2_GRID)
    shared = [at for at, task in enumerate(tasks) if task.recipe.l2 == "chosen"]
    if shared:
        reference = _grid_scores(images, inner, _reference_task(images.target, tasks[0]), cost)
        best, own = _lowest(reference), []
        for at in shared:
            if tasks[at].loss.family == "softmax":
                l2[at], scores[at] = best, _named(reference)
            else:
                own.append(at)
        near = L2_GRID.index(best)
        best_of(own, L2_GRID[max(near - 1, 0) : near + 2])
    return l2, scores


def _grid_scores(
    images: TrainingImages, inner: Sequence[Tensor], task: HeadTask, cost: Passes
) -> dict[float, float]:
    """The log-loss of a task on the inner folds for the grid, from its end down to where the score has passed its minimum.

    Weak penalties take most iterations, and scores rise towards them once they rise.
    """
    scores: dict[float, float] = {}
    for penalties in (L2_GRID[3:], L2_GRID[2:3], L2_GRID[1:2], L2_GRID[:1]):
        scores |= _inner_scores(images, inner, [task], penalties, cost)[0]
        weakest = min(scores)
        if _lowest(scores) > weakest:
            break
    return {l2: scores[l2] for l2 in sorted(scores)}


def _inner_scores(
    images: TrainingImages,
    inner: Sequence[Tensor],
    tasks: Sequence[HeadTask],
    grid: Sequence[float],
    cost: Passes,
) -> list[dict[float, float]]:
    """For each task, by λ, the log-loss of all images in their inner folds, by heads trained without the fold.

    The strongest penalty is minimised first; each next one starts from it. The heads of all inner folds are minimised
    together: those of one fold have no share in the loss of another's images.
    """
    total: dict[tuple[int, float], float] = {}
    pairs = [(at, held_out) for at in range(len(tasks)) for held_out in range(len(inner))]
    before: list[Tensor | None] = [None] * len(pairs)
    for l2 in sorted(grid, reverse=True):
        fits = [
            Fit(tasks[at], l2, start, ~inner[held_out])
            for (at, held_out), start in zip(pairs, before, strict=True)
        ]
        minima = images.minimise(fits, cost, _CHOICE_TOLERANCE)
        before = [minimum.weights for minimum in minima]
        for held_out, rows in enumerate(inner if tasks else ()):  # copies of one fold at a time
            columns, target = images.columns[rows], images.target[rows]
            for (at, own), minimum in zip(pairs, minima, strict=True):
                if own == held_out:
                    loss = _log_loss(tasks[at].loss, columns @ minimum.weights.T, target)
                    total[at, l2] = total.get((at, l2), 0.0) + loss
    images_in_all = len(images.target)
    return [{l2: total[at, l2] / images_in_all for l2 in sorted(grid)} for at in range(len(tasks))]


def _log_loss(loss: Loss, outputs: Tensor, target: Tensor) -> float:
    """Sum over images of -log probability of the class, or of the known labels, for outputs (m, C)."""
    if target.ndim == 1:
        p = loss.probabilities(outputs).double().gather(1, target.unsqueeze(1))
        return float(-p.clamp(min=_LEAST).log().sum())
    known = ~target.isnan()
    p = loss.link(outputs).double().clamp(_LEAST, 1 - _LEAST)
    return float(F.binary_cross_entropy(p[known], target[known].double(), reduction="sum"))


def _lowest(scores: Mapping[float, float]) -> float:
    """The strongest penalty of the lowest score; the strongest of all where no score is finite."""
    finite = {l2: score for l2, score in scores.items() if np.isfinite(score)}
    return max(finite or scores, key=lambda l2: (-finite.get(l2, 0.0), l2))


def _named(scores: Mapping[float, float]) -> dict[str, float]:
    return {f"{l2:g}": score for l2, score in scores.items()}


def is_minimised(recipe: Recipe) -> bool:
    """Whether a recipe trains heads to their minimum where the loss allows it."""
    return recipe.trains == "head" and recipe.optimizer.kind == "lbfgs"

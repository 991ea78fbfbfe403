"""Many linear heads at once, each trained to the minimum of its penalised loss over all training images: batched L-BFGS.

Each head minimises mean_i ℓ(W x_i + b, y_i) + λ/2 ‖W‖² over its weights W and bias b. The features are those of
`tametail.training.heads.components`, in which the Hessian is nearly diagonal, so that few iterations are needed. As the
outputs are linear in the weights, an iteration multiplies the features twice, once for the search direction and once for
the gradient, however many steps along the direction are tried. Products are summed over blocks of images, so that the features
may be larger than memory; outputs are in memory.

Shape legend: n images, R columns of the features (the last one is the bias's), H heads, C classes, m memory.

Reference: Liu & Nocedal, On the limited memory BFGS method, 1989; Byrd, Nocedal & Schnabel, Representations of
quasi-Newton matrices, 1994, for the compact form; Hager & Zhang, A new conjugate gradient method, 2005, for the
condition of the line search that rounding cannot defeat.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from tametail.core.run_files import CONVERGED_AT
from tametail.data.row_store import row_blocks

Losses = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Outputs (K, C, n) of the heads at ascending positions (K,) → mean losses (K,) float64 and their gradients (K, C, n)."""

MAX_ITERATIONS = 500
TARGET = (
    0.3 * CONVERGED_AT
)  # where heads are left, so that their outputs agree to 1e-4 however they got there
_MEMORY = 8
_TRIES = 20  # of the line search
_DECREASE, _CURVATURE = 1e-4, 0.9  # of the Wolfe conditions
_ROUNDING = 1e-6  # relative rounding of a mean loss, with a margin
_PROBE = 1e-2  # distance of the outputs between which curvature is measured


@dataclass(frozen=True, eq=False)
class Minimum:
    """What the minimisation of one head found.

    Attributes:
        weights: (C, R), the bias in the last column.
        objective: the mean loss and the penalty.
        gradient: norm of the gradient, scaled by the curvature, relative to that at weights of 0.
        iterations: steps that were made.
        converged: whether ``gradient`` is at most the tolerance, or 1e-5.
        path: the objective after each iteration, the start first.
    """

    weights: Tensor
    objective: float
    gradient: float
    iterations: int
    converged: bool
    path: list[float]


@dataclass(frozen=True, eq=False)
class _Problem:
    """What all heads have in common."""

    losses: Losses
    features: Tensor
    variances: Tensor

    @cached_property
    def blocks(self) -> list[slice]:
        """Blocks of images."""
        return row_blocks(*self.features.shape)

    def times_features(self, weights: Tensor) -> Tensor:
        """Outputs (K, C, n) of weights (K, C, R)."""
        heads, classes, _ = weights.shape
        flat = weights.flatten(0, 1)
        outputs = [flat @ self.features[block].to(flat.device).T for block in self.blocks]
        return _joined(outputs).view(heads, classes, -1)

    def gradient(self, slopes: Tensor) -> Tensor:
        """(K, C, R) gradients of the mean losses from those by the outputs, (K, C, n)."""
        heads, classes, _ = slopes.shape
        flat = slopes.flatten(0, 1)
        parts = (flat[:, block] @ self.features[block].to(flat.device) for block in self.blocks)
        return _sum(parts).to(slopes).view(heads, classes, -1)

    def inner(self, a: Tensor, b: Tensor) -> Tensor:
        """(K,) float64 inner products of (K, C, n)."""
        return _sum(_inner(a[:, :, block], b[:, :, block]) for block in self.blocks)

    def curvature(self, outputs: Tensor, slopes: Tensor, at: Tensor) -> Tensor:
        """(K,) second derivative of the mean loss by the bias of the most curved class, up to sign.

        A difference of gradients along random signs, one for each image and class: the products with other classes have mean
        zero over the images. One number for all classes, as those of rare classes change most on the way to the minimum.
        """
        generator = torch.Generator().manual_seed(0)
        signs = torch.randint(0, 2, outputs.shape[1:], generator=generator).mul_(2).sub_(1).to(outputs)
        _, there = self.losses(outputs + _PROBE * signs, at)
        curvature: Tensor = ((there - slopes) * signs).sum(2).abs().amax(1) / _PROBE
        return curvature.clamp(min=1e-12)


class _Heads:
    """K heads that are being trained: tensors whose rows are heads, in ascending order of their positions ``at``.

    Steps are made in coordinates in which the curvature at the start is about 1: ``root`` (K, 1, R) is the root of that
    curvature, ``scaled`` (K, C, R) the gradient divided by it. ``vectors`` (K, 2m, C R) holds the last m steps and then the
    changes of the gradient, ``inner`` (K, 2m, 2m) their inner products, ``along`` (K, 2m) those with ``scaled``, and
    ``scale`` (K,) is the inverse curvature along the last step. Pairs that do not exist are zeros.
    """

    def __init__(self, problem: _Problem, l2: Tensor, start: Tensor, at: Tensor, memory: int) -> None:
        self._problem = problem
        self.m, self.pairs = memory, 0
        heads, classes, columns = start.shape
        self.at, self.weights = at, start.clone()
        self.penalties = l2.view(-1, 1, 1) * torch.cat([start.new_ones(columns - 1), start.new_zeros(1)])
        self.iterations, self.stuck = torch.zeros_like(at), torch.zeros_like(at, dtype=torch.bool)
        outputs = start.new_zeros(heads, classes, len(problem.features))
        at_zero, self.slopes = problem.losses(outputs, at)
        self.outputs, self.half = outputs, torch.zeros_like(at_zero)
        self.objective, self.gradient = at_zero, problem.gradient(self.slopes)
        self.products, self.evaluations = heads, 2 * heads
        first = self.gradient
        if start.any():
            self.outputs = problem.times_features(start)
            value, self.slopes = problem.losses(self.outputs, at)
            self.gradient = problem.gradient(self.slopes).addcmul_(start, self.penalties)
            self.half = _inner(start * self.penalties, start) / 2
            self.objective = value + self.half
            self.products, self.evaluations = self.products + 2 * heads, self.evaluations + heads
        curvature = problem.curvature(self.outputs, self.slopes, at)
        self.root = (curvature.view(-1, 1, 1) * problem.variances + self.penalties).sqrt()
        self.scaled = self.gradient / self.root
        self.reference = _norm(first / self.root).clamp(min=1e-300)
        self.vectors = start.new_zeros(heads, 2 * memory, classes * columns)
        self.inner = torch.zeros(heads, 2 * memory, 2 * memory, dtype=torch.float64, device=start.device)
        self.along = self.inner[:, 0].clone()
        self.scale = torch.ones_like(at_zero)

    @property
    def _rows(self) -> dict[str, Tensor]:
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}

    def keep(self, rows: Tensor) -> None:
        """Keep some heads."""
        for name, value in self._rows.items():
            setattr(self, name, value[rows])

    def join(self, others: _Heads) -> None:
        """Take in heads that have not made a step, at higher positions."""
        theirs = others._rows
        for name, value in self._rows.items():
            setattr(self, name, torch.cat([value, theirs[name]]))
        self.products += others.products
        self.evaluations += others.evaluations

    def relative(self) -> Tensor:
        """(K,) norms of the scaled gradients, relative to those at weights of 0."""
        return _norm(self.scaled) / self.reference

    def iterate(self) -> None:
        """Make one step with each head."""
        direction = self._direction()
        slope = _inner(self.gradient, direction)
        if (uphill := ~(slope < 0)).any():
            self._forget(uphill)
            direction[uphill] = -(self.scaled / self.root)[uphill]
            slope = _inner(self.gradient, direction)
        steepest = uphill | ~self.inner.flatten(1).any(1)
        length, failed = self._search(direction, slope)
        step = direction.mul_(length.view(-1, 1, 1).to(direction))
        self.weights = self.weights + step
        self.gradient = self._problem.gradient(self.slopes).addcmul_(self.weights, self.penalties)
        before, self.scaled = self.scaled, self.gradient / self.root
        self.products += 2 * len(self.at)
        self.iterations = self.iterations + 1
        self._remember(step.mul_(self.root), self.scaled - before)
        # A search that fails with an empty memory cannot be helped by forgetting.
        self.stuck = failed & steepest
        if failed.any():
            self._forget(failed)

    def _remember(self, step: Tensor, change: Tensor) -> None:
        """Add a pair (K, C, R) each, which takes the place of the oldest; one of negative curvature is added as zeros."""
        both, squared = _inner(step, change), _inner(change, change)
        usable = both > 1e-8 * squared
        new = self.pairs % self.m, self.m + self.pairs % self.m
        for place, vector in zip(new, (step, change), strict=True):
            self.vectors[:, place] = torch.where(usable.unsqueeze(1), vector.flatten(1), 0.0)
        with_these = torch.stack([*(self.vectors[:, place] for place in new), self.scaled.flatten(1)], dim=2)
        products = torch.bmm(self.vectors, with_these).double()
        for column, place in enumerate(new):
            self.inner[:, :, place] = products[:, :, column]
            self.inner[:, place, :] = products[:, :, column]
        self.along = products[:, :, 2]
        self.scale = torch.where(usable, both / squared.clamp(min=1e-300), self.scale)
        self.pairs += 1

    def _forget(self, rows: Tensor) -> None:
        """Forget the pairs of some heads."""
        for part in (self.vectors, self.inner, self.along):
            part[rows] = 0.0
        self.scale[rows] = 1.0

    def _direction(self) -> Tensor:
        """(K, C, R) minus the inverse Hessian's approximation times the gradient."""
        used = min(self.pairs, self.m)
        if not used:
            return -self.scaled / self.root
        steps = [(self.pairs - used + step) % self.m for step in range(used)]
        changes = [self.m + place for place in steps]
        cross = self.inner[:, steps][:, :, changes]  # s_i · y_j
        diagonal = cross.diagonal(dim1=1, dim2=2)
        upper = cross.triu() + torch.diag_embed((diagonal == 0).double())
        scale = self.scale.view(-1, 1)
        solved = torch.linalg.solve_triangular(upper, self.along[:, steps].unsqueeze(2), upper=True)
        of_changes = self.inner[:, changes][:, :, changes]
        right = (diagonal.unsqueeze(2) * solved) + scale.unsqueeze(2) * (of_changes @ solved)
        right -= scale.unsqueeze(2) * self.along[:, changes].unsqueeze(2)
        left = torch.linalg.solve_triangular(upper.transpose(1, 2), right, upper=False)
        factors = torch.zeros_like(self.along)
        factors[:, steps] = -left.squeeze(2)
        factors[:, changes] = scale * solved.squeeze(2)
        combined = torch.bmm(factors.to(self.scaled).unsqueeze(1), self.vectors).view_as(self.scaled)
        return combined.sub_(self.scaled * scale.unsqueeze(2).to(self.scaled)).div_(self.root)

    def _search(self, direction: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
        """Find a step along each direction that meets the Wolfe conditions, and move outputs, slopes and objective there.

        Returns:
            Step lengths (K,) float64, and which heads found no step (K,): their length is 0.
        """
        moved = self._problem.times_features(direction)
        linear = _inner(direction * self.penalties, self.weights)
        quadratic = _inner(direction * self.penalties, direction)
        length = torch.ones_like(slope)
        low, high = torch.zeros_like(length), torch.full_like(length, torch.inf)
        slope_low, slope_high = slope.clone(), torch.full_like(length, torch.nan)
        todo = torch.arange(len(length), device=moved.device)
        for _ in range(_TRIES):
            rows = slice(None) if len(todo) == len(length) else todo  # all of them without a copy
            t = length[rows]
            there = torch.addcmul(self.outputs[rows], moved[rows], t.view(-1, 1, 1).to(moved))
            value, gradient = self._problem.losses(there, self.at[rows])
            self.evaluations += len(todo)
            value = value + self.half[rows] + t * linear[rows] + t * t * quadratic[rows] / 2
            found = self._problem.inner(gradient, moved[rows]) + linear[rows] + t * quadratic[rows]
            start, first = self.objective[rows], slope[rows]
            lower = value <= start + _DECREASE * t * first
            level = (value <= start + _ROUNDING * start.abs()) & (found <= (2 * _DECREASE - 1) * first)
            enough = (lower | level) & value.isfinite()
            good = enough & (found >= _CURVATURE * first)
            if len(todo) == len(length) and good.all():
                self.outputs, self.slopes, self.objective, todo = there, gradient, value, todo[:0]
                break
            chosen = todo[good]
            self.outputs[chosen], self.slopes[chosen] = there[good], gradient[good]
            self.objective[chosen] = value[good]
            rest = ~good
            todo, t, far, found = todo[rest], t[rest], ~enough[rest], found[rest]
            if not len(todo):
                break
            high[todo], slope_high[todo] = (
                torch.where(far, t, high[todo]),
                torch.where(far, found, slope_high[todo]),
            )
            low[todo], slope_low[todo] = (
                torch.where(far, low[todo], t),
                torch.where(far, slope_low[todo], found),
            )
            length[todo] = _next(low[todo], high[todo], slope_low[todo], slope_high[todo])
        length[todo] = 0.0
        failed = torch.zeros_like(self.stuck)
        failed[todo] = True
        # Not computed anew: the rounding of another sum would hide the decrease of the next step.
        self.half = self.half + length * linear + length * length * quadratic / 2
        return length, failed


def minimise(
    losses: Losses,
    features: Tensor,
    variances: Tensor,
    l2: Tensor,
    start: Tensor,
    *,
    at_once: int,
    tolerance: float = TARGET,
    max_iterations: int = MAX_ITERATIONS,
    memory: int = _MEMORY,
    stop: Callable[[], None] = lambda: None,
) -> tuple[list[Minimum], int, int]:
    """Minimise the penalised losses of H heads; the next ones take the places of those that have ended.

    Args:
        losses: of the heads at some positions.
        features: (n, R) float32, uncorrelated columns; the last one is all ones, for the bias. Large ones may be on another
            device than the weights.
        variances: (R,) mean squares of the columns.
        l2: (H,) λ >= 0.
        start: (H, C, R) initial weights.
        at_once: most heads that are trained at the same time.
        tolerance: a head is left where the norm of its gradient is at most this times that at weights of 0.
        max_iterations: then it is given up.
        memory: m.
        stop: called before each iteration; may raise to stop.

    Returns:
        The minima; a head whose loss is not finite at its start has not converged, and has no finite objective. Products of
        the features with the weights of one head, or with the gradients of its outputs. Evaluations of the loss of one head.
    """
    problem = _Problem(losses, features, variances)
    found: dict[int, Minimum] = {}
    paths: list[list[float]] = [[] for _ in start]
    heads: _Heads | None = None
    begun = 0
    while len(found) < len(start):
        more = min(at_once - (begun - len(found)), len(start) - begun)
        # Others join when there is room for several, as all heads are copied each time.
        if more and (begun == len(found) or 4 * more >= at_once):
            at = torch.arange(begun, begun + more, device=start.device)
            joining = _Heads(problem, l2[at], start[at], at, memory)
            if heads is None:
                heads = joining
            else:
                heads.join(joining)
            begun += more
        assert heads is not None
        for place, value in zip(heads.at.tolist(), heads.objective.tolist(), strict=True):
            paths[place].append(value)
        relative = heads.relative()
        converged = relative <= max(tolerance, CONVERGED_AT)
        ended = (
            (relative <= tolerance)
            | ~heads.objective.isfinite()
            | heads.stuck
            | (heads.iterations >= max_iterations)
        )
        for row in ended.nonzero().flatten().tolist():
            place = int(heads.at[row])
            found[place] = Minimum(
                heads.weights[row].clone(),
                float(heads.objective[row]),
                float(relative[row]),
                int(heads.iterations[row]),
                bool(converged[row]),
                paths[place],
            )
        if ended.any():
            heads.keep(~ended)
        if len(heads.at):
            stop()
            heads.iterate()
    products, evaluations = (0, 0) if heads is None else (heads.products, heads.evaluations)
    return [found[at] for at in range(len(start))], products, evaluations


def _norm(scaled: Tensor) -> Tensor:
    """(K,) float64 norms of (K, C, R)."""
    norms: Tensor = torch.linalg.vector_norm(scaled.flatten(1), dim=1)
    return norms.double()


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Outputs of blocks of images, side by side."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=1)


def _sum(parts: Iterable[Tensor]) -> Tensor:
    """The sum over blocks of images, in float64 where there are several."""
    first, *others = parts
    total = first.double() if others else first
    for part in others:
        total = total + part
    return total


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """(K,) float64 inner products of (K, C, R)."""
    products: Tensor = torch.einsum("kcr,kcr->k", a, b)
    return products.double()


def _next(low: Tensor, high: Tensor, slope_low: Tensor, slope_high: Tensor) -> Tensor:
    """The next step length (K,): where the slope would be 0 if it were linear, kept inside the interval; else twice."""
    width = high - low
    secant = low + width * slope_low / (slope_low - slope_high)
    inside = secant.clamp(low + 0.1 * width, high - 0.1 * width)
    usable = (slope_high > 0) & secant.isfinite()
    between = torch.where(usable, inside, low + 0.5 * width)
    return torch.where(high.isinf(), (2 * low).clamp(min=2.0), between)

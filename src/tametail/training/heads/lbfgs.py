"""Many linear heads at once, each trained to the minimum of its penalised loss over all training images: batched L-BFGS.

Each head minimises mean_i ℓ(W x_i + b, y_i) + λ/2 ‖W‖² over its weights W and bias b. The features are those of
`tametail.training.heads.components`, in which the Hessian is nearly diagonal, so that few iterations are needed. As the
outputs are linear in the weights, an iteration multiplies the features twice, once for the search direction and once for
the gradient, however many steps along the direction are tried.

Shape legend: n images, R columns of the features (the last one is the bias's), H heads, C classes, m memory.

Reference: Liu & Nocedal, On the limited memory BFGS method, 1989; Byrd, Nocedal & Schnabel, Representations of
quasi-Newton matrices, 1994, for the compact form; Hager & Zhang, A new conjugate gradient method, 2005, for the
condition of the line search that rounding cannot defeat.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tametail.core.run_files import CONVERGED_AT

Losses = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Outputs (K, C, n) of the heads at ascending positions (K,) → mean losses (K,) float64 and their gradients (K, C, n)."""

MAX_ITERATIONS = 500
_MEMORY = 8
_TRIES = 20  # of the line search
_DECREASE, _CURVATURE = 1e-4, 0.9  # of the Wolfe conditions
_ROUNDING = 1e-6  # relative rounding of a mean loss, with a margin
_PROBE = 1e-2  # distance of the outputs between which curvature is measured


@dataclass(frozen=True, eq=False)
class Minima:
    """What the minimisation of H heads found.

    Attributes:
        weights: (H, C, R), the bias in the last column.
        objective: (H,) float64, the mean loss and the penalty.
        gradient: (H,) norm of the gradient, scaled by the curvature, relative to that at weights of 0.
        iterations: (H,).
        converged: (H,) whether ``gradient`` is at most the tolerance.
        products: multiplications of the features with the weights of one head, or with the gradients of its outputs.
        evaluations: of the loss of one head for all images.
        paths: for each head, the objective after each iteration, the start first.
    """

    weights: Tensor
    objective: Tensor
    gradient: Tensor
    iterations: Tensor
    converged: Tensor
    products: int
    evaluations: int
    paths: list[list[float]]

    def of(self, head: int) -> Minimum:
        """That of one head."""
        return Minimum(
            self.weights[head],
            float(self.objective[head]),
            float(self.gradient[head]),
            int(self.iterations[head]),
            bool(self.converged[head]),
            self.paths[head],
        )


@dataclass(frozen=True, eq=False)
class Minimum:
    """What the minimisation of one head found; see `Minima`."""

    weights: Tensor
    objective: float
    gradient: float
    iterations: int
    converged: bool
    path: list[float]


class _State:
    """The weights of K heads that are still being trained, with what goes with them; rows are heads."""

    def __init__(self, losses: Losses, features: Tensor, l2: Tensor, start: Tensor, at: Tensor) -> None:
        self.losses, self.features = losses, features
        self.at, self.l2 = at, l2
        self.penalised = torch.ones_like(features[0])
        self.penalised[-1] = 0.0
        self.weights = start.clone()
        self.outputs = self.times_features(self.weights)
        value, self.slopes = losses(self.outputs, at)
        self.half = self.penalty(self.weights, self.weights) / 2
        self.objective = value + self.half
        self.gradient = self.gradient_of(self.slopes, self.weights)

    def times_features(self, weights: Tensor) -> Tensor:
        """Outputs (K, C, n) of weights (K, C, R)."""
        heads, classes, _ = weights.shape
        return (weights.flatten(0, 1) @ self.features.T).view(heads, classes, -1)

    def gradient_of(self, slopes: Tensor, weights: Tensor) -> Tensor:
        """(K, C, R) from the gradients (K, C, n) with respect to the outputs."""
        of_loss = (slopes.flatten(0, 1) @ self.features).view_as(weights)
        return of_loss.addcmul_(weights, self.l2.view(-1, 1, 1) * self.penalised)

    def penalty(self, a: Tensor, b: Tensor) -> Tensor:
        """(K,) float64: λ times the inner product of two sets of weights without biases."""
        return self.l2.double() * torch.einsum("kcr,kcr->k", a[..., :-1], b[..., :-1]).double()

    def keep(self, rows: Tensor) -> None:
        """Keep some heads."""
        for name in ("at", "l2", "weights", "outputs", "slopes", "objective", "half", "gradient"):
            setattr(self, name, getattr(self, name)[rows])


class _Memory:
    """The last m steps and changes of the gradient, in coordinates in which the curvature at the start is 1."""

    def __init__(self, heads: int, size: int, memory: int, like: Tensor) -> None:
        self.vectors = like.new_zeros(heads, 2 * memory, size)  # steps, then changes
        self.inner = torch.zeros(heads, 2 * memory, 2 * memory, dtype=torch.float64, device=like.device)
        self.m, self.count = memory, 0
        self.scale = torch.ones(heads, dtype=torch.float64, device=like.device)

    def add(self, step: Tensor, change: Tensor) -> None:
        """Add a pair (K, size) each, which takes the place of the oldest; one of negative curvature is added as zeros."""
        place, m = self.count % self.m, self.m
        both = torch.einsum("ks,ks->k", step, change).double()
        squared = torch.einsum("ks,ks->k", change, change).double()
        usable = both > 1e-8 * squared
        for where, vector in ((place, step), (m + place, change)):
            self.vectors[:, where] = torch.where(usable.unsqueeze(1), vector, 0.0)
        new = torch.bmm(self.vectors, self.vectors[:, [place, m + place]].transpose(1, 2)).double()
        for column, where in enumerate((place, m + place)):
            self.inner[:, :, where] = new[:, :, column]
            self.inner[:, where, :] = new[:, :, column]
        self.scale = torch.where(usable, both / squared.clamp(min=1e-300), self.scale)
        self.count += 1

    def times(self, gradient: Tensor) -> Tensor:
        """The inverse Hessian's approximation times a gradient (K, size)."""
        used = min(self.count, self.m)
        if not used:
            return gradient
        order = [(self.count - used + step) % self.m for step in range(used)]
        steps, changes = order, [self.m + place for place in order]
        products = torch.bmm(self.vectors, gradient.unsqueeze(2)).squeeze(2).double()
        cross = self.inner[:, steps][:, :, changes]  # s_i · y_j
        diagonal = cross.diagonal(dim1=1, dim2=2)
        empty = diagonal == 0
        upper = cross.triu() + torch.diag_embed(empty.double())
        scale = self.scale.view(-1, 1)
        solved = torch.linalg.solve_triangular(upper, products[:, steps].unsqueeze(2), upper=True)
        of_changes = self.inner[:, changes][:, :, changes]
        right = (diagonal.unsqueeze(2) * solved) + scale.unsqueeze(2) * (of_changes @ solved)
        right -= scale.unsqueeze(2) * products[:, changes].unsqueeze(2)
        left = torch.linalg.solve_triangular(upper.transpose(1, 2), right, upper=False)
        factors = torch.zeros_like(products)
        factors[:, steps] = left.squeeze(2)
        factors[:, changes] = -scale * solved.squeeze(2)
        combined = torch.bmm(factors.to(gradient).unsqueeze(1), self.vectors).squeeze(1)
        return combined.addcmul_(gradient, scale.to(gradient).expand_as(gradient))

    def forget(self, rows: Tensor) -> None:
        """Forget the pairs of some heads."""
        self.vectors[rows] = 0.0
        self.inner[rows] = 0.0
        self.scale[rows] = 1.0

    def keep(self, rows: Tensor) -> None:
        """Keep some heads."""
        self.vectors, self.inner, self.scale = self.vectors[rows], self.inner[rows], self.scale[rows]


def minimise(
    losses: Losses,
    features: Tensor,
    variances: Tensor,
    l2: Tensor,
    start: Tensor,
    *,
    tolerance: float = CONVERGED_AT,
    max_iterations: int = MAX_ITERATIONS,
    memory: int = _MEMORY,
    stop: Callable[[int, Tensor], None] = lambda iteration, gradients: None,
) -> Minima:
    """Minimise the penalised losses of H heads; a head that has converged is left alone.

    Args:
        losses: of the heads at some positions.
        features: (n, R) float32, uncorrelated columns; the last one is all ones, for the bias.
        variances: (R,) mean squares of the columns.
        l2: (H,) λ >= 0.
        start: (H, C, R) initial weights.
        tolerance: a head has converged where the norm of its gradient is at most this times that at weights of 0.
        max_iterations: then it is given up.
        memory: m.
        stop: called before each iteration with its number and the gradients' norms; may raise to stop.

    Returns:
        The minima; a head whose loss is not finite at its start has not converged, and has no finite objective.
    """
    heads = len(start)
    everyone = torch.arange(heads, device=start.device)
    state = _State(losses, features, l2, start, everyone)
    products, evaluations = 2 * heads, heads
    curvature = _curvature(losses, state)
    evaluations += heads
    root = (curvature.view(-1, 1, 1) * variances + l2.view(-1, 1, 1) * state.penalised).sqrt()
    reference = _norm(state.gradient / root)
    if start.any():
        zero = torch.zeros_like(start)
        _, at_zero = losses(state.times_features(zero), everyone)
        reference = _norm((at_zero.flatten(0, 1) @ features).view_as(start) / root)
        products, evaluations = products + heads, evaluations + heads
    pairs = _Memory(heads, start[0].numel(), memory, start)
    found = Minima(
        start.clone(),
        state.objective.clone(),
        torch.full_like(state.objective, torch.inf),
        torch.zeros_like(everyone),
        torch.zeros_like(everyone, dtype=torch.bool),
        0,
        0,
        [[value] for value in state.objective.tolist()],
    )
    stuck = torch.zeros_like(found.converged)
    for iteration in range(max_iterations + 1):
        relative = _norm(state.gradient / root[state.at]) / reference[state.at].clamp(min=1e-300)
        ended = (relative <= tolerance) | ~state.objective.isfinite() | stuck[state.at]
        if iteration == max_iterations:
            ended[:] = True
        if ended.any():
            places = state.at[ended]
            found.weights[places], found.objective[places] = state.weights[ended], state.objective[ended]
            found.gradient[places], found.iterations[places] = relative[ended], iteration
            found.converged[places] = relative[ended] <= tolerance
            if ended.all():
                break
            state.keep(~ended)
            pairs.keep(~ended)
        stop(iteration, relative)
        scale = root[state.at]
        direction = -pairs.times((state.gradient / scale).flatten(1)).view_as(state.gradient) / scale
        slope = torch.einsum("kcr,kcr->k", state.gradient, direction).double()
        if (uphill := ~(slope < 0)).any():
            pairs.forget(uphill)
            direction[uphill] = -(state.gradient / scale**2)[uphill]
            slope = torch.einsum("kcr,kcr->k", state.gradient, direction).double()
        moved = state.times_features(direction)
        length, tried, failed = _search(state, direction, moved, slope)
        products, evaluations = products + 2 * len(state.at), evaluations + tried
        before = state.gradient
        step = direction.mul_(length.view(-1, 1, 1).to(direction))
        state.weights = state.weights + step
        state.gradient = state.gradient_of(state.slopes, state.weights)
        pairs.add((step * scale).flatten(1), ((state.gradient - before) / scale).flatten(1))
        # A search that fails with an empty memory cannot be helped by forgetting.
        stuck[state.at] = failed & uphill
        if failed.any():
            pairs.forget(failed)
        for place, value in zip(state.at.tolist(), state.objective.tolist(), strict=True):
            found.paths[place].append(value)
    return Minima(
        found.weights,
        found.objective,
        found.gradient,
        found.iterations,
        found.converged,
        products,
        evaluations,
        found.paths,
    )


def _norm(scaled: Tensor) -> Tensor:
    """(K,) float64 norms of (K, C, R)."""
    norms: Tensor = torch.linalg.vector_norm(scaled.flatten(1), dim=1)
    return norms.double()


def _curvature(losses: Losses, state: _State) -> Tensor:
    """(H,) second derivative of the mean loss by the bias of the most curved class, up to sign.

    A difference of gradients along random signs, one for each image and class: the products with other classes have mean
    zero over the images. One number for all classes, as those of rare classes change most on the way to the minimum.
    """
    _, classes, images = state.outputs.shape
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, (classes, images), generator=generator).mul_(2).sub_(1).to(state.outputs)
    _, slopes = losses(state.outputs + _PROBE * signs, state.at)
    curvature: Tensor = ((slopes - state.slopes) * signs).sum(2).abs().amax(1) / _PROBE
    return curvature.clamp(min=1e-12)


def _search(state: _State, direction: Tensor, moved: Tensor, slope: Tensor) -> tuple[Tensor, int, Tensor]:
    """Find a step along each direction that meets the Wolfe conditions, and move outputs, slopes and objective there.

    Returns:
        Step lengths (K,) float64, evaluations of a head's loss, and which heads found no step (K,): their length is 0.
    """
    count, dtype = len(state.at), torch.float64
    linear = state.penalty(state.weights, direction)
    quadratic = state.penalty(direction, direction)
    length = torch.ones(count, dtype=dtype, device=moved.device)
    low, high = torch.zeros_like(length), torch.full_like(length, torch.inf)
    slope_low, slope_high = slope.clone(), torch.full_like(length, torch.nan)
    outputs, slopes, objective = state.outputs.clone(), state.slopes.clone(), state.objective.clone()
    todo, tried = torch.arange(count, device=moved.device), 0
    for _ in range(_TRIES):
        t = length[todo]
        there = torch.addcmul(state.outputs[todo], moved[todo], t.view(-1, 1, 1).to(moved))
        value, gradient = state.losses(there, state.at[todo])
        tried += len(todo)
        value = value + state.half[todo] + t * linear[todo] + t * t * quadratic[todo] / 2
        found = (
            torch.einsum("kcn,kcn->k", gradient, moved[todo]).double() + linear[todo] + t * quadratic[todo]
        )
        start, first = state.objective[todo], slope[todo]
        lower = value <= start + _DECREASE * t * first
        level = (value <= start + _ROUNDING * start.abs()) & (found <= (2 * _DECREASE - 1) * first)
        enough = (lower | level) & value.isfinite()
        good = enough & (found >= _CURVATURE * first)
        chosen = todo[good]
        outputs[chosen], slopes[chosen], objective[chosen] = there[good], gradient[good], value[good]
        rest = ~good
        if not rest.any():
            return _moved(state, outputs, slopes, objective, length, (linear, quadratic), todo[rest], tried)
        todo, t, far, found = todo[rest], t[rest], ~enough[rest], found[rest]
        high[todo], slope_high[todo] = (
            torch.where(far, t, high[todo]),
            torch.where(far, found, slope_high[todo]),
        )
        low[todo], slope_low[todo] = torch.where(far, low[todo], t), torch.where(far, slope_low[todo], found)
        length[todo] = _next(low[todo], high[todo], slope_low[todo], slope_high[todo])
    return _moved(state, outputs, slopes, objective, length, (linear, quadratic), todo, tried)


def _next(low: Tensor, high: Tensor, slope_low: Tensor, slope_high: Tensor) -> Tensor:
    """The next step length (K,): where the slope would be 0 if it were linear, kept inside the interval; else twice."""
    width = high - low
    secant = low + width * slope_low / (slope_low - slope_high)
    inside = secant.clamp(low + 0.1 * width, high - 0.1 * width)
    usable = (slope_high > 0) & secant.isfinite()
    between = torch.where(usable, inside, low + 0.5 * width)
    return torch.where(high.isinf(), (2 * low).clamp(min=2.0), between)


def _moved(
    state: _State,
    outputs: Tensor,
    slopes: Tensor,
    objective: Tensor,
    length: Tensor,
    penalty: tuple[Tensor, Tensor],
    failed: Tensor,
    tried: int,
) -> tuple[Tensor, int, Tensor]:
    state.outputs, state.slopes, state.objective = outputs, slopes, objective
    length[failed] = 0.0
    # Not computed anew: the rounding of another sum would hide the decrease of the next step.
    linear, quadratic = penalty
    state.half = state.half + length * linear + length * length * quadratic / 2
    lost = torch.zeros(len(length), dtype=torch.bool, device=length.device)
    lost[failed] = True
    return length, tried, lost

"""Calibration maps: from a model's probabilities to calibrated ones, fitted and chosen on held-out predictions.

The map is chosen by the log-loss of predictions that it was not fitted on; leaving probabilities as they are is one of the
choices. Shape legend: N images, C classes, B subsets of the images, K free parameters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, product
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import special

from tametail.core.arrays import BoolArray, FloatArray, IntArray, row_blocks
from tametail.evaluation.log_loss import LEAST, log_losses, mean_log_losses
from tametail.evaluation.sample import cross_fitting_parts
from tametail.predictions.single_label import Predictions

MapKind = Literal["identity", "temperature", "vector", "isotonic"]

_LINEAR = {"temperature", "vector"}
MOST_CLASSES = (
    60  # with more, only the temperature is fitted: the other maps have several parameters per class
)
_ENTRIES, _FEWEST = 140_000, 2000  # probabilities, and at least images, that are enough to fit a map
_RIDGE = 1.0  # weight of the identity in the fit, in images: keeps a class without images where it is
_ITERATIONS, _HALVINGS, _STEP = 30, 20, 1e-4


@dataclass(frozen=True)
class CalibrationMap:
    """A map of probabilities (N, C) to calibrated probabilities (N, C).

    Attributes:
        kind: ``identity``; ``temperature``: softmax(a log p) (Guo et al. 2017); ``vector``: softmax(a_c log p_c + b_c), for
            each class (same source); ``isotonic``: a step function of p_c for each class, normalised (Zadrozny & Elkan 2002).
        slope, bias: (C,) a and b; 1 and 0 for the other kinds.
        floor: (C,) the least probability of each class before rows are normalised; 0 where none is needed.
        steps: for ``isotonic`` the points (x, y) of each class, between which it is linear.
    """

    kind: MapKind
    slope: FloatArray
    bias: FloatArray
    floor: FloatArray
    steps: tuple[tuple[FloatArray, FloatArray], ...] = field(default=())

    def __call__(self, p: FloatArray) -> FloatArray:
        """Calibrated probabilities (N, C) whose rows sum to one."""
        p = np.asarray(p, dtype=np.float64)
        if self.kind == "identity" and not self.floor.any():
            return p
        p = np.maximum(p, self.floor)
        if self.kind == "isotonic":
            stepped = [np.interp(p[:, c], x, y) for c, (x, y) in enumerate(self.steps)]
            p = np.maximum(np.stack(stepped, axis=1), self.floor)
        elif self.kind != "identity":
            return np.asarray(special.softmax(self.slope * _log(p) + self.bias, axis=1))
        return np.asarray(p / p.sum(axis=1, keepdims=True))

    @property
    def summary(self) -> str:
        """The map in words, such as ``temperature 1.31``; a floor is mentioned."""
        said: str = self.kind
        if self.kind == "temperature":
            said = f"temperature {1 / self.slope[0]:.2f}"
        elif self.kind == "vector":
            said = f"vector scaling, slopes {self.slope.min():.2f} to {self.slope.max():.2f}"
        if not self.floor.any():
            return said
        low, high = self.floor[self.floor > 0].min(), self.floor.max()
        return f"{said}, at least {low:.2g}" + (f" to {high:.2g}" if high > low else "")

    def described(self) -> dict[str, Any]:
        """The map as JSON: what `from_description` takes."""
        return {
            "kind": self.kind,
            "slope": self.slope.tolist(),
            "bias": self.bias.tolist(),
            "floor": self.floor.tolist(),
            "steps": [[x.tolist(), y.tolist()] for x, y in self.steps],
        }

    @classmethod
    def from_description(cls, values: Mapping[str, Any]) -> CalibrationMap:
        """The map that `described` wrote.

        Raises:
            ValueError, KeyError, TypeError: the description is damaged.
        """
        if values["kind"] not in get_args(MapKind):
            raise ValueError(f"expected one of {', '.join(get_args(MapKind))}, got {values['kind']!r}")
        slope, bias, floor = (np.array(values[name], dtype=np.float64) for name in ("slope", "bias", "floor"))
        steps = tuple(
            (np.array(x, dtype=np.float64), np.array(y, dtype=np.float64)) for x, y in values["steps"]
        )
        return cls(values["kind"], slope, bias, floor, steps)


def identity(classes: int) -> CalibrationMap:
    """The map that changes nothing."""
    return CalibrationMap("identity", np.ones(classes), np.zeros(classes), np.zeros(classes))


@dataclass(frozen=True)
class Calibrated:
    """Predictions with calibrated probabilities.

    Attributes:
        tables: the given ones; the posterior of each part is that of a map chosen and fitted on the other parts.
        map: for new images: of the kind that is best over all parts, fitted on all images.
    """

    tables: list[Predictions]
    map: CalibrationMap


def calibrate_out_of_fold(tables: Sequence[Predictions]) -> Calibrated:
    """Choose and fit a calibration map by nested cross-validation on out-of-fold predictions.

    For the images of each fold, the map is fitted on the other folds, and its kind is the one that has the lowest log-loss
    when each of those is left out in turn. If the probabilities obtained in this way have no lower log-loss than the given
    ones, nothing is changed: this single decision sees the labels of all folds. With fewer than three folds, whole groups are assigned to five parts, used like folds.

    Where a class is given a probability of exactly 0 for some image, as the inverse links of ALPA and ASL do, all its
    probabilities are at least 1 / (2 (n + C)), with the n images of the class that the map is fitted on: so few cannot tell
    less from 0.

    Args:
        tables: of the same images, one per repeat, with their folds.

    Raises:
        ValueError: there is no table, or no image in one.
    """
    if not tables or not all(len(table) for table in tables):
        raise ValueError("expected at least one table of predictions with images, got none")
    classes = len(tables[0].class_names)
    unchanged = Calibrated(list(tables), identity(classes))
    parts = [cross_fitting_parts(table, 3) for table in tables]
    if min(len(np.unique(part)) for part in parts) < 3:
        return unchanged  # too few groups
    fits = [_Fits([table], [part]) for table, part in zip(tables, parts, strict=True)]
    mapped = [each.out_of_fold(table) for each, table in zip(fits, tables, strict=True)]
    before = np.mean([mean_log_losses([table]).mean() for table in tables])
    if np.mean([after for _, after in mapped]) >= before:
        return unchanged
    kind = min(fits[0].kinds, key=lambda kind: sum(each.losses[kind, None] for each in fits))
    pooled = _Fits(tables, parts, kinds=(kind,), every_part=False)
    changed = [replace(table, posterior=p) for (p, _), table in zip(mapped, tables, strict=True)]
    return Calibrated(changed, pooled.fitted(kind))


def apply_map(calibration: CalibrationMap, table: Predictions) -> Predictions:
    """The table with its probabilities mapped."""
    posterior = np.empty(table.logits.shape, dtype=np.float32)
    for rows, p in table.probability_blocks():
        posterior[rows] = calibration(p)
    return replace(table, posterior=posterior)


class _Fits:
    """Maps of each kind, fitted without any part, without each, and without each two of the parts.

    Attributes:
        kinds: those that are fitted.
        losses: by kind and part, the sum of the log-losses over the images of the other parts, each mapped without its own
            part and that one; with None in place of a part, over all images. Empty before `out_of_fold`.
    """

    def __init__(
        self,
        tables: Sequence[Predictions],
        parts: Sequence[IntArray],
        *,
        kinds: Sequence[MapKind] = get_args(MapKind),
        every_part: bool = True,
    ) -> None:
        classes, images = len(tables[0].class_names), sum(map(len, tables))
        few = classes <= MOST_CLASSES
        self.kinds = tuple(kind for kind in kinds if few or kind in {"identity", "temperature"})
        self.losses: dict[tuple[MapKind, int | None], float] = {}
        # An image of several tables is one image.
        self._weight = len(tables[0]) / images
        self._part = np.unique(np.concatenate(parts), return_inverse=True)[1]
        self._numbers = range(int(self._part.max()) + 1)
        enough = _enough(images, classes)
        of_table = np.split(enough, np.cumsum([len(table) for table in tables])[:-1])
        chosen = list(zip(tables, of_table, strict=True))
        # Of the images that maps are fitted on.
        self._p = np.concatenate([table.probabilities_of(rows) for table, rows in chosen])
        self._target = np.concatenate([table.target[rows] for table, rows in chosen])
        self._keys: list[tuple[int, ...]] = [()]
        if every_part:
            self._keys += [*((each,) for each in self._numbers), *combinations(self._numbers, 2)]
        self._rows = [~np.isin(self._part[enough], key) for key in self._keys]
        self._least = [self._least_known(rows) for rows in self._rows]
        self._floors = [
            np.where((self._p[rows] == 0).any(axis=0), least, 0.0)
            for rows, least in zip(self._rows, self._least, strict=True)
        ]
        self._linear = {kind: self._fit_linear(kind) for kind in self.kinds if kind in _LINEAR}
        self._fitted: dict[tuple[MapKind, int], CalibrationMap] = {}

    def fitted(self, kind: MapKind, *left_out: int) -> CalibrationMap:
        """The map of this kind, fitted on the images of the other parts."""
        at = self._keys.index(tuple(sorted(left_out)))
        if (kind, at) not in self._fitted:
            self._fitted[kind, at] = self._fit(kind, at)
        return self._fitted[kind, at]

    def _fit(self, kind: MapKind, at: int) -> CalibrationMap:
        ones, zeros = np.ones(self._p.shape[1]), np.zeros(self._p.shape[1])
        if kind in _LINEAR:
            slope, bias = self._linear[kind]
            return CalibrationMap(kind, slope[at], bias[at], self._floors[at])
        if kind == "identity":
            return CalibrationMap(kind, ones, zeros, self._floors[at])
        p, target = self._p[self._rows[at]], self._target[self._rows[at]]
        steps = tuple(_isotonic(p[:, c], target == c) for c in range(p.shape[1]))
        return CalibrationMap(kind, ones, zeros, self._least[at], steps)

    def out_of_fold(self, table: Predictions) -> tuple[NDArray[np.float32], float]:
        """The probabilities (N, C) of each part by the map that is best on the other parts, and their mean log-loss.

        Args:
            table: the one that the maps are fitted on.
        """
        self.losses = dict.fromkeys(product(self.kinds, (None, *self._numbers)), 0.0)
        for part in self._numbers:
            others = [None, *(other for other in self._numbers if other != part)]
            for rows, p in self._blocks(table, part):
                for kind, other in product(self.kinds, others):
                    without = {part} if other is None else {part, other}
                    mapped = self.fitted(kind, *without)(p)
                    self.losses[kind, other] += float(log_losses(table.target[rows], mapped).sum())
        found, losses = np.empty(table.logits.shape, dtype=np.float32), np.empty(len(table))
        for part in self._numbers:
            kind = min(self.kinds, key=lambda kind: self.losses[kind, part])
            for rows, p in self._blocks(table, part):
                found[rows] = mapped = self.fitted(kind, part)(p)
                losses[rows] = log_losses(table.target[rows], mapped)
        return found, float(losses.mean())

    def _blocks(self, table: Predictions, part: int) -> Iterator[tuple[IntArray, FloatArray]]:
        """Rows of a part in blocks, with their probabilities."""
        own = np.flatnonzero(self._part == part)
        return ((own[block], table.probabilities_of(own[block])) for block in row_blocks(len(own)))

    def _least_known(self, rows: BoolArray) -> FloatArray:
        """1 / (2 (n + C)) for each class of n images among these rows."""
        classes = self._p.shape[1]
        n = np.bincount(self._target[rows], minlength=classes) * self._weight
        return np.asarray(1 / (2 * (n + classes)))

    def _fit_linear(self, kind: MapKind) -> tuple[FloatArray, FloatArray]:
        """Slopes and biases (B, C) for all subsets of the images."""
        classes = self._p.shape[1]
        of_full = np.eye(2 * classes)
        if kind == "temperature":
            of_full = np.repeat([[1.0], [0.0]], classes, axis=0)
        floor = np.max(self._floors, axis=0)  # where the subsets have one, theirs differ little
        used = np.any(self._rows, axis=0)
        weights = np.stack(self._rows)[:, used].astype(np.float64)
        return _fit_slopes(_log(np.maximum(self._p[used], floor)), self._target[used], weights, of_full)


def _fit_slopes(
    log_p: FloatArray, target: IntArray, weights: FloatArray, of_full: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Slopes and biases (B, C) of lowest log-loss of softmax(slope log p + bias), by Newton's method.

    Args:
        log_p: (N, C).
        target: (N,).
        weights: (B, N) of the images in each subset.
        of_full: (2 C, K) the slopes and biases as linear functions of the free parameters.
    """
    classes = log_p.shape[1]
    start = np.linalg.lstsq(of_full, np.repeat([1.0, 0.0], classes), rcond=None)[0]
    every = np.ones((1, len(log_p)))
    first = _newton(log_p, target, every, of_full, start, start[None])
    free = _newton(log_p, target, weights, of_full, start, np.repeat(first, len(weights), axis=0))
    full = free @ of_full.T
    return full[:, :classes], full[:, classes:]


def _newton(
    log_p: FloatArray,
    target: IntArray,
    weights: FloatArray,
    of_full: FloatArray,
    origin: FloatArray,
    free: FloatArray,
) -> FloatArray:
    """The minimum (B, K) of each subset's log-loss with a ridge about ``origin``, from ``free``; steps are halved as needed.

    Of n images in the subset each counts as n / (n + 1) of its class, the rest equally divided among all classes: otherwise
    probabilities would go to 0 and 1 where a few images are all classified correctly (Platt 1999, for two classes).
    """
    classes = log_p.shape[1]
    x, diagonal = (
        np.ascontiguousarray(log_p.T),
        np.arange(classes),
    )  # (C, N): sums over classes are then quick
    ridge = _RIDGE * np.eye(of_full.shape[1])
    n = weights.sum(axis=1, keepdims=True)
    each = 1 / (classes * (n + 1))  # (B, 1)
    true = 1 - classes * each
    own = x[target, np.arange(len(target))]
    seen = true * np.concatenate(
        [_by_class(target, weights * own, classes), _by_class(target, weights, classes)], axis=1
    )
    seen += each * np.concatenate([weights @ log_p, np.repeat(n, classes, axis=1)], axis=1)

    def evaluate(parameters: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Objective (B,) and probabilities (B, C, N)."""
        full = parameters @ of_full.T
        z = full[:, :classes, None] * x
        z += full[:, classes:, None]
        highest = z.max(axis=1)
        z -= highest[:, None]
        np.exp(z, out=z)
        total = z.sum(axis=1)
        z /= total[:, None]
        losses = ((np.log(total) + highest) * weights).sum(axis=1) - (full * seen).sum(axis=1)
        return losses + 0.5 * _RIDGE * ((parameters - origin) ** 2).sum(axis=1), z

    value, p = evaluate(free)
    for _ in range(_ITERATIONS):
        p *= weights[:, None]
        weighted = np.concatenate([p * x, p], axis=1)  # (B, 2 C, N)
        sums = weighted.sum(axis=2)
        hessian = -(weighted @ weighted.transpose(0, 2, 1))  # weights are 0 or 1
        hessian[:, diagonal, diagonal] += (weighted[:, :classes] * x).sum(axis=2)
        hessian[:, diagonal, classes + diagonal] += sums[:, :classes]
        hessian[:, classes + diagonal, diagonal] += sums[:, :classes]
        hessian[:, classes + diagonal, classes + diagonal] += sums[:, classes:]
        gradient = (sums - seen) @ of_full + _RIDGE * (free - origin)
        step = np.linalg.solve(of_full.T @ hessian @ of_full + ridge, gradient[:, :, None])[:, :, 0]
        before, at = value, free
        value, p = evaluate(free := at - step)
        for _ in range(_HALVINGS):
            worse = value > before + 1e-9 * np.abs(before)
            if not worse.any():
                break
            step[worse] /= 2
            value, p = evaluate(free := at - step)
        if np.abs(step).max() < _STEP:
            break
    return free


def _by_class(target: IntArray, values: FloatArray, classes: int) -> FloatArray:
    """Sums (B, C) of values (B, N) over the images of each class."""
    return np.stack([np.bincount(target, of_subset, minlength=classes) for of_subset in values])


def _isotonic(p: FloatArray, happened: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Points (x, y) of the rising function of p (N,) nearest to what happened (N,): the ends of its steps."""
    from scipy.optimize import isotonic_regression

    x, code, count = np.unique(p, return_inverse=True, return_counts=True)
    share = np.bincount(code, happened) / count
    y = np.asarray(isotonic_regression(share, weights=count).x)
    inside = np.r_[False, (y[1:-1] == y[:-2]) & (y[1:-1] == y[2:]), False][: len(y)]
    return x[~inside], y[~inside]


def _enough(images: int, classes: int) -> BoolArray:
    """Mask (N,) of the images that maps are fitted on: all, or a random number of them that is enough."""
    most = max(_FEWEST, _ENTRIES // classes)
    mask = np.ones(images, dtype=np.bool_)
    if images > most:
        mask[np.random.default_rng(0).choice(images, images - most, replace=False)] = False
    return mask


def _log(p: FloatArray) -> FloatArray:
    return np.asarray(np.log(np.maximum(p, LEAST)))

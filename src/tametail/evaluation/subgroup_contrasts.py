"""Compare subgroups: each value of a column with all other images, and the best subgroup with the worst.

Shape legend: S replicates, N images, G groups, C classes that are compared, K subgroups, R resamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from tametail.core.arrays import BoolArray, FloatArray, IntArray
from tametail.evaluation.distributions import normal_quantile
from tametail.evaluation.intervals import Estimate, Proportions, mean_of_proportions, proportions
from tametail.evaluation.sample import group_codes
from tametail.evaluation.significance import holm
from tametail.evaluation.subgroups import SMALL_SUBGROUP, aligned_values, natural_order
from tametail.predictions.single_label import Predictions

FEWEST_GROUPS = 5  # of a subgroup; the images of fewer say too little of others
_ENTRIES = 2_000_000  # numbers of one chunk of draws: 16 MB
_DRAWS = 2000  # of the gap that chance alone would show
_ROUNDING = 1e-10  # equal differences may differ in their last digits


@dataclass(frozen=True)
class ClassContrast:
    """The recall of one class in a subgroup minus that in the other images.

    Attributes:
        class_name: the class.
        difference: in -1..1, with its 95 % interval; its n counts the images of the class in both.
        p, p_holm: as in `Contrast`, corrected over all recalls of the column.
    """

    class_name: str
    difference: Estimate
    p: float
    p_holm: float


@dataclass(frozen=True)
class Contrast:
    """The images of one value of a column compared with all other images.

    Attributes:
        column, value: the value is empty where it is missing.
        n, rest: images with this value, and others, of the classes compared.
        classes: names of the classes present in both.
        difference: balanced accuracy over these classes minus that of the other images, in -1..1, with its 95 % interval.
        p: of the permutation test, see `subgroup_contrasts`; nan where no groups could be exchanged.
        p_holm: p after Holm's correction over the subgroups of the column; if there are only two, they make one test.
        recalls: of each class with enough images in both.
    """

    column: str
    value: str
    n: int
    rest: int
    classes: tuple[str, ...]
    difference: Estimate
    p: float
    p_holm: float
    recalls: tuple[ClassContrast, ...]


@dataclass(frozen=True)
class WorstGroupGap:
    """Balanced accuracy of the best subgroup minus that of the worst, on the classes that all subgroups have.

    Attributes:
        best, worst: their values.
        gap: in 0..1. The best is partly the best by chance, so that the value is biased upwards, more so for many small
            subgroups; the 95 % interval is not, see `worst_group_gap`.
        by_chance: the gap that would be expected if the subgroups were equal and their estimates as uncertain as they are.
        classes: names of the classes.
        balanced_accuracy: of each subgroup on these classes, by value.
    """

    best: str
    worst: str
    gap: Estimate
    by_chance: float
    classes: tuple[str, ...]
    balanced_accuracy: tuple[tuple[str, Estimate], ...]


@dataclass(frozen=True)
class SubgroupContrasts:
    """All comparisons of the subgroups of one column.

    Attributes:
        column: its name.
        contrasts: one for each subgroup that is not left out.
        gap: None if fewer than two subgroups, or classes that they share, remain.
        left_out: by value, why a subgroup is not compared.
    """

    column: str
    contrasts: tuple[Contrast, ...]
    gap: WorstGroupGap | None
    left_out: tuple[tuple[str, str], ...]


def subgroup_contrasts(
    replicates: Sequence[Predictions],
    values: NDArray[np.str_],
    name: str,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> SubgroupContrasts:
    """Compare the subgroups of a column in balanced accuracy and in the recall of each class.

    Balanced accuracies of subgroups with different classes are not comparable, so that each comparison is over the classes
    that both sides have; recalls are compared where both sides have at least 10 images of at least 5 groups. Values are means
    over the replicates.

    Intervals: the difference of two means of recalls, by MOVER (Zou & Donner 2008) from the limits of each, see
    `intervals.mean_of_proportions`. Where groups (patients) have images on both sides, a correlation that would narrow the
    interval is ignored.

    Test: groups that have images on one side only are exchanged between the sides, at random, within strata of groups
    that have the same classes; groups with images on both sides stay. Under the null hypothesis that among such groups the
    predictions do not depend on the subgroup, the test is exact. Another mixture of classes in a subgroup alone makes nothing
    significant; what else differs between subgroups (device, difficulty) may.

    Args:
        replicates: tables over the same images, e.g. one per seed (folds joined) or one per fold model.
        values: (N,) in the order of the first table's rows.
        name: of the column.
        resamples, seed: of the test; p is at least 1 / (1 + resamples).

    Raises:
        ValueError: another number of values than images, no table, no image, tables that differ in images, groups,
            targets or classes, or no resamples.
    """
    if resamples < 1:
        raise ValueError(f"expected at least one resample, got {resamples}")
    tables, ordered = aligned_values(replicates, values, name)
    first, group = tables[0], group_codes(tables[0])
    # Integers are added before the division, so that equal proportions are equal numbers.
    right = np.sum([table.predicted == first.target for table in tables], axis=0) / len(tables)

    def side(rows: BoolArray) -> _Side:
        shape = int(group.max()) + 1, len(first.class_names)
        place = group[rows], first.target[rows]
        counts = (sparse.csr_array((each[rows], place), shape=shape) for each in (right, np.ones(len(right))))
        return _Side(*counts)

    everyone = side(np.ones(len(right), dtype=np.bool_))
    sides = {value: side(ordered == value) for value in sorted(set(ordered.tolist()), key=natural_order)}
    left_out: dict[str, str] = {}
    contrasts: list[Contrast] = []
    for value, own in sides.items():
        rest = everyone.without(own)
        if why := own.too_few or _not_comparable(own, rest):
            left_out[value] = why
        elif len(sides) == 2 and contrasts:
            contrasts.append(_reversed(contrasts[0], value))
        else:
            contrasts.append(_contrast(own, rest, first.class_names, name, value, resamples, seed))
    kept = {value: own for value, own in sides.items() if value not in left_out}
    return SubgroupContrasts(
        name,
        _corrected(contrasts, tests=1 if len(sides) == 2 else len(contrasts)),
        _gap(kept, first.class_names),
        tuple(left_out.items()),
    )


@dataclass(frozen=True, eq=False)
class _Side:
    """Correct images (means over the replicates), and all, of some images by group and class, sparse (G, C)."""

    hits: sparse.csr_array
    images: sparse.csr_array

    def without(self, other: _Side) -> _Side:
        return _Side(*map(_without_zeros, (self.hits - other.hits, self.images - other.images)))

    def of(self, classes: IntArray) -> _Side:
        return _Side(self.hits[:, classes], self.images[:, classes])

    @property
    def class_images(self) -> IntArray:
        """(C,)."""
        return np.asarray(self.images.sum(axis=0), dtype=np.int64)

    @property
    def class_groups(self) -> IntArray:
        """(C,)."""
        return np.bincount(self.images.indices, minlength=self.images.shape[1])

    @property
    def too_few(self) -> str:
        """Why there are too few images; empty if there are enough."""
        images = int(self.images.sum())
        groups = int(np.count_nonzero(np.diff(self.images.indptr)))
        if images < SMALL_SUBGROUP:
            return f"fewer than {SMALL_SUBGROUP} images ({images})"
        return f"fewer than {FEWEST_GROUPS} groups ({groups})" if groups < FEWEST_GROUPS else ""

    @property
    def many(self) -> BoolArray:
        """(C,) whether a class has enough images for its recall to be compared."""
        return (self.class_images >= SMALL_SUBGROUP) & (self.class_groups >= FEWEST_GROUPS)

    def recalls(self, confidence: float = 0.95) -> Proportions:
        """Recalls of the C classes, all of which must be present."""
        n = self.class_images
        value = np.asarray(self.hits.sum(axis=0)) / n
        return proportions(value, self.hits, self.images, n, confidence=confidence)


def _without_zeros(counts: sparse.csr_array) -> sparse.csr_array:
    counts.data[np.abs(counts.data) < _ROUNDING] = 0.0
    counts.eliminate_zeros()
    return counts


@dataclass(frozen=True, eq=False)
class _Value:
    """A value with its limits, images, and the contributions (G,) of the groups to its error."""

    value: float
    low: float
    high: float
    n: int
    error: FloatArray

    def minus(self, other: _Value) -> Estimate:
        """The difference with the limits of MOVER, never narrower than under independence."""
        scale = float(np.sqrt((self.error**2).sum() * (other.error**2).sum()))
        against = max(0.0, -float(self.error @ other.error) / scale) if scale > 0 else 0.0

        def together(x: float, y: float) -> float:
            return float(np.sqrt(x**2 + y**2 + 2 * against * x * y))

        value = self.value - other.value
        low = value - together(self.value - self.low, other.high - other.value)
        high = value + together(self.high - self.value, other.value - other.low)
        return Estimate(value, max(low, -1.0), min(high, 1.0), self.n + other.n)


def _mean(recalls: Proportions, confidence: float = 0.95) -> _Value:
    """Mean of recalls that have limits of this confidence."""
    assert recalls.trials is not None
    assert recalls.residuals is not None
    of_each = recalls.value, recalls.low, recalls.high, recalls.trials, recalls.residuals
    low, high = mean_of_proportions(*of_each, confidence=confidence)
    error = np.asarray(recalls.residuals.sum(axis=1)) / len(recalls.value)
    return _Value(float(recalls.value.mean()), float(low), float(high), int(recalls.n.sum()), error)


def _single(recalls: Proportions, place: int) -> _Value:
    one = recalls.estimate(place)
    residuals = recalls.residuals
    assert isinstance(residuals, sparse.csr_array)
    return _Value(one.value, one.low, one.high, one.n, residuals[:, [place]].toarray()[:, 0])


def _not_comparable(own: _Side, rest: _Side) -> str:
    """Why these images cannot be compared with the others; empty if they can."""
    if rest.too_few:
        return f"of other values: {rest.too_few}"
    common = np.count_nonzero((own.class_images > 0) & (rest.class_images > 0))
    return "" if common > 1 else f"fewer than 2 classes in common with the other images ({common})"


def _contrast(
    own: _Side, rest: _Side, names: Sequence[str], column: str, value: str, resamples: int, seed: int
) -> Contrast:
    many = own.many & rest.many
    common = np.flatnonzero((own.class_images > 0) & (rest.class_images > 0))
    own, rest = own.of(common), rest.of(common)
    p = _permutation_p(own, rest, resamples, seed)
    recalls = own.recalls(), rest.recalls()
    by_class = []
    for place in np.flatnonzero(many[common]).tolist():
        of_class, others = (_single(each, place) for each in recalls)
        difference = of_class.minus(others)
        by_class.append(ClassContrast(names[int(common[place])], difference, float(p[1 + place]), np.nan))
    return Contrast(
        column=column,
        value=value,
        n=int(own.class_images.sum()),
        rest=int(rest.class_images.sum()),
        classes=tuple(names[int(code)] for code in common),
        difference=_mean(recalls[0]).minus(_mean(recalls[1])),
        p=float(p[0]),
        p_holm=np.nan,
        recalls=tuple(by_class),
    )


def _turned(difference: Estimate) -> Estimate:
    return Estimate(0.0 - difference.value, 0.0 - difference.high, 0.0 - difference.low, difference.n)


def _reversed(contrast: Contrast, value: str) -> Contrast:
    """The other images compared with these."""
    recalls = tuple(replace(one, difference=_turned(one.difference)) for one in contrast.recalls)
    difference = _turned(contrast.difference)
    return replace(
        contrast, value=value, n=contrast.rest, rest=contrast.n, difference=difference, recalls=recalls
    )


def _corrected(contrasts: Sequence[Contrast], tests: int) -> tuple[Contrast, ...]:
    """With Holm's correction over the first ``tests`` of the contrasts, of which further ones are the reverse."""
    tested = contrasts[:tests]
    by_value = iter(holm([one.p for one in tested]))
    by_class = iter(holm([recall.p for one in tested for recall in one.recalls]))
    found = [
        replace(
            one,
            p_holm=float(next(by_value)),
            recalls=tuple(replace(recall, p_holm=float(next(by_class))) for recall in one.recalls),
        )
        for one in tested
    ]
    return (*found, *(_reversed(found[0], one.value) for one in contrasts[tests:]))


def _permutation_p(own: _Side, rest: _Side, resamples: int, seed: int) -> FloatArray:
    """(1 + C,) p of the difference in mean recall and of that of each class; nan where no groups can be exchanged."""
    classes = own.images.shape[1]
    in_own, in_rest = (np.diff(side.images.indptr) > 0 for side in (own, rest))
    free = in_own != in_rest
    sums = sparse.hstack([own.hits + rest.hits, own.images + rest.images], format="csr")[free]
    total = np.concatenate([_sums(own, rest, part) for part in ("hits", "images")])
    fixed = np.concatenate([np.asarray(part[in_own & ~free].sum(axis=0)) for part in (own.hits, own.images)])
    expected, movable = fixed.copy(), np.zeros(classes, dtype=np.bool_)
    strata = []
    for rows, counts, chosen in _strata(sums, in_own[free]):
        expected += chosen / counts.sum() * (counts @ rows)
        if 0 < chosen < counts.sum():
            movable |= rows[0, classes:] > 0
        strata.append((rows, counts, chosen))

    def differences(summed: FloatArray) -> FloatArray:
        """(R, 1 + C) of hits and images (R, 2 C) of the subgroup."""
        hits, images = summed[:, :classes], summed[:, classes:]
        of_class = hits / images - (total[:classes] - hits) / (total[classes:] - images)
        return np.column_stack([of_class.mean(axis=1), of_class])

    # Under the hypothesis differences vary around that of the expected sums, which is 0 but for the groups that stay.
    centre = differences(expected[None])
    observed = np.concatenate([np.asarray(part.sum(axis=0)) for part in (own.hits, own.images)])[None]
    distance = np.abs(differences(observed) - centre) - _ROUNDING
    rng, beyond = np.random.default_rng(seed), np.zeros(1 + classes)
    chunk = max(1, _ENTRIES // max([2 * classes, *(len(counts) for _, counts, _ in strata)]))
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        summed = np.repeat(fixed[None], size, axis=0)
        for rows, counts, chosen in strata:
            summed += rng.multivariate_hypergeometric(counts, chosen, size, method="marginals") @ rows
        beyond += (np.abs(differences(summed) - centre) >= distance).sum(axis=0)
    return np.where(np.append(movable.any(), movable), (1 + beyond) / (1 + resamples), np.nan)


def _sums(own: _Side, rest: _Side, part: str) -> FloatArray:
    return np.asarray((getattr(own, part) + getattr(rest, part)).sum(axis=0))


def _strata(sums: sparse.csr_array, in_own: BoolArray) -> Iterator[tuple[FloatArray, IntArray, int]]:
    """Strata of groups that have the same classes: distinct rows (U, 2 C), how many groups have each, and how many of
    the groups are of the subgroup.

    Args:
        sums: (G, 2 C) hits and images of each group.
        in_own: (G,) whether a group is of the subgroup.
    """
    width = sums.shape[1]
    factors = np.random.default_rng(0).normal(size=width)
    classes = sums.copy()
    classes.data = np.where(classes.indices >= width // 2, 1.0, 0.0)
    # A hash of each row, equal for equal rows, and different for others but for one pair in 10^14.
    marks = np.stack([(classes @ factors).round(9), (sums @ factors).round(9)], axis=1)
    distinct, first, code = np.unique(marks, axis=0, return_index=True, return_inverse=True)
    counts, of_own = np.bincount(code.ravel()), np.bincount(code.ravel(), in_own)
    for mark in np.unique(distinct[:, 0]):
        rows = np.flatnonzero(distinct[:, 0] == mark)
        yield sums[first[rows]].toarray(), counts[rows], round(float(of_own[rows].sum()))


def _gap(sides: dict[str, _Side], names: Sequence[str]) -> WorstGroupGap | None:
    """The gap with limits that hold although the best and the worst are selected.

    For the pair that is truly the best and the worst, the difference is the gap, and for no pair it is larger. So the
    largest upper limit of all pairs is at least that of the gap, without correction; and the largest lower limit is at most
    the gap if all lower limits hold, which they do with Bonferroni's correction over the pairs. The interval is conservative.
    """
    common = np.flatnonzero(np.all([side.class_images > 0 for side in sides.values()], axis=0))
    if len(sides) < 2 or len(common) < 2:
        return None
    chosen = {value: side.of(common) for value, side in sides.items()}
    pairs = list(permutations(chosen, 2))
    found, wide = (
        {value: _mean(side.recalls(confidence), confidence) for value, side in chosen.items()}
        for confidence in (0.95, 1 - 0.05 / len(pairs))
    )
    best = max(found, key=lambda value: found[value].value)
    worst = min(found, key=lambda value: found[value].value)
    high = max(found[a].minus(found[b]).high for a, b in pairs)
    low = max(0.0, *(wide[a].minus(wide[b]).low for a, b in pairs))
    gap = found[best].value - found[worst].value
    errors = np.array([one.high - one.low for one in found.values()]) / (2 * normal_quantile(0.975))
    drawn = np.random.default_rng(0).normal(size=(_DRAWS, len(errors))) * errors
    return WorstGroupGap(
        best=best,
        worst=worst,
        gap=Estimate(gap, min(low, gap), high, sum(one.n for one in found.values())),
        by_chance=float(np.ptp(drawn, axis=1).mean()),
        classes=tuple(names[int(code)] for code in common),
        balanced_accuracy=tuple(
            (value, Estimate(one.value, one.low, one.high, one.n)) for value, one in found.items()
        ),
    )

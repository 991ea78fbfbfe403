"""Paired comparisons of candidates on the same images, in the objective of a recommendation.

Balanced accuracy is compared as in the reports. The other objectives are compared likewise: contributions of the groups
(patients, lesions), which add up to the difference, give the sign-flip test; their linearised errors give the standard error.
The worst-group balanced accuracy is no sum, so that its test computes it again for each exchange of the groups' predictions.

Shape legend: S seeds, N images, G groups, C classes, V subgroups, M candidates, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from tametail.core.arrays import FloatArray, IntArray
from tametail.evaluation import paired
from tametail.evaluation.bootstrap import group_bootstrap
from tametail.evaluation.distributions import t_quantile
from tametail.evaluation.intervals import Estimate
from tametail.evaluation.metrics import f1_from_counts, mean_over
from tametail.evaluation.paired import Paired
from tametail.evaluation.sample import Sample
from tametail.evaluation.significance import (
    SIGNIFICANCE_LEVEL,
    holm,
    permutation_p,
    required_sample_size,
    verdict,
)
from tametail.evaluation.worst_group import balanced_accuracies, lowest_balanced_accuracy
from tametail.predictions.single_label import Predictions
from tametail.recommend.objective import MeanOverImages, Objective, WorstGroup

# Groups that only one candidate classifies correctly, added to each class: so many divided among the classes, with a maximum.
_PSEUDO_GROUPS, _PSEUDO_GROUPS_PER_CLASS = 4.0, 2.0
_EXCHANGES = 4000  # of the test of the worst group
_ENTRIES = 4_000_000  # signs of one chunk of exchanges: 32 MB
_ROUNDING = 1e-10  # equal differences may differ in their last digits

# By the candidate's name, one for each seed, over the same images.
Tables = Mapping[str, Sequence[Predictions]]
# From summed counts of groups (R, ...) to scores (R, M), of which greater is better.
_Scores = Callable[[FloatArray], FloatArray]


def against_one(tables: Tables, one: str, objective: Objective) -> dict[str, Paired]:
    """Compare one candidate with each of the others in the objective; Holm's correction is over these comparisons.

    Returns:
        By the other candidate's name. A difference above 0 means that ``one`` is better: of the log-loss it is that of the
        other candidate minus that of ``one``.
    """
    if objective.name == "balanced_accuracy":
        return paired.against_one(tables, one)
    found = _differences(tables, one, objective)
    p = np.array([of_pair.p for of_pair in found.values()])
    return {
        other: _pair(of_pair, float(own), float(corrected), len(found))
        for (other, of_pair), own, corrected in zip(found.items(), p, holm(p), strict=True)
    }


def differences(tables: Tables, one: str, objective: Objective) -> dict[str, tuple[float, float]]:
    """Differences and their standard errors as from `against_one`, without tests, which take much longer."""
    if objective.name == "balanced_accuracy":
        pairs = paired.against_one(tables, one)
        return {other: (pair.difference.value, pair.standard_error) for other, pair in pairs.items()}
    found = _differences(tables, one, objective)
    return {other: (of_pair.value, of_pair.standard_error) for other, of_pair in found.items()}


def _differences(tables: Tables, one: str, objective: Objective) -> dict[str, _Difference]:
    others = [name for name in tables if name != one]
    if isinstance(objective, MeanOverImages):
        found: Sequence[_Difference] = _mean_differences(tables, one, others, objective)
    elif isinstance(objective, WorstGroup):
        found = _worst_group_differences(tables, one, others, objective)
    else:
        found = _macro_f1_differences(tables, one, others)
    return dict(zip(others, found, strict=True))


@dataclass(frozen=True, eq=False)
class _Difference:
    """The difference between two candidates.

    Attributes:
        contributions: (G,) of the groups, which change sign where the two candidates are exchanged on a group.
        errors: (G,) linearised contributions to the error of the difference, with mean 0.
        images: N.
        least: variance that is added: for classes of few groups, or for the tolerance of training.
    """

    contributions: FloatArray
    errors: FloatArray
    images: int
    least: float

    @property
    def value(self) -> float:
        """The difference; above 0 where the first is better."""
        value = float(self.contributions.sum())
        return 0.0 if abs(value) < 1e-12 else value

    @property
    def standard_error(self) -> float:
        """With groups as units, cluster-robust with G / (G - 1)."""
        groups = len(self.errors)
        return float((groups / max(groups - 1, 1) * (self.errors**2).sum() + self.least) ** 0.5)

    @property
    def p(self) -> float:
        """Of the sign-flip test."""
        return permutation_p(self.contributions)

    @property
    def discordant(self) -> int:
        """Groups on which the candidates differ."""
        return int(np.count_nonzero(np.abs(self.contributions) > 1e-12))


def _pair(of_pair: _Difference, p: float, p_holm: float, pairs: int) -> Paired:
    d, groups = of_pair.contributions, len(of_pair.contributions)
    value, error = of_pair.value, of_pair.standard_error
    half = float(t_quantile(0.975, max(groups - 1, 1))) * error
    difference = Estimate(value, value - half, value + half, of_pair.images)
    found = verdict(difference, p_holm)
    more = required_sample_size(d, difference, level=SIGNIFICANCE_LEVEL / pairs)
    return Paired(
        difference=difference,
        p=p,
        p_holm=p_holm,
        verdict=found,
        required_sample_size=more if found == "no significant difference" else 0,
        groups=groups,
        discordant=of_pair.discordant,
        standard_error=error,
    )


def _mean_differences(
    tables: Tables, one: str, others: Sequence[str], objective: MeanOverImages
) -> list[_Difference]:
    group = Sample(tables[one]).group
    scores = {name: objective.image_scores(replicates) for name, replicates in tables.items()}
    n, found = len(group), []
    for other in others:
        gain = scores[one] - scores[other]
        by_group = [np.bincount(group, values) / n for values in (gain, gain - gain.mean())]
        found.append(_Difference(by_group[0], by_group[1], n, objective.least_variance(n)))
    return found


@dataclass(frozen=True, eq=False)
class _WorstGroupDifference(_Difference):
    """The difference in the lowest balanced accuracy.

    Attributes:
        exchanged: (K, V C) half the difference in correct images of each group on which the candidates differ.
        together: (V C,) half of the correct images of both.
        of_cells: (V, C) images.
    """

    exchanged: FloatArray
    together: FloatArray
    of_cells: FloatArray

    @property
    def p(self) -> float:
        """Of a permutation test that exchanges the predictions of both candidates on groups at random."""
        rng, observed, beyond = np.random.default_rng(0), abs(self.value) - _ROUNDING, 0
        chunk = max(1, _ENTRIES // max(len(self.exchanged), 1))
        for start in range(0, _EXCHANGES, chunk):
            signs = rng.choice([-1.0, 1.0], (min(chunk, _EXCHANGES - start), len(self.exchanged)))
            moved = signs @ self.exchanged
            a, b = (
                lowest_balanced_accuracy(hits.reshape(-1, *self.of_cells.shape), self.of_cells)
                for hits in (self.together + moved, self.together - moved)
            )
            beyond += int(np.count_nonzero(np.abs(a - b) >= observed))
        return (1 + beyond) / (1 + _EXCHANGES)

    @property
    def discordant(self) -> int:
        return len(self.exchanged)


def _worst_group_differences(
    tables: Tables, one: str, others: Sequence[str], objective: WorstGroup
) -> list[_Difference]:
    """Differences in the lowest balanced accuracy, linearised at the worst subgroup of each candidate."""
    cells = {name: _cells(replicates, objective) for name, replicates in tables.items()}
    images, groups = cells[one].images, cells[one].images.shape[0]
    shape = len(objective.values), -1
    of_cells = np.asarray(images.sum(axis=0), dtype=np.float64).reshape(shape)
    groups_of_cells = np.bincount(images.indices, minlength=images.shape[1]).reshape(shape)

    def linearised(name: str) -> tuple[float, FloatArray, float]:
        """The value, errors (G,), and the variance that is added."""
        hits = cells[name].hits
        right = np.asarray(hits.sum(axis=0)).reshape(shape)
        balanced = balanced_accuracies(right, of_cells)
        worst = int(np.nanargmin(balanced))
        present = np.flatnonzero(of_cells[worst])
        columns = worst * of_cells.shape[1] + present
        weight = 1 / (of_cells[worst, present] * len(present))
        recall = right[worst, present] / of_cells[worst, present]
        errors = hits[:, columns] @ weight - images[:, columns] @ (weight * recall)
        added = min(_PSEUDO_GROUPS / len(present), _PSEUDO_GROUPS_PER_CLASS)
        least = added * float((1 / (groups_of_cells[worst, present] + added) ** 2).sum()) / len(present) ** 2
        return float(balanced[worst]), errors, least

    value, errors, least = linearised(one)
    found: list[_Difference] = []
    for other in others:
        other_value, other_errors, other_least = linearised(other)
        apart = errors - other_errors
        halves = (cells[one].hits - cells[other].hits) / 2
        differ = np.flatnonzero(np.abs(halves).sum(axis=1) > _ROUNDING)
        found.append(
            _WorstGroupDifference(
                contributions=apart + (value - other_value) / groups,
                errors=apart,
                images=int(images.sum()),
                least=max(least, other_least),
                exchanged=halves[differ].toarray(),
                together=np.asarray((cells[one].hits + cells[other].hits).sum(axis=0)) / 2,
                of_cells=of_cells,
            )
        )
    return found


@dataclass(frozen=True, eq=False)
class _Cells:
    """Images, and correct ones (means over the replicates), of each group by subgroup and class, sparse (G, V C)."""

    images: sparse.csr_array
    hits: sparse.csr_array

    @property
    def strata(self) -> IntArray:
        """(G,) the rarest cell of each group, -1 for a group without images of a subgroup."""
        rank = np.argsort(np.argsort(np.asarray(self.images.sum(axis=0)), kind="stable"))
        rarest = np.full(self.images.shape[0], len(rank))
        np.minimum.at(
            rarest,
            np.repeat(np.arange(len(rarest)), np.diff(self.images.indptr)),
            rank[self.images.indices],
        )
        return np.where(rarest < len(rank), rarest, -1)


def _cells(replicates: Sequence[Predictions], objective: WorstGroup) -> _Cells:
    sample = Sample(replicates)
    first, classes = sample.tables[0], len(sample.tables[0].class_names)
    subgroup = objective.subgroup(first.image)
    assert subgroup is not None
    known = subgroup >= 0
    cell = subgroup * classes + first.target
    # Integers are added before the division, so that equal proportions are equal numbers.
    right = np.sum([table.predicted == table.target for table in sample.tables], axis=0) / len(sample.tables)
    shape = int(sample.group.max()) + 1, len(objective.values) * classes
    place = sample.group[known], cell[known]
    images, hits = (
        sparse.csr_array((values[known], place), shape=shape) for values in (np.ones(len(cell)), right)
    )
    return _Cells(images, hits)


def _macro_f1_differences(tables: Tables, one: str, others: Sequence[str]) -> list[_Difference]:
    """Differences in macro-F1, mean over the replicates.

    F1 of a class is the ratio 2 TP / D with D = 2 TP + FP + FN. The difference of two such ratios with means F and D is
    [2 (TP_a - TP_b) - F (D_a - D_b)] / D, which the groups add up to.
    """
    samples = {name: Sample(replicates) for name, replicates in tables.items()}
    first = samples[one]
    actual = first.counts.actual.toarray().astype(np.float64)
    present, n, groups = first.present, first.class_n, (actual > 0).sum(axis=0)
    classes = int(present.sum())
    added = min(_PSEUDO_GROUPS / classes, _PSEUDO_GROUPS_PER_CLASS)
    size = n / np.maximum(groups, 1)  # images of a group of the class

    def counted(name: str) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """2 TP and D by group (S, G, C); their ratio F1 and the sum of D (S, 1, C)."""
        counts = samples[name].counts
        hits, predicted = (
            np.stack([of.toarray() for of in kind]) for kind in (counts.hits, counts.predicted)
        )
        size_of_both = actual + predicted
        total = np.asarray(size_of_both.sum(axis=1, keepdims=True))
        f1 = f1_from_counts(hits.sum(axis=1, keepdims=True), n, total - n)
        return 2 * hits, size_of_both, np.where(present, f1, 0.0), np.maximum(total, 1.0)

    def mean(by_class: FloatArray) -> FloatArray:
        """Mean (G,) over replicates and the classes present of (S, G, C)."""
        return np.asarray(by_class[..., present].sum(axis=-1).mean(axis=0) / classes)

    a_right, a_size, a_f1, a_total = counted(one)
    found = []
    for other in others:
        b_right, b_size, b_f1, b_total = counted(other)
        f1, total = (a_f1 + b_f1) / 2, (a_total + b_total) / 2
        contributions = mean((a_right - b_right - f1 * (a_size - b_size)) / total)
        errors = mean((a_right - a_f1 * a_size) / a_total - (b_right - b_f1 * b_size) / b_total)
        effect = (2 - f1.mean(axis=(0, 1))) * size / (total.mean(axis=(0, 1)) + added * size)
        least = added * float((effect[present] ** 2).sum()) / classes**2
        found.append(_Difference(contributions, errors, len(first), least))
    return found


def probability_best(
    tables: Tables, objective: Objective, *, resamples: int = 2000, seed: int = 0
) -> dict[str, float]:
    """Proportion of group bootstrap resamples in which each candidate is best in the objective; they sum to 1.

    Candidates with the same values share a resample, as in `paired.probability_best`.
    """
    if objective.name == "balanced_accuracy":
        return paired.probability_best(tables, resamples=resamples, seed=seed)
    firsts = np.zeros(len(tables))
    strata = Sample(next(iter(tables.values()))).strata
    if isinstance(objective, MeanOverImages):
        counts, scores = _means_by_group(tables, objective)
    elif isinstance(objective, WorstGroup):
        counts, scores = _cells_by_group(tables, objective)
        strata = _cells(next(iter(tables.values())), objective).strata
    else:
        counts, scores = _counts_by_group(tables)

    def note(summed: FloatArray) -> FloatArray:
        score = scores(summed).round(objective.digits)
        best = score == score.max(axis=1, keepdims=True)
        firsts[:] += (best / best.sum(axis=1, keepdims=True)).sum(axis=0)
        return score

    group_bootstrap(counts, strata, note, resamples=resamples, seed=seed)
    return dict(zip(tables, (firsts / resamples).tolist(), strict=True))


def _means_by_group(tables: Tables, objective: MeanOverImages) -> tuple[sparse.csr_array, _Scores]:
    """(G, 1 + M) images and summed scores of each candidate's images, and the means of summed ones (R, M)."""
    group = Sample(next(iter(tables.values()))).group
    columns = [None, *(objective.image_scores(replicates) for replicates in tables.values())]
    by_group = np.stack([np.bincount(group, column) for column in columns], axis=1)
    return sparse.csr_array(by_group.astype(np.float64)), lambda summed: summed[:, 1:] / summed[:, :1]


def _cells_by_group(tables: Tables, objective: WorstGroup) -> tuple[sparse.csr_array, _Scores]:
    """(G, V C (1 + M)) images and correct ones of each candidate, and the lowest balanced accuracies (R, M)."""
    cells = [_cells(replicates, objective) for replicates in tables.values()]
    by_group = sparse.hstack([cells[0].images, *(of_each.hits for of_each in cells)], format="csr")

    def scores(summed: FloatArray) -> FloatArray:
        of_cells = summed.reshape(len(summed), 1 + len(cells), len(objective.values), -1)
        return lowest_balanced_accuracy(of_cells[:, 1:], of_cells[:, :1])

    return by_group, scores


def _counts_by_group(tables: Tables) -> tuple[sparse.csr_array, _Scores]:
    """(G, C + 2 M S C) images, and for each candidate those predicted and correct; and macro-F1 of summed ones (R, M)."""
    counts = [Sample(replicates).counts for replicates in tables.values()]
    seeds, classes = len(counts[0].predicted), counts[0].actual.shape[1]
    of_each = [part for one in counts for part in (*one.predicted, *one.hits)]
    by_group = sparse.hstack([counts[0].actual, *of_each], format="csr")

    def scores(summed: FloatArray) -> FloatArray:
        actual = summed[:, None, None, :classes]
        predicted, hits = np.split(
            summed[:, classes:].reshape(len(summed), -1, 2 * seeds, classes), 2, axis=2
        )
        f1 = f1_from_counts(hits, actual, predicted)
        return np.asarray(mean_over(f1, np.broadcast_to(actual > 0, f1.shape)).mean(axis=2))

    return by_group, scores

"""Paired comparison of models on the same images: difference in balanced accuracy and sign-flip permutation test."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from tametail.core.arrays import FloatArray
from tametail.evaluation.correctness import Correctness, correctness
from tametail.evaluation.paired_interval import difference_limits, difference_standard_error
from tametail.evaluation.permutation_test import permutation_p
from tametail.evaluation.proportions import Estimate
from tametail.evaluation.verdicts import SIGNIFICANCE_LEVEL, Verdict, holm, required_sample_size, verdict
from tametail.predictions.single_label import Predictions

PAIRED_QUESTION = (
    "Would these trained models differ in balanced accuracy on other images of this kind? The images are a random "
    "sample and the models are fixed, so the answer is about these models, not about the methods that trained them: "
    "another seed or another training set gives another model."
)
_DRAWS_PER_PAIR = 4.0  # / level: the smallest possible p is then a quarter of Holm's first step
_LOW = 10.0  # times Holm's first step: a smaller p gets more draws
_REVERSED: dict[Verdict, Verdict] = {
    "better": "worse",
    "worse": "better",
    "no significant difference": "no significant difference",
}


@dataclass(frozen=True)
class Paired:
    """Model a compared with model b on the same images.

    Attributes:
        difference: balanced accuracy of a minus that of b, in -1..1, with its 95 % interval; n counts images.
        p: of the sign-flip test with groups as units, of this pair alone.
        p_holm: p after Holm's correction over all pairs of the table.
        verdict: on a; significant if ``p_holm`` is at most 5 % and the interval excludes 0, see `verdicts.verdict`.
        required_sample_size: additional test images for a power of 80 % in this table, see
            `verdicts.required_sample_size`; 0 if the difference is significant, None if it is 0.
        groups: distinct groups, the units of the test.
        discordant: groups on which the models differ; the test depends on these alone.
        standard_error: of the difference, with groups as units; the interval is based on it.
    """

    difference: Estimate
    p: float
    p_holm: float
    verdict: Verdict
    required_sample_size: int | None
    groups: int
    discordant: int
    standard_error: float

    def reversed(self) -> Paired:
        """Model b compared with model a."""
        d = self.difference
        turned = Estimate(0.0 - d.value, 0.0 - d.high, 0.0 - d.low, d.n)
        return replace(self, difference=turned, verdict=_REVERSED[self.verdict])


@dataclass(frozen=True)
class PairedTable:
    """All pairs of the models ``names``; ``pairs`` has those with i < j, in the order of `itertools.combinations`."""

    names: tuple[str, ...]
    pairs: tuple[Paired, ...]

    def pair(self, i: int, j: int) -> Paired:
        """Model i compared with model j.

        Raises:
            ValueError: no such pair of two different models.
        """
        count = len(self.names)
        if i == j or not (0 <= i < count and 0 <= j < count):
            raise ValueError(f"expected two different models in 0..{count - 1}, got {i} and {j}")
        low, high = min(i, j), max(i, j)
        found = self.pairs[low * count - low * (low + 1) // 2 + high - low - 1]
        return found if i < j else found.reversed()


def paired_table(
    replicates_by_name: Mapping[str, Sequence[Predictions]], *, resamples: int = 10_000, seed: int = 0
) -> PairedTable:
    """Compare all pairs of models in balanced accuracy on the same images.

    Under the null hypothesis the two models are exchangeable on a group (patient, lesion): its contribution
    ``d_g = sum_c (hits_a - hits_b) / (C n_c)`` is equally likely to have either sign. Hits are means over the replicates,
    C counts the classes present. A paired bootstrap has more false positives where classes are rare
    (``make false-alarms``). If the models differ in every class and only their balanced accuracies are equal, the test
    is approximate; so a verdict also requires the interval. The p of a pair does not depend on the other models of
    the table, except for the number of draws; its ``p_holm`` does.

    Args:
        replicates_by_name: for each model, tables over the same images, e.g. one per seed (folds joined).
        resamples: of the test, if its signs cannot be enumerated. Pairs with the smallest possible p get more draws,
            4 / 0.05 for each pair of the table, so that no number of pairs alone makes significance impossible.
        seed: of the test; the same seed gives the same p.

    Raises:
        ValueError: no model, a model without tables, or tables that differ in images, groups, targets or classes.
    """
    counted = correctness(replicates_by_name)
    indices = list(combinations(range(len(counted.names)), 2))
    return PairedTable(counted.names, _compare(counted, indices, resamples, seed))


def against_one(
    replicates_by_name: Mapping[str, Sequence[Predictions]],
    one: str,
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> dict[str, Paired]:
    """Compare one model with each of the others in balanced accuracy, as `paired_table` does with every two.

    Holm's correction is over these comparisons alone, one for each other model: fewer than all pairs, so that the power
    is higher.

    Args:
        replicates_by_name: as for `paired_table`.
        one: the model a of each pair.
        resamples, seed: as for `paired_table`.

    Returns:
        By the other model's name, in the given order; empty if there is no other.

    Raises:
        ValueError: as `paired_table`, or an unknown name.
    """
    counted = correctness(replicates_by_name)
    if one not in counted.names:
        raise ValueError(f"expected one of {', '.join(counted.names)}, got {one!r}")
    place = counted.names.index(one)
    others = [at for at in range(len(counted.names)) if at != place]
    compared = _compare(counted, [(place, other) for other in others], resamples, seed)
    return {counted.names[other]: pair for other, pair in zip(others, compared, strict=True)}


def _compare(
    counted: Correctness, indices: Sequence[tuple[int, int]], resamples: int, seed: int
) -> tuple[Paired, ...]:
    """Compare model i with model j for each of the pairs (i, j), adjusted for all of them."""
    differences = [counted.differences(i, j) for i, j in indices]
    flipped = [counted.contributions(of_pair) for of_pair in differences]
    p = np.array([_p(d, resamples, len(indices), seed) for d in flipped])
    pairs = []
    for of_pair, d, own, corrected in zip(differences, flipped, p, holm(p), strict=True):
        difference = _difference(counted, of_pair)
        found = verdict(difference, float(corrected))
        # The first step of Holm's correction, which the smallest p of the table has to pass.
        more = required_sample_size(d, difference, level=SIGNIFICANCE_LEVEL / len(indices))
        significant = found != "no significant difference"
        pairs.append(
            Paired(
                difference=difference,
                p=float(own),
                p_holm=float(corrected),
                verdict=found,
                required_sample_size=0 if significant else more,
                groups=counted.groups,
                discordant=int(np.count_nonzero(np.abs(d) > 1e-12)),
                standard_error=difference_standard_error(
                    of_pair, counted.images, counted.group, counted.of_class
                ),
            )
        )
    return tuple(pairs)


def _p(contributions: FloatArray, resamples: int, pairs: int, seed: int) -> float:
    p = permutation_p(contributions, resamples=resamples, seed=seed)
    enough = math.ceil(_DRAWS_PER_PAIR / SIGNIFICANCE_LEVEL * pairs)
    if p > _LOW * SIGNIFICANCE_LEVEL / pairs or enough <= resamples:
        return p
    return permutation_p(contributions, resamples=enough, seed=seed)


def describe(paired: Paired, a: str, b: str) -> str:
    """Describe the comparison of model ``a`` with ``b`` in one sentence."""
    d = paired.difference
    verb = {
        "better": "is better than",
        "worse": "is worse than",
        "no significant difference": "is not significantly different from",
    }
    points = f"{100 * d.value:+.1f} points of balanced accuracy ({100 * d.low:+.1f} to {100 * d.high:+.1f})"
    p = "p < 0.001" if paired.p_holm < 0.001 else f"p = {paired.p_holm:.2g}"
    text = f"{a} {verb[paired.verdict]} {b}: {points}, {p}"
    if paired.verdict != "no significant difference":
        return f"{text}."
    if paired.required_sample_size == 0:
        return f"{text}; not significant after adjustment for multiple testing."
    if paired.required_sample_size is None:
        return f"{text}; no sample size would make this difference significant."
    return f"{text}; about {_about(paired.required_sample_size)} more test images like these would make a difference of this size significant."


def _about(count: int) -> str:
    """Round up to two significant digits: 160,000."""
    step = 10 ** max(len(str(count)) - 2, 0)
    return f"{-(-count // step) * step:,}"


def _difference(counted: Correctness, differences: FloatArray) -> Estimate:
    n = np.bincount(counted.of_class, weights=counted.images)
    value = float((np.bincount(counted.of_class, weights=differences) / n).mean())
    value = 0.0 if abs(value) < 1e-12 else value
    low, high = difference_limits(differences, counted.images, counted.group, counted.of_class)
    return Estimate(value, min(low, value), max(high, value), len(counted.target))

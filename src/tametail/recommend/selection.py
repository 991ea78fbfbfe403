"""Selects the candidate to recommend: the simplest within one standard error of the best; tests qualify the selection.

All of it is in the objective, and the best is that of the lowest log-loss where the objective is log-loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tametail.evaluation.paired import Paired
from tametail.predictions.single_label import Predictions
from tametail.recommend.candidates import BASELINE, Candidate
from tametail.recommend.comparisons import against_one
from tametail.recommend.objective import Objective


def rule(objective: Objective) -> str:
    """The rule of selection in words."""
    return (
        "The selection follows the one-standard-error rule (Breiman, Friedman, Olshen and Stone 1984): the simplest candidate "
        f"with a {objective.title} within one standard error of the {objective.extreme}, unless a simpler candidate has a better "
        "one. The standard error is that of the paired difference on the same images, with groups as units. Order of "
        "simplicity: nothing, then post-hoc adjustments, then another loss, then a second training; within a step fewer tuned "
        f"parameters, then the better {objective.title}. Tests play no part in the selection; they show how certain it is."
    )


@dataclass(frozen=True)
class Selection:
    """The recommended candidate and the tests that compare it with the others.

    Attributes:
        recommended: name of the candidate to use.
        best: the one with the best value of the objective.
        ranking: all candidates by the objective, the best first.
        near: those within one standard error of the best, in the order of the ranking.
        indistinguishable: those that do not differ significantly from the best, in the order of the ranking.
        against_best: paired tests, the best compared with each other candidate; above 0 where the best is better.
        against_baseline: paired tests, plain cross-entropy compared with each other candidate, likewise.
    """

    recommended: str
    best: str
    ranking: tuple[str, ...]
    near: tuple[str, ...]
    indistinguishable: tuple[str, ...]
    against_best: Mapping[str, Paired]
    against_baseline: Mapping[str, Paired]

    def from_best(self, name: str) -> Paired | None:
        """A candidate compared with the best; None for the best itself."""
        return None if name == self.best else self.against_best[name].reversed()

    def from_baseline(self, name: str) -> Paired | None:
        """A candidate compared with plain cross-entropy; above 0 where it is better. None for plain cross-entropy itself."""
        return None if name == BASELINE else self.against_baseline[name].reversed()

    def standard_errors_below(self, name: str) -> float:
        """How far a candidate is below the best, in standard errors of their difference; 0 for the best."""
        if name == self.best:
            return 0.0
        pair = self.against_best[name]
        return pair.difference.value / pair.standard_error if pair.difference.value else 0.0

    @property
    def better_than_baseline(self) -> tuple[str, ...]:
        """Those significantly better than plain cross-entropy, in the order of the ranking."""
        tests = self.against_baseline  # the verdict is about plain cross-entropy
        return tuple(name for name in self.ranking if name != BASELINE and tests[name].verdict == "worse")


def select(
    candidates: Sequence[Candidate], tables: Mapping[str, Sequence[Predictions]], objective: Objective
) -> Selection:
    """Apply the `rule`.

    Args:
        candidates: those that have tables, including plain cross-entropy.
        tables: by the candidate's name, one table for each seed, over the same images.
        objective: to select for.
    """
    scores = {name: objective.score(replicates) for name, replicates in tables.items()}
    by_name = {candidate.name: candidate for candidate in candidates}

    def simplest_first(name: str) -> tuple[tuple[int, int], float]:
        return by_name[name].simplicity, -scores[name]

    # Of equally good candidates the simplest is called the best.
    ranking = sorted(scores, key=lambda name: (-round(scores[name], 12), simplest_first(name)))
    best = ranking[0]
    against_best = against_one(tables, best, objective)
    against_baseline = against_best if best == BASELINE else against_one(tables, BASELINE, objective)
    pairs = [(name, against_best[name]) for name in ranking[1:]]
    near = [best, *(name for name, pair in pairs if pair.difference.value <= pair.standard_error)]
    # Standard errors differ between pairs: a simpler candidate may rank above one that is near and not be near itself.
    eligible = [
        name
        for name in near
        if not any(
            by_name[higher].simplicity < by_name[name].simplicity for higher in ranking[: ranking.index(name)]
        )
    ]
    return Selection(
        recommended=min(eligible, key=simplest_first),
        best=best,
        ranking=tuple(ranking),
        near=tuple(near),
        indistinguishable=(
            best,
            *(name for name, pair in pairs if pair.verdict == "no significant difference"),
        ),
        against_best=against_best,
        against_baseline=against_baseline,
    )

"""Selects the candidate to recommend: the simplest within one standard error of the best; tests qualify the selection.

All of it is in the objective, and the best is that of the lowest log-loss where the objective is log-loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tametail.evaluation.paired import Paired
from tametail.recommend.candidates import BASELINE, Candidate
from tametail.recommend.comparisons import Tables, against_one, differences
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
class Choice:
    """The recommended candidate, and what it was chosen from.

    Attributes:
        recommended: name of the candidate to use.
        best: the one with the best value of the objective.
        ranking: all candidates by the objective, the best first.
        near: those within one standard error of the best, in the order of the ranking.
    """

    recommended: str
    best: str
    ranking: tuple[str, ...]
    near: tuple[str, ...]


@dataclass(frozen=True)
class Selection(Choice):
    """The recommended candidate and the tests that compare it with the others.

    Attributes:
        indistinguishable: those that do not differ significantly from the best, in the order of the ranking.
        against_best: paired tests, the best compared with each other candidate; above 0 where the best is better.
        against_baseline: paired tests, plain cross-entropy compared with each other candidate, likewise.
    """

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
        return max(pair.difference.value / pair.standard_error, 0.0)  # below 0 by rounding alone

    @property
    def better_than_baseline(self) -> tuple[str, ...]:
        """Those significantly better than plain cross-entropy, in the order of the ranking."""
        tests = self.against_baseline  # the verdict is about plain cross-entropy
        return tuple(name for name in self.ranking if name != BASELINE and tests[name].verdict == "worse")


def choose(candidates: Sequence[Candidate], tables: Tables, objective: Objective) -> Choice:
    """Apply the `rule`.

    Args:
        candidates: those that have tables, including plain cross-entropy.
        tables: by the candidate's name, one table for each seed, over the same images.
        objective: to choose for.
    """
    scores = {
        name: round(objective.score(replicates), objective.digits) for name, replicates in tables.items()
    }
    by_name = {candidate.name: candidate for candidate in candidates}

    def simplest_first(name: str) -> tuple[tuple[int, int], float]:
        return by_name[name].simplicity, -scores[name]

    # Of equally good candidates the simplest is called the best.
    ranking = sorted(scores, key=lambda name: (-scores[name], simplest_first(name)))
    best = ranking[0]
    from_best = differences(tables, best, objective)
    near = [best, *(name for name in ranking[1:] if from_best[name][0] <= from_best[name][1])]
    # Standard errors differ between pairs: a simpler candidate may rank above one that is near and not be near itself.
    eligible = [
        name
        for name in near
        if not any(
            by_name[higher].simplicity < by_name[name].simplicity for higher in ranking[: ranking.index(name)]
        )
    ]
    return Choice(min(eligible, key=simplest_first), best, tuple(ranking), tuple(near))


def select(candidates: Sequence[Candidate], tables: Tables, objective: Objective) -> Selection:
    """Choose a candidate, and test it against the others; arguments as for `choose`."""
    choice = choose(candidates, tables, objective)
    best = choice.best
    against_best = against_one(tables, best, objective)
    alike = [name for name, pair in against_best.items() if pair.verdict == "no significant difference"]
    return Selection(
        **vars(choice),
        indistinguishable=tuple(name for name in choice.ranking if name == best or name in alike),
        against_best=against_best,
        against_baseline=against_best if best == BASELINE else against_one(tables, BASELINE, objective),
    )

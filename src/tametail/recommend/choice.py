"""Which candidate to use: the simplest within one standard error of the best, and what tests say of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tametail.evaluation.metrics import balanced_accuracy, confusion_matrix
from tametail.evaluation.paired import Paired, against_one
from tametail.predictions.single_label import Predictions
from tametail.recommend.candidates import PLAIN, Candidate

RULE = (
    "The rule is that of one standard error (Breiman, Friedman, Olshen and Stone 1984): the simplest candidate whose balanced "
    "accuracy is within one standard error of the highest, unless a simpler one's is higher than its own. The standard error "
    "is that of the paired difference on the same images, with groups as units. Simplicity: nothing, then what follows the "
    "same training, then another loss, then training twice; within a step fewer chosen numbers, then the higher balanced "
    "accuracy. Tests do not choose; they say how sure the choice is."
)


@dataclass(frozen=True)
class Choice:
    """What is recommended, and how sure tests are of it.

    Attributes:
        use: the candidate to use.
        best: the one of the highest balanced accuracy.
        ranking: all of them by balanced accuracy, the best first.
        near: those within one standard error of the best, in the order of the ranking, the best first.
        alike: those that are not significantly different from the best, in the order of the ranking, the best first.
        against_best: the best beside each other one.
        against_plain: plain cross-entropy beside each other one.
    """

    use: str
    best: str
    ranking: tuple[str, ...]
    near: tuple[str, ...]
    alike: tuple[str, ...]
    against_best: Mapping[str, Paired]
    against_plain: Mapping[str, Paired]

    def standard_errors_below(self, name: str) -> float:
        """How far a candidate is below the best, in standard errors of the difference of the two; 0 for the best."""
        if name == self.best:
            return 0.0
        pair = self.against_best[name]
        return pair.difference.value / pair.standard_error

    @property
    def beats_plain(self) -> tuple[str, ...]:
        """Those that are better than plain cross-entropy by test, in the order of the ranking."""
        return tuple(
            name
            for name in self.ranking
            if name != PLAIN and self.against_plain[name].verdict == "worse"  # said of plain cross-entropy
        )


def choose(candidates: Sequence[Candidate], tables: Mapping[str, Sequence[Predictions]]) -> Choice:
    """Apply the ``RULE``.

    Args:
        candidates: those that have tables, plain cross-entropy among them.
        tables: by the candidate's name, one per seed, over the same images.
    """
    scores = {name: _score(of_seeds) for name, of_seeds in tables.items()}
    by_name = {candidate.name: candidate for candidate in candidates}

    def simplest_first(name: str) -> tuple[tuple[int, int], float]:
        return by_name[name].simplicity, -scores[name]

    # Of equally good ones the simplest is called the best.
    ranking = sorted(scores, key=lambda name: (-round(scores[name], 12), simplest_first(name)))
    best = ranking[0]
    against_best = against_one(tables, best)
    against_plain = against_best if best == PLAIN else against_one(tables, PLAIN)
    alike = [
        name for name in ranking if name == best or against_best[name].verdict == "no significant difference"
    ]
    near = [name for name in ranking if name == best or _within_one_standard_error(against_best[name])]
    # Standard errors differ from pair to pair: a simpler one may lie between a candidate and the best, and not be near.
    worth_it = [
        name
        for name in near
        if not any(
            by_name[higher].simplicity < by_name[name].simplicity for higher in ranking[: ranking.index(name)]
        )
    ]
    use = min(worth_it, key=simplest_first)
    return Choice(use, best, tuple(ranking), tuple(near), tuple(alike), against_best, against_plain)


def _within_one_standard_error(best_beside_it: Paired) -> bool:
    return best_beside_it.difference.value <= best_beside_it.standard_error


def _score(replicates: Sequence[Predictions]) -> float:
    of_seeds = [
        float(balanced_accuracy(confusion_matrix(t.target, t.predicted, len(t.class_names))))
        for t in replicates
    ]
    return sum(of_seeds) / len(of_seeds)

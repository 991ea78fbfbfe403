"""Which candidate to use: the simplest that the evidence does not tell apart from the best, and how it was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tametail.evaluation.metrics import balanced_accuracy, confusion_matrix
from tametail.evaluation.paired import Paired, against_one
from tametail.predictions import Predictions
from tametail.recommending.candidates import PLAIN, Candidate

RULE = (
    "The rule, fixed beforehand: plain cross-entropy where it is not told apart from the candidate of the highest balanced "
    "accuracy; otherwise the simplest of those that are not told apart from that one and are better than plain "
    "cross-entropy by test; where there are none, that one. Simplicity: nothing, then what follows the same training, then "
    "another loss, then training twice; within a step fewer chosen numbers, then the higher balanced accuracy."
)


@dataclass(frozen=True)
class Choice:
    """What is recommended, and the tests behind it.

    Attributes:
        use: the candidate to use.
        best: the one of the highest balanced accuracy.
        ranking: all of them by balanced accuracy, the best first.
        alike: those that are not told apart from the best, in the order of the ranking, the best first.
        against_best: the best beside each other one.
        against_plain: plain cross-entropy beside each other one.
    """

    use: str
    best: str
    ranking: tuple[str, ...]
    alike: tuple[str, ...]
    against_best: Mapping[str, Paired]
    against_plain: Mapping[str, Paired]

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
    alike = [name for name in ranking if name == best or against_best[name].verdict == "not told apart"]
    better = [name for name in alike if name != PLAIN and against_plain[name].verdict == "worse"]
    use = PLAIN if PLAIN in alike else min(better, key=simplest_first, default=best)
    return Choice(use, best, tuple(ranking), tuple(alike), against_best, against_plain)


def _score(replicates: Sequence[Predictions]) -> float:
    of_seeds = [
        float(balanced_accuracy(confusion_matrix(t.target, t.predicted, len(t.class_names))))
        for t in replicates
    ]
    return sum(of_seeds) / len(of_seeds)

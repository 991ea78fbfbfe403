"""Selects the candidate to recommend: the simplest within one standard error of the best; tests qualify the selection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tametail.evaluation.metrics import balanced_accuracy, confusion_matrix
from tametail.evaluation.paired import Paired, against_one
from tametail.predictions.single_label import Predictions
from tametail.recommend.candidates import BASELINE, Candidate

RULE = (
    "The selection follows the one-standard-error rule (Breiman, Friedman, Olshen and Stone 1984): the simplest candidate with a "
    "balanced accuracy within one standard error of the highest, unless a simpler candidate has a higher one. The standard error "
    "is that of the paired difference on the same images, with groups as units. Order of simplicity: nothing, then post-hoc "
    "adjustments, then another loss, then a second training; within a step fewer tuned parameters, then higher balanced "
    "accuracy. Tests play no part in the selection; they show how certain it is."
)


@dataclass(frozen=True)
class Selection:
    """The recommended candidate and the tests that compare it with the others.

    Attributes:
        recommended: name of the candidate to use.
        best: the one with the highest balanced accuracy.
        ranking: all candidates by balanced accuracy, the best first.
        near: those within one standard error of the best, in the order of the ranking.
        indistinguishable: those that do not differ significantly from the best, in the order of the ranking.
        against_best: paired tests, the best minus each other candidate.
        against_baseline: paired tests, plain cross-entropy minus each other candidate.
    """

    recommended: str
    best: str
    ranking: tuple[str, ...]
    near: tuple[str, ...]
    indistinguishable: tuple[str, ...]
    against_best: Mapping[str, Paired]
    against_baseline: Mapping[str, Paired]

    def from_best(self, name: str) -> Paired | None:
        """A candidate minus the best; None for the best itself."""
        return None if name == self.best else self.against_best[name].reversed()

    def from_baseline(self, name: str) -> Paired | None:
        """A candidate minus plain cross-entropy; None for the latter itself."""
        return None if name == BASELINE else self.against_baseline[name].reversed()

    def standard_errors_below(self, name: str) -> float:
        """How far a candidate is below the best, in standard errors of their difference; 0 for the best."""
        if name == self.best:
            return 0.0
        pair = self.against_best[name]
        return pair.difference.value / pair.standard_error

    @property
    def better_than_baseline(self) -> tuple[str, ...]:
        """Those significantly better than plain cross-entropy, in the order of the ranking."""
        tests = self.against_baseline  # the verdict is about plain cross-entropy
        return tuple(name for name in self.ranking if name != BASELINE and tests[name].verdict == "worse")


def select(candidates: Sequence[Candidate], tables: Mapping[str, Sequence[Predictions]]) -> Selection:
    """Apply the ``RULE``.

    Args:
        candidates: those that have tables, including plain cross-entropy.
        tables: by the candidate's name, one table for each seed, over the same images.
    """
    scores = {name: _balanced_accuracy(replicates) for name, replicates in tables.items()}
    by_name = {candidate.name: candidate for candidate in candidates}

    def simplest_first(name: str) -> tuple[tuple[int, int], float]:
        return by_name[name].simplicity, -scores[name]

    # Of equally good candidates the simplest is called the best.
    ranking = sorted(scores, key=lambda name: (-round(scores[name], 12), simplest_first(name)))
    best = ranking[0]
    against_best = against_one(tables, best)
    against_baseline = against_best if best == BASELINE else against_one(tables, BASELINE)
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


def _balanced_accuracy(replicates: Sequence[Predictions]) -> float:
    values = [
        float(balanced_accuracy(confusion_matrix(t.target, t.predicted, len(t.class_names))))
        for t in replicates
    ]
    return sum(values) / len(values)

"""All that a recommendation rests on, from the readings of the trainings. No torch.

Shape legend: S seeds, n images of the training set, C classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tametail.evaluation import Evaluation, evaluate
from tametail.evaluation.paired import Paired, against_one
from tametail.evaluation.probability_best import probability_best
from tametail.predictions.single_label import Predictions
from tametail.recommend.candidates import PLAIN, Candidate
from tametail.recommend.choice import Choice, choose
from tametail.recommend.nested import AllOutputs, Pick, final_pick, inner_of, out_of_fold, outer_picks

_FOLLOWED = "what the other folds say"


@dataclass(frozen=True, eq=False)
class Images:
    """The training set: n images, in the order of the readings' rows.

    Attributes:
        image, group: (n,).
        class_names: C.
    """

    image: NDArray[np.str_]
    group: NDArray[np.str_]
    class_names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class CandidateResult:
    """A candidate and what came of it.

    Attributes:
        result: out of fold, with recall of many-, medium- and few-shot classes.
        first: the share of group bootstrap resamples in which it comes first.
        picks: what was chosen for each fold.
        final: what is chosen by all folds together, for images yet to come.
    """

    candidate: Candidate
    result: Evaluation
    first: float
    picks: tuple[Pick, ...]
    final: Pick


@dataclass(frozen=True, eq=False)
class Followed:
    """What comes of a choice that is made on the other folds and judged on the fold left out, for each fold.

    Attributes:
        result: of all folds together.
        used: for each fold the candidate that the other folds say.
        gain: beside plain cross-entropy on the same images; one comparison, not corrected.
    """

    result: Evaluation
    used: tuple[str, ...]
    gain: Paired

    @property
    def counted(self) -> list[tuple[str, int]]:
        """The candidates and in how many folds each was chosen, the most frequent first."""
        return Counter(self.used).most_common()


@dataclass(frozen=True, eq=False)
class Findings:
    """A recommendation and what it rests on.

    Attributes:
        choice: what to use, and the tests.
        tried: by name, in the order of the ranking.
        followed: the nested estimate of the recommendation.
        highest: the nested estimate of taking, instead, the candidate of the highest balanced accuracy.
        failed: by the candidate's name, why it has no result.
    """

    choice: Choice
    tried: Mapping[str, CandidateResult]
    followed: Followed
    highest: Followed
    failed: Mapping[str, str]

    @property
    def first_adjusting(self) -> float:
        """The share of resamples in which one that adjusts for the classes' numbers comes first."""
        return sum(tried.first for tried in self.tried.values() if tried.candidate.adjusts)


def find(
    candidates: Sequence[Candidate],
    readings: AllOutputs,
    images: Images,
    failed: Mapping[str, str],
    advance: Callable[[int], None] = lambda _: None,
) -> Findings:
    """Judge every candidate out of fold, choose, and estimate what following such a choice comes to.

    Args:
        candidates: whose methods have readings in every training; plain cross-entropy is among them.
        failed: those left out, with the reason.
        advance: is told of each fold for which the choice was made without it.
    """
    picks = {candidate.name: outer_picks(candidate, readings) for candidate in candidates}
    logits = {name: out_of_fold(readings, chosen) for name, chosen in picks.items()}
    everyone = np.arange(len(readings.target))
    tables = {name: _tables(readings, images, everyone, of_one) for name, of_one in logits.items()}
    choice = choose(candidates, tables)
    counts = np.bincount(readings.target, minlength=readings.classes).tolist()
    first = probability_best(tables)
    by_name = {candidate.name: candidate for candidate in candidates}
    tried = {
        name: CandidateResult(
            by_name[name],
            evaluate(tables[name], train_counts=counts),
            first[name],
            tuple(picks[name]),
            final_pick(by_name[name], readings),
        )
        for name in choice.ranking
    }
    nested = []
    for outer in range(readings.folds):
        nested.append(_choice_without(candidates, readings, images, outer))
        advance(1)
    followed, highest = (
        _follow(readings, images, logits, tables[PLAIN], used)
        for used in ([one.use for one in nested], [one.best for one in nested])
    )
    return Findings(choice, tried, followed, highest, failed)


def _choice_without(
    candidates: Sequence[Candidate], readings: AllOutputs, images: Images, outer: int
) -> Choice:
    """What would be recommended without fold ``outer``, by trainings that have not seen it."""
    rows = np.flatnonzero(readings.fold != outer)
    inner = {
        candidate.name: _tables(readings, images, rows, inner_of(candidate, readings, outer))
        for candidate in candidates
    }
    return choose(candidates, inner)


def _follow(
    readings: AllOutputs,
    images: Images,
    logits: Mapping[str, NDArray[np.float64]],
    plain: Sequence[Predictions],
    used: Sequence[str],
) -> Followed:
    """Judge each fold by the candidate ``used`` for it."""
    found = np.empty_like(logits[PLAIN])
    for fold, name in enumerate(used):
        held_out = readings.fold == fold
        found[:, held_out] = logits[name][:, held_out]
    tables = _tables(readings, images, np.arange(len(readings.target)), found)
    gain = against_one({_FOLLOWED: tables, PLAIN: plain}, _FOLLOWED)[PLAIN]
    return Followed(evaluate(tables), tuple(used), gain)


def _tables(
    readings: AllOutputs, images: Images, rows: NDArray[np.int64], logits: NDArray[np.float64]
) -> list[Predictions]:
    """One table for each seed, of logits (S, rows, C). Only which of them is largest is looked at here."""
    return [
        Predictions(
            images.image[rows],
            images.group[rows],
            readings.target[rows],
            readings.fold[rows],
            of_seed.astype(np.float32),
            images.class_names,
            "softmax",
        )
        for of_seed in logits
    ]

"""What a report says in words: numbers with intervals, the answer, and the state of the test set.

The wording claims no more than the numbers carry: a ranking by estimates is not a test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tametail.report.formatting import images_and_groups, join_names, percent_in_words, sentence_case, times
from tametail.report.study.results import MethodResults, StudyResults, headline
from tametail.storage.study_file import folds_to_run

SYNTHETIC = "Synthetic demo images: these numbers say nothing about real blood cells."


@dataclass(frozen=True)
class Narrative:
    """What is compared, on which images: in a study losses, out of fold; in an evaluation models, on these images."""

    where: str
    method: str
    methods: str
    images: str


def narrative_of(results: StudyResults) -> Narrative:
    """The words that fit what is reported."""
    if results.evaluated:
        return Narrative("on these images", "model", "models", "images")
    return Narrative("out of fold", "method", "methods", "training images")


def answer(results: StudyResults) -> list[str]:
    """The answer to "which loss?": what is best out of fold and how significant that is, then the test set."""
    if not results.ranking:
        states = join_names([f"{result.method} ({result.status})" for result in results.methods])
        return [
            f"No answer yet: no loss has all its runs finished: {states}.",
            "Repeat the same compare command; what is finished is kept.",
        ]
    best = results.ranking[0]
    log_posterior = best.log_posterior
    assert log_posterior is not None
    shared = [result.method for result in results.ranking[1:] if result.score == best.score]
    first = (
        f"{sentence_case(narrative_of(results).where)}, {best.method} has the highest {results.headline}{_shared(shared)}: "
        f"{percent_in_words(headline(log_posterior))}, n = {images_and_groups(log_posterior.n, log_posterior.groups)}."
    )
    if len(results.methods) == 1:
        first = (
            f"{sentence_case(narrative_of(results).where)}, {best.method} has a {results.headline} of {percent_in_words(headline(log_posterior))}, "
            f"n = {images_and_groups(log_posterior.n, log_posterior.groups)}."
        )
    return [first, _how_sure(results)]


def _shared(others: Sequence[str]) -> str:
    return f", shared with {join_names(others)}" if others else ""


def _how_sure(results: StudyResults) -> str:
    best, *others = results.ranking
    if not others and results.evaluated:
        return "It is the only model, so nothing is compared."
    if not others:
        lock = "of this study" if len(results.methods) == 1 else "with all its runs finished"
        return f"It is the only loss {lock}, so nothing is compared yet."
    if results.pairs is not None:
        return _by_tests(results)
    overlapping = [other.method for other in others if _overlap(best, other)]
    if not overlapping:
        return (
            f"No other loss's interval overlaps with that of {best.method}; "
            "but the ranking orders estimates and is not a test: no paired test has been made."
        )
    which = (
        f"The interval{'s' if len(overlapping) > 1 else ''} of {join_names(overlapping)}"
        if len(overlapping) <= 3
        else f"The intervals of {_how_many(len(overlapping), len(others))} other losses"
    )
    verb = "overlap" if len(overlapping) > 1 else "overlaps"
    return (
        f"{which} {verb} with that of {best.method}, so these intervals do not tell them apart; "
        "the ranking orders estimates and is not a test."
    )


def _by_tests(results: StudyResults) -> str:
    """What the paired tests of the best loss against each other say."""
    assert results.pairs is not None
    others = results.ranking[1:]
    verdicts = [results.pairs.pair(0, place).verdict for place in range(1, len(others) + 1)]
    said = []
    for verdict, words in (
        ("better", "better than"),
        ("no significant difference", "not significantly different from"),
        ("worse", "worse than"),
    ):
        names = [other.method for other, found in zip(others, verdicts, strict=True) if found == verdict]
        said += (
            [f"{words} {_some(names, len(others), any_=verdict == 'no significant difference')}"]
            if names
            else []
        )
    pairs = len(results.ranking) * len(others) // 2
    corrected = f", corrected for all {pairs} comparisons" if pairs > 1 else ""
    return f"In paired tests on the same images{corrected}, it is {'; '.join(said)}."


def _some(names: Sequence[str], of: int, *, any_: bool) -> str:
    if len(names) > 4:
        return (
            f"any of the {of} others" if any_ and len(names) == of else f"{_how_many(len(names), of)} others"
        )
    return join_names(names)


def _how_many(some: int, all_: int) -> str:
    return f"all {all_}" if some == all_ else f"{some} of the {all_}"


def _overlap(one: MethodResults, other: MethodResults) -> bool:
    assert one.log_posterior is not None
    assert other.log_posterior is not None
    a, b = headline(one.log_posterior), headline(other.log_posterior)
    # An undefined interval excludes nothing.
    return not (a.low > b.high or b.low > a.high)


def best_on_test(results: StudyResults) -> list[str]:
    """What the best loss reaches on the test set, in a sentence; nothing while it is held out for it."""
    best = results.ranking[0] if results.ranking else None
    if best is None or best.on_test is None:
        return []
    test, ensemble = best.on_test
    return [
        f"On it, the {test.replicates} fold models of {best.method} reach {percent_in_words(headline(test))} {results.headline} on "
        f"average and their ensemble {percent_in_words(headline(ensemble))}; n = {images_and_groups(test.n, test.groups)}."
    ]


def state_of_test_set(results: StudyResults) -> list[str]:
    """Whether the test set is held out or was opened, how often, and what that means."""
    images = results.counts.test_images
    if results.evaluated:
        return ["These are finished predictions: nothing was trained, held out or chosen here."]
    if not images:
        return ["This study has no test set."]
    size = images_and_groups(images, results.counts.test_groups)
    if not results.opened:
        return [
            f"The test set ({size}) is held out: it has not been looked at.",
            "When every choice is made, “tametail test-set STUDY” evaluates all finished runs on it (STUDY is the folder this "
            "report lies in); every opening is recorded here.",
        ]
    said = [f"The test set ({size}) was opened {times(len(results.openings))}."]
    if len(results.openings) > 1:
        said.append("Choices made after the first opening may lean on it, and its numbers may then flatter.")
    waiting = [result.method for result in results.ranking if result.on_test is None]
    if waiting:
        said.append(f"Not evaluated on it, as runs were added after the last opening: {join_names(waiting)}.")
    return said


def opening_in_words(opening: Mapping[str, Any]) -> str:
    """One line of the record: after which choice the test set was opened, and for which runs."""
    methods = join_names([str(method) for method in opening.get("methods", [])])
    return (
        f"Opening {opening.get('evaluation')}: best out of fold was {opening.get('best_out_of_fold')}; "
        f"{opening.get('runs')} runs ({opening.get('new_runs')} of them for the first time), losses {methods}."
    )


def folds_in_words(settings: Mapping[str, Any]) -> str:
    """``5 folds``, or which of them were held out: ``fold 0 of 5 alone`` (the first is fold 0)."""
    folds, of = folds_to_run(settings), settings["splits"]["folds"]
    if len(folds) == of:
        return f"{of} folds"
    return (
        f"{'fold' if len(folds) == 1 else 'folds'} {join_names([str(fold) for fold in folds])} of {of} alone"
    )


def all_held_out(results: StudyResults) -> bool:
    """Whether every image of the training set was held out once, so that n is its number of images."""
    settings = results.settings
    return results.evaluated or len(folds_to_run(settings)) == settings["splits"]["folds"]


def held_out(results: StudyResults) -> str:
    """Which images out-of-fold numbers are about."""
    return "image of the training set" if all_held_out(results) else "image of the folds that were held out"


def count_of_folds(settings: Mapping[str, Any]) -> str:
    """``5``, or ``1 of 5`` where not all were held out."""
    folds, of = len(folds_to_run(settings)), settings["splits"]["folds"]
    return str(of) if folds == of else f"{folds} of {of}"


def not_ranked(results: StudyResults) -> list[str]:
    """Losses that are not finished, each with its state and the messages of its failed runs."""
    return [
        f"{result.method}: {result.status} finished" + "".join(f"; failed, {why}" for why in result.failures)
        for result in results.methods
        if result.score is None
    ]

"""The sentences of a report: which method is best, how certain that is, and the state of the test set.

The wording claims no more than the numbers show: a ranking of estimates is not a test.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tametail.audit import LEAKS
from tametail.evaluation import Evaluation
from tametail.evaluation.class_order import order_in_words, order_sentence
from tametail.evaluation.metric_registry import metric_facts
from tametail.evaluation.subgroup_contrasts import SubgroupContrasts
from tametail.predictions.by_group import IN_WORDS
from tametail.report.formatting import (
    count_of,
    images_and_groups,
    join_names,
    percent,
    percent_in_words,
    percent_interval,
    points,
    sentence_case,
    times,
)
from tametail.report.study.results import MethodResults, StudyResults
from tametail.storage.study_file import folds_to_run

BASELINE = "ce"
_MOST_WEAK = 3  # classes
SYNTHETIC = "Synthetic demo images: these numbers say nothing about real images."
_SIGNIFICANCE = {
    "better": "significantly better than",
    "no significant difference": "not significantly different from",
    "worse": "significantly worse than",
}


@dataclass(frozen=True)
class ComparisonTerms:
    """What is compared and on which images: methods in cross-validation, or models on given images."""

    where: str
    method: str
    methods: str
    images: str


def comparison_terms(results: StudyResults) -> ComparisonTerms:
    """The terms for a study or an evaluation."""
    if results.is_evaluation:
        return ComparisonTerms("on these images", "model", "models", "images")
    return ComparisonTerms("in cross-validation", "method", "methods", "training images")


def answer(results: StudyResults) -> list[str]:
    """The best method with its score and interval, then what tests or intervals say of the others."""
    terms = comparison_terms(results)
    if not results.ranking:
        states = join_names([f"{result.method} ({result.status})" for result in results.methods])
        return [
            f"No answer yet: no method has finished all its runs: {states}.",
            "“tametail resume STUDY” trains the missing runs; finished runs are kept.",
        ]
    best = results.ranking[0]
    evaluation = best.out_of_fold
    assert evaluation is not None
    tied = [result.method for result in results.ranking[1:] if result.score == best.score]
    shared = f", shared with {join_names(tied)}" if tied else ""
    claim = (
        f"the highest {results.headline}{shared}:" if len(results.methods) > 1 else f"a {results.headline} of"
    )
    source = "" if results.is_evaluation else " (out-of-fold predictions)"
    return [
        f"{sentence_case(terms.where)}, {best.method} has {claim} {percent_in_words(evaluation.score)}, "
        f"n = {evaluated_rows(results, evaluation)}{source}.",
        _certainty(results),
    ]


def first_screen(results: StudyResults) -> list[str]:
    """What is to be known first: the best method, how certain that is, what it costs, where it fails, how patients were found."""
    said = [*answer(results), *price(results), *weakest_classes(results)]
    reading = results.settings.get("reading")
    return [*said, f"Images of one patient or lesion: {reading['groups']}."] if reading else said


def price(results: StudyResults) -> list[str]:
    """What the best method costs compared with plain cross-entropy, in points, as a sentence; empty without one."""
    best = results.ranking[0] if results.ranking else None
    baseline = next((one for one in results.ranking if one.method == BASELINE), None)
    if best is None or baseline is None or best is baseline:
        return []
    assert best.out_of_fold is not None
    assert baseline.out_of_fold is not None
    gains: list[str] = []
    costs: list[str] = []
    first = best.out_of_fold.headline
    shown = (first, "macro_auroc", "macro_f1") if results.multi_label else (first, "macro_f1", "accuracy")
    for name in shown:
        a, b = best.out_of_fold[name], baseline.out_of_fold[name]
        title = metric_facts(name).title
        words = f"{abs(100 * (a.value - b.value)):.1f} points of {title if title.isupper() else title[:1].lower() + title[1:]}"
        if a.value != b.value:
            (gains if a.value > b.value else costs).append(words)
    said = f"Compared with cross-entropy ({BASELINE}) it gains {join_names(gains)}" if gains else ""
    if costs:
        said = f"{said}, at the cost of {join_names(costs)}" if said else f"It loses {join_names(costs)}"
    return [f"{said}."] if said else []


def weakest_classes(results: StudyResults) -> list[str]:
    """The classes on which the best method fails most often, as a sentence; empty if it never does."""
    best = results.ranking[0].out_of_fold if results.ranking else None
    if best is None:
        return []
    metric = "average_precision" if results.multi_label else "recall"
    found = [
        (one.name, best[metric, one.name])
        for one in best.classes
        if one.n and best[metric, one.name].value < 1
    ]
    found.sort(key=lambda pair: pair[1].value)
    if not found:
        return []
    said = [
        f"{name} ({percent(estimate.value)} %, {percent_interval(estimate)}, n = {estimate.n:,})"
        for name, estimate in found[:_MOST_WEAK]
    ]
    title = metric_facts(metric).title
    return [f"Lowest {title if title.isupper() else title[:1].lower() + title[1:]}: {join_names(said)}."]


def worst_group_in_words(found: SubgroupContrasts) -> str:
    """The gap between the best and the worst subgroup, and which were left out, in sentences."""
    said = [f"{value or 'unknown'} is left out: {why}." for value, why in found.left_out]
    gap = found.gap
    if gap is None:
        return " ".join(["There are not two subgroups with classes in common to compare.", *said])
    limits = f"{points(gap.gap.low)} to {points(gap.gap.high)}"
    first = (
        f"Worst-group gap: {points(gap.gap.value)} points of balanced accuracy ({limits}) between {gap.best or 'unknown'} and "
        f"{gap.worst or 'unknown'}, on the {count_of(len(gap.classes), 'class')} that all have; chance alone would show "
        f"{points(gap.by_chance)}."
    )
    return " ".join([first, *said])


def repeats_in_words(results: StudyResults) -> list[str]:
    """How much the score of the best method varies over repeats, or that there is just one; empty for an evaluation."""
    if results.is_evaluation or not results.ranking:
        return []
    seeds = len(results.settings["seeds"])
    if seeds == 1:
        return [
            "One seed: how much training varies with the seed is unknown. --repeats 3 shows it; a difference between methods "
            "may be one between seeds."
        ]
    return []


def evaluated_rows(results: StudyResults, evaluation: Evaluation) -> str:
    """``812 images of 310 groups``, or ``310 groups of images (mean probability over the images of a group)``."""
    if results.predict_by == "image":
        return images_and_groups(evaluation.n, evaluation.groups)
    return f"{evaluation.n:,} groups of images ({IN_WORDS[results.predict_by]})"


def next_commands(results: StudyResults) -> list[tuple[str, str]]:
    """What to do next, each with its command. STUDY is the folder of the report."""
    if results.is_evaluation or not results.ranking:
        return []
    best, found = results.ranking[0], []
    if len(results.settings["seeds"]) == 1:
        found.append(("See how results vary with the seed", "tametail compare DATA --repeats 3 -o STUDY"))
    if results.counts.test_images and not results.test_set_evaluated:
        found.append(("Once every choice is made, evaluate the test set", "tametail test-set STUDY"))
    predict = f"tametail predict STUDY IMAGES --method {shlex.quote(best.method)}"
    if results.predict_by != "image":
        predict += f" --predict-by {results.predict_by} --group-from folder"
    found.append(("Classify new images", predict))
    found.append(("Evaluate it on images from elsewhere", "tametail evaluate STUDY --data OTHER"))
    return found


def _certainty(results: StudyResults) -> str:
    best, *others = results.ranking
    terms = comparison_terms(results)
    if not others:
        of = (
            ""
            if results.is_evaluation
            else " of this study"
            if len(results.methods) == 1
            else " with all its runs finished"
        )
        return f"It is the only {terms.method}{of}, so there is no comparison."
    if results.pairs is not None:
        return _tests(results)
    overlapping = [other.method for other in others if _overlap(best, other)]
    if not overlapping:
        return (
            f"The interval of no other {terms.method} overlaps with that of {best.method}; however, comparing intervals "
            "is not a test, and no paired test was made."
        )
    which = (
        f"The interval{'s' if len(overlapping) > 1 else ''} of {join_names(overlapping)}"
        if len(overlapping) <= 3
        else f"The intervals of {_some(len(overlapping), len(others))} other {terms.methods}"
    )
    verb = "overlap" if len(overlapping) > 1 else "overlaps"
    return (
        f"{which} {verb} with that of {best.method}, so the intervals do not show which is better; "
        "the ranking orders estimates and is not a test."
    )


def primary_test(results: StudyResults) -> str:
    """Name of the test that gives the verdicts: ``a paired ... test of balanced accuracy``."""
    if results.multi_label:
        return "a paired t test of mean average precision, with standard errors from each group’s influence"
    return "a paired sign-flip permutation test of balanced accuracy"


def label_thresholds(results: StudyResults) -> str:
    """On which images the thresholds of labels were chosen, as a sentence."""
    if not results.is_evaluation:
        return "Decisions at thresholds chosen on other folds; the thresholds shown are for new images."
    if results.settings["thresholds_elsewhere"]:
        return "Decisions at the thresholds shown, which were chosen on other images."
    return (
        "Decisions at thresholds chosen on other folds, or, without folds, on other fifths of the groups; the thresholds shown are "
        "for new images."
    )


def _tests(results: StudyResults) -> str:
    """What the paired tests of the best method against each other method say."""
    assert results.pairs is not None
    others = results.ranking[1:]
    verdicts = [results.pairs.pair(0, place).verdict for place in range(1, len(others) + 1)]
    said = []
    for verdict, words in _SIGNIFICANCE.items():
        names = [other.method for other, found in zip(others, verdicts, strict=True) if found == verdict]
        if len(names) <= 4:
            listed = join_names(names)
        elif len(names) == len(others) and words.startswith("not"):
            listed = f"any of the {len(others)} others"
        else:
            listed = f"{_some(len(names), len(others))} others"
        said += [f"{words} {listed}"] if names else []
    pairs = len(results.ranking) * len(others) // 2
    corrected = f" (Holm-corrected over all {pairs} comparisons)" if pairs > 1 else ""
    return f"In paired tests on the same images{corrected}, it is {'; '.join(said)}."


def _some(count: int, of: int) -> str:
    return f"all {of}" if count == of else f"{count} of the {of}"


def _overlap(one: MethodResults, other: MethodResults) -> bool:
    assert one.out_of_fold is not None
    assert other.out_of_fold is not None
    a, b = one.out_of_fold.score, other.out_of_fold.score
    return not (a.low > b.high or b.low > a.high)  # an undefined interval excludes nothing


def best_on_test(results: StudyResults) -> list[str]:
    """The score of the best method on the test set, as a sentence; empty before the test set was evaluated for it."""
    best = results.ranking[0] if results.ranking else None
    if best is None or best.test is None or best.test_ensemble is None:
        return []
    test, ensemble = best.test, best.test_ensemble
    return [
        f"On it, the {results.headline} of {best.method} is {percent_in_words(test.score)} as the mean over its "
        f"{test.replicates} fold models, and {percent_in_words(ensemble.score)} as their ensemble; "
        f"n = {evaluated_rows(results, test)}."
    ]


def status_of_test_set(results: StudyResults) -> str:
    """``none``, ``held out`` or ``evaluated twice``."""
    if not results.counts.test_images:
        return "none"
    evaluations, looks = len(results.test_set_evaluations), len(results.test_set_looks)
    held_out = f"seen {times(looks)} by predictions" if looks else "held out"
    return f"evaluated {times(evaluations)}" if evaluations else held_out


def state_of_test_set(results: StudyResults) -> list[str]:
    """Whether and how often the test set was evaluated, and what follows from that, as sentences."""
    images = results.counts.test_images
    if results.is_evaluation:
        return ["These are existing predictions: nothing was trained, held out or selected here."]
    if not images:
        return ["This study has no test set."]
    size = images_and_groups(images, results.counts.test_groups)
    if not results.test_set_evaluated:
        return [
            f"The test set ({size}) is held out (not yet evaluated).",
            *_looks(results),
            "Once every choice is made, “tametail test-set STUDY” evaluates all finished runs on it (STUDY is the folder of "
            "this report). Each evaluation is recorded here.",
        ]
    said = [f"The test set ({size}) was evaluated {times(len(results.test_set_evaluations))}."]
    missing = sum("missing" in entry for entry in results.test_set_evaluations)
    if missing:
        said.append(
            f"The record of {missing} of these evaluations is missing: it was removed or shortened, but test predictions of the runs "
            "show that they were made."
        )
    said += _looks(results)
    if len(results.test_set_evaluations) > 1:
        said.append(
            "Choices made after the first evaluation may depend on it, and later test-set results may be optimistic."
        )
    waiting = [result.method for result in results.ranking if result.test is None]
    if waiting:
        said.append(f"Not evaluated, as runs were added after the last evaluation: {join_names(waiting)}.")
    return said


def _looks(results: StudyResults) -> list[str]:
    """How often held-out images were predicted otherwise, as a sentence."""
    looks = results.test_set_looks
    if not looks:
        return []
    most = max(sum(entry.get("images", {}).values()) for entry in looks)
    similar = any("similar" in entry.get("images", {}) for entry in looks)
    commands = join_names(sorted({str(entry.get("command")) for entry in looks}))
    return [
        f"Besides, held-out images were predicted {times(len(looks))} by {commands} (up to {count_of(most, 'image')}"
        f"{', some recognised as similar only' if similar else ''}): choices made since may depend on that."
    ]


def describe_evaluation(entry: Mapping[str, Any]) -> str:
    """One line of the record: the best method at that time, and which runs were evaluated."""
    if "missing" in entry:
        return f"Evaluation {entry['evaluation']}: its record is missing."
    methods = join_names([str(method) for method in entry.get("methods", [])])
    others = entry.get("other_splits")
    return (
        f"Evaluation {entry.get('evaluation')}: the best method in cross-validation was {entry.get('best_out_of_fold')}; "
        f"{entry.get('runs')} runs ({entry.get('new_runs')} for the first time) of {methods}."
        f"{f' {other_splits_in_words(others)}' if others else ''}"
    )


def other_splits_in_words(found: Mapping[str, Any]) -> str:
    """What was known of other test sets drawn from the same images, as a sentence."""
    said = []
    if found.get("splits"):
        seeds = f", with {'seed' if len(found['seeds']) == 1 else 'seeds'} {join_names(list(map(str, found['seeds'])))}"
        said.append(
            f"The same images were split {times(found['splits'])} before{seeds if found['seeds'] else ''}; of these other test sets "
            f"{found['evaluated'] or 'none'} {'was' if found['evaluated'] in (0, 1) else 'were'} evaluated."
        )
    if found.get("same"):
        said.append("This test set was evaluated before, in another study.")
    if found.get("evaluated") or found.get("same"):
        said.append("If choices depended on that, results on this test set are optimistic.")
    return " ".join(said)


def folds_in_words(settings: Mapping[str, Any]) -> str:
    """``5 folds``, or ``only fold 0 of 5`` where not all were held out (the first is fold 0)."""
    folds, of = folds_to_run(settings), settings["splits"]["folds"]
    if len(folds) == of:
        return f"{of} folds"
    return (
        f"only {'fold' if len(folds) == 1 else 'folds'} {join_names([str(fold) for fold in folds])} of {of}"
    )


def count_of_folds(settings: Mapping[str, Any]) -> str:
    """``5``, or ``1 of 5`` where not all were held out."""
    folds, of = len(folds_to_run(settings)), settings["splits"]["folds"]
    return str(of) if folds == of else f"{folds} of {of}"


def grades_in_words(results: StudyResults) -> str:
    """The order of ordinal classes; empty for others."""
    return order_sentence(order_in_words(results.class_order))


def not_ranked(results: StudyResults) -> list[str]:
    """The methods that are not finished, each with its state and the messages of its failed runs."""
    return [
        f"{result.method}: {result.status} finished" + "".join(f"; failed: {why}" for why in result.failures)
        for result in results.methods
        if result.score is None
    ]


def data_warnings(settings: Mapping[str, Any]) -> list[str]:
    """What is to be read before any result: unsafe findings of the audit, possible leaks, the warning of an evaluation."""
    found = [
        f"{text[:1].upper()}{text[1:]}." for term, text in settings.get("facts", []) if term == "Warning"
    ]
    for finding in settings.get("findings", []):
        text = f"{finding['message']}. {sentence_case(finding['advice'])}".rstrip(" .") + "."
        if finding["severity"] == "unsafe":
            found.append(f"The data are not safe to train on: {text}")
        elif finding["severity"] == "warning" and finding["code"] in LEAKS:
            found.append(f"The same patient may be in both the training set and the test set: {text}")
    return found

"""A recommendation in sentences that claim no more than the tests support."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tametail.evaluation.paired import Paired
from tametail.recommend.candidates import BASELINE, STEPS, Step
from tametail.recommend.metric_text import (
    difference,
    difference_interval,
    in_words,
    shown_difference,
    title_of,
    unit,
    value,
    with_unit,
)
from tametail.recommend.objective import Objective
from tametail.recommend.results import CandidateResult, NestedSelection, RecommendationResults, shown
from tametail.recommend.selection import rule
from tametail.report.formatting import images_and_groups, join_names, p_equals, percent

COSTS: dict[Step, str] = {
    "nothing": "Training and predictions stay as they are.",
    "post-hoc": "It costs no training: plain cross-entropy is trained as before, and only its outputs are adjusted.",
    "another loss": "It costs one training, with this loss in place of cross-entropy.",
    "re-training": "It costs a second, short training of the head after that with cross-entropy.",
}

_PROBABILITIES = (
    "The log-loss is that of the probabilities by the loss's own link, at the class frequencies of the training set. Logit "
    "adjustment and thresholds change the decision and not the probabilities, so that their log-loss is that of ce."
)


def how_to_read(objective: Objective) -> list[str]:
    """What the numbers are and are not, in paragraphs."""
    return [
        f"Objective: {objective.title}, the {objective.extreme} is the best. Candidate, τ and thresholds are chosen for it; the other "
        "metrics show the price. The penalty of a head is chosen within its training, always for log-loss.",
        "Each image of the training set was held out once. Results are from cross-validation, with 95 % intervals for the sampling "
        "of images, clustered by group; the test set was not used.",
        "τ and thresholds were tuned on inner folds: for each fold, with trainings that had seen neither it nor the fold they were "
        "tuned on. What remains is selection optimism: the best of many candidates is the best partly by chance.",
        _PROBABILITIES,
        rule(objective),
        "Tests: paired sign-flip permutation tests, clustered by group. The p-values against the best and those against plain "
        "cross-entropy are each corrected for all candidates by Holm's method. No significant difference does not mean equal: more "
        "images could show one.",
        f"Best, %: share of 2,000 bootstrap resamples of the groups in which a candidate has the {objective.extreme} "
        f"{objective.title}. Two equally good candidates are each the best in half of them; it is not the probability of being the best.",
        "The nested estimate evaluates the whole procedure: for each fold, parameters and candidate were selected on the other "
        "folds, with trainings that did not see it, and then evaluated on it. These selections had one fold less than the "
        "recommendation, so the estimate is slightly pessimistic. If it shows little gain, the selection is less certain than the "
        "tests of single candidates against plain cross-entropy suggest.",
        "All results are for a linear head on a frozen backbone and this training set. The best method for a head need not be the "
        "best for fine-tuning.",
    ]


@dataclass(frozen=True)
class Provenance:
    """The data and settings of a recommendation.

    Attributes:
        name: of the data.
        synthetic: whether the images are those of the demo.
        class_counts: images of the training set by class.
        test_images: number of images in the held-out test set.
        folds, seeds: number of folds, and of trainings for each of them.
        backbone: its name.
        features: its feature vector in words.
        recipe: as in study.json.
        splits: their fingerprint.
        unsafe: severe findings of the audit and warnings of leaks, in words.
        options: command-line arguments for the next command, DATA first; empty if unknown.
    """

    name: str
    synthetic: bool
    class_counts: Mapping[str, int]
    test_images: int
    folds: int
    seeds: int
    backbone: str
    features: str
    recipe: Mapping[str, Any]
    splits: str
    unsafe: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def title(one: CandidateResult) -> str:
    """The candidate with its tuned value in place of the word ``chosen``."""
    candidate = one.candidate
    return one.final.method if candidate.tuned and not candidate.offsets else candidate.name


def answer(results: RecommendationResults) -> list[str]:
    """What to use, compared with what, at what cost, and how certain that is."""
    use = results.recommended
    costs = [COSTS[use.candidate.step]]
    if use.candidate.name != BASELINE:
        costs.append(_changes(results))
    return [_use(results), _by_rule(results), _by_tests(results), *costs, *_certainty(results)]


def _use(results: RecommendationResults) -> str:
    use, metric = results.recommended, results.objective.name
    score = f"{title_of(metric)} {in_words(metric, use.estimate(metric))}, n = {images_and_groups(use.result.n, use.result.groups)}"
    if use.candidate.name == BASELINE:
        return f"Use {BASELINE}, plain cross-entropy: {score}."
    how = ""
    if use.candidate.offsets:
        how = " (add the offset of each class, in recommend.json, to the logits of ce)"
    elif use.candidate.tuned:
        how = " (τ tuned on inner folds)"
    pair = results.selection.against_baseline[use.candidate.name].reversed()
    verdict = f"significantly {pair.verdict}" if pair.verdict in {"better", "worse"} else pair.verdict
    gain = _gain(results.objective, pair, pair.p_holm)
    return f"Use {title(use)}{how}: {score}; compared with plain cross-entropy {gain}, {verdict}."


def _gain(objective: Objective, pair: Paired, p: float) -> str:
    of_metric = shown_difference(objective, pair)
    limits = difference_interval(objective, of_metric)
    return f"{difference(objective, of_metric.value)}{unit(objective)} ({limits}; p {p_equals(p)})"


def _by_rule(results: RecommendationResults) -> str:
    selection, objective = results.selection, results.objective
    extreme = objective.extreme
    if selection.recommended == selection.best:
        if selection.recommended == BASELINE:
            return f"It has the {extreme} estimate, and nothing is simpler."
        return f"It has the {extreme} estimate, and the one-standard-error rule prefers no simpler candidate."
    pair, metric = selection.against_best[selection.recommended], objective.name
    best = results.candidates[selection.best].estimate(metric)
    apart = f"{value(metric, pair.difference.value)}{unit(objective)} {'below' if objective.greater_is_better else 'above'}"
    return (
        f"{selection.best} has the {extreme} estimate, {with_unit(metric, best.value)}; the one-standard-error rule prefers "
        f"{selection.recommended}, which is simpler and {apart}, with a standard error of "
        f"{value(metric, pair.standard_error)}{unit(objective)}."
    )


def _by_tests(results: RecommendationResults) -> str:
    selection = results.selection
    others = [name for name in selection.indistinguishable if name != selection.best]
    subject = "it" if selection.recommended == selection.best else selection.best
    if not others:
        return f"By paired tests {subject} is better than every other candidate."
    if len(others) == len(results.candidates) - 1:
        which, these = f"any of the {len(others)} others", "any"
    else:
        which, these = join_names(others), "any of these"
    return f"By paired tests {subject} is not significantly different from {which}: {these} may be the best."


def _changes(results: RecommendationResults) -> str:
    baseline, use, objective = results.baseline, results.recommended, results.objective
    rarest, after = list(use.result.class_group_recall.items())[-1]
    before = baseline.result.class_group_recall[rarest]
    others = [metric for metric in ("accuracy", *shown(objective)) if metric != objective.name]
    pairs = {one: (baseline.estimate(one).value, use.estimate(one).value) for one in dict.fromkeys(others)}
    worse = [
        f"{title_of(metric)} (from {value(metric, old)} to {with_unit(metric, new)})"
        for metric, (old, new) in pairs.items()
        if _is_worse(metric, old, new)
    ]
    better = results.selection.recommended in results.selection.better_than_baseline
    cost = f"; {objective.title} is gained at the cost of {join_names(worse)}" if better and worse else ""
    return (
        f"Compared with plain cross-entropy, recall of {rarest}-shot classes goes from {percent(before.value)} to "
        f"{percent(after.value)} %{cost}; the table has all metrics."
    )


def _is_worse(metric: str, old: float, new: float) -> bool:
    return new > old if metric == "log_loss" else new < old


def _certainty(results: RecommendationResults) -> list[str]:
    use, gain, objective = results.recommended, results.nested.gain.difference, results.objective
    adjusting = sum(one.candidate.adjusts for one in results.candidates.values())
    unconfirmed = (
        "So on images that took no part in the selection, no gain over plain cross-entropy is shown: confirm the recommendation "
        "before you rely on it."
    )
    return [
        f"In {_share(results.share_adjusting_best)} of bootstrap resamples the best candidate is one of the {adjusting} that adjust for "
        f"class imbalance; in {_share(use.share_best)} it is {use.candidate.name}.",
        f"Selection optimism: the best of {len(results.candidates)} candidates looks better than it is. Selected on the other folds and "
        f"evaluated on the fold left out, such a recommendation {_nested(objective, results.nested)}.",
        *([unconfirmed] * (use.candidate.name != BASELINE and gain.low <= 0)),
        f"If {objective.title} is all that matters: taking the {objective.extreme} estimate instead "
        f"{_nested(objective, results.nested_best)}.",
    ]


def _nested(objective: Objective, nested: NestedSelection) -> str:
    counts = join_names([f"{name} in {count}" for name, count in nested.counts])
    return (
        f"reaches {in_words(objective.name, nested.estimate(objective.name))}, compared with plain cross-entropy "
        f"{_gain(objective, nested.gain, nested.gain.p)}; it selects {counts} of {len(nested.selected)} folds"
    )


def _share(share: float) -> str:
    if 0 < share < 0.01 or 0.99 < share < 1:
        return "under 1 %" if share < 0.5 else "over 99 %"
    return f"{100 * share:.0f} %"


def methods_to_compare(results: RecommendationResults) -> list[str]:
    """Plain cross-entropy, the recommendation, the best, and of each step the best that is not significantly worse.

    Class offsets are not a method of their own, so the next best candidate of their step is taken.
    """
    selection, candidates = results.selection, results.candidates
    similar = [name for name in selection.indistinguishable if not candidates[name].candidate.offsets]
    by_step = [
        next((name for name in similar if candidates[name].candidate.step == step), None) for step in STEPS
    ]
    names = [BASELINE, selection.recommended, selection.best, *(name for name in by_step if name)]
    return list(dict.fromkeys(candidates[name].final.method for name in names))


def next_command(results: RecommendationResults, provenance: Provenance) -> str:
    """The command that trains and reports the methods worth comparing."""
    data, *options = provenance.options or ("DATA",)
    methods = ",".join(methods_to_compare(results))
    words = ["tametail", "compare", data, "--methods", methods, *options, "-o", f"runs/{provenance.name}"]
    return shlex.join(words)

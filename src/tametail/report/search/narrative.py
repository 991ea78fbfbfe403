"""A search in sentences: whether tuning improves on the default, and how large the selection optimism is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tametail.evaluation import Estimate
from tametail.report import formatting
from tametail.report.search.results import METRIC_NAMES, SearchResults

HOW_TO_READ_SEARCH = (
    "The best of many trials is the best partly by chance (selection optimism), so a selection must be evaluated on images that "
    "took no part in it. Each fold was left out in turn: on the other folds alone the trials were trained and scored, each inner "
    "fold held out once; the best trial was trained on all of them and predicted the fold left out. These predictions together "
    "give the nested estimate. It evaluates the whole procedure, search included: each outer fold may select other values.",
    "The recommended values come from one further search over all folds. Its best cross-validation score is what they were "
    "selected by; it is shown for comparison and must not be reported. The nested estimate is the performance of the procedure "
    "with one fold less.",
    "The default is the same method without tuning, trained and evaluated on the same folds with the same seeds. Tuned and "
    "default are compared on the same images by the paired test of every report, clustered by group; intervals are 95 %.",
    "Trials not significantly different from the best: by the same test, each at a level of 5 %. If their values span a wide "
    "range, the data do not determine the parameter.",
    "Importance is the share of the variance of the scores due to a parameter alone over the search space (fANOVA, Hutter et "
    "al. 2014); it depends on the space, and adds up to 100 %.",
    "The held-out test set was not used.",
)


def answer(settings: Mapping[str, Any]) -> list[str]:
    """Two to four sentences.

    Args:
        settings: the content of search.json.
    """
    results = SearchResults(settings, ())
    tuned, default = results.nested("tuned"), results.nested("default")
    nested = results.result["nested"]
    said = [
        f"Tuned, {results.search['method']} reaches a {results.metric} of {with_interval(results, tuned)} on images that took no part "
        f"in the selection of its values, and {with_interval(results, default)} at its defaults; n = "
        f"{formatting.images_and_groups(nested['n'], nested['groups'])}.",
        tuning_gain(results),
    ]
    said += [results.grades] if results.grades else []
    score, optimism = results.result["best"]["score"], results.result["optimism"]
    size = gap(results, optimism) if is_optimistic(results) else "none here"
    said.append(
        f"The best cross-validation score, by which the recommended values were selected, is {shown(results, score)} (selection "
        f"optimism: {size}); do not report it."
    )
    return said


def is_optimistic(results: SearchResults) -> bool:
    """Whether the best cross-validation score exceeds the nested estimate at the precision shown."""
    return float(results.result["optimism"]) >= (0.0005 if results.in_percent else 0.005)


def tuning_gain(results: SearchResults) -> str:
    """The verdict of the paired test."""
    found = results.test
    points = difference_in_words(results.difference, METRIC_NAMES[results.tested])
    p = formatting.p_value(float(found["p"]))
    tested = f"{points}, p {p if p.startswith('<') else f'= {p}'}"
    if results.search["metric"] != results.tested:
        return _other_verdict(str(found["verdict"]), results, tested)
    if found["verdict"] == "better":
        return f"Tuning helps here: tuned is better than the default by {tested}."
    if found["verdict"] == "worse":
        return f"Tuning hurts here: tuned is worse than the default, {tested}. Use the default."
    same = results.result["folds"] and all(
        fold["score"] == fold["default_score"] for fold in results.result["folds"]
    )
    more = str(found["in_words"]).partition("; ")[2]
    tail = f"; {more.rstrip('.')}" if more and not same else ""
    return f"No gain from tuning is shown: tuned is not significantly different from the default, {tested}{tail}."


def _other_verdict(verdict: str, results: SearchResults, tested: str) -> str:
    """The verdict of the test if another metric was maximised, without advice."""
    verdict_text = {"better": "better than", "worse": "worse than"}.get(
        verdict, "not significantly different from"
    )
    return (
        f"In {METRIC_NAMES[results.tested]}, which is not the metric of the search, tuned is {verdict_text} the default: {tested}. Whether tuning "
        f"improves {results.metric} was not tested; see the intervals above."
    )


def difference_in_words(difference: Estimate, metric: str = METRIC_NAMES["balanced_accuracy"]) -> str:
    """``+0.3 points of balanced accuracy (-2.4 to +2.9)``."""
    value, low, high = (
        f"{100 * number:+.1f}" for number in (difference.value, difference.low, difference.high)
    )
    return f"{value} points of {metric} ({low} to {high})"


def shown(results: SearchResults, value: float) -> str:
    """A value of the metric."""
    return f"{formatting.percent(value)} %" if results.in_percent else formatting.score(value)


def gap(results: SearchResults, value: float) -> str:
    """A difference of two values of the metric."""
    return f"{100 * value:.1f} points" if results.in_percent else f"{value:.2f}"


def with_interval(results: SearchResults, estimate: Estimate) -> str:
    """A value of the metric with its interval."""
    if results.in_percent or not math.isfinite(estimate.low):
        return (
            formatting.percent_in_words(estimate) if results.in_percent else formatting.score(estimate.value)
        )
    low, high = formatting.score(estimate.low), formatting.score(estimate.high)
    return f"{formatting.score(estimate.value)} (95 % interval {low} to {high})"


def facts(results: SearchResults) -> list[tuple[str, str]]:
    """The settings of the search and its data."""
    search, settings, result = results.search, results.settings, results.result
    folds = settings["splits"]["folds"]
    done = result["trials"]
    other = [f"{done[state]} {state}" for state in ("pruned", "failed") if done[state]]
    sampler = "at random" if search["sampler"] == "random" else "by TPE (Bergstra et al. 2011)"
    halving = ", successive halving of each batch after every inner fold" if search["halving"] else ""
    same = search["sampler"] == "random" and not search["halving"]
    return [
        ("Method", str(search["method"])),
        (
            "Trials",
            f"{done['complete']} scored{''.join(f', {one}' for one in other)}, drawn {sampler}{halving}",
        ),
        (
            "Searches",
            f"{folds} outer folds and one over all; {'the same trials in each' if same else 'each draws its own trials'}",
        ),
        ("Folds", f"{folds} outer, {folds - 1} inner; seed {settings['splits']['seed']}"),
        ("Repeats", f"{search['seeds']} per training"),
        ("Chosen by", results.metric),
        ("Trainings", f"{result['trainings']:,}, {formatting.duration(result['seconds'])} in all"),
        (
            "Recipe",
            f"{settings['recipe'].get('name', '')}, {settings['recipe'].get('epochs')} epochs, rate {settings['recipe']['optimizer']['lr']}",
        ),
        ("Backbone", f"{settings['backbone']} at {settings['image_size']} pixels"),
        (
            "Data",
            f"{settings['name']}, {settings['table']['images']:,} images, {len(settings['class_names'])} classes",
        ),
        (
            "Fingerprints",
            f"table {settings['table']['fingerprint'][:12]}, splits {settings['splits']['fingerprint'][:12]}",
        ),
        ("tametail", str(settings["tametail"])),
    ]

"""What a search's page and the command say: whether tuning is worth it, and how far the score of the choice flatters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tametail.evaluation import Estimate
from tametail.report import formatting
from tametail.report.search.results import SearchResults

READING = (
    "The parameters were chosen by trying them out, and whatever is best among many tries is partly so by luck. So the images "
    "that a choice is judged by must not have taken part in it. Here each fold was put aside in turn; on the others alone the "
    "trials were trained and scored, each inner fold held out once; the best trial was trained on all of them and predicted "
    "the fold that was put aside. Put together, these predictions are the nested estimate. It is about the whole procedure, "
    "search included: each outer fold may choose other values.",
    "The values to recommend come from one more search over all folds. Its own score is what they were chosen by, and is "
    "shown to be told from an estimate: do not report it. The nested estimate is what the procedure reaches with one fold fewer.",
    "The default is the same method as its text gives it, trained and judged on the same folds with the same seeds. Tuned and "
    "default are compared on the same images by the paired sign-flip test with groups as units; intervals are 95 %.",
    "Trials not significantly different from the best: by the same test, each alone at 5 %. Where they span a wide range the data do not "
    "say which value is right.",
    "Importance is the share of the scores’ spread that a parameter alone accounts for over the searched space (fANOVA, "
    "Hutter et al. 2014); it depends on the space, and adds up to 100 %.",
    "The held-out test set took part in nothing.",
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
        f"Tuned, {results.asked['method']} reaches a {results.metric} of {with_interval(results, tuned)} on images that took no part "
        f"in the choice of its values, and {with_interval(results, default)} at its defaults; n = "
        f"{formatting.images_and_groups(nested['n'], nested['groups'])}.",
        worth_it(results),
    ]
    score, optimism = results.result["best"]["score"], results.result["optimism"]
    if flatters(results):
        said.append(
            f"The score that the recommended values were chosen by is {shown(results, score)}: that is optimistic by "
            f"{gap(results, optimism)}, and not to be reported."
        )
    else:
        said.append(
            f"The score that the recommended values were chosen by is {shown(results, score)}; here it does not flatter, but it is "
            "not to be reported either."
        )
    return said


def flatters(results: SearchResults) -> bool:
    """Whether the score of the choice is above the nested estimate, by as much as is shown."""
    return float(results.result["optimism"]) >= (0.0005 if results.in_percent else 0.005)


def worth_it(results: SearchResults) -> str:
    """The verdict of the paired test."""
    found = results.result["nested"]["balanced_accuracy"]
    points = difference_in_words(results.difference)
    p = formatting.p_value(float(found["p"]))
    tested = f"{points}, p {p if p.startswith('<') else f'= {p}'}"
    if results.asked["metric"] != "balanced_accuracy":
        return _other_verdict(str(found["verdict"]), results.metric, tested)
    if found["verdict"] == "better":
        return f"Tuning is worth it here: tuned is better than the default by {tested}."
    if found["verdict"] == "worse":
        return f"Tuning does harm here: tuned is worse than the default, {tested}. Keep the default."
    same = results.result["folds"] and all(
        fold["score"] == fold["default_score"] for fold in results.result["folds"]
    )
    more = str(found["in_words"]).partition("; ")[2]
    tail = f"; {more.rstrip('.')}" if more and not same else ""
    return f"Tuning is not shown to be worth it: tuned is not significantly different from the default, {tested}{tail}."


def _other_verdict(verdict: str, metric: str, tested: str) -> str:
    """The verdict of the test where something else was searched by: what it is about, and no advice."""
    beside = {"better": "better than", "worse": "worse than"}.get(verdict, "not significantly different from")
    return (
        f"In balanced accuracy, which is not what was searched by, tuned is {beside} the default: {tested}. Whether tuning is worth it "
        f"in {metric} was not tested; the intervals above say how far it is known."
    )


def difference_in_words(difference: Estimate) -> str:
    """``+0.3 points of balanced accuracy (-2.4 to +2.9)``."""
    value, low, high = (
        f"{100 * number:+.1f}" for number in (difference.value, difference.low, difference.high)
    )
    return f"{value} points of balanced accuracy ({low} to {high})"


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
    """How was searched, and on what."""
    asked, settings, result = results.asked, results.settings, results.result
    folds = settings["splits"]["folds"]
    done = result["trials"]
    other = [f"{done[state]} {state}" for state in ("pruned", "failed") if done[state]]
    sampler = "at random" if asked["sampler"] == "random" else "by TPE (Bergstra et al. 2011)"
    halving = ", successive halving of each batch after every inner fold" if asked["halving"] else ""
    same = asked["sampler"] == "random" and not asked["halving"]
    return [
        ("Method", str(asked["method"])),
        (
            "Trials",
            f"{done['complete']} scored{''.join(f', {one}' for one in other)}, drawn {sampler}{halving}",
        ),
        (
            "Searches",
            f"{folds} outer folds and one over all; {'the same trials in each' if same else 'each draws its own trials'}",
        ),
        ("Folds", f"{folds} outer, {folds - 1} inner; seed {settings['splits']['seed']}"),
        ("Seeds", f"{asked['seeds']} per training"),
        ("Chosen by", results.metric),
        ("Trainings", f"{result['trainings']:,}, {_duration(result['seconds'])} in all"),
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


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )

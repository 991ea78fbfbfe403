"""What a recommendation says, in sentences that claim no more than the tests carry."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tametail.evaluation.paired import Paired
from tametail.recommend.candidates import PLAIN, STEPS, Step
from tametail.recommend.choice import RULE
from tametail.recommend.findings import CandidateResult, Findings, Followed
from tametail.report import formatting

COSTS: dict[Step, str] = {
    "nothing": "Nothing is added to the training, and nothing is changed after it.",
    "post-hoc": "It costs nothing: the training of plain cross-entropy is the same, and only what follows it is changed.",
    "another loss": "It costs one training, with this loss in place of cross-entropy.",
    "re-training": "It costs a second, short training of the head after that of cross-entropy.",
}
READING = (
    "Each image of the training set was held out once. Numbers are out of fold, with 95 % intervals that speak of the "
    "images and count those of one group as alike; the test set was not looked at.",
    "τ and thresholds were chosen on inner folds: for each fold, by trainings that saw neither it nor the fold they were "
    "chosen on. So their estimates have nothing to flatter them but what all share: that the best of many is the best partly "
    "by luck.",
    RULE,
    "Tests say how sure the choice is. They flip signs of paired differences by group. p against the best and p against plain cross-entropy are each corrected "
    "by Holm for all candidates. No significant difference does not mean equal: more images could show one.",
    "Comes first is the share of 2,000 bootstrap resamples of the groups in which a candidate has the highest balanced "
    "accuracy. Of two that are equally good each comes first in half; it is no probability of being the best.",
    "The nested estimate is of the whole procedure: for each fold, numbers and candidate were chosen on the other folds by "
    "trainings that did not see it, and then judged on it. Those choices had a fold less to train on and to choose by than "
    "the recommendation had, so it leans to the low side. Where it shows little gain, the choice is less settled than the "
    "tests of one candidate beside plain cross-entropy sound.",
    "All of this is about a linear head on a frozen backbone and this training set. What is best for a head need not be the "
    "best for fine-tuning.",
)


@dataclass(frozen=True)
class Circumstances:
    """Of what and how a recommendation was made.

    Attributes:
        class_counts: images of the training set by class.
        test_images: those of the held-out test set.
        recipe: as in study.json.
        splits: their fingerprint.
        unsafe: findings of the audit that no one should train on, in words.
        options: of the command line, DATA first, that the next command repeats; empty where that is not known.
    """

    name: str
    synthetic: bool
    class_counts: Mapping[str, int]
    test_images: int
    folds: int
    seeds: int
    backbone: str
    recipe: Mapping[str, Any]
    splits: str
    unsafe: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def text_for_compare(tried: CandidateResult) -> str:
    """The method to name on the command line; thresholds have no name there, and are added to what it gives."""
    return tried.final.method


def title(tried: CandidateResult) -> str:
    """The candidate with what is chosen by all folds in place of ``chosen``."""
    candidate = tried.candidate
    if candidate.offsets or not candidate.choices:
        return candidate.name
    return tried.final.method


def answer(findings: Findings) -> list[str]:
    """What to use, beside what, at what price, and how sure that is."""
    use = findings.tried[findings.choice.use]
    if use.candidate.name == PLAIN:
        return [
            _use_plain(use),
            _by_the_rule(findings),
            _by_tests(findings),
            COSTS["nothing"],
            *_how_sure(findings),
        ]
    return [
        _use(findings, use),
        _by_the_rule(findings),
        _by_tests(findings),
        COSTS[use.candidate.step],
        _price(findings, use),
        *_how_sure(findings),
    ]


def _use_plain(use: CandidateResult) -> str:
    return f"Use {PLAIN}, plain cross-entropy as it is: {_score(use)}."


def _use(findings: Findings, use: CandidateResult) -> str:
    how = ""
    if use.candidate.offsets:
        how = " (a number for each class, in recommend.json, added to the logits of ce)"
    elif use.candidate.choices:
        how = " (τ chosen on inner folds)"
    return f"Use {title(use)}{how}: {_score(use)}, {_gain(findings, use.candidate.name)}."


def _gain(findings: Findings, name: str) -> str:
    """What a test says of a candidate beside plain cross-entropy."""
    pair = findings.choice.against_plain[name].reversed()
    if pair.verdict == "better":
        return f"{_points(pair)} above plain cross-entropy"
    return f"not significantly different from plain cross-entropy: {_points(pair, signed=True)}"


def _score(tried: CandidateResult) -> str:
    result = tried.result
    return (
        f"balanced accuracy {formatting.percent_in_words(result.balanced_accuracy)}, "
        f"n = {formatting.images_and_groups(result.n, result.groups)}"
    )


def _points(pair: Paired, *, signed: bool = False) -> str:
    d, form = pair.difference, "+.1f" if signed else ".1f"
    p = formatting.p_value(pair.p_holm)
    limits = f"{100 * d.low:{form}} to {100 * d.high:{form}}"
    return f"{100 * d.value:{form}} points ({limits}; p {p if p.startswith('<') else f'= {p}'})"


def _by_the_rule(findings: Findings) -> str:
    choice = findings.choice
    if choice.use == choice.best:
        if choice.use == PLAIN:
            return "It has the highest estimate, and nothing is simpler."
        return (
            "It has the highest estimate, and the rule of one standard error puts nothing simpler before it."
        )
    pair = choice.against_best[choice.use]
    best = findings.tried[choice.best].result.balanced_accuracy
    below, error = 100 * pair.difference.value, 100 * pair.standard_error
    return (
        f"{choice.best} has the highest estimate, {formatting.percent(best.value)} %; the rule of one standard error puts "
        f"{choice.use} before it, which is simpler and {below:.1f} points below, at a standard error of {error:.1f}."
    )


def _by_tests(findings: Findings) -> str:
    choice = findings.choice
    others = [name for name in choice.alike if name != choice.best]
    beside = f"{choice.best} " if choice.use != choice.best else "it "
    if len(others) == len(findings.tried) - 1 and others:
        return f"By paired tests {beside}is not significantly different from any of the {len(others)} others: any may be the best."
    if others:
        return f"By paired tests {beside}is not significantly different from {formatting.join_names(others)}: any of these may be the best."
    return f"By paired tests {beside}is better than every other candidate."


def _price(findings: Findings, use: CandidateResult) -> str:
    plain, result = findings.tried[PLAIN].result, use.result
    before = {group.name: group.recall.value for group in plain.class_groups}
    changes = [
        f"of {group.name}-shot classes {'goes ' * (at == 0)}from {formatting.percent(before[group.name])} to "
        f"{formatting.percent(group.recall.value)} %"
        for at, group in enumerate(result.class_groups)
    ]
    surely = use.candidate.name in findings.choice.beats_plain
    lost = result.accuracy.value < plain.accuracy.value
    bought = ": balanced accuracy is bought with it" if surely and lost else ""
    return (
        f"Beside plain cross-entropy, recall {formatting.join_names(changes)}; accuracy from "
        f"{formatting.percent(plain.accuracy.value)} to {formatting.percent(result.accuracy.value)} %{bought}."
    )


def _how_sure(findings: Findings) -> list[str]:
    use, gain = findings.tried[findings.choice.use], findings.followed.gain.difference
    adjusting = sum(tried.candidate.adjusts for tried in findings.tried.values())
    provisional = (
        "So on images that it was not made by, the gain of such a recommendation over plain cross-entropy is not shown: take "
        "it as one to be confirmed."
    )
    return [
        f"In {_share(findings.first_adjusting)} of bootstrap resamples one of the {adjusting} candidates that adjust for unequal "
        f"classes comes first, {findings.choice.use} in {_share(use.first)}.",
        f"The best of {len(findings.tried)} flatters itself. Made on the other folds and judged on the fold left out, such a "
        f"recommendation {_nested(findings.followed)}.",
        *([provisional] * (use.candidate.name != PLAIN and gain.low <= 0)),
        f"Where balanced accuracy alone counts: taking the highest estimate instead {_nested(findings.highest)}.",
    ]


def _nested(followed: Followed) -> str:
    gain, p = followed.gain.difference, formatting.p_value(followed.gain.p)
    counted = formatting.join_names([f"{name} in {count}" for name, count in followed.counted])
    return (
        f"reaches {formatting.percent_in_words(followed.result.balanced_accuracy)}, {100 * gain.value:+.1f} points "
        f"({100 * gain.low:+.1f} to {100 * gain.high:+.1f}; p {p if p.startswith('<') else f'= {p}'}) beside plain "
        f"cross-entropy: {counted} of {len(followed.used)} folds"
    )


def _share(share: float) -> str:
    if 0 < share < 0.01 or 0.99 < share < 1:
        return "under 1 %" if share < 0.5 else "over 99 %"
    return f"{100 * share:.0f} %"


def losses_to_compare(findings: Findings) -> list[str]:
    """Plain cross-entropy, what is recommended, the best, and of each step the best that is not significantly different from it.

    Thresholds have no name of their own there, so that of their step the next best is named.
    """
    choice, tried = findings.choice, findings.tried
    named = [name for name in choice.alike if not tried[name].candidate.offsets]
    of_steps = [next((name for name in named if tried[name].candidate.step == step), None) for step in STEPS]
    names = [PLAIN, choice.use, choice.best, *(name for name in of_steps if name)]
    return list(dict.fromkeys(text_for_compare(tried[name]) for name in names))


def next_command(findings: Findings, circumstances: Circumstances) -> str:
    """The command line that trains, keeps and reports what is worth a closer look."""
    data, *options = circumstances.options or ("DATA",)
    return shlex.join(
        [
            "tametail",
            "compare",
            data,
            "--losses",
            ",".join(losses_to_compare(findings)),
            *options,
            "-o",
            f"runs/{circumstances.name}",
        ]
    )

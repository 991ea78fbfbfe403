"""What a recommendation says, in sentences that claim no more than the tests carry."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tametail.evaluation.paired import Paired, describe
from tametail.recommending.candidates import PLAIN, STEPS, Step
from tametail.recommending.choice import RULE
from tametail.recommending.findings import Findings, Followed, Tried
from tametail.report import wording

COSTS: dict[Step, str] = {
    "nothing": "Nothing is added to the training, and nothing is changed after it.",
    "post-hoc": "It costs nothing: the training of plain cross-entropy is the same, and only what follows it is changed.",
    "another loss": "It costs one training, with this loss in place of cross-entropy.",
    "re-training": "It costs a second, short training of the head after that of cross-entropy.",
}
READING = (
    "Each image of the training part was held out once. Numbers are out of fold, with 95 % intervals that speak of the "
    "images and count those of one group as alike; the test part was not looked at.",
    "τ and thresholds were chosen on inner folds: for each fold, by trainings that saw neither it nor the fold they were "
    "chosen on. So their estimates have nothing to flatter them but what all share: that the best of many is the best partly "
    "by luck.",
    RULE,
    "Tests flip signs of paired differences by group. p against the best and p against plain cross-entropy are each corrected "
    "by Holm for all candidates. Not told apart is not the same as equal: with more images more would be told.",
    "Comes first is the share of 2,000 bootstrap resamples of the groups in which a candidate has the highest balanced "
    "accuracy. Of two that are equally good each comes first in half; it is no probability of being the best.",
    "The nested estimate is of the whole procedure: for each fold, numbers and candidate were chosen on the other folds by "
    "trainings that did not see it, and then judged on it. Those choices had a fold less to train on and to be told apart by "
    "than the recommendation had, so it leans to the low side. Where it shows little gain, the choice is less settled than "
    "the tests of one candidate beside plain cross-entropy sound.",
    "All of this is about a linear head on a frozen backbone and this training part. What is best for a head need not be the "
    "best for fine-tuning.",
)


@dataclass(frozen=True)
class Circumstances:
    """Of what and how a recommendation was made.

    Attributes:
        class_counts: images of the training part by class.
        test_images: those of the sealed test part.
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


def text_for_compare(tried: Tried) -> str:
    """The method to name on the command line; thresholds have no name there, and are added to what it gives."""
    return tried.final.method


def title(tried: Tried) -> str:
    """The candidate with what is chosen by all folds in place of ``chosen``."""
    candidate = tried.candidate
    if candidate.offsets or not candidate.choices:
        return candidate.name
    return tried.final.method


def answer(findings: Findings) -> list[str]:
    """What to use, beside what, at what price, and how sure that is."""
    use = findings.tried[findings.choice.use]
    if use.candidate.name == PLAIN:
        return [_use_plain(findings, use), _beside_plain(findings), COSTS["nothing"], *_how_sure(findings)]
    return [
        _use(findings, use),
        _beside_best(findings, use),
        COSTS[use.candidate.step],
        _price(findings, use),
        *_how_sure(findings),
    ]


def _use_plain(findings: Findings, use: Tried) -> str:
    return f"Use {PLAIN}, plain cross-entropy as it is: {_score(use)}. {_none_better(findings)}"


def _none_better(findings: Findings) -> str:
    others = len(findings.tried) - 1
    if findings.choice.best == PLAIN:
        return f"None of the {others} others has a higher one."
    return f"The best of the {others} others is not told apart from it."


def _beside_plain(findings: Findings) -> str:
    choice = findings.choice
    if choice.best != PLAIN:
        return wording.sentence(describe(choice.against_best[PLAIN], choice.best, PLAIN))
    others = [name for name in choice.alike if name != PLAIN]
    if not others:
        return "By paired tests all others are worse."
    return f"By paired tests it is not told apart from {wording.listed(others)}."


def _use(findings: Findings, use: Tried) -> str:
    gain = findings.choice.against_plain[use.candidate.name].reversed()
    how = ""
    if use.candidate.offsets:
        how = " (a number for each class, in recommend.json, added to the logits of ce)"
    elif use.candidate.choices:
        how = " (τ chosen on inner folds)"
    return f"Use {title(use)}{how}: {_score(use)}, {_points(gain)} above plain cross-entropy."


def _score(tried: Tried) -> str:
    result = tried.result
    return (
        f"balanced accuracy {wording.in_words(result.balanced_accuracy)}, "
        f"n = {wording.images_and_groups(result.n, result.groups)}"
    )


def _points(pair: Paired) -> str:
    d = pair.difference
    p = wording.p_value(pair.p_holm)
    return f"{100 * d.value:.1f} points ({100 * d.low:.1f} to {100 * d.high:.1f}; p {p if p.startswith('<') else f'= {p}'})"


def _beside_best(findings: Findings, use: Tried) -> str:
    choice, name = findings.choice, use.candidate.name
    others = [other for other in choice.alike if other not in (name, choice.best)]
    if name == choice.best:
        if not others:
            return "By paired tests it is better than every other candidate."
        apart = f"It has the highest estimate, and is not told apart from {wording.listed(others)}"
        if name not in choice.beats_plain:
            return f"{apart}. Of all candidates beside plain cross-entropy none is better by test; it is told apart as the best."
        return f"{apart}; of those that are better than plain cross-entropy it is the simplest."
    best = findings.tried[choice.best].result.balanced_accuracy
    also = f", nor from {wording.listed(others)}" if others else ""
    return (
        f"{choice.best} has the highest estimate, {wording.percent(best.value)} %; {name} is not told apart from it{also}. Of "
        f"those that are better than plain cross-entropy it is the simplest."
    )


def _price(findings: Findings, use: Tried) -> str:
    plain, result = findings.tried[PLAIN].result, use.result
    before = {band.name: band.recall.value for band in plain.bands}
    changes = [
        f"of {band.name} classes {'goes ' * (at == 0)}from {wording.percent(before[band.name])} to "
        f"{wording.percent(band.recall.value)} %"
        for at, band in enumerate(result.bands)
    ]
    bought = ": balanced accuracy is bought with it" if result.accuracy.value < plain.accuracy.value else ""
    return (
        f"Beside plain cross-entropy, recall {wording.listed(changes)}; accuracy from "
        f"{wording.percent(plain.accuracy.value)} to {wording.percent(result.accuracy.value)} %{bought}."
    )


def _how_sure(findings: Findings) -> list[str]:
    use, gain = findings.tried[findings.choice.use], findings.followed.gain.difference
    adjusting = sum(tried.candidate.adjusts for tried in findings.tried.values())
    provisional = "So on images that it was not made by, the gain of such a recommendation is not shown: take it as one to be confirmed."
    return [
        f"In {_share(findings.first_adjusting)} of bootstrap resamples one of the {adjusting} candidates that adjust for unequal "
        f"classes comes first, {findings.choice.use} in {_share(use.first)}.",
        f"The best of {len(findings.tried)} flatters itself. Made on the other folds and judged on the fold left out, such a "
        f"recommendation {_nested(findings.followed)}.",
        *([provisional] * (use.candidate.name != PLAIN and gain.low <= 0)),
        f"Where balanced accuracy alone counts: taking the highest estimate instead {_nested(findings.highest)}.",
    ]


def _nested(followed: Followed) -> str:
    gain, p = followed.gain.difference, wording.p_value(followed.gain.p)
    counted = wording.listed([f"{name} in {count}" for name, count in followed.counted])
    return (
        f"reaches {wording.in_words(followed.result.balanced_accuracy)}, {100 * gain.value:+.1f} points "
        f"({100 * gain.low:+.1f} to {100 * gain.high:+.1f}; p {p if p.startswith('<') else f'= {p}'}) beside plain "
        f"cross-entropy: {counted} of {len(followed.used)} folds"
    )


def _share(share: float) -> str:
    if 0 < share < 0.01 or 0.99 < share < 1:
        return "under 1 %" if share < 0.5 else "over 99 %"
    return f"{100 * share:.0f} %"


def losses_to_compare(findings: Findings) -> list[str]:
    """Plain cross-entropy, what is recommended, the best, and of each step the best that is not told apart from it."""
    choice, tried = findings.choice, findings.tried
    of_steps = [
        next((name for name in choice.alike if tried[name].candidate.step == step), None) for step in STEPS
    ]
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

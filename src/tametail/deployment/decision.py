"""From what a model says of images to what is predicted: decision, prevalence, prediction sets and operating points.

Shape legend: N images, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tametail.core.arrays import BoolArray, FloatArray, IntArray
from tametail.core.console import Console
from tametail.core.errors import DataError, UsageError
from tametail.core.text import counted
from tametail.data.table import LABEL_SEPARATOR, join_classes
from tametail.deployment.facts import ModelFacts, Said
from tametail.evaluation.conformal import class_thresholds, needed_groups, prevalence_thresholds, sets_of
from tametail.evaluation.label_shift import MOST_DEVIATION, PrevalenceEstimate, estimate_prevalence
from tametail.predictions.single_label import for_prevalence

# The columns of a class, and those of an image.
P, SCORE, THRESHOLD, HAS = "p_", "score_", "threshold_", "has_"
SET, SET_SIZE, REACHED = "prediction_set", "set_size", "operating"
SetKind = Literal["class", "prevalence"]
_AHEAD = 1e-6  # relative difference of the highest score from others, more than what is rounded in a file


@dataclass(frozen=True)
class Decision:
    """From what a model of exclusive classes says of images to the columns of their rows.

    Attributes:
        prevalence: (C,) of the target population; None for that of the training set.
        sets: (C,) thresholds of the prediction sets; None for no sets.
        operating: (C,) thresholds of operating points; nan for no such rule.
    """

    facts: ModelFacts
    prevalence: FloatArray | None
    sets: FloatArray | None
    operating: FloatArray

    def __call__(self, said: Said) -> list[dict[str, object]]:
        facts, trained = self.facts, said.probabilities
        p, scores = trained, said.scores
        if self.prevalence is not None:
            p = scores = for_prevalence(trained, facts.trained_prevalence, self.prevalence)
        scores = with_operating_points(scores, trained, self.operating)
        predicted = scores.argmax(axis=1)
        scores = _apart(scores, predicted)
        limits = said.saturated[np.arange(len(p)), predicted].tolist()
        rows = []
        for row in range(len(p)):
            columns: dict[str, object] = {
                "predicted": facts.class_names[predicted[row]],
                "most_probable": facts.class_names[int(p[row].argmax())],
                "saturated": limits[row],
                REACHED: self._joined(trained[row], trained[row] >= self.operating),
            }
            if self.sets is not None:
                inside = sets_of(trained[row], self.sets)
                columns[SET] = self._joined(trained[row], inside)
                columns[SET_SIZE] = int(inside.sum())
            rows.append(columns | _named(facts, SCORE, scores[row]) | _named(facts, P, p[row]))
        return rows

    def _joined(self, p: FloatArray, inside: BoolArray) -> str:
        """The names of the classes inside, the most probable first."""
        order = np.argsort(-p, kind="stable")
        return LABEL_SEPARATOR.join(self.facts.class_names[index] for index in order[inside[order]])


def with_operating_points(scores: FloatArray, p: FloatArray, thresholds: FloatArray) -> FloatArray:
    """Scores (N, C) whose largest is that of a class that reaches its threshold, if there is one.

    The score of such a class is its probability divided by its threshold, times the largest score of the classes without one (1
    if there is none): it wins where it reaches its threshold, and of several the one with the largest ratio.

    Args:
        scores: (N, C) that sum to one.
        p: (N, C) probabilities at the class frequencies of the training set.
        thresholds: (C,) of some classes; nan for the others.
    """
    ruled = ~np.isnan(thresholds)
    if not ruled.any():
        return scores
    # Where all other classes have a score of 0, their probabilities decide among them.
    without = np.where(ruled, 0.0, scores).max(axis=1, keepdims=True) == 0
    scores = np.where(without, p + np.finfo(np.float64).tiny, scores)
    others = 1.0 if ruled.all() else scores[:, ~ruled].max(axis=1, keepdims=True)
    ratio = p / np.where(ruled, thresholds, 1.0)
    # A class at its threshold comes before the others, also where both are equal.
    ahead = np.where(ratio >= 1, np.maximum(ratio, 1 + _AHEAD), np.minimum(ratio, 1 - _AHEAD))
    changed = np.where(ruled, ahead * others, scores)
    return np.asarray(changed / changed.sum(axis=1, keepdims=True))


def _apart(scores: FloatArray, predicted: IntArray) -> FloatArray:
    """Scores (N, C) of which that of the predicted class (N,) is the highest also after rounding."""
    rows = np.arange(len(scores))
    changed = scores.copy()
    changed[rows, predicted] = 0
    changed[rows, predicted] = np.maximum(scores[rows, predicted], changed.max(axis=1) * (1 + _AHEAD))
    return np.asarray(changed / changed.sum(axis=1, keepdims=True))


def check_sets(coverage: float, sets: SetKind) -> None:
    """Refuse a coverage or kind of prediction sets that does not exist."""
    if sets not in get_args(SetKind):
        raise UsageError(f"expected prediction sets of kind {' or '.join(get_args(SetKind))}, got {sets!r}")
    try:
        needed_groups(coverage)
    except ValueError as error:
        raise UsageError(f"{error}; give another --coverage") from error


def set_thresholds(
    facts: ModelFacts, coverage: float, sets: SetKind, prevalence: FloatArray | None, console: Console
) -> FloatArray:
    """The threshold (C,) of each class for prediction sets; says what they are and which classes are too rare."""
    needed = needed_groups(coverage)
    asked = f"{100 * coverage:.6g} %"
    if sets == "class":
        console.say(f"Prediction sets: coverage of {asked} in each class, at any prevalence")
        thresholds = class_thresholds(facts.distributions, coverage)
    else:
        images = np.array([each.images for each in facts.distributions], dtype=np.float64)
        at = images / images.sum() if prevalence is None else prevalence
        where = "of the training set" if prevalence is None else "given or estimated"
        console.say(f"Prediction sets: coverage of {asked} over all images, at the prevalence {where}")
        thresholds = prevalence_thresholds(facts.distributions, coverage, at)
    counts = zip(facts.class_names, facts.distributions, thresholds, strict=True)
    rare = [f"{name} ({each.groups})" for name, each, threshold in counts if np.isinf(threshold)]
    if rare:
        console.warn(
            f"too rare for prediction sets of {asked} coverage, which take {counted(needed, 'group')} (patients) with the "
            f"class, and so in every set: {', '.join(rare)}; a lower --coverage takes fewer"
        )
    return thresholds


def operating_thresholds(facts: ModelFacts, operating: Mapping[str, float], console: Console) -> FloatArray:
    """(C,) the probability, at the class frequencies of the training set, from which a class is predicted; nan for no such rule."""
    thresholds = np.full(len(facts.class_names), np.nan)
    for name, sensitivity in operating.items():
        if name not in facts.class_names:
            raise UsageError(
                f"expected a class of the model ({', '.join(facts.class_names)}) with its sensitivity, got {name!r}"
            )
        if not 0 < sensitivity < 1:
            raise UsageError(
                f"expected a sensitivity of {name} above 0 and below 1, such as 0.95, got {sensitivity:g}"
            )
        at = facts.class_names.index(name)
        # The share of the images of a class at or above a threshold is the coverage of its prediction sets.
        scores = facts.distributions[at] if facts.distributions else None
        threshold = np.inf if scores is None else scores.threshold(sensitivity)
        if scores is None or np.isinf(threshold):
            groups = 0 if scores is None else scores.groups
            raise UsageError(
                f"expected {counted(needed_groups(sensitivity), 'group')} (patients) with {name} in the training set for a "
                f"sensitivity of {100 * sensitivity:g} %, found {groups}; give a lower one"
            )
        thresholds[at] = max(1 - threshold, np.finfo(np.float64).tiny)
        console.say(
            f"Operating point: {name} is predicted from a probability of {thresholds[at]:.3g} on, which {100 * sensitivity:g} % of "
            f"its images reach (in cross-validation, {counted(scores.images, 'image')} of {counted(scores.groups, 'group')})"
        )
    return thresholds


def estimated_prevalence(facts: ModelFacts, said: Said, console: Console) -> FloatArray:
    """The prevalence (C,) that predictions are adapted to; says the estimate and its intervals."""
    images = len(said.probabilities)
    if facts.shift is None or not images:
        raise DataError(
            f"expected images that can be read and out-of-fold predictions of {facts.method}, to estimate a prevalence "
            f"from them, found {counted(images, 'image')}; leave out --adapt-prevalence"
        )
    found = estimate_prevalence(said.probabilities, facts.shift)
    console.say(
        f"Prevalence in {counted(images, 'image')}, if the images of each class are like those of the study:"
    )
    for line in _prevalence_lines(facts.class_names, found):
        console.say(line)
    if abs(found.deviation) > MOST_DEVIATION:
        than = "lower" if found.deviation < 0 else "higher"
        console.warn(
            f"the images are not like those of the study: the mean probability of the most probable class is {found.confidence:.3f}, "
            f"{than} than the {found.expected_confidence:.3f} expected at this prevalence, by {abs(found.deviation):.1f} standard "
            f"errors; do not rely on the estimate"
        )
    if not found.helps:
        enough = (
            f"about {found.needed:,} images like these would be enough"
            if found.needed is not None
            else "more images like these would not be enough"
        )
        raise DataError(
            f"expected images whose prevalence is known well enough, and differs enough from that of the training set, for the log-loss "
            f"to fall by adapting to it, with 95 % confidence; found {counted(images, 'image')} with an expected fall of "
            f"{found.gain:.3f}, at least {found.gain_low:.3f} ({enough}); leave out --adapt-prevalence, or give --prevalence"
        )
    console.say(
        f"Predictions are adapted to the centres of these intervals; their log-loss is expected to fall by {found.gain:.3f}, at least "
        f"{found.gain_low:.3f} with 95 % confidence"
    )
    return found.adapted


def _prevalence_lines(names: Sequence[str], found: PrevalenceEstimate) -> list[str]:
    """A table of estimated prevalences beside those of the training set."""
    rows = [("class", "prevalence", "95 % interval", "training set")]
    shares = zip(names, found.prevalence, found.low, found.high, found.trained, strict=True)
    for name, share, low, high, trained in shares:
        limits = f"{100 * low:.1f}–{100 * high:.1f} %" if np.isfinite(low) else "no images known"
        rows.append((name, f"{100 * share:.1f} %", limits, f"{100 * trained:.1f} %"))
    widths = [max(len(row[at]) for row in rows) for at in range(4)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(row[at].rjust(widths[at]) for at in (1, 2, 3))]) for row in rows
    ]


def label_rows(facts: ModelFacts, said: Said) -> list[dict[str, object]]:
    """The columns of images that may have several labels, from what a model says of them."""
    assert facts.thresholds is not None
    given = said.probabilities >= facts.thresholds
    limits = np.any(said.saturated & given, axis=1)
    return [
        decided_labels(facts, p) | {"saturated": bool(at_limit)}
        for p, at_limit in zip(said.probabilities, limits, strict=True)
    ]


def decided_labels(facts: ModelFacts, p: FloatArray) -> dict[str, object]:
    """The predicted labels and the columns of the labels, from their probabilities (C,)."""
    assert facts.thresholds is not None
    given = p >= facts.thresholds
    names = join_classes(name for name, has in zip(facts.class_names, given, strict=True) if has)
    columns = _named(facts, P, p) | _named(facts, THRESHOLD, facts.thresholds) | _named(facts, HAS, given)
    return {"predicted": names} | columns


def _named(facts: ModelFacts, kind: str, values: NDArray[np.generic]) -> dict[str, object]:
    """Values (C,) by column; booleans as 1 or 0."""
    as_python = values.astype(np.int64).tolist() if values.dtype == np.bool_ else values.tolist()
    return {kind + name: value for name, value in zip(facts.class_names, as_python, strict=True)}

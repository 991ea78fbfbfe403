"""Drift of new images over time, from the predictions of a model: `tametail.monitor`.

Nothing is known of the labels of new images. What is watched is what can change without them; whether the model is as often right as
it was is not seen, see `BLIND`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import numpy as np

from tametail.core.arrays import FloatArray, IntArray
from tametail.core.errors import UsageError
from tametail.core.option import takes
from tametail.core.options import DriftOptions, MethodOptions
from tametail.deployment.facts import ModelFacts
from tametail.deployment.load import load_facts
from tametail.deployment.prediction_batches import Batch, read_batches
from tametail.evaluation.distributions import t_quantile
from tametail.evaluation.drift import Change, detect_fall, detect_rise, exceedance_limit, mean_limits
from tametail.evaluation.intervals import Estimate, wilson
from tametail.evaluation.label_shift import MOST_DEVIATION, ShiftReference, estimate_prevalence
from tametail.evaluation.unlikeness import FALSE_ALARMS

if TYPE_CHECKING:
    import pandas as pd

BLIND = (
    "Without labels it is not seen whether predictions are right: if images of the same look come to mean another class, if labels are "
    "given by another rule, or if two classes are confused more often at the same probabilities, nothing here changes. Compare with "
    "labels from time to time: tametail evaluate."
)
FEWEST_IMAGES = 20  # for an estimate of the prevalence
FEW_IMAGES = 100  # of the reference, below which only large changes are found
_TESTED = 5  # signals, each with the same share of the false alarms
_NOTHING = Estimate(math.nan, math.nan, math.nan, 0)


@dataclass(frozen=True)
class Signal:
    """One quantity that is watched, over T batches.

    Attributes:
        name: what it is.
        advice: what to do on an alarm.
        estimates: T values in 0..1 with 95 % intervals.
        low, high: limits of the mean without drift, beyond which there is evidence of a change; nan where it is not tested.
        from_model: what the model holds to compare with; nan if it holds nothing.
        rise, fall: what the tests found; None where it is not tested.
        first: number of the first batch that is tested.
        means: T values that are tested, where these are not the estimates.
        notes: T remarks on the estimates, most of them empty.
        reason: why nothing is known of it; empty if something is.
        of_class: the class, for the prevalence of a class.
    """

    name: str
    advice: str
    estimates: tuple[Estimate, ...]
    low: float = math.nan
    high: float = math.nan
    from_model: float = math.nan
    rise: Change | None = None
    fall: Change | None = None
    first: int = 0
    means: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()
    reason: str = ""
    of_class: str = ""

    @property
    def change(self) -> Change | None:
        """The test that raised the first alarm; None for no alarm."""
        found = [each for each in (self.rise, self.fall) if each is not None and each.alarm is not None]
        return min(found, key=lambda each: each.alarm or 0, default=None)

    @property
    def alarm(self) -> int | None:
        """The batch, from 0, at which the first alarm was raised; None for no alarm."""
        change = self.change
        return None if change is None or change.alarm is None else change.alarm + self.first

    @property
    def began(self) -> int | None:
        """The batch with which the change most probably began; None for no alarm."""
        change = self.change
        return None if change is None or change.began is None else change.began + self.first


@dataclass(frozen=True)
class Monitoring:
    """Drift of new images over time.

    Attributes:
        batches: in their order.
        order: by what they are ordered, in words.
        baseline: number of first batches that later ones are compared with.
        false_alarms: probability of an alarm, of any signal, without drift, over all batches and those that may follow.
        signals: what is watched.
    """

    batches: tuple[Batch, ...]
    order: str
    baseline: int
    false_alarms: float
    signals: tuple[Signal, ...]

    @property
    def alarms(self) -> tuple[Signal, ...]:
        """The signals with an alarm."""
        return tuple(signal for signal in self.signals if signal.alarm is not None)

    @property
    def table(self) -> pd.DataFrame:
        """A row per signal and batch: signal, batch, n, value, low, high (95 % interval), alarm (whether it was raised by then)."""
        import pandas as pd

        rows = [
            {
                "signal": signal.name,
                "batch": batch.name,
                "n": each.n,
                "value": each.value,
                "low": each.low,
                "high": each.high,
                "alarm": signal.alarm is not None and at >= signal.alarm,
            }
            for signal in self.signals
            for at, (batch, each) in enumerate(zip(self.batches, signal.estimates, strict=True))
        ]
        columns = ["signal", "batch", "n", "value", "low", "high", "alarm"]
        return pd.DataFrame(rows, columns=columns)


@takes(MethodOptions, DriftOptions)
def monitor(
    study: str | Path,
    prediction_files: Sequence[str | Path] | str | Path,
    method: str | None = None,
    **options: Unpack[DriftOptions],
) -> Monitoring:
    """Watch new images for drift, from the files of predictions that `tametail predict` wrote.

    Args:
        study: the folder of a study or of an exported model, which made the predictions.
        prediction_files: CSV files, each a batch of new images, such as of a week.
        method: of the study. Default: the one with the best cross-validation result.
        options: see below.

    Raises:
        DataError: there is no study or model; a file is damaged, empty, given twice or of another model.
        UsageError: images of the model may have several labels, or an option is out of range.
    """
    facts = load_facts(Path(study), method, trust_code=options["trust_code"])
    files = [prediction_files] if isinstance(prediction_files, str | Path) else prediction_files
    return monitored(facts, files, baseline=options["baseline"], false_alarms=options["false_alarms"])


def monitored(
    facts: ModelFacts, files: Sequence[str | Path], *, baseline: int = 1, false_alarms: float = 0.05
) -> Monitoring:
    """Watch new images for drift, from predictions of the model with these facts. See `monitor`."""
    if facts.several_labels:
        raise UsageError(
            f"expected a model of exactly one class per image, as several labels cannot be monitored; {facts.method} has several labels"
        )
    if not 0 < false_alarms < 1:
        raise UsageError(f"expected --false-alarms above 0 and below 1, such as 0.05, got {false_alarms:g}")
    if baseline < 1:
        raise UsageError(f"expected --baseline of at least 1 batch, got {baseline}")
    batches, order = read_batches(files, facts)
    share = false_alarms / _TESTED
    signals = [
        _unlike(batches, facts, share),
        _rate(
            "Images that cannot be read",
            "See column error of the predictions: files are damaged, or of a form that is new.",
            [np.arange(batch.rows) >= len(batch.p) for batch in batches],
            baseline,
            share,
        ),
        _rate(
            "Images with a quality flag",
            "See column quality of the predictions (blank, tiny, or other colours than in training); ask where these images are made.",
            [batch.flagged for batch in batches],
            baseline,
            share,
        ),
        _confidence(batches, facts, baseline, share),
        *_prevalence(batches, facts, baseline, share),
    ]
    return Monitoring(batches, order, baseline, false_alarms, tuple(signals))


def _unlike(batches: Sequence[Batch], facts: ModelFacts, share: float) -> Signal:
    """The rate of images unlike the training images, against that of the threshold."""
    name = "Images unlike the training images"
    advice = (
        "Look at these images (tametail predict --html, then Show: Unlike training) and do not use their predictions; ask what has "
        "changed (device, protocol, site, preprocessing). If they are to be predicted, add some with labels to the training set."
    )
    if facts.likeness.reason:
        reason = f"not known: {facts.likeness.reason}"
        return Signal(name, advice, tuple(_NOTHING for _ in batches), reason=reason)
    flags = [np.zeros(0) if batch.unlike is None else batch.unlike.astype(np.float64) for batch in batches]
    # The threshold is of finitely many groups: half of the false alarms are for that.
    limit = exceedance_limit(facts.likeness.groups, FALSE_ALARMS, share / 2)
    return Signal(
        name,
        advice,
        tuple(map(_share_of, flags)),
        low=0.0,
        high=limit,
        from_model=FALSE_ALARMS,
        rise=detect_rise(flags, limit, share / 2),
    )


def _rate(name: str, advice: str, flags: Sequence[np.ndarray], baseline: int, share: float) -> Signal:
    """The rate of a flag, against the first batches; only a rise is tested."""
    values = [each.astype(np.float64) for each in flags]
    found = Signal(name, advice, tuple(map(_share_of, values)), first=baseline)
    if len(values) <= baseline:
        return found
    _, high = mean_limits(np.concatenate(values[:baseline]), share / 2)
    return replace(found, low=0.0, high=high, rise=detect_rise(values[baseline:], high, share / 2))


def _confidence(batches: Sequence[Batch], facts: ModelFacts, baseline: int, share: float) -> Signal:
    values = [batch.p.max(axis=1) for batch in batches]
    found = Signal(
        "Highest probability, mean",
        "Images have become harder or easier, or differ from those of the training: label some of these batches, and compare with "
        "tametail evaluate.",
        tuple(map(_mean_of, values)),
        first=baseline,
        from_model=math.nan if facts.shift is None else _known_confidence(facts.shift),
    )
    return _two_sided(found, values, baseline, share)


def _prevalence(batches: Sequence[Batch], facts: ModelFacts, baseline: int, share: float) -> list[Signal]:
    """The prevalence of each class; tested is the mean probability of the class, which changes with it."""
    estimates, notes = zip(*(_estimated(batch.p, facts) for batch in batches), strict=True)
    found = []
    for at, name in enumerate(facts.class_names):
        values = [np.clip(batch.p[:, at], 0.0, 1.0) for batch in batches]
        signal = Signal(
            f"Prevalence of {name}",
            "The mean probability of the class has moved, as by another prevalence. If the images of each class look as before, predict "
            "at the new prevalence (--prevalence, or --adapt-prevalence); ask whether other patients are referred.",
            tuple(each[at] for each in estimates),
            first=baseline,
            from_model=float(facts.trained_prevalence[at]),
            means=tuple(float(each.mean()) if len(each) else math.nan for each in values),
            notes=notes,
            of_class=name,
        )
        found.append(_two_sided(signal, values, baseline, share / len(facts.class_names)))
    return found


def _two_sided(found: Signal, values: Sequence[FloatArray], baseline: int, share: float) -> Signal:
    """With tests of a rise and a fall against the first batches."""
    if len(values) <= baseline:
        return found
    # Two limits and two tests.
    low, high = mean_limits(np.concatenate(values[:baseline]), share / 4)
    later = values[baseline:]
    rise, fall = detect_rise(later, high, share / 4), detect_fall(later, low, share / 4)
    return replace(found, low=low, high=high, rise=rise, fall=fall)


def _estimated(p: FloatArray, facts: ModelFacts) -> tuple[list[Estimate], str]:
    """The prevalence of each class in a batch, and a remark."""
    images, classes = p.shape
    if facts.shift is None:
        return [_nothing(images)] * classes, "the model holds no out-of-fold predictions"
    if images < FEWEST_IMAGES:
        return [_nothing(images)] * classes, f"fewer than {FEWEST_IMAGES} images"
    found = estimate_prevalence(p, facts.shift)
    limits = zip(found.prevalence, found.low, found.high, strict=True)
    estimates = [Estimate(float(share), float(low), float(high), images) for share, low, high in limits]
    if math.isinf(found.gain_low):
        return estimates, "the model does not tell all classes apart"
    doubtful = abs(found.deviation) > MOST_DEVIATION
    return estimates, "doubtful: images of the classes differ from those of the study" if doubtful else ""


def _known_confidence(reference: ShiftReference) -> float:
    """The mean highest probability of out-of-fold images, at the class frequencies of the training set."""
    counts: IntArray = np.bincount(reference.target, minlength=len(reference.images))
    weight = (reference.trained / np.maximum(counts, 1))[reference.target]
    return float((reference.p.max(axis=1) * weight).sum() / weight.sum())


def _share_of(flags: FloatArray) -> Estimate:
    if not len(flags):
        return _NOTHING
    share = float(flags.mean())
    low, high = wilson(share, len(flags))
    return Estimate(share, float(low), float(high), len(flags))


def _mean_of(values: FloatArray) -> Estimate:
    n = len(values)
    if n < 2:
        return Estimate(float(values[0]), math.nan, math.nan, n) if n else _NOTHING
    mean = float(values.mean())
    half = float(t_quantile(0.975, n - 1)) * float(values.std(ddof=1)) / math.sqrt(n)
    return Estimate(mean, max(mean - half, 0.0), min(mean + half, 1.0), n)


def _nothing(images: int) -> Estimate:
    return Estimate(math.nan, math.nan, math.nan, images)

"""The page and the lines of `tametail monitor`: each signal over the batches, with its alarm and what to do then."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from tametail.core.console import printable
from tametail.core.text import counted
from tametail.deployment.facts import ModelFacts
from tametail.deployment.monitor import BLIND, FEW_IMAGES, Monitoring, Signal
from tametail.evaluation.drift import Change
from tametail.evaluation.intervals import Estimate
from tametail.evaluation.unlikeness import FALSE_ALARMS
from tametail.report.figures.drift import drift_drawing
from tametail.report.formatting import ABSENT, percent, percent_with_interval
from tametail.report.render import render
from tametail.report.study.narrative import SYNTHETIC

MOST_CLASSES = 12  # with a figure: those with an alarm, then the most frequent in training


_MOST_SHOWN = 1_000_000  # evidence


class Row(NamedTuple):
    """A batch in the table of a signal."""

    name: str
    n: int
    estimate: Estimate
    mean: str
    evidence: str
    alarm: bool
    note: str


class Card(NamedTuple):
    """A signal on the page."""

    name: str
    verdict: str
    advice: str
    alarm: bool
    figure: object
    caption: str
    heading: str
    mean: bool
    rows: tuple[Row, ...]


class Glance(NamedTuple):
    """A signal, or the prevalence of all classes, at the top of the page."""

    name: str
    state: str
    latest: str
    alarm: bool


def verdict(signal: Signal, monitoring: Monitoring) -> str:
    """What was found of a signal, in a sentence without a full stop."""
    if signal.reason:
        return printable(signal.reason)
    if signal.rise is None:
        return f"not tested: no batch after the {_first(monitoring)} to compare with"
    if signal.alarm is None or signal.began is None:
        return "no alarm"
    fell = signal.change is signal.fall
    limit = percent(signal.low if fell else signal.high)
    names = [printable(batch.name) for batch in monitoring.batches]
    what = "mean probability" if signal.means else "mean" if signal.fall else "rate"
    return (
        f"alarm at {names[signal.alarm]}: the {what} is {'below' if fell else 'above'} {limit} %, most probably since "
        f"{names[signal.began]}"
    )


def stated_rate(monitoring: Monitoring) -> str:
    """The false-alarm rate, in a sentence."""
    return (
        f"Without drift the probability of any alarm is at most {100 * monitoring.false_alarms:.3g} %, over all signals and all batches, "
        f"also those to come."
    )


def summary_rows(monitoring: Monitoring) -> list[tuple[str, str, str]]:
    """Each signal, its latest estimate and its verdict, for the console; of the classes those with an alarm, and all in one row."""
    rows = []
    for signal in monitoring.signals:
        if not signal.of_class or signal.alarm is not None:
            rows.append((printable(signal.name), _latest(signal), verdict(signal, monitoring)))
    classes = [signal for signal in monitoring.signals if signal.of_class]
    alarms = sum(signal.alarm is not None for signal in classes)
    if alarms < len(classes):
        quiet = next(signal for signal in classes if signal.alarm is None)
        which = f"Prevalence, {counted(len(classes) - alarms, 'class', 'classes')}"
        rows.append((which, "", verdict(quiet, monitoring)))
    return rows


def warnings_of(monitoring: Monitoring) -> list[str]:
    """What limits the findings, in words."""
    found = []
    first = monitoring.batches[: monitoring.baseline]
    images = sum(len(batch.p) for batch in first)
    if len(monitoring.batches) <= monitoring.baseline:
        found.append(
            f"expected more batches than the {_first(monitoring)}, which later ones are compared with, got {len(monitoring.batches)}: "
            f"only the rate of images unlike the training images is tested"
        )
    elif images < FEW_IMAGES:
        found.append(
            f"{counted(images, 'image')} to compare with, in the {_first(monitoring)}: only large changes "
            f"are found; compare with more by --baseline"
        )
    return found


def monitor_html(monitoring: Monitoring, facts: ModelFacts) -> str:
    """The page as self-contained HTML; it has the names of the files."""
    general = [signal for signal in monitoring.signals if not signal.of_class]
    classes = [signal for signal in monitoring.signals if signal.of_class]
    order = sorted(classes, key=lambda signal: (signal.alarm is None, -signal.from_model))
    shown = order[:MOST_CLASSES]
    prevalence = (
        "Estimated from the probabilities, if the images of each class look like those of the study, with 95 % intervals "
        "(tametail.evaluation.label_shift). Tested is the mean probability of each class, which moves with it."
    )
    if len(shown) < len(classes):
        prevalence += (
            f" Shown are {len(shown)} of {len(classes)} classes, first those with an alarm; all are tested."
        )
    cards = [_card(signal, monitoring, f"drift-{at}") for at, signal in enumerate([*general, *shown])]
    images = sum(batch.rows for batch in monitoring.batches)
    alarms = monitoring.alarms
    return render(
        "monitor.html.j2",
        title=f"Drift in {counted(len(monitoring.batches), 'batch', 'batches')} of new images",
        synthetic=SYNTHETIC if facts.synthetic else "",
        warnings=warnings_of(monitoring),
        answer=[
            f"{counted(len(alarms), 'alarm')} in {counted(len(monitoring.batches), 'batch', 'batches')}, {counted(images, 'image')}."
            if alarms
            else f"No alarm in {counted(len(monitoring.batches), 'batch', 'batches')}, {counted(images, 'image')}.",
            stated_rate(monitoring),
        ],
        strip=_glances(general, classes),
        blind=BLIND,
        sections=[
            (
                "images",
                "Images and predictions",
                f"Rates and a mean of the images in a batch, with 95 % intervals. Unlike the training images are at most "
                f"{100 * FALSE_ALARMS:.3g} % of new images like them; the others are compared with the {_first(monitoring)}. The mean "
                f"probability of the out-of-fold predictions (dashed) is not tested, as the mean of several models is less sure than "
                f"each of them.",
                cards[: len(general)],
            ),
            ("prevalence", "Prevalence", prevalence, cards[len(general) :]),
        ],
        reading=[
            f"{stated_rate(monitoring)} It is shared equally between the five kinds of signals, and between the classes. It holds if the "
            f"images are independent, with each patient once: several images of one patient raise more false alarms.",
            "Evidence is what a bet against “no drift” has gained: 1 before the first image, and on average not more without drift. An "
            "alarm is raised when it reaches the number in the caption, and stays. It is a sequential test: look as often as you like, and "
            "add files as they come. Old batches without drift do not hide a new one.",
            "The grey band holds the means without drift that cannot be excluded from the batches before. A single interval outside the "
            "band is no alarm yet: of twenty intervals one is expected to miss its value.",
            f"Files are ordered {monitoring.order}.",
        ],
        facts=[
            (term, printable(text))
            for term, text in (
                (
                    "Model",
                    f"{facts.method}, {facts.trained_as}; {facts.spec.name} at {facts.spec.image_size} px",
                ),
                ("Trained on", facts.name),
                ("Files", ", ".join(batch.path.name for batch in monitoring.batches)),
            )
        ],
    )


def _glances(general: Sequence[Signal], classes: Sequence[Signal]) -> list[Glance]:
    found = [
        Glance(signal.name, _state(signal), f"latest: {_latest(signal)}", signal.alarm is not None)
        for signal in general
    ]
    alarms = [printable(signal.of_class) for signal in classes if signal.alarm is not None]
    tested = any(signal.rise is not None for signal in classes)
    state = f"alarm: {', '.join(alarms[:MOST_CLASSES])}" if alarms else "no alarm" if tested else "not tested"
    return [*found, Glance("Prevalence", state, counted(len(classes), "class", "classes"), bool(alarms))]


def _state(signal: Signal) -> str:
    if signal.reason:
        return "not known"
    if signal.rise is None:
        return "not tested"
    return "no alarm" if signal.alarm is None else "alarm"


def _latest(signal: Signal) -> str:
    last = signal.estimates[-1]
    return ABSENT if math.isnan(last.value) else f"{percent_with_interval(last)} %"


def _card(signal: Signal, monitoring: Monitoring, name: str) -> Card:
    from markupsafe import Markup

    from tametail.report.figures.svg import inlined

    says = verdict(signal, monitoring)
    # Its name is a class, whose case is kept.
    text = f"{says[0].upper()}{says[1:]}."
    title = printable(signal.name)
    if signal.reason:
        return Card(title, text, signal.advice, False, "", "", "", False, ())
    dates = all(batch.day is not None for batch in monitoring.batches)
    labels = [
        f"{batch.day:%d %b}" if dates and batch.day else str(at)
        for at, batch in enumerate(monitoring.batches, start=1)
    ]
    # A band of means of probabilities says nothing of estimated prevalences.
    limits = (math.nan, math.nan) if signal.means else (signal.low, signal.high)
    drawing = drift_drawing(
        name, title, signal.estimates, labels, limits=limits, reference=signal.from_model, alarm=signal.alarm
    )
    rows = tuple(_row(signal, monitoring, at) for at in range(len(monitoring.batches)))
    heading = (
        "Prevalence, %" if signal.of_class else "Mean, %" if signal.fall or "mean" in title else "Rate, %"
    )
    mean = bool(signal.means)
    return Card(
        title,
        text,
        signal.advice,
        signal.alarm is not None,
        Markup(inlined(drawing)),
        _caption(signal),
        heading,
        mean,
        rows,
    )


def _row(signal: Signal, monitoring: Monitoring, at: int) -> Row:
    evidence = ABSENT
    if signal.rise is not None and at >= signal.first:
        both = [_evidence(each, at - signal.first) for each in (signal.rise, signal.fall) if each is not None]
        evidence = _shown(max(both))
    return Row(
        name=printable(monitoring.batches[at].name),
        n=signal.estimates[at].n,
        estimate=signal.estimates[at],
        mean=percent(signal.means[at]) if signal.means else "",
        evidence=evidence,
        alarm=signal.alarm is not None and at >= signal.alarm,
        note=signal.notes[at] if signal.notes else "",
    )


def _shown(evidence: float) -> str:
    if evidence >= _MOST_SHOWN:
        return f"> {_MOST_SHOWN:,}"
    return f"{evidence:,.0f}" if evidence >= 10 else f"{evidence:.2f}"


def _first(monitoring: Monitoring) -> str:
    return "first batch" if monitoring.baseline == 1 else f"first {monitoring.baseline} batches"


def _evidence(change: Change, at: int) -> float:
    return math.exp(min(float(change.evidence[at]), 700.0))


def _caption(signal: Signal) -> str:
    found = []
    if math.isfinite(signal.high):
        of = "mean probability" if signal.means else "grey band"
        found.append(
            f"{of[0].upper()}{of[1:]} without drift: {percent(signal.low)}–{percent(signal.high)} %."
        )
    if math.isfinite(signal.from_model):
        what = (
            "training set"
            if signal.of_class
            else "the out-of-fold predictions"
            if "mean" in signal.name
            else "new images like the training images, at most"
        )
        found.append(f"Dashed: {what}, {percent(signal.from_model)} %.")
    if signal.rise is not None:
        found.append(f"Alarm at evidence of {math.exp(signal.rise.needed):,.0f}.")
    return " ".join(found)

"""Numbers and names as text, the same on every page, table and console line of a report."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tametail.evaluation import Estimate

ABSENT = "–"


def percent(value: float) -> str:
    """0.7123 → ``71.2``; an undefined value is a dash."""
    return f"{100 * value:.1f}" if math.isfinite(value) else ABSENT


def score(value: float) -> str:
    """0.7123 → ``0.71``; an undefined value is a dash."""
    return f"{value:.2f}" if math.isfinite(value) else ABSENT


def three_decimals(value: float) -> str:
    """0.7123 → ``0.712``; an undefined value is a dash."""
    return f"{value:.3f}" if math.isfinite(value) else ABSENT


def threshold(value: float) -> str:
    """0.07123 → ``0.0712``: three significant digits, as thresholds of rare classes are small."""
    return f"{value:.3g}" if math.isfinite(value) else ABSENT


def p_value(p: float) -> str:
    """``0.034``, or ``< 0.001``; an undefined value is a dash."""
    if not math.isfinite(p):
        return ABSENT
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def p_equals(p: float) -> str:
    """What follows ``p``: ``= 0.034``, or ``< 0.001``."""
    text = p_value(p)
    return text if text.startswith("<") else f"= {text}"


def percent_interval(estimate: Estimate) -> str:
    """``68.0–74.3``, or nothing where it is undefined."""
    defined = math.isfinite(estimate.low)
    return f"{percent(estimate.low)}–{percent(estimate.high)}" if defined else ""


def score_interval(estimate: Estimate) -> str:
    """``0.68–0.74``, or nothing where it is undefined."""
    return f"{score(estimate.low)}–{score(estimate.high)}" if math.isfinite(estimate.low) else ""


def percent_with_interval(estimate: Estimate) -> str:
    """``71.2 (68.0–74.3)``."""
    return _with(percent(estimate.value), percent_interval(estimate))


def score_with_interval(estimate: Estimate) -> str:
    """``0.71 (0.68–0.74)``."""
    return _with(score(estimate.value), score_interval(estimate))


def three_decimals_interval(estimate: Estimate) -> str:
    """``0.681–0.743``, or nothing where it is undefined."""
    defined = math.isfinite(estimate.low)
    return f"{three_decimals(estimate.low)}–{three_decimals(estimate.high)}" if defined else ""


def _with(value: str, interval: str) -> str:
    return f"{value} ({interval})" if interval else value


def percent_in_words(estimate: Estimate) -> str:
    """``71.2 % (95 % interval 68.0 to 74.3)``, for sentences."""
    if not math.isfinite(estimate.low):
        return f"{percent(estimate.value)} %"
    return f"{percent(estimate.value)} % (95 % interval {percent(estimate.low)} to {percent(estimate.high)})"


def points(difference: float) -> str:
    """0.0312 → ``+3.1``, with a true minus sign; an undefined value is a dash."""
    if not math.isfinite(difference):
        return ABSENT
    text = f"{100 * difference:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "−")


def points_interval(difference: Estimate) -> str:
    """``+1.2 to +5.0``, or nothing where it is undefined."""
    defined = math.isfinite(difference.low)
    return f"{points(difference.low)} to {points(difference.high)}" if defined else ""


def signed(difference: float) -> str:
    """0.0312 → ``+0.031``, with a true minus sign; an undefined value is a dash."""
    if not math.isfinite(difference):
        return ABSENT
    text = f"{difference:+.3f}"
    return "0.000" if float(text) == 0 else text.replace("-", "−")


def images_and_groups(images: int, groups: int) -> str:
    """``812 images of 310 groups``; groups of one image each are not mentioned."""
    return f"{images:,} images" + (f" of {groups:,} groups" if groups != images else "")


def count_of(count: int, noun: str) -> str:
    """``1 class``, ``1,200 images``: a count with its noun in the right number."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"


def times(count: int) -> str:
    """``once``, ``twice``, ``3 times``."""
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def join_names(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else list(names))


def sentence_case(text: str) -> str:
    """The text with a capital letter at its start."""
    return text[:1].upper() + text[1:]


def shorten(name: str, length: int) -> str:
    """The name on one line of at most so many letters, an ellipsis at the end of a longer one."""
    name = " ".join(name.split())
    return name if len(name) <= length else name[: length - 1] + "…"


def duration(seconds: float) -> str:
    """``90 s``, ``12 min`` or ``3.5 h``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"

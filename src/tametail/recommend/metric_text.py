"""Values of the metrics of a recommendation as text: shares in percent and points, others with three decimals."""

from __future__ import annotations

import math

from tametail.evaluation import Estimate
from tametail.evaluation.paired import Paired
from tametail.recommend.candidates import BASELINE
from tametail.recommend.objective import Objective, parse_objective
from tametail.report import formatting


def title_of(metric: str) -> str:
    """As in sentences: the title of an objective, or ``accuracy``, which is none."""
    return metric if metric == "accuracy" else parse_objective(metric).title


def in_percent(metric: str) -> bool:
    """Whether values are proportions, in percent and points."""
    return metric == "accuracy" or parse_objective(metric).in_percent


def heading(metric: str) -> str:
    """``Balanced accuracy, %``, ``Log-loss``."""
    return formatting.sentence_case(title_of(metric)) + (", %" if in_percent(metric) else "")


def value(metric: str, number: float) -> str:
    """``71.2``, or ``0.873`` of the log-loss or a net benefit."""
    return formatting.percent(number) if in_percent(metric) else formatting.three_decimals(number)


def interval(metric: str, estimate: Estimate) -> str:
    """``68.0–74.3``, or nothing where it is undefined."""
    of_metric = formatting.percent_interval if in_percent(metric) else formatting.three_decimals_interval
    return of_metric(estimate)


def with_interval(metric: str, estimate: Estimate) -> str:
    """``71.2 (68.0–74.3)``."""
    limits = interval(metric, estimate)
    return value(metric, estimate.value) + (f" ({limits})" if limits else "")


def with_unit(metric: str, number: float) -> str:
    """``71.2 %``, or ``0.873`` of the log-loss or a net benefit."""
    return value(metric, number) + (" %" if in_percent(metric) else "")


def in_words(metric: str, estimate: Estimate) -> str:
    """``71.2 % (95 % interval 68.0 to 74.3)``, for sentences."""
    text = with_unit(metric, estimate.value)
    if not math.isfinite(estimate.low):
        return text
    low, high = (value(metric, limit) for limit in (estimate.low, estimate.high))
    return f"{text} (95 % interval {low} to {high})"


def shown_difference(objective: Objective, pair: Paired) -> Estimate:
    """The difference in the metric itself, where a lower log-loss is a difference below 0.

    Args:
        pair: above 0 where the first is better.
    """
    return pair.difference if objective.greater_is_better else pair.reversed().difference


def difference_heading(objective: Objective, other: str = BASELINE) -> str:
    """``Compared with ce, points``."""
    return f"Compared with {other}" + (", points" if objective.in_percent else "")


def difference(objective: Objective, number: float) -> str:
    """``+5.8``, or ``−0.051`` of the log-loss or a net benefit."""
    return formatting.points(number) if objective.in_percent else formatting.signed(number)


def difference_interval(objective: Objective, estimate: Estimate) -> str:
    """``+1.2 to +5.0``, or nothing where it is undefined."""
    if not math.isfinite(estimate.low):
        return ""
    return f"{difference(objective, estimate.low)} to {difference(objective, estimate.high)}"


def difference_with_interval(objective: Objective, estimate: Estimate) -> str:
    """``+3.1 (+1.2 to +5.0)``."""
    limits = difference_interval(objective, estimate)
    return difference(objective, estimate.value) + (f" ({limits})" if limits else "")


def unit(objective: Objective) -> str:
    """`` points``, or nothing for the log-loss and a net benefit."""
    return " points" if objective.in_percent else ""

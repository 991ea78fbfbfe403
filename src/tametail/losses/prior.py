"""The prior of a data set's classes, as a shift of logits in logit-adjusted training.

A class without samples counts as if it had one, so that every shift is finite: its logit is shifted at least as far as
that of any class with samples, and the shifts of other classes do not change.

Shape legend: C classes.
"""

from __future__ import annotations

from torch import Tensor, dtype


def log_prior(class_counts: Tensor, dtype: dtype) -> Tensor:
    """log(n_c / n) of counts (C,): the shift for losses whose classes share one softmax."""
    counts = class_counts.to(dtype)
    return counts.clamp(min=1).log() - counts.sum().log()


def log_odds(class_counts: Tensor, dtype: dtype) -> Tensor:
    """log(n_c / (n - n_c)) of counts (C,): the shift for losses with one sigmoid per class.

    A class that holds all samples counts as if there were one more of another class.
    """
    counts = class_counts.to(dtype)
    return counts.clamp(min=1).log() - (counts.sum() - counts).clamp(min=1).log()

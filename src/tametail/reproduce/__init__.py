"""The paper's experiments by name: run as described, and compared with the published numbers. See docs/reproduce.md."""

from __future__ import annotations

from tametail.reproduce.comparison import ColumnComparison, Comparison, compare_with_published
from tametail.reproduce.experiments import EXPERIMENTS, FIGURE, Experiment, find_experiment
from tametail.reproduce.runner import Reproduction, reproduce

__all__ = [
    "EXPERIMENTS",
    "FIGURE",
    "ColumnComparison",
    "Comparison",
    "Experiment",
    "Reproduction",
    "compare_with_published",
    "find_experiment",
    "reproduce",
]

"""The paper's experiments by name: run as told, and set beside what is printed. See docs/reproduce.md."""

from __future__ import annotations

from tametail.reproduce.comparison import Column, Comparison, compare_with_print
from tametail.reproduce.experiments import EXPERIMENTS, FIGURE, Experiment, find_experiment
from tametail.reproduce.runner import Reproduction, reproduce

__all__ = [
    "EXPERIMENTS",
    "FIGURE",
    "Column",
    "Comparison",
    "Experiment",
    "Reproduction",
    "compare_with_print",
    "find_experiment",
    "reproduce",
]

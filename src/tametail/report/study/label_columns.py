"""The columns of results.csv that a multi-label study has in place of classes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tametail.evaluation.multi_label import LabelEvaluation, ThresholdedMetrics
from tametail.report.study.results import LabelEvidence
from tametail.report.writers.csv_cells import Cells, estimate_cells, six_decimals

_OVER_LABELS = ("macro_f1", "micro_f1", "subset_accuracy", "hamming_loss")
_OF_LABEL = ("recall", "specificity", "precision", "f1")


def label_cells(log_posterior: LabelEvidence | None, class_names: Sequence[str], *, opened: bool) -> Cells:
    """Everything known of one loss; empty cells where it is not finished.

    ``threshold_<label>`` is for images yet to come. Decisions at chosen thresholds have plain names, those at 0.5 end
    in ``_at_half``.
    """
    cells = [
        (f"threshold_{name}", six_decimals(log_posterior.thresholds[index] if log_posterior else math.nan))
        for index, name in enumerate(class_names)
    ]
    cells += _evaluation("", log_posterior.out_of_fold if log_posterior else None, class_names)
    if opened:
        cells += _evaluation("test_", log_posterior.test if log_posterior else None, class_names)
        cells += _evaluation(
            "test_ensemble_", log_posterior.test_ensemble if log_posterior else None, class_names
        )
    return cells


def _evaluation(prefix: str, evaluation: LabelEvaluation | None, class_names: Sequence[str]) -> Cells:
    cells = [
        (f"{prefix}n", str(evaluation.n) if evaluation else ""),
        (f"{prefix}groups", str(evaluation.groups) if evaluation else ""),
    ]
    for metric in ("average_precision", "auroc"):
        cells += estimate_cells(prefix + metric, getattr(evaluation, metric) if evaluation else None)
    for index, name in enumerate(class_names):
        label = evaluation.labels[index] if evaluation else None
        cells += [
            (f"{prefix}positives_{name}", str(label.positives) if label else ""),
            (f"{prefix}negatives_{name}", str(label.negatives) if label else ""),
        ]
        for metric in ("average_precision", "auroc"):
            cells += estimate_cells(f"{prefix}{metric}_{name}", getattr(label, metric) if label else None)
    cells += _decisions(prefix, "", evaluation.chosen if evaluation else None, class_names)
    return cells + _decisions(prefix, "_at_half", evaluation.plain if evaluation else None, class_names)


def _decisions(
    prefix: str, suffix: str, decisions: ThresholdedMetrics | None, class_names: Sequence[str]
) -> Cells:
    cells: Cells = []
    for metric in _OVER_LABELS:
        cells += estimate_cells(
            f"{prefix}{metric}{suffix}", getattr(decisions, metric) if decisions else None
        )
    for index, name in enumerate(class_names):
        label = decisions.labels[index] if decisions else None
        for metric in _OF_LABEL:
            cells += estimate_cells(
                f"{prefix}{metric}{suffix}_{name}", getattr(label, metric) if label else None
            )
    return cells

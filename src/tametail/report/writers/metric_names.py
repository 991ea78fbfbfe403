"""Names of the metrics in the files of results: attributes of the evaluations."""

from __future__ import annotations

OF_CLASS = ("recall", "precision", "f1", "specificity", "auroc", "average_precision")
OVER_CLASSES = ("balanced_accuracy", "macro_f1", "accuracy", "mcc")
OF_LABEL = ("recall", "specificity", "precision", "f1")
OVER_LABELS = ("macro_f1", "micro_f1", "subset_accuracy", "hamming_loss")

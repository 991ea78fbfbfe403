"""The objective of a recommendation: the metric that candidates, and all that is chosen on inner folds, are chosen for.

Shape legend: S seeds, m images, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tametail.core.arrays import IntArray
from tametail.evaluation.log_loss import log_losses
from tametail.evaluation.metric_registry import METRICS, ConfusionMetric
from tametail.evaluation.metrics import confusion_matrix
from tametail.predictions.single_label import Predictions

ObjectiveName = Literal["balanced_accuracy", "macro_f1", "log_loss"]


@dataclass(frozen=True)
class Objective:
    """A metric to choose by.

    Attributes:
        name: as in the option and in recommend.json.
        title: as in sentences.
        greater_is_better: the direction; the log-loss is minimised.
        digits: decimals in which scores are compared. Log-losses of heads with the same minimum differ in the fourth one, as
            training ends at a tolerance.
    """

    name: ObjectiveName
    title: str
    greater_is_better: bool = True
    digits: int = 10

    @property
    def sign(self) -> int:
        """1, or -1 where lower is better: the factor between the metric and a score of which greater is better."""
        return 1 if self.greater_is_better else -1

    @property
    def extreme(self) -> str:
        """The best value: the highest, or the lowest."""
        return "highest" if self.greater_is_better else "lowest"

    def value(
        self, target: IntArray, logits: NDArray[np.floating], probabilities: NDArray[np.floating]
    ) -> float:
        """The metric of one replicate.

        Args:
            target: (m,) class indices.
            logits: (m, C), the largest of which decides.
            probabilities: (m, C) by the loss's own link, which sum to one; see `Predictions.probabilities`.
        """
        if self.name == "log_loss":
            return float(log_losses(target, probabilities).mean())
        metric = METRICS.get(self.name)
        assert isinstance(metric, ConfusionMetric)
        counts = confusion_matrix(target, logits.argmax(axis=1), logits.shape[1])
        return float(metric.function(counts.astype(np.float64)))

    def score(self, tables: Sequence[Predictions]) -> float:
        """Mean over the replicates of the metric times `sign`: greater is better."""
        values = [self.value(table.target, table.logits, table.probabilities) for table in tables]
        return self.sign * sum(values) / len(values)


OBJECTIVES: dict[str, Objective] = {
    one.name: one
    for one in (
        Objective("balanced_accuracy", "balanced accuracy"),
        Objective("macro_f1", "macro-F1"),
        Objective("log_loss", "log-loss", greater_is_better=False, digits=3),
    )
}

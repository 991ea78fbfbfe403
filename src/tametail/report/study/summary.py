"""The metrics of an evaluation that every table shows: overall ones, and a pair for each class or label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tametail.evaluation import Estimate, Evaluation
from tametail.evaluation.metric_registry import METRICS
from tametail.evaluation.multi_label import LabelEvaluation
from tametail.report import formatting

AnyEvaluation = Evaluation | LabelEvaluation


@dataclass(frozen=True)
class ShownMetric:
    """A metric with its estimate, shown in % or with two decimals.

    Attributes:
        name: as in columns and keys of files.
        title: without a unit.
        estimate: value and interval.
        in_percent: whether it is shown in %.
        greater_is_better: the direction.
    """

    name: str
    title: str
    estimate: Estimate
    in_percent: bool = True
    greater_is_better: bool = True

    @property
    def heading(self) -> str:
        """The title with its unit."""
        return f"{self.title}, %" if self.in_percent else self.title

    @property
    def text(self) -> str:
        """The value with its interval."""
        write = formatting.percent_with_interval if self.in_percent else formatting.score_with_interval
        return write(self.estimate)


def overall_metrics(evaluation: AnyEvaluation) -> list[ShownMetric]:
    """The metrics over all classes or labels; the first one ranks the methods."""
    if isinstance(evaluation, LabelEvaluation):
        at, half = evaluation.chosen, evaluation.plain
        return [
            ShownMetric("average_precision", "Mean AP", evaluation.average_precision),
            ShownMetric("auroc", "Macro AUROC", evaluation.auroc),
            ShownMetric("macro_f1", "Macro-F1", at.macro_f1, in_percent=False),
            ShownMetric("micro_f1", "Micro-F1", at.micro_f1, in_percent=False),
            ShownMetric("subset_accuracy", "Subset accuracy", at.subset_accuracy),
            ShownMetric("hamming_loss", "Hamming loss", at.hamming_loss, greater_is_better=False),
            ShownMetric("macro_f1_at_half", "Macro-F1 at 0.5", half.macro_f1, in_percent=False),
        ]
    shown = [
        ShownMetric("balanced_accuracy", "Balanced accuracy", evaluation.balanced_accuracy),
        ShownMetric("macro_f1", "Macro-F1", evaluation.macro_f1, in_percent=False),
        ShownMetric("mcc", "MCC", evaluation.mcc, in_percent=False),
    ]
    if evaluation.kappa:
        shown.append(ShownMetric("kappa", "Quadratic kappa", evaluation.kappa, in_percent=False))
    shown.append(ShownMetric("accuracy", "Accuracy", evaluation.accuracy))
    if len(evaluation.class_groups) > 1:
        shown += [
            ShownMetric(f"recall_{group.name}", f"{group_title(group.name)} recall", group.recall)
            for group in evaluation.class_groups
        ]
    for name, estimate in evaluation.additional.items():
        metric = METRICS.get(name)
        better = metric.greater_is_better
        shown.append(ShownMetric(name, metric.title, estimate, in_percent=False, greater_is_better=better))
    return shown


def group_title(name: str) -> str:
    """``many`` → ``Many-shot``."""
    return f"{name.capitalize()}-shot"


def class_metrics(evaluation: AnyEvaluation, index: int) -> tuple[ShownMetric, ShownMetric]:
    """The two metrics of a class (recall and F1) or of a label (average precision and AUROC)."""
    if isinstance(evaluation, LabelEvaluation):
        label = evaluation.labels[index]
        return ShownMetric("average_precision", "AP", label.average_precision), ShownMetric(
            "auroc", "AUROC", label.auroc
        )
    of_class = evaluation.classes[index]
    return ShownMetric("recall", "Recall", of_class.recall), ShownMetric(
        "f1", "F1", of_class.f1, in_percent=False
    )


def class_means(evaluation: AnyEvaluation) -> tuple[ShownMetric, ShownMetric]:
    """The means of `class_metrics` over all classes or labels."""
    first, second, *_ = overall_metrics(evaluation)
    return first, second


def class_images(evaluation: AnyEvaluation, index: int) -> int:
    """Images of a class, or with a label."""
    if isinstance(evaluation, LabelEvaluation):
        return evaluation.labels[index].positives
    return evaluation.classes[index].n


def is_best(estimates: Sequence[Estimate], *, greater_is_better: bool = True) -> list[bool]:
    """Which estimates of one metric are the best; none if all are equal or there is only one."""
    values = [estimate.value if greater_is_better else -estimate.value for estimate in estimates]
    distinct = {value for value in values if value == value}
    return [len(distinct) > 1 and value == max(distinct) for value in values]

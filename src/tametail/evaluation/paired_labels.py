"""Paired comparison of models on the same images with several labels: differences in average precision.

The average precision (AP) of a label is the mean over its positive images of the precision at each; the mean over the labels
is mAP. The test is Student's, of the difference over its standard error from the influence of each group (patient, study) on
the difference: of its negatives as of its positives, as DeLong's test does for the AUROC. Random signs of what the positives
of a group contribute, as for balanced accuracy, would not hold their level: all positives are ranked among the same
negatives, so that their differences are not independent (docs/results/multi-label-comparisons.md).

Shape legend: S replicates, N images, G groups, C labels, P positives of a label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np

from tametail.core.arrays import BoolArray, FloatArray, IntArray
from tametail.evaluation.distributions import t_quantile, t_two_sided
from tametail.evaluation.intervals import Estimate
from tametail.evaluation.mcnemar import ClassTest
from tametail.evaluation.paired import Contrast, PairedTable, correct_contrasts
from tametail.evaluation.ranking_metrics import precision_and_influence
from tametail.evaluation.sample import group_codes
from tametail.evaluation.significance import holm, verdict
from tametail.predictions.multi_label import LabelPredictions, check_same_images

_TINY = 1e-12


@dataclass(frozen=True)
class _Label:
    """One label, for M models.

    Attributes:
        name: the label.
        precision: (M, P) at each positive, mean over the replicates.
        influence: (M, G) of each group on the AP, times the root of G' / (G' - 1); a row sums to 0.
        groups: G', with a positive.
    """

    name: str
    precision: FloatArray
    influence: FloatArray
    groups: int


def paired_label_table(replicates_by_name: Mapping[str, Sequence[LabelPredictions]]) -> PairedTable:
    """Compare all pairs of models in mean average precision on the same images.

    The variance is that of the sum over the labels of the influence of each group, but never smaller than under
    independence of the labels; the degrees of freedom are those of Welch and Satterthwaite over the labels, each with one less than
    its groups with a positive.

    Args:
        replicates_by_name: for each model, tables over the same images, e.g. one per seed (folds joined).

    Raises:
        ValueError: no model, a model without tables, tables that differ in images, groups or labels, or no label with a positive and a
            negative image.
    """
    names, labels, n = _labels(replicates_by_name)
    contrasts = [_contrast(labels, i, j, n) for i, j in combinations(range(len(names)), 2)]
    return PairedTable(names, correct_contrasts(contrasts))


def compare_labels(
    replicates_by_name: Mapping[str, Sequence[LabelPredictions]],
) -> dict[str, tuple[ClassTest, ...]]:
    """Compare the first model with each other one in the average precision of each label.

    p is Holm-corrected over all of these tests. ``only_a`` counts the positives at which the precision of a is higher,
    ``only_b`` those at which that of b is; ``difference`` is that in AP.

    Args:
        replicates_by_name: as for `paired_label_table`.

    Returns:
        By the other model's name one test per label, in the order of the names of the labels; "absent" without a positive or
        without a negative image, or with positives of a single group.
    """
    names, labels, _ = _labels(replicates_by_name)
    all_names = next(iter(replicates_by_name.values()))[0].class_names
    by_name = {label.name: label for label in labels if label.groups > 1}
    found = [
        [
            _contrast([by_name[name]], 0, other, by_name[name].precision.shape[1])
            if name in by_name
            else None
            for name in all_names
        ]
        for other in range(1, len(names))
    ]
    corrected = iter(holm([one.p if one else np.nan for tests in found for one in tests]).tolist())
    return {
        other: tuple(
            _test(by_name[name], at, one, next(corrected)) if one else _absent(name, next(corrected))
            for name, one in zip(all_names, tests, strict=True)
        )
        for at, (other, tests) in enumerate(zip(names[1:], found, strict=True), start=1)
    }


def _absent(name: str, p: float) -> ClassTest:
    return ClassTest(name, 0, 0, 0.0, 0.0, Estimate(p, p, p, 0), p, p, "absent")


def _test(label: _Label, other: int, found: Contrast, p_holm: float) -> ClassTest:
    a, b = label.precision[0], label.precision[other]
    only_a, only_b = (float(np.count_nonzero(one > two + _TINY)) for one, two in ((a, b), (b, a)))
    said = verdict(found.difference, p_holm)
    return ClassTest(
        label.name, len(a), label.groups, only_a, only_b, found.difference, found.p, p_holm, said
    )


def _contrast(labels: Sequence[_Label], i: int, j: int, n: int) -> Contrast:
    """Mean over the labels of the difference in AP of models i and j."""
    value = float(np.mean([(label.precision[i] - label.precision[j]).mean() for label in labels]))
    value = 0.0 if abs(value) < _TINY else value
    influence = np.array([label.influence[i] - label.influence[j] for label in labels]) / len(labels)
    own, together = (influence**2).sum(axis=1), influence.sum(axis=0)
    variance = max(float(together @ together), float(own.sum()))
    freedom = np.array([max(label.groups - 1, 1) for label in labels])
    spread = float((own**2 / freedom).sum())
    degrees = float(own.sum()) ** 2 / spread if spread > 0 else 1.0
    error = float(np.sqrt(variance))
    half = float(np.asarray(t_quantile(0.975, degrees))) * error
    estimate = Estimate(value, max(value - half, -1.0), min(value + half, 1.0), n)
    p = t_two_sided(value / error, degrees) if error > 0 else 1.0
    return Contrast(estimate, estimate, together, p, error)


def _labels(
    replicates_by_name: Mapping[str, Sequence[LabelPredictions]],
) -> tuple[tuple[str, ...], list[_Label], int]:
    """Names of the models, the labels with positives and negatives, and the number of images."""
    for name, replicates in replicates_by_name.items():
        if not replicates:
            raise ValueError(f"expected predictions of {name!r}, got none")
    tables = check_same_images(
        [table.sorted_by_image() for replicates in replicates_by_name.values() for table in replicates]
    )
    first = tables[0]
    group = group_codes(first)
    bounds = np.cumsum([0, *(len(replicates) for replicates in replicates_by_name.values())])
    of_models = [tables[start:end] for start, end in pairwise(bounds)]
    found = []
    for at, name in enumerate(first.class_names):
        known = first.known[:, at]
        positive = first.labels[known, at]
        if positive.any() and not positive.all():
            found.append(_label(name, at, positive, known, group, of_models))
    if not found:
        raise ValueError("expected a label with positive and negative images, got none")
    return tuple(replicates_by_name), found, len(first)


def _label(
    name: str,
    at: int,
    positive: BoolArray,
    known: BoolArray,
    group: IntArray,
    of_models: Sequence[Sequence[LabelPredictions]],
) -> _Label:
    precision, influence, groups = [], [], int(group.max()) + 1
    for tables in of_models:
        both = [precision_and_influence(positive, table.logits[known, at]) for table in tables]
        precision.append(np.mean([one for one, _ in both], axis=0))
        of_images = np.mean([one for _, one in both], axis=0)
        influence.append(np.bincount(group[known], of_images, groups))
    with_positive = len(np.unique(group[known][positive]))
    few = np.sqrt(with_positive / max(with_positive - 1, 1))
    return _Label(name, np.array(precision), np.array(influence) * few, with_positive)

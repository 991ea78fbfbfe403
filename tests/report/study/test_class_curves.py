"""Curves of a page are those of all repeats on the same images, in whatever order a table has them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tametail.predictions.multi_label import LabelPredictions
from tametail.predictions.single_label import Predictions
from tametail.report.study.class_curves import MOST_CURVES, class_curves, label_curves, net_benefit_curve


def tables(classes: int = 3, replicates: int = 2, images: int = 200) -> list[Predictions]:
    rng = np.random.default_rng(0)
    target = rng.integers(0, classes, images)
    names = np.array([f"{index:04}" for index in range(images)])
    found = []
    for _ in range(replicates):
        logits = (rng.normal(size=(images, classes)) + 2 * np.eye(classes)[target]).astype(np.float32)
        made = Predictions(
            names, names, target, np.arange(images) % 5, logits, tuple("abcdefghijkl"[:classes]), "softmax"
        )
        found.append(made.take(rng.permutation(images)))
    return found


def test_tables_in_any_order_have_the_curves_of_the_same_images() -> None:
    """The area of each curve is the mean AUROC of the repeats, which it is not if rows are mixed up."""
    shuffled = tables()
    for index, (name, (roc, _)) in enumerate(class_curves(shuffled).items()):
        code = shuffled[0].class_names.index(name)
        expected = [roc_auc_score(t.target == code, t.class_probabilities(code)) for t in shuffled]
        assert np.trapezoid(roc.y, roc.x) == pytest.approx(np.mean(expected), abs=0.005), index


def test_labels_too() -> None:
    rng = np.random.default_rng(1)
    labels = rng.random((150, 2)) < 0.4
    names = np.array([f"{index:04}" for index in range(150)])
    logits = (rng.normal(size=(150, 2)) + 2 * labels).astype(np.float32)
    posterior = (1 / (1 + np.exp(-logits))).astype(np.float32)
    one = LabelPredictions(names, names, labels, np.arange(150) % 5, logits, ("a", "b"), posterior)
    other = replace(one, logits=-logits, posterior=1 - posterior).take(rng.permutation(150))
    for roc, _ in label_curves([one, other]).values():
        assert np.trapezoid(roc.y, roc.x) == pytest.approx(0.5, abs=0.01), "each is the other turned round"


def test_only_the_rarest_classes_are_drawn_and_the_net_benefit_is_of_a_class_with_images() -> None:
    (table,) = tables(classes=MOST_CURVES + 3, replicates=1, images=600)
    counts = np.bincount(table.target)
    drawn = [table.class_names.index(name) for name in class_curves([table])]
    assert len(drawn) == MOST_CURVES
    assert counts[drawn].max() <= np.delete(counts, drawn).min()
    curve = net_benefit_curve([table], ())
    assert curve is not None
    assert curve.positives == counts.min()
    asked = net_benefit_curve([table], [2])
    assert asked is not None
    assert asked.class_name == table.class_names[2]

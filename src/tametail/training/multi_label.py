"""Training on images with several labels: suitable methods, and predictions from their outputs.

Shape legend: N images, n rows, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from tametail.core.errors import UsageError, as_usage_error
from tametail.data import ImageTable
from tametail.losses import Loss, list_losses, parse_loss
from tametail.predictions.multi_label import LabelPredictions
from tametail.training.recipe import Recipe
from tametail.training.strategies import DecisionRule, Method, list_strategies
from tametail.training.strategies.strategy import find_strategy


def check_methods(methods: Sequence[Method], table: ImageTable, recipe: Recipe) -> None:
    """Check that methods work with several labels per image; single-label tables are never refused.

    Args:
        recipe: of the study; checked with the changes of each method.

    Raises:
        UsageError: a loss, a strategy or a setting of the recipe needs one label per image.
    """
    if not table.multi_label:
        return
    for method in methods:
        loss, classes = method.loss.create([1] * len(table.class_names)), len(table.class_names)
        if reason := why_unsuitable(loss, classes):
            raise UsageError(
                f"{method.loss.text} cannot be trained on images with several labels: {reason}; "
                f"choose among {', '.join(suitable_losses())}"
            )
        with as_usage_error():
            loss(torch.zeros(2, classes), torch.ones(2, classes))
        if table.unknown.any() and not _leaves_unknown_out(loss, classes):
            raise UsageError(
                f"{method.loss.text} cannot leave out unknown labels; choose among {', '.join(suitable_losses())}, or give them "
                f"a value with --uncertain and --blank"
            )
        for strategy in method.strategies:
            decides = strategy.overrides("fit_head") or strategy.overrides("decision_rule")
            if decides and not strategy.multi_label:
                fit = ", ".join(name for name in list_strategies() if find_strategy(name).multi_label)
                raise UsageError(
                    f"{method.text}: expected no strategy after training but {fit} for images with several labels, got "
                    f"{strategy.name}, which needs one class per image"
                )
        configured = method.configure(recipe)
        if configured.reweighting != "none":
            raise UsageError(
                f"{method.text}: expected reweighting none for images with several labels, got {configured.reweighting}: weights by "
                f"class need one class per image; sampling by label (balanced, sqrt, progressive, drs) does not"
            )
        if configured.mixing.kind == "remix":
            raise UsageError(
                f"{method.text}: expected mixing.kind none, mixup or cutmix for images with several labels, got remix, "
                f"which needs one class per image"
            )


def _leaves_unknown_out(loss: Loss, classes: int) -> bool:
    """Whether a label of nan adds nothing to the loss and its gradient."""
    logits = torch.zeros(2, classes, requires_grad=True)
    labels = torch.ones(2, classes)
    labels[0, 0] = torch.nan
    value = loss(logits, labels)
    (gradient,) = torch.autograd.grad(value, logits)
    return bool(value.isfinite() and gradient.isfinite().all() and gradient[0, 0] == 0)


def suitable_losses() -> list[str]:
    """Names of the losses that work with several labels per image at their default parameters."""
    return [name for name in list_losses() if not why_unsuitable(parse_loss(name).create([1, 1]), 2)]


def why_unsuitable(loss: Loss, classes: int) -> str:
    """The reason why a loss cannot be trained on several labels per image; empty if it can.

    It must treat labels independently: the probability of one may not depend on the logits of others.
    """
    if loss.family != "sigmoid":
        return "its softmax makes labels mutually exclusive"
    if loss.tau:
        return f"tau={loss.tau:g} adjusts for the prior of mutually exclusive classes"
    logits = torch.zeros(2, classes)
    logits[1, 1:] = 2.0
    p = loss.link(logits)[:, 0]
    if not torch.allclose(p[0], p[1], rtol=0, atol=1e-6):
        return "its probabilities assume one label per image"
    return ""


def make_label_predictions(
    outputs: NDArray[np.float32],
    decision_rule: DecisionRule,
    table: ImageTable,
    rows: NDArray[np.int64],
    fold: int,
) -> LabelPredictions:
    """Predictions for some rows of a multi-label table.

    Args:
        outputs: (n, C) of a head, finite.
        decision_rule: from outputs to scores. Logit adjustment shifts the logits of a label by a constant, which changes
            neither the ranking of its images nor their probabilities.
        rows: (n,) of the table.
        fold: held-out fold of the model.
    """
    given = torch.from_numpy(outputs)
    return LabelPredictions(
        table.images[rows],
        table.groups[rows],
        table.labels[rows],
        np.full(len(rows), fold, dtype=np.int64),
        decision_rule.decision(given).numpy().astype(np.float32),
        table.class_names,
        decision_rule.posterior(given).numpy().astype(np.float32),
        table.unknown[rows],
    )

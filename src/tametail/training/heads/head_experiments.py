"""Methods compared on frozen features: trained on some rows, evaluated on others, all heads at once.

The caller chooses the rows; nothing here sees any others.
Shape legend: N images, n training rows, m held-out rows, D features, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from tametail.core.arrays import IntArray
from tametail.data.sampling.loaders import training_batches
from tametail.models.heads import Standardise
from tametail.predictions.single_label import exclusive
from tametail.training.hardware import run_parallel, torch_threads
from tametail.training.heads.head_step import HeadTask, positions_by, seeded_draws
from tametail.training.heads.head_training import TrainedHeads, batch_heads, train_heads, trained_together
from tametail.training.optimisation import batch_mixing
from tametail.training.recipe import Recipe
from tametail.training.strategies import DecisionRule, Method

# Of heads that are trained step by step, for as many cores. The last bits of a head depend on those that it is trained with, so
# that their number must not depend on the machine.
_PORTIONS = 4


@dataclass(frozen=True)
class Trial:
    """A method and a recipe, which the method's strategies change."""

    method: Method
    recipe: Recipe


@dataclass(frozen=True, eq=False)
class TrialResult:
    """The outputs of a trial's head for held-out rows.

    Attributes:
        outputs: (m, C) float32; None where the training failed.
        decision_rule: from outputs to decisions and probabilities.
        message: why it failed, or empty.
    """

    outputs: Tensor | None
    decision_rule: DecisionRule
    message: str = ""

    def decision(self) -> NDArray[np.float32]:
        """Logits (m, C); the predicted class is their argmax."""
        assert self.outputs is not None
        return self.decision_rule.decision(self.outputs).float().numpy()

    def posterior(self) -> NDArray[np.float32]:
        """Probabilities (m, C) that sum to one, by the loss's own link, for the class frequencies of the training rows."""
        assert self.outputs is not None
        return exclusive(self.decision_rule.posterior(self.outputs).float().numpy()).astype(np.float32)


@dataclass(frozen=True, eq=False)
class TrialData:
    """The data of trials.

    Attributes:
        features, targets: (n, D) and (n,) of the training rows, or (n, C) labels, nan where unknown.
        held_out: (m, D) features of the held-out rows.
        classes: C.
        fold: (n,) folds of the training rows, by which penalties are chosen; None for new ones.
        blocks: lengths of the parts of the feature vector; empty for one part.
    """

    features: NDArray[np.float32]
    targets: NDArray[Any]
    held_out: NDArray[np.float32]
    classes: int
    fold: IntArray | None = None
    blocks: tuple[int, ...] = ()

    @property
    def class_counts(self) -> list[int]:
        """Training rows of each class, or with each label."""
        of_class = (
            np.bincount(self.targets, minlength=self.classes)
            if self.targets.ndim == 1
            else np.nansum(self.targets, axis=0).astype(np.int64)
        )
        counts: list[int] = of_class.tolist()
        return counts


def run_trials(
    trials: Sequence[Trial],
    data: TrialData,
    accelerator: Accelerator,
    *,
    seed: int,
    advance: Callable[[int], None] | None = None,
) -> list[TrialResult]:
    """Train every trial on the training rows and compute its outputs for the held-out ones.

    Trials that differ only in strategies after training share one trained head.

    Args:
        seed: of initial weights and batches, shared by all trials; the same seed gives the same results.
        advance: called with the number of trials that have just been trained.
    """
    standardise = Standardise(data.blocks or data.features.shape[1:])
    standardise.fit(torch.from_numpy(data.features))
    features = standardise(torch.from_numpy(data.features))
    held_out = standardise(torch.from_numpy(data.held_out))
    target = torch.from_numpy(data.targets)
    counts = data.class_counts
    bases = positions_by((trial.method.base.text, trial.recipe.model_dump_json()) for trial in trials)
    tasks = [_task(trials[places[0]], data, counts, seed) for places in bases]

    def train(head_batch: Sequence[int]) -> TrainedHeads:
        recipe = tasks[head_batch[0]].recipe
        batches = training_batches(
            data.features,
            np.arange(len(data.targets)),
            data.targets,
            batch_size=recipe.batch_size,
            seed=seed,
            sampler=recipe.sampler,
            deferred_from=recipe.deferred_from,
            epochs=recipe.epochs,
        )
        trained = train_heads(
            features,
            target,
            [tasks[at] for at in head_batch],
            batches,
            accelerator,
            seed=seed,
            class_counts=counts,
            mixing=batch_mixing(recipe, counts, seed),
            fold=data.fold,
        )
        if advance:
            advance(sum(len(bases[at]) for at in head_batch))
        return trained

    def evaluate(place: int, trained: TrainedHeads, outputs: Tensor, at: int) -> TrialResult:
        method = trials[place].method
        decision_rule = method.decision_rule(counts, len(target), trials[place].recipe)
        if failure := trained.failures[at]:
            return TrialResult(None, decision_rule, str(failure))
        if not method.after:
            return TrialResult(outputs[at], decision_rule)
        head = method.fit_head(trained.head(at), features, target, counts, seed)
        with torch.no_grad():
            return TrialResult(head(held_out), decision_rule)

    head_batches = [
        [group[at] for at in head_batch]
        for group in positions_by(trained_together(task) for task in tasks)
        for head_batch in batch_heads(
            [tasks[at].head for at in group],
            tasks[group[0]].recipe.batch_size,
            least=_PORTIONS,
        )
    ]
    found = run_parallel([partial(train, head_batch) for head_batch in head_batches], accelerator.device)
    results: dict[int, TrialResult] = {}
    with torch_threads(1):  # fitting heads is as small as a training step, and uses random numbers
        for head_batch, trained in zip(head_batches, found, strict=True):
            outputs = trained.outputs(held_out)
            for at, base in enumerate(head_batch):
                results |= {place: evaluate(place, trained, outputs, at) for place in bases[base]}
    return [results[place] for place in range(len(trials))]


def _task(trial: Trial, data: TrialData, counts: list[int], seed: int) -> HeadTask:
    method = trial.method.base
    with seeded_draws(seed):
        loss = method.loss.create(counts)
        head = method.build_head(data.features.shape[1], data.classes, trial.recipe.head)
    recipe = method.configure(trial.recipe).with_enough_steps(len(data.targets))
    return HeadTask(loss, recipe, head, method.classical)

"""Methods tried on frozen features: trained on some rows, read on others, as many at once as there are.

Whoever calls decides which rows those are; nothing here sees any other.
Shape legend: N images, n training rows, m held-out rows, D features, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from tametail.data.sampling.loaders import TrainingBatches, training_batches
from tametail.models.heads import Standardise
from tametail.training.hardware import parallel_workers, run_parallel, torch_threads
from tametail.training.heads.head_step import HeadTask, seeded_draws, shared_settings
from tametail.training.heads.head_training import TrainedHeads, batch_heads, train_heads
from tametail.training.optimisation import batch_mixing
from tametail.training.recipe import Recipe
from tametail.training.strategies import DecisionRule, Method


@dataclass(frozen=True)
class Trial:
    """A method and the recipe of its study; the method's own strategies change it."""

    method: Method
    recipe: Recipe


@dataclass(frozen=True, eq=False)
class TrialResult:
    """What a trial's head says of held-out rows.

    Attributes:
        outputs: (m, C) float32 of the head; None where the training failed.
        judgement: how they are read.
        message: why it failed, or empty.
    """

    outputs: Tensor | None
    decision_rule: DecisionRule
    message: str = ""

    def decision(self) -> NDArray[np.float32]:
        """(m, C) logits whose largest decides."""
        assert self.outputs is not None
        return self.decision_rule.decision(self.outputs).float().numpy()


@dataclass(frozen=True, eq=False)
class TrialData:
    """All that trials may see: features (n, D) and targets of the rows trained on, features (m, D) of those held out."""

    features: NDArray[np.float32]
    targets: NDArray[np.int64]
    held_out: NDArray[np.float32]
    classes: int


def run_trials(
    trials: Sequence[Trial],
    data: TrialData,
    accelerator: Accelerator,
    *,
    seed: int,
    advance: Callable[[int], None] | None = None,
) -> list[TrialResult]:
    """Train every trial on the training rows and read it on the held-out ones.

    Trials that differ in what follows the training share it.

    Args:
        seed: of weights and order, shared by all trials; the same seed gives the same results.
        advance: is told how many trials are done.
    """
    standardise = Standardise(data.features.shape[1])
    standardise.fit(torch.from_numpy(data.features))
    features = standardise(torch.from_numpy(data.features))
    held_out = standardise(torch.from_numpy(data.held_out))
    target = torch.from_numpy(data.targets)
    counts = np.bincount(data.targets, minlength=data.classes).tolist()
    bases = _bases(trials)
    tasks = [_task(trials[places[0]], data, counts, seed) for places in bases]

    def train(head_batch: Sequence[int]) -> TrainedHeads:
        recipe = tasks[head_batch[0]].recipe
        trained = train_heads(
            features,
            target,
            [tasks[at] for at in head_batch],
            _batches(recipe, data, seed),
            accelerator,
            seed=seed,
            class_counts=counts,
            mixing=batch_mixing(recipe, counts, seed),
        )
        if advance:
            advance(sum(len(bases[at]) for at in head_batch))
        return trained

    def read(place: int, trained: TrainedHeads, outputs: Tensor, at: int) -> TrialResult:
        method = trials[place].method
        decision_rule = method.decision_rule(counts, len(target))
        failure = trained.failures[at]
        if failure is not None:
            return TrialResult(None, decision_rule, str(failure))
        if not method.after:
            return TrialResult(outputs[at], decision_rule)
        return TrialResult(
            _read(method.fit_head(trained.head(at), features, target, counts, seed), held_out), decision_rule
        )

    together = [
        [group[at] for at in head_batch]
        for group in _agreeing(tasks)
        for head_batch in batch_heads(
            [tasks[at].head for at in group],
            tasks[group[0]].recipe.batch_size,
            least=parallel_workers(accelerator.device),
        )
    ]
    found = run_parallel([partial(train, head_batch) for head_batch in together], accelerator.device)
    results: dict[int, TrialResult] = {}
    with torch_threads(1):  # what follows a training is as small as a step of it, and draws
        for head_batch, trained in zip(together, found, strict=True):
            outputs = trained.outputs(held_out)
            for at, base in enumerate(head_batch):
                results |= {place: read(place, trained, outputs, at) for place in bases[base]}
    return [results[place] for place in range(len(trials))]


def _bases(trials: Sequence[Trial]) -> list[list[int]]:
    """Places of the trials that share a training."""
    found: dict[tuple[str, str], list[int]] = {}
    for place, trial in enumerate(trials):
        found.setdefault((trial.method.base.text, trial.recipe.model_dump_json()), []).append(place)
    return list(found.values())


def _agreeing(tasks: Sequence[HeadTask]) -> list[list[int]]:
    """Places of tasks whose recipes agree in what heads that are trained together must have in common."""
    groups: dict[str, list[int]] = {}
    for at, task in enumerate(tasks):
        groups.setdefault(shared_settings(task.recipe).model_dump_json(), []).append(at)
    return list(groups.values())


def _task(trial: Trial, data: TrialData, counts: list[int], seed: int) -> HeadTask:
    method = trial.method.base
    with seeded_draws(seed):
        loss = method.loss.create(counts)
        head = method.build_head(data.features.shape[1], data.classes, trial.recipe.head)
    return HeadTask(loss, method.configure(trial.recipe), head)


def _batches(recipe: Recipe, data: TrialData, seed: int) -> TrainingBatches:
    return training_batches(
        data.features,
        np.arange(len(data.targets)),
        data.targets,
        batch_size=recipe.batch_size,
        seed=seed,
        sampler=recipe.sampler,
        deferred_from=recipe.deferred_from,
        epochs=recipe.epochs,
    )


@torch.no_grad()
def _read(head: nn.Module, features: Tensor) -> Tensor:
    outputs: Tensor = head(features)
    return outputs

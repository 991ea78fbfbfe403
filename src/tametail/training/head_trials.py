"""Methods tried on frozen features: trained on some rows, read on others, as many at once as there are.

Whoever calls decides which rows those are; nothing here sees any other.
Shape legend: N images, n training rows, m held-out rows, D features, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from tametail.data.loaders import TrainingBatches, training_batches
from tametail.heads import Standardise
from tametail.training.head_step import HeadTask, common
from tametail.training.head_training import portions, train_heads
from tametail.training.optimisation import batch_mixing
from tametail.training.recipe import Recipe
from tametail.training.strategies import Judgement, Method


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
    judgement: Judgement
    message: str = ""

    def decision(self) -> NDArray[np.float32]:
        """(m, C) logits whose largest decides."""
        assert self.outputs is not None
        return self.judgement.decision(self.outputs).float().numpy()


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
    counts = np.bincount(data.targets, minlength=data.classes).tolist()
    results: dict[int, TrialResult] = {}
    for places in _trained_together(trials):
        bases = list(dict.fromkeys((trials[at].method.base, trials[at].recipe) for at in places))
        tasks = [_task(method, recipe, data, counts, seed) for method, recipe in bases]
        batches = _batches(tasks[0].recipe, data, seed)
        mixing = batch_mixing(tasks[0].recipe, counts, seed)
        for portion in portions([task.head for task in tasks], tasks[0].recipe.batch_size):
            trained = train_heads(
                features,
                torch.from_numpy(data.targets),
                [tasks[at] for at in portion],
                batches,
                accelerator,
                seed=seed,
                class_counts=counts,
                mixing=mixing,
            )
            outputs = trained.outputs(held_out)
            for place, base in enumerate(portion):
                of_base = [at for at in places if (trials[at].method.base, trials[at].recipe) == bases[base]]
                for at in of_base:
                    judgement = trials[at].method.judgement(counts, len(data.targets))
                    failure = trained.failures[place]
                    if failure is not None:
                        results[at] = TrialResult(None, judgement, str(failure))
                        continue
                    read = outputs[place]
                    if trials[at].method.after:
                        head = trials[at].method.fit_head(
                            trained.head(place), features, torch.from_numpy(data.targets), counts, seed
                        )
                        read = _read(head, held_out)
                    results[at] = TrialResult(read, judgement)
                if advance:
                    advance(len(of_base))
    return [results[at] for at in range(len(trials))]


def _trained_together(trials: Sequence[Trial]) -> list[list[int]]:
    """Places of trials whose recipes agree in what heads that are trained together must have in common."""
    groups: dict[str, list[int]] = {}
    for at, trial in enumerate(trials):
        key = common(trial.method.configure(trial.recipe)).model_dump_json()
        groups.setdefault(key, []).append(at)
    return list(groups.values())


def _task(method: Method, recipe: Recipe, data: TrialData, counts: list[int], seed: int) -> HeadTask:
    torch.manual_seed(seed)
    head = method.build_head(data.features.shape[1], data.classes, recipe.head)
    return HeadTask(method.loss.create(counts), method.configure(recipe), head)


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

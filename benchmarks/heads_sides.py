"""The sides of the benchmark of heads: what they work on, and each of them.

Shape legend: N images, n training rows, D features.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tametail.core.console import Console
from tametail.data import read_images
from tametail.data.sampling.loaders import TrainingBatches, training_batches
from tametail.losses import ALPALoss
from tametail.models.backbones import describe_backbone
from tametail.models.heads import Standardise, build_head
from tametail.study.inputs import prepare_inputs
from tametail.training.hardware import make_accelerator, parallel_workers, run_parallel, torch_threads
from tametail.training.heads.head_step import HeadTask
from tametail.training.heads.head_training import TrainedHeads, batch_heads, train_heads
from tametail.training.optimisation import learning_rate
from tametail.training.recipe import Recipe
from tametail.training.trainer import train

FOLDS = 5


@dataclass(frozen=True)
class Stream:
    """What the heads of one seed and fold share: features (n, D) standardised, targets (n,), counts, order, seed."""

    features: Tensor
    target: Tensor
    counts: list[int]
    recipe: Recipe
    seed: int

    def batches(self) -> TrainingBatches:
        rows = np.arange(len(self.target))
        return training_batches(
            self.features.numpy(),
            rows,
            self.target.numpy(),
            batch_size=self.recipe.batch_size,
            seed=self.seed,
        )

    def head(self) -> nn.Module:
        torch.manual_seed(self.seed)
        return build_head("linear", self.features.shape[1], len(self.counts))


def drawn_losses(count: int) -> list[ALPALoss]:
    """Trials from the ranges of the paper's Section 6.1."""
    random = np.random.default_rng(0)
    weights, gammas = random.uniform(0.5, 2, (count, 2)), random.uniform(0, 5, (count, 2))
    return [
        ALPALoss(alpha=alpha, beta=beta, gamma_pos=positive, gamma_neg=negative)
        for (alpha, beta), (positive, negative) in zip(weights.tolist(), gammas.tolist(), strict=True)
    ]


def features_of(
    folder: Path, recipe: Recipe
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Features (N, D), targets (N,) and folds (N,) of a folder's images; -1 is the held-out test set."""
    console = Console(quiet=True)
    spec = describe_backbone(recipe.backbone, recipe.image_size)
    inputs = prepare_inputs(
        read_images(folder), recipe, spec, folds=FOLDS, seed=0, group_duplicates=False, console=console
    )
    training_data = inputs.training_data(make_accelerator(recipe, "cpu"), console)
    return np.asarray(training_data.array, np.float32), inputs.table.targets, inputs.splits.fold


def made_up() -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of the size of the HAM10000 subset, if it is not available."""
    random = np.random.default_rng(0)
    target = random.choice(7, 4061, p=[0.03, 0.05, 0.1, 0.02, 0.1, 0.68, 0.02])
    fold = np.where(random.random(4061) < 0.2, -1, random.integers(0, FOLDS, 4061))
    features = random.normal(size=(4061, 1280)) + np.eye(7, 1280)[target]
    return features.astype(np.float32), target.astype(np.int64), fold.astype(np.int64)


def streams(
    features: NDArray[np.float32],
    target: NDArray[np.int64],
    fold: NDArray[np.int64],
    recipe: Recipe,
    seeds: int,
) -> Iterator[Stream]:
    """One for each seed and fold."""
    for seed in range(seeds):
        for held_out in range(FOLDS):
            rows = np.flatnonzero((fold >= 0) & (fold != held_out))
            own = torch.from_numpy(features[rows])
            standardise = Standardise(features.shape[1])
            standardise.fit(own)
            counts = np.bincount(target[rows], minlength=int(target.max()) + 1).tolist()
            yield Stream(
                standardise(own), torch.from_numpy(target[rows]), counts, recipe, 100 * seed + held_out
            )


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came of it."""
    began = time.perf_counter()
    value = call()
    return time.perf_counter() - began, value


def together(stream: Stream, losses: list[ALPALoss]) -> list[tuple[list[int], TrainedHeads]]:
    """Train all heads of a stream, batches of heads in parallel."""
    tasks = [HeadTask(loss, stream.recipe, stream.head()) for loss in losses]
    accelerator = make_accelerator(stream.recipe, "cpu")
    parts = batch_heads(
        [task.head for task in tasks], stream.recipe.batch_size, least=parallel_workers(accelerator.device)
    )

    def train_batch(head_batch: list[int]) -> TrainedHeads:
        return train_heads(
            stream.features,
            stream.target,
            [tasks[at] for at in head_batch],
            stream.batches(),
            accelerator,
            seed=stream.seed,
            class_counts=stream.counts,
        )

    found = run_parallel([partial(train_batch, head_batch) for head_batch in parts], accelerator.device)
    return list(zip(parts, found, strict=True))


def lock(stream: Stream, loss: ALPALoss) -> nn.Module:
    """One head by the trainer of all other runs, with the one thread that is quickest for it."""
    accelerator = make_accelerator(stream.recipe, "cpu")
    with torch_threads(1):
        return train(
            stream.head(), loss, stream.batches(), stream.recipe, accelerator, seed=stream.seed
        ).model


def shortest(stream: Stream, loss: ALPALoss) -> nn.Module:
    """One head by as little Python as will do: no reading of losses, no checks, nothing kept."""
    recipe, batches, head = stream.recipe, stream.batches(), stream.head()
    weight, bias = head.parameters()
    decay = recipe.optimizer.weight_decay
    groups: list[dict[str, Any]] = [
        {"params": [weight], "weight_decay": decay},
        {"params": [bias], "weight_decay": 0},
    ]
    with torch_threads(1):
        optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.999), fused=True)
        for epoch in range(recipe.epochs):
            order = torch.from_numpy(batches.order(epoch))
            for step, chosen in enumerate(order.split(recipe.batch_size)):
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(epoch + step / batches.steps, recipe)
                loss(head(stream.features[chosen]), stream.target[chosen]).backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
    return head

"""Trainings of `new_loss.py`: all configurations of a family, without each fold and without each pair of folds.

Shape legend: F folds, N configurations, R readings, C classes, n images of a part, D features, m held-out images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from new_loss_families import STRENGTHS, Configuration
from numpy.typing import NDArray
from torch.nn import functional as F

from tametail.core.console import Console
from tametail.storage.study_file import read_study_file
from tametail.study.inputs import load_inputs
from tametail.training.hardware import make_accelerator
from tametail.training.heads.head_experiments import Trial, TrialData, TrialResult, run_trials
from tametail.training.recipe import load_recipe
from tametail.training.strategies.post_hoc import log_prior_odds

USUAL = STRENGTHS.index(1.0)
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Part:
    """The training set or the test set of a study: features (n, D); target, fold, group and image (n,)."""

    features: NDArray[np.float32]
    target: Ints
    fold: Ints
    group: NDArray[np.str_]
    image: NDArray[np.str_]
    class_names: tuple[str, ...]
    blocks: tuple[int, ...]

    @property
    def folds(self) -> int:
        return int(self.fold.max()) + 1

    @property
    def class_counts(self) -> Ints:
        """(F, C) images of each fold and class."""
        counts = np.zeros((self.folds, len(self.class_names)), dtype=np.int64)
        np.add.at(counts, (self.fold, self.target), 1)
        return counts


def load(study: Path, part: str = "train") -> Part:
    """The part ``train`` or ``test`` of a study; its features are computed, or found in the cache."""
    console = Console()
    inputs = load_inputs(study, read_study_file(study), image_root=None, console=console)
    training_data = inputs.training_data(make_accelerator(inputs.recipe, "cpu"), console)
    rows, table = np.flatnonzero(training_data.splits.part == part), training_data.table
    return Part(
        np.ascontiguousarray(training_data.array[rows], dtype=np.float32),
        table.targets[rows],
        training_data.splits.fold[rows],
        np.asarray(table.groups)[rows].astype(np.str_),
        table.images[rows],
        tuple(table.class_names),
        inputs.spec.blocks,
    )


def decided(result: TrialResult, counts: Sequence[int], strengths: Sequence[float]) -> Ints:
    """(R, m) classes by each decision rule; for softmax losses the second half equals the first."""
    assert result.outputs is not None, result.message
    decision_rule = result.decision_rule
    log_posterior, tensor = decision_rule.log_posterior(result.outputs), torch.tensor(counts)
    prior = log_prior_odds(tensor, sum(counts), decision_rule.family)
    share = log_prior_odds(tensor, sum(counts), "softmax")
    log_posterior = log_posterior if decision_rule.family == "softmax" else F.logsigmoid(log_posterior)
    found = [log_posterior - t * prior for t in strengths] + [log_posterior - t * share for t in strengths]
    return torch.stack([logits.argmax(dim=1) for logits in found]).numpy()


def trained(
    configured: Sequence[Configuration],
    part: Part,
    rows: Ints,
    features: NDArray[np.float32],
    seed: Sequence[int],
    usual: bool = False,
) -> Ints:
    """(N, R, m) classes predicted for features (m, D) by heads trained on the given rows.

    Args:
        usual: only the method's own decision rule.
    """
    data = TrialData(
        part.features[rows], part.target[rows], features, len(part.class_names), blocks=part.blocks
    )
    accelerator = make_accelerator(load_recipe("head"), "cpu")
    trials = [Trial(each.method, each.recipe) for each in configured]
    number = int(np.random.SeedSequence(list(seed)).generate_state(1)[0])
    counts = np.bincount(data.targets, minlength=data.classes).tolist()
    results = run_trials(trials, data, accelerator, seed=number)
    if usual:
        return np.stack([each.decision().argmax(axis=1)[None] for each in results])
    return np.stack(
        [decided(each, counts, own.strengths) for each, own in zip(results, configured, strict=True)]
    )


def cross_validated(
    configured: Sequence[Configuration], part: Part, seed: int, *, nested: bool, usual: bool = False
) -> dict[str, Ints]:
    """The predictions that the nested selection needs.

    Returns:
        ``predicted`` (N, R, n), each image by heads trained without its fold; and, if ``nested``, ``inner``
        (F, F, N, R, C): correct images in fold j, by heads trained without j and k, at [k, j].
    """
    folds, everything = part.folds, np.arange(len(part.target))
    found: dict[str, Ints] = {}
    for k in range(folds):
        held = everything[part.fold == k]
        # The seed of the study's run, so that a family's defaults reproduce the study's results.
        own = trained(configured, part, everything[part.fold != k], part.features[held], (seed, k), usual)
        if k == 0:
            found["predicted"] = np.zeros((*own.shape[:2], len(everything)), dtype=np.int64)
        found["predicted"][:, :, held] = own
    if not nested:
        return found
    found["inner"] = np.zeros((folds, folds, *own.shape[:2], len(part.class_names)), dtype=np.int64)
    for j, k in combinations(range(folds), 2):
        held = everything[np.isin(part.fold, (j, k))]
        rows = everything[~np.isin(part.fold, (j, k))]
        right = trained(configured, part, rows, part.features[held], (seed, j, k)) == part.target[held]
        for outer, inner in ((j, k), (k, j)):
            for of_class in range(len(part.class_names)):
                chosen = (part.fold[held] == inner) & (part.target[held] == of_class)
                found["inner"][outer, inner, :, :, of_class] = right[:, :, chosen].sum(axis=2)
    return found

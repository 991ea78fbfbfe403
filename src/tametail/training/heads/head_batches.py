"""Batches of runs whose heads are trained at once.

The weights of a head may differ in their last bits with the batch that it is trained in. So the description of a run
names the methods of its batch, and a run that is repeated or resumed is trained in the same batch, to the same weights,
bit for bit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tametail.core.run_files import DESCRIPTION
from tametail.training.hardware import parallel_workers
from tametail.training.heads.head_step import shared_settings
from tametail.training.heads.head_training import batch_heads
from tametail.training.predicting import RunContext
from tametail.training.run import Run
from tametail.training.strategies import parse_method

CO_TRAINED = "trained_with"  # key of run.json: the methods of the batch, including the run's own


@dataclass(frozen=True)
class HeadBatch:
    """Runs of one seed and fold whose heads are trained at once; some of them may be finished already."""

    runs: tuple[Run, ...]

    @property
    def co_trained(self) -> list[str]:
        """The methods of the batch."""
        return [run.method.text for run in self.runs]

    def identity(self, described: Mapping[str, Any]) -> str:
        """Digest of what determines the results."""
        parts = "\n".join(run.identity(described) for run in self.runs)
        return hashlib.sha256(parts.encode()).hexdigest()

    def place(self, study: Path, described: Mapping[str, Any]) -> Path:
        """Path from which `checkpoint_directory` derives the checkpoints' folder: the first run's, with a digest."""
        first = self.runs[0].directory(study)
        return first.with_name(f"{first.name}-{self.identity(described)[:16]}")


def can_batch(context: RunContext, *, tracked: bool) -> bool:
    """Whether heads of a study can be trained at once: on frozen features, in one process, without micro-batches or trackers."""
    single = tracked or context.hardware.compile or context.hardware.micro_batch is not None
    return context.recipe.trains == "head" and context.accelerator.num_processes == 1 and not single


def make_batches(runs: Sequence[Run], context: RunContext) -> list[HeadBatch]:
    """Batch the runs that train a head; runs of an earlier batch stay in that batch."""
    waiting = [run for run in runs if not run.method.after]
    old = []
    for place in dict.fromkeys((run.seed, run.fold) for run in waiting):
        for head_batch in _earlier(context.study, *place):
            if any(run in waiting for run in head_batch.runs):
                old.append(head_batch)
                waiting = [run for run in waiting if run not in head_batch.runs]
    return [*old, *_new(waiting, context)]


def _new(waiting: Sequence[Run], context: RunContext) -> list[HeadBatch]:
    groups: dict[tuple[int, int, str], list[Run]] = {}
    for run in waiting:
        agreed = shared_settings(run.method.configure(context.recipe)).model_dump_json()
        groups.setdefault((run.seed, run.fold, agreed), []).append(run)
    classes, width = len(context.training_data.table.class_names), context.training_data.array.shape[1]
    # Batches are trained in parallel; there should be at least one per core.
    least = -(-parallel_workers(context.accelerator.device) // max(len(groups), 1))
    found = []
    for runs in groups.values():
        heads = [run.method.build_head(width, classes, context.recipe.head) for run in runs]
        for places in batch_heads(heads, context.recipe.batch_size, least=least):
            found.append(HeadBatch(tuple(runs[at] for at in places)))
    return found


def _earlier(study: Path, seed: int, fold: int) -> list[HeadBatch]:
    """The batches in which finished runs of a seed and fold were trained.

    Failed runs are left out: repeating their batch would give the same result.
    """
    found: dict[tuple[str, ...], HeadBatch] = {}
    for path in sorted(study.glob(f"runs/*/seed{seed}-fold{fold}/{DESCRIPTION}")):
        try:
            described = json.loads(path.read_text(encoding="utf-8"))
            texts = tuple(described[CO_TRAINED]) if described["status"] == "finished" else ()
            if texts and texts not in found:
                found[texts] = HeadBatch(tuple(Run(parse_method(text), seed, fold) for text in texts))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # an unreadable description names no batch
    return list(found.values())

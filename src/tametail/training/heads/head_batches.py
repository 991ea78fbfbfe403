"""Which runs of a study are trained together.

What a head comes to may differ in its last bits with the company that it is trained in. So a run's description names its
company, and a run that is done again, or that was to be written when the process was killed, is trained in the same one:
to the same weights, bit by bit.
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

CO_TRAINED = (
    "trained_with"  # in a run's description: the methods of all that were trained together, itself among them
)


@dataclass(frozen=True)
class HeadBatch:
    """Runs of one seed and fold whose heads are trained together; some of them may stand finished."""

    runs: tuple[Run, ...]

    @property
    def co_trained(self) -> list[str]:
        """Their methods."""
        return [run.method.text for run in self.runs]

    def identity(self, described: Mapping[str, Any]) -> str:
        """A digest of what fixes the results."""
        parts = "\n".join(run.identity(described) for run in self.runs)
        return hashlib.sha256(parts.encode()).hexdigest()

    def place(self, study: Path, described: Mapping[str, Any]) -> Path:
        """The name beside which checkpoints are kept while it goes on: that of its first run, and a mark of its own."""
        first = self.runs[0].directory(study)
        return first.with_name(f"{first.name}-{self.identity(described)[:16]}")


def can_batch(context: RunContext, *, tracked: bool) -> bool:
    """Whether heads of a study can be trained together: on frozen features, in one process, by whole batches, untracked."""
    lock = tracked or context.hardware.compile or context.hardware.micro_batch is not None
    return context.recipe.trains == "head" and context.accelerator.num_processes == 1 and not lock


def make_batches(left: Sequence[Run], context: RunContext) -> list[HeadBatch]:
    """Portions of the runs that are left and train a head, the runs of an earlier company as they were."""
    waiting = [run for run in left if not run.method.after]
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
    # Portions are trained side by side, and there should be one for each core.
    least = -(-parallel_workers(context.accelerator.device) // max(len(groups), 1))
    found = []
    for runs in groups.values():
        heads = [run.method.build_head(width, classes, context.recipe.head) for run in runs]
        for places in batch_heads(heads, context.recipe.batch_size, least=least):
            found.append(HeadBatch(tuple(runs[at] for at in places)))
    return found


def _earlier(study: Path, seed: int, fold: int) -> list[HeadBatch]:
    """The companies that runs of a seed and fold were trained in.

    Those that failed count for nothing: the same again would end the same.
    """
    companies: dict[tuple[str, ...], None] = {}
    for path in sorted(study.glob(f"runs/*/seed{seed}-fold{fold}/{DESCRIPTION}")):
        try:
            described = json.loads(path.read_text(encoding="utf-8"))
            if described["status"] == "finished" and described.get(CO_TRAINED):
                companies[tuple(described[CO_TRAINED])] = None
        except (OSError, ValueError, KeyError, TypeError):
            continue  # a description that cannot be read says nothing of its company
    found = []
    for co_trained in companies:
        try:
            found.append(HeadBatch(tuple(Run(parse_method(text), seed, fold) for text in co_trained)))
        except (ValueError, TypeError):
            continue
    return found

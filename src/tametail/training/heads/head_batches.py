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
from tametail.training.hardware import cores
from tametail.training.heads.head_step import common
from tametail.training.heads.head_training import portions
from tametail.training.predicting import Workshop
from tametail.training.run import Run
from tametail.training.strategies import parse_method

COMPANY = (
    "trained_with"  # in a run's description: the methods of all that were trained together, itself among them
)


@dataclass(frozen=True)
class Portion:
    """Runs of one seed and fold whose heads are trained together; some of them may stand finished."""

    runs: tuple[Run, ...]

    @property
    def company(self) -> list[str]:
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


def together(workshop: Workshop, *, tracked: bool) -> bool:
    """Whether heads of a study can be trained together: on frozen features, in one process, by whole batches, untracked."""
    alone = tracked or workshop.hardware.compile or workshop.hardware.micro_batch is not None
    return workshop.recipe.trains == "head" and workshop.accelerator.num_processes == 1 and not alone


def compose(left: Sequence[Run], workshop: Workshop) -> list[Portion]:
    """Portions of the runs that are left and train a head, the runs of an earlier company as they were."""
    waiting = [run for run in left if not run.method.after]
    old = []
    for place in dict.fromkeys((run.seed, run.fold) for run in waiting):
        for portion in _earlier(workshop.study, *place):
            if any(run in waiting for run in portion.runs):
                old.append(portion)
                waiting = [run for run in waiting if run not in portion.runs]
    return [*old, *_new(waiting, workshop)]


def _new(waiting: Sequence[Run], workshop: Workshop) -> list[Portion]:
    groups: dict[tuple[int, int, str], list[Run]] = {}
    for run in waiting:
        agreed = common(run.method.configure(workshop.recipe)).model_dump_json()
        groups.setdefault((run.seed, run.fold, agreed), []).append(run)
    classes, width = len(workshop.material.table.class_names), workshop.material.array.shape[1]
    # Portions are trained side by side, and there should be one for each core.
    least = -(-cores(workshop.accelerator.device) // max(len(groups), 1))
    found = []
    for runs in groups.values():
        heads = [run.method.build_head(width, classes, workshop.recipe.head) for run in runs]
        for places in portions(heads, workshop.recipe.batch_size, least=least):
            found.append(Portion(tuple(runs[at] for at in places)))
    return found


def _earlier(study: Path, seed: int, fold: int) -> list[Portion]:
    """The companies that runs of a seed and fold were trained in.

    Those that failed count for nothing: the same again would end the same.
    """
    companies: dict[tuple[str, ...], None] = {}
    for path in sorted(study.glob(f"runs/*/seed{seed}-fold{fold}/{DESCRIPTION}")):
        try:
            described = json.loads(path.read_text(encoding="utf-8"))
            if described["status"] == "finished" and described.get(COMPANY):
                companies[tuple(described[COMPANY])] = None
        except (OSError, ValueError, KeyError, TypeError):
            continue  # a description that cannot be read says nothing of its company
    found = []
    for company in companies:
        try:
            found.append(Portion(tuple(Run(parse_method(text), seed, fold) for text in company)))
        except (ValueError, TypeError):
            continue
    return found

"""Batches of runs whose heads are trained at once on the same frozen features, and saved as separate runs.

The weights of a head may differ in their last bits with the batch that it is trained in. So the description of a run
names the methods of its batch, and a run that is repeated or resumed is trained in the same batch, to the same weights.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tametail.core.errors import DataError
from tametail.core.run_files import DESCRIPTION, is_finished
from tametail.storage.run_file import read_run_file
from tametail.training.checkpointing.checkpointer import RunCheckpointer
from tametail.training.execute import add_image_ids, batches_of, explain_oom, mark_failed, write_run
from tametail.training.hardware import parallel_workers
from tametail.training.heads.head_step import HeadTask, seeded_draws
from tametail.training.heads.head_training import TrainedHeads, batch_heads, train_heads, trained_together
from tametail.training.heads.minimum import inner_folds, reaches_minimum
from tametail.training.history import Validation, validate
from tametail.training.optimisation import batch_mixing
from tametail.training.run import Run, RunContext, held_out_rows, make_predictions, training_rows
from tametail.training.strategies import parse_method
from tametail.training.trainer import Callback, RunFailed, TrainingResult

CO_TRAINED = "trained_with"  # key of run.json: the methods of the batch, including the run's own


def execute_heads(
    head_batch: HeadBatch,
    context: RunContext,
    checkpointer: RunCheckpointer,
    callback: Callback | None = None,
) -> dict[Run, RunFailed]:
    """Train the heads of a batch and predict with each; finished runs are not changed.

    Returns:
        The runs that failed; their run.json has the reason.

    Raises:
        Stopped: the checkpointer requested it, and everything is saved.
        RunFailed: out of memory for all of them.
    """
    started = time.monotonic()
    training_data, runs = context.training_data, head_batch.runs
    rows, held_out = training_rows(runs[0], training_data), held_out_rows(runs[0], training_data)
    counts, seed = training_data.class_counts(rows), runs[0].random_seed()
    recipes = [run.method.configure(context.recipe).with_enough_steps(len(rows)) for run in runs]
    batches = batches_of(runs[0], recipes[0], rows, context)
    decision_rules = [run.method.decision_rule(counts, len(rows), context.recipe) for run in runs]
    with explain_oom(context):
        losses, models = [], []
        for run in runs:
            with seeded_draws(seed):  # as a separate run starts
                losses.append(run.method.loss.create(class_counts=counts))
                models.append(training_data.new_model(run.method, rows))
        scaled = models[0][0](torch.from_numpy(training_data.array))
        heads = (model[1] for model in models)
        tasks = [
            HeadTask(loss, recipe, head, run.method.classical)
            for loss, recipe, head, run in zip(losses, recipes, heads, runs, strict=True)
        ]

        def validate_epochs(trained: TrainedHeads) -> list[Validation]:
            outputs = trained.outputs(scaled[held_out])
            target = training_data.targets[held_out]
            return [
                Validation(math.nan, math.nan)
                if failure
                else validate(rule.decision(of_head).numpy(), target, counts)
                for rule, of_head, failure in zip(decision_rules, outputs, trained.failures, strict=True)
            ]

        trained = train_heads(
            scaled[rows],
            torch.from_numpy(training_data.targets[rows]),
            tasks,
            batches,
            context.accelerator,
            seed=seed,
            class_counts=counts,
            mixing=batch_mixing(recipes[0], counts, seed),
            checkpointer=checkpointer,
            callback=callback,
            validate=validate_epochs if context.hardware.validate_epochs else None,
            fold=inner_folds(
                training_data.splits.fold_in(runs[0].seed)[rows],
                training_data.targets[rows],
                training_data.table.groups[rows],
            ),
        )
        outputs = trained.outputs(scaled[held_out]).numpy()
    seconds = (time.monotonic() - started) / len(runs)
    failed: dict[Run, RunFailed] = {}
    for at, (run, rule) in enumerate(zip(runs, decision_rules, strict=True)):
        if is_finished(run.directory(context.study)):
            continue
        try:
            if failure := trained.failures[at]:
                raise failure
            predictions = make_predictions(run, training_data.table, held_out, outputs[at], rule)
        except RunFailed as error:
            add_image_ids(error, batches, rows, training_data)
            mark_failed(run, context, error)
            failed[run] = error
            continue
        model = nn.Sequential(models[at][0], trained.head(at))
        result = TrainingResult(model, trained.histories[at], None)
        more: dict[str, Any] = {CO_TRAINED: head_batch.co_trained}
        if ending := trained.convergence[at]:
            more["convergence"] = ending.described()
        if context.writes:
            write_run(run, context, predictions, model, result, seconds, more)
    return failed


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


def make_batches(runs: Sequence[Run], context: RunContext, *, tracked: bool) -> list[HeadBatch]:
    """Batch the runs whose heads can be trained at once; runs of an earlier batch stay in that batch.

    Those are heads that are trained to the minimum, and others in one process without micro-batches or trackers.
    """
    if context.recipe.trains != "head":
        return []
    single = tracked or context.hardware.compile or context.hardware.micro_batch is not None
    single = single or context.accelerator.num_processes > 1
    waiting = [run for run in runs if not run.method.after]
    if single:
        waiting = [run for run in waiting if to_minimum(run, context)]
    old = []
    for place in dict.fromkeys((run.seed, run.fold) for run in waiting):
        for head_batch in _earlier(waiting, context, *place):
            if any(run in waiting for run in head_batch.runs):
                old.append(head_batch)
                waiting = [run for run in waiting if run not in head_batch.runs]
    return [*old, *_new(waiting, context)]


def to_minimum(run: Run, context: RunContext) -> bool:
    """Whether the head of a run is trained to its minimum, and not for a number of epochs."""
    trains = context.recipe.trains == "head" and not run.method.after
    return trains and reaches_minimum(_task(run, context))


def _new(waiting: Sequence[Run], context: RunContext) -> list[HeadBatch]:
    groups: dict[tuple[Any, ...], list[Run]] = {}
    tasks = {run: _task(run, context) for run in waiting}
    for run, task in tasks.items():
        groups.setdefault((run.seed, run.fold, *trained_together(task)), []).append(run)
    # Batches are trained in parallel; there should be at least one per core.
    least = -(-parallel_workers(context.accelerator.device) // max(len(groups), 1))
    found = []
    for (_, _, minimised, _), runs in groups.items():
        if minimised:  # they share the choice of the penalty
            found.append(HeadBatch(tuple(runs)))
            continue
        for places in batch_heads([tasks[run].head for run in runs], context.recipe.batch_size, least=least):
            found.append(HeadBatch(tuple(runs[at] for at in places)))
    return found


def _task(run: Run, context: RunContext) -> HeadTask:
    """The head of a run as far as its batch depends on it: its loss has made-up class counts."""
    classes, width = len(context.training_data.table.class_names), context.training_data.array.shape[1]
    head = run.method.build_head(width, classes, context.recipe.head)
    recipe, loss = run.method.configure(context.recipe), run.method.loss.create([1] * classes)
    return HeadTask(loss, recipe, head, run.method.classical)


def _earlier(waiting: Sequence[Run], context: RunContext, seed: int, fold: int) -> list[HeadBatch]:
    """The batches of a seed and fold in which finished runs were trained with waiting ones."""
    found: dict[tuple[str, ...], HeadBatch] = {}
    wanted = {run.method.text for run in waiting}
    for path in sorted(context.study.glob(f"runs/*/seed{seed}-fold{fold}/{DESCRIPTION}")):
        try:
            described = read_run_file(path)
            texts = tuple(described[CO_TRAINED]) if described["status"] == "finished" else ()
            if wanted & set(texts) and texts not in found:
                context.trust.check(texts, path)
                found[texts] = HeadBatch(tuple(Run(parse_method(text), seed, fold) for text in texts))
        except (DataError, ValueError, KeyError):
            continue  # an unreadable description names no batch
    return list(found.values())

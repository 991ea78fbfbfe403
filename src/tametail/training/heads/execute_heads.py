"""Stacks of runs whose heads are trained at once on the same frozen features, and saved as separate runs.

The weights of a head may differ in their last bits with the stack that it is trained in. So stacks are planned once in a
study (see `tametail.study.units`), and depend on nothing but the study; the description of a run names its stack.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tametail.core.run_files import is_finished
from tametail.losses import Loss
from tametail.training.checkpointing.checkpointer import RunCheckpointer
from tametail.training.execute import add_image_ids, batches_of, explain_oom, mark_failed, write_run
from tametail.training.heads.head_step import HeadTask, seeded_draws
from tametail.training.heads.head_training import TrainedHeads, batch_heads, train_heads, trained_together
from tametail.training.heads.minimum import inner_folds, reaches_minimum
from tametail.training.history import Validation, validate
from tametail.training.large_tensors import RowBlocks
from tametail.training.optimisation import batch_mixing
from tametail.training.recipe import Recipe
from tametail.training.run import Run, RunContext, held_out_rows, make_predictions, training_rows
from tametail.training.trainer import Callback, RunFailed, TrainingResult

CO_TRAINED = "trained_with"  # key of run.json: the methods of the stack, including the run's own


def execute_heads(
    runs: Sequence[Run],
    context: RunContext,
    checkpointer: RunCheckpointer,
    callback: Callback | None = None,
) -> dict[Run, RunFailed]:
    """Train the heads of runs of one seed and fold at once, and predict with each; finished runs are not changed.

    Returns:
        The runs that failed; their run.json has the reason.

    Raises:
        Stopped: the checkpointer requested it, and everything is saved.
        RunFailed: out of memory for all of them.
    """
    started = time.monotonic()
    training_data = context.training_data
    rows, held_out = training_rows(runs[0], training_data), held_out_rows(runs[0], training_data)
    counts, seed = training_data.class_counts(rows), runs[0].random_seed()
    recipes = [run.method.configure(context.recipe).with_enough_steps(len(rows)) for run in runs]
    batches = batches_of(runs[0], recipes[0], rows, context, shared=False)
    decision_rules = [run.method.decision_rule(counts, len(rows), context.recipe) for run in runs]
    with explain_oom(context):
        losses: list[Loss] = []
        models: list[nn.Sequential] = []
        for run in runs:
            with seeded_draws(seed):  # as a separate run starts
                losses.append(run.method.loss.create(class_counts=counts))
                # They are standardised alike.
                models.append(training_data.new_model(run.method, None if models else rows))
        scaled = training_data.features(models[0][0], context.accelerator)
        own, others = (RowBlocks(scaled, part).joined() for part in (rows, held_out))
        heads = (model[1] for model in models)
        tasks = [
            HeadTask(loss, recipe, head, run.method.classical)
            for loss, recipe, head, run in zip(losses, recipes, heads, runs, strict=True)
        ]

        def validate_epochs(trained: TrainedHeads) -> list[Validation]:
            outputs = trained.outputs(others)
            target = training_data.targets[held_out]
            return [
                Validation(math.nan, math.nan)
                if failure
                else validate(rule.decision(of_head).numpy(), target, counts)
                for rule, of_head, failure in zip(decision_rules, outputs, trained.failures, strict=True)
            ]

        trained = train_heads(
            own,
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
        outputs = trained.outputs(others).numpy()
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
        model = nn.Sequential(models[0][0], trained.head(at))
        result = TrainingResult(model, trained.histories[at], None)
        more: dict[str, Any] = {CO_TRAINED: [each.method.text for each in runs]}
        if ending := trained.convergence[at]:
            more["convergence"] = ending.described()
        if context.writes:
            write_run(run, context, predictions, model, result, seconds, more)
    return failed


def stack_identity(runs: Sequence[Run], described: Mapping[str, Any]) -> str:
    """Digest of what determines the results of runs that are trained at once."""
    parts = "\n".join(run.identity(described) for run in runs)
    return hashlib.sha256(parts.encode()).hexdigest()


def stack_place(runs: Sequence[Run], study: Path, described: Mapping[str, Any]) -> Path:
    """Path from which `checkpoint_directory` derives the checkpoints' folder: the first run's, with a digest."""
    first = runs[0].directory(study)
    return first.with_name(f"{first.name}-{stack_identity(runs, described)[:16]}")


def make_stacks(
    runs: Sequence[Run], recipe: Recipe, classes: int, width: int, *, alone: bool = False
) -> list[list[Run]]:
    """Group runs of the recipe ``head`` by what can be trained at once, whatever machine trains them.

    Args:
        runs: without strategies after training.
        classes, width: C and D.
        alone: leave out heads that are trained step by step.
    """
    tasks = {run: _task(run, recipe, classes, width) for run in runs}
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run, task in tasks.items():
        groups.setdefault((run.seed, run.fold, *trained_together(task)), []).append(run)
    found = []
    for (_, _, minimised, _), together in groups.items():
        if minimised:  # they share the choice of the penalty
            found.append(together)
            continue
        if alone:
            continue
        heads = [tasks[run].head for run in together]
        found += [[together[at] for at in places] for places in batch_heads(heads, recipe.batch_size)]
    return found


def to_minimum(run: Run, recipe: Recipe, classes: int, width: int) -> bool:
    """Whether the head of a run is trained to its minimum, and not for a number of epochs."""
    trains = recipe.trains == "head" and not run.method.after
    return trains and reaches_minimum(_task(run, recipe, classes, width))


def _task(run: Run, recipe: Recipe, classes: int, width: int) -> HeadTask:
    """The head of a run as far as its stack depends on it: its loss has made-up class counts."""
    head = run.method.build_head(width, classes, recipe.head)
    configured, loss = run.method.configure(recipe), run.method.loss.create([1] * classes)
    return HeadTask(loss, configured, head, run.method.classical)

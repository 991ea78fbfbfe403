"""The runs of a batch of heads, trained at once on the same frozen features and saved as separate runs."""

from __future__ import annotations

import math
import time

import torch
from torch import nn

from tametail.core.run_files import is_finished
from tametail.training.checkpointing.checkpointer import RunCheckpointer
from tametail.training.execute import add_image_ids, batches_of, explain_oom, mark_failed, write_run
from tametail.training.heads.head_batches import CO_TRAINED, HeadBatch
from tametail.training.heads.head_step import HeadTask, seeded_draws
from tametail.training.heads.head_training import TrainedHeads, train_heads
from tametail.training.history import Validation, validate
from tametail.training.optimisation import batch_mixing
from tametail.training.predicting import RunContext, held_out_rows, make_predictions, training_rows
from tametail.training.run import Run
from tametail.training.trainer import Callback, RunFailed, TrainingResult


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
    recipes = [run.method.configure(context.recipe) for run in runs]
    batches = batches_of(runs[0], recipes[0], rows, context)
    decision_rules = [run.method.decision_rule(counts, len(rows)) for run in runs]
    with explain_oom(context):
        losses, models = [], []
        for run in runs:
            with seeded_draws(seed):  # as a separate run starts
                losses.append(run.method.loss.create(class_counts=counts))
                models.append(training_data.new_model(run.method, rows))
        scaled = models[0][0](torch.from_numpy(training_data.array))
        tasks = [
            HeadTask(loss, recipe, model[1])
            for loss, recipe, model in zip(losses, recipes, models, strict=True)
        ]

        def validate_epochs(trained: TrainedHeads) -> list[Validation]:
            outputs = trained.outputs(scaled[held_out])
            return [
                Validation(math.nan, math.nan)
                if failure
                else validate(
                    decision_rule.decision(of_head).numpy(), training_data.targets[held_out], counts
                )
                for decision_rule, of_head, failure in zip(
                    decision_rules, outputs, trained.failures, strict=True
                )
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
        )
        outputs = trained.outputs(scaled[held_out]).numpy()
    seconds = (time.monotonic() - started) / len(runs)
    failed: dict[Run, RunFailed] = {}
    for at, run in enumerate(runs):
        if is_finished(run.directory(context.study)):
            continue
        try:
            if failure := trained.failures[at]:
                raise failure
            predictions = make_predictions(
                run, training_data.table, held_out, outputs[at], decision_rules[at]
            )
        except RunFailed as error:
            add_image_ids(error, batches, rows, training_data)
            mark_failed(run, context, error)
            failed[run] = error
            continue
        model = nn.Sequential(models[at][0], trained.head(at))
        result = TrainingResult(model, trained.histories[at], None)
        write_run(run, context, predictions, model, result, seconds, {CO_TRAINED: head_batch.co_trained})
    return failed

"""The runs of a portion: heads on the same frozen features, trained together, each put on disk as a run of its own."""

from __future__ import annotations

import math
import time

import torch
from torch import nn

from tametail.core.run_files import is_finished
from tametail.training.checkpointing.checkpointer import RunKeeper
from tametail.training.execute import batches_of, mark_failed, name_images, telling_of_short_memory, write_run
from tametail.training.heads.head_batches import COMPANY, Portion
from tametail.training.heads.head_step import HeadTask, drawing
from tametail.training.heads.head_training import TrainedHeads, train_heads
from tametail.training.history import Validation, validate
from tametail.training.optimisation import batch_mixing
from tametail.training.predicting import Workshop, held_out_rows, predictions_of, training_rows
from tametail.training.run import Run
from tametail.training.trainer import Observer, RunFailed, Trained


def execute_heads(
    portion: Portion, workshop: Workshop, keeper: RunKeeper, observer: Observer | None = None
) -> dict[Run, RunFailed]:
    """Train a portion's heads, and predict with each; the runs that are finished already are left as they are.

    Returns:
        The runs that failed, whose run.json says so.

    Raises:
        Stopped: the keeper asked for it, and everything is saved.
        RunFailed: memory is short for all of them.
    """
    started = time.monotonic()
    material, runs = workshop.material, portion.runs
    rows, held_out = training_rows(runs[0], material), held_out_rows(runs[0], material)
    counts, seed = material.class_counts(rows), runs[0].random_seed()
    recipes = [run.method.configure(workshop.recipe) for run in runs]
    batches = batches_of(runs[0], recipes[0], rows, workshop)
    judgements = [run.method.judgement(counts, len(rows)) for run in runs]
    with telling_of_short_memory(workshop):
        losses, models = [], []
        for run in runs:
            with drawing(seed):  # as a run of its own begins
                losses.append(run.method.loss.create(class_counts=counts))
                models.append(material.new_model(run.method, rows))
        scaled = _scaled(models[0][0], torch.from_numpy(material.array))
        tasks = [
            HeadTask(loss, recipe, model[1])
            for loss, recipe, model in zip(losses, recipes, models, strict=True)
        ]

        def watch(trained: TrainedHeads) -> list[Validation]:
            outputs = trained.outputs(scaled[held_out])
            return [
                Validation(math.nan, math.nan)
                if failure
                else validate(judgement.decision(of_head).numpy(), material.targets[held_out], counts)
                for judgement, of_head, failure in zip(judgements, outputs, trained.failures, strict=True)
            ]

        trained = train_heads(
            scaled[rows],
            torch.from_numpy(material.targets[rows]),
            tasks,
            batches,
            workshop.accelerator,
            seed=seed,
            class_counts=counts,
            mixing=batch_mixing(recipes[0], counts, seed),
            keeper=keeper,
            observer=observer,
            validate=watch if workshop.hardware.watch else None,
        )
        outputs = trained.outputs(scaled[held_out]).numpy()
    seconds = (time.monotonic() - started) / len(runs)
    failed: dict[Run, RunFailed] = {}
    for at, run in enumerate(runs):
        if is_finished(run.directory(workshop.study)):
            continue
        try:
            if failure := trained.failures[at]:
                raise failure
            predictions = predictions_of(run, material.table, held_out, outputs[at], judgements[at])
        except RunFailed as error:
            name_images(error, batches, rows, material)
            mark_failed(run, workshop, error)
            failed[run] = error
            continue
        model = nn.Sequential(models[at][0], trained.head(at))
        kept = Trained(model, trained.histories[at], None)
        write_run(run, workshop, predictions, model, kept, seconds, {COMPANY: portion.company})
    return failed


@torch.no_grad()
def _scaled(standardise: nn.Module, features: torch.Tensor) -> torch.Tensor:
    scaled: torch.Tensor = standardise(features)
    return scaled

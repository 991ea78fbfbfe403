"""One run of a study: train on all folds but one, predict the held-out fold, and save the result atomically."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tametail.core.arrays import IntArray
from tametail.core.atomic import atomic_directory, write_atomically
from tametail.core.errors import TametailError, explain_save_error
from tametail.core.run_files import (
    DESCRIPTION,
    HEAD,
    HISTORY,
    PREDICTIONS,
    TIMING,
    UNLIKENESS,
    WEIGHTS,
    is_run_file,
)
from tametail.data.sampling.loaders import TrainingBatches, training_batches
from tametail.predictions.multi_label import LabelPredictions
from tametail.predictions.single_label import Predictions
from tametail.storage.run_file import FILES, file_digest, write_run_file
from tametail.training.checkpointing.checkpoint import save_weights
from tametail.training.checkpointing.checkpointer import RunCheckpointer
from tametail.training.hardware import OutOfMemory, disable_malloc_trim, is_out_of_memory, torch_threads
from tametail.training.history import Validation, history_csv, still_falling, timing_csv, validate
from tametail.training.inference import predict_logits
from tametail.training.large_tensors import RowBlocks
from tametail.training.optimisation import batch_mixing
from tametail.training.recipe import Recipe
from tametail.training.run import (
    Run,
    RunContext,
    compute_outputs,
    compute_outputs_and_features,
    held_out_rows,
    load_trained_model,
    make_predictions,
    save_predictions,
    training_rows,
)
from tametail.training.trainer import Callback, RunFailed, TrainingResult, train
from tametail.training.training_data import TrainingData
from tametail.training.unlikeness_file import save_run_unlikeness


def execute(
    run: Run, context: RunContext, checkpointer: RunCheckpointer, callback: Callback | None = None
) -> None:
    """Train, or apply strategies to the model of the base run, and predict.

    The run's directory is created atomically at the end. The base run must be finished.

    Raises:
        RunFailed: the loss or a prediction became NaN or infinite, or out of memory; run.json then has the reason.
        Stopped: the checkpointer requested it, and everything is saved.
    """
    started = time.monotonic()
    if context.accelerator.device.type == "cpu":
        disable_malloc_trim()
    rows = training_rows(run, context.training_data)
    counts = context.training_data.class_counts(rows)
    try:
        with torch_threads(context.training_data.threads), explain_oom(context):
            held_out = held_out_rows(run, context.training_data)
            if run.method.after:
                trained, features = None, None
                model, outputs = _fit_head(run, context, rows, held_out, counts)
            else:
                trained = _train(run, context, rows, counts, checkpointer, callback)
                model = trained.model
                if context.recipe.trains == "all" and len(held_out):
                    outputs, features = compute_outputs_and_features(model, context, held_out)
                else:
                    outputs, features = compute_outputs(model, context, held_out), None
            decision_rule = run.method.decision_rule(counts, len(rows), context.recipe)
            predictions = make_predictions(run, context.training_data.table, held_out, outputs, decision_rule)
    except RunFailed as error:
        mark_failed(run, context, error)
        if context.writes:
            checkpointer.remove()
        raise
    if context.writes:
        write_run(run, context, predictions, model, trained, time.monotonic() - started, features=features)
        checkpointer.remove()
    context.accelerator.wait_for_everyone()


def write_run(
    run: Run,
    context: RunContext,
    predictions: Predictions | LabelPredictions,
    model: nn.Module,
    trained: TrainingResult | None,
    seconds: float,
    more: Mapping[str, Any] | None = None,
    features: NDArray[np.float32] | None = None,
) -> None:
    """Create a finished run's directory atomically.

    Args:
        model: the trained model, or the fitted head of a run without training.
        trained: the result of training, if any.
        seconds: duration.
        more: further entries of run.json.
        features: of the held-out images by a fine-tuned network, (n, D).

    Raises:
        TametailError: it cannot be written.
    """
    finished = {"status": "finished", "message": "", "seconds": round(seconds, 3)}
    described = _describe(run, context) | finished | dict(more or {})
    if trained and (falling := still_falling(trained.history)) is not None:
        described["still_falling"] = falling
    with _run_directory(run, context) as folder:
        save_predictions(predictions, folder / PREDICTIONS)
        if trained:
            write_atomically(folder / HISTORY, history_csv(trained.history))
            write_atomically(folder / TIMING, timing_csv(trained.history))
            save_weights(model, folder / WEIGHTS)
            described |= {"micro_batch": trained.micro_batch}
        else:
            save_weights(model, folder / HEAD)
        if features is not None:
            save_run_unlikeness(
                folder, features, context.training_data, held_out_rows(run, context.training_data)
            )
        described |= {FILES: {name: file_digest(folder / name) for name in _kept(folder)}}
        write_run_file(folder / DESCRIPTION, described)


def _kept(folder: Path) -> list[str]:
    """The files of a run whose content is fixed."""
    return [name for name in (PREDICTIONS, WEIGHTS, HEAD, HISTORY, UNLIKENESS) if (folder / name).is_file()]


def mark_failed(run: Run, context: RunContext, error: RunFailed) -> None:
    """Record a failure and its reason in run.json; all processes must call it."""
    if context.writes:
        failure = {"status": "failed", "message": str(error), "batch": error.images}
        with _run_directory(run, context) as folder:
            write_run_file(folder / DESCRIPTION, _describe(run, context) | failure)
    context.accelerator.wait_for_everyone()


@contextmanager
def _run_directory(run: Run, context: RunContext) -> Iterator[Path]:
    """A temporary folder that becomes the run's; a `TametailError` if it cannot be written."""
    directory = run.directory(context.study)
    with explain_save_error(directory), atomic_directory(directory, is_run_file, DESCRIPTION) as folder:
        yield folder


@contextmanager
def explain_oom(context: RunContext) -> Iterator[None]:
    """Turn out-of-memory errors outside training steps into messages with advice.

    Raises:
        RunFailed: this run fails; others may succeed.
        TametailError: with several processes, as the others wait for this one.
    """
    kind = RunFailed if context.accelerator.num_processes == 1 else TametailError
    try:
        yield
    except OutOfMemory as error:  # its message has advice
        raise kind(str(error)) from error
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        message = "out of memory; choose a smaller --micro-batch, --image-size or --backbone"
        raise kind(f"{message}. Repeat the command to resume") from error


def _train(
    run: Run,
    context: RunContext,
    rows: IntArray,
    counts: list[int],
    checkpointer: RunCheckpointer,
    callback: Callback | None,
) -> TrainingResult:
    training_data, accelerator = context.training_data, context.accelerator
    recipe = run.method.configure(context.recipe).with_enough_steps(len(rows))
    seed = run.random_seed()
    torch.manual_seed(seed)
    loss = run.method.loss.create(class_counts=counts)
    batches = batches_of(run, recipe, rows, context)
    decision_rule = run.method.decision_rule(counts, len(rows), context.recipe)
    held_out = held_out_rows(run, training_data)

    def validation(model: nn.Module) -> Validation:
        outputs = torch.from_numpy(compute_outputs(model, context, held_out))
        return validate(decision_rule.decision(outputs).numpy(), training_data.targets[held_out], counts)

    try:
        return train(
            training_data.new_model(run.method, rows),
            loss,
            batches,
            recipe,
            accelerator,
            seed=seed,
            class_counts=counts,
            transform=training_data.train_transform,
            mixing=batch_mixing(recipe, counts, seed),
            hardware=context.hardware,
            checkpointer=checkpointer,
            callback=callback,
            validate=validation if context.hardware.validate_epochs else None,
        )
    except RunFailed as error:
        add_image_ids(error, batches, rows, training_data)
        raise


def batches_of(
    run: Run, recipe: Recipe, rows: IntArray, context: RunContext, *, shared: bool = True
) -> TrainingBatches:
    """The training batches of a run.

    Args:
        recipe: with the changes of the run's method.
        shared: whether several processes divide each batch among them; else each does the whole work.
    """
    training_data, accelerator = context.training_data, context.accelerator
    return training_batches(
        training_data.store,
        rows,
        training_data.targets[rows],
        batch_size=recipe.batch_size,
        seed=run.random_seed(),
        sampler=recipe.sampler,
        deferred_from=recipe.deferred_from,
        epochs=recipe.epochs,
        extra=training_data.extra_draws,
        rank=accelerator.process_index if shared else 0,
        world=accelerator.num_processes if shared else 1,
        workers=context.hardware.workers,
        pin_memory=accelerator.device.type == "cuda",
    )


def add_image_ids(
    error: RunFailed, batches: TrainingBatches, rows: IntArray, training_data: TrainingData
) -> None:
    """Add the ids of the images of the step in which a run failed."""
    if error.epoch is not None and error.step is not None:
        positions = batches.positions(error.epoch, error.step)
        error.images = training_data.table.images[rows[positions]].tolist()


def _fit_head(
    run: Run, context: RunContext, rows: IntArray, held_out: IntArray, counts: list[int]
) -> tuple[nn.Module, NDArray[np.float32]]:
    """The head that strategies fit from the base run's, and its outputs for the held-out rows."""
    training_data, accelerator = context.training_data, context.accelerator
    base = load_trained_model(run.base, context.study, training_data.new_model)
    if not run.method.single_label:  # only the decision rule differs
        return base[1], compute_outputs(base, context, held_out)
    features = training_data.features(base[0], accelerator)
    target = torch.from_numpy(training_data.targets[rows])
    head = run.method.fit_head(base[1], RowBlocks(features, rows).joined(), target, counts, run.random_seed())
    return head, predict_logits(head, features, held_out, accelerator)


def _describe(run: Run, context: RunContext) -> dict[str, Any]:
    import timm

    accelerator = context.accelerator
    rows = training_rows(run, context.training_data)
    counts = context.training_data.class_counts(rows)
    return {
        "method": run.method.text,
        "seed": run.seed,
        "fold": run.fold,
        "link": run.method.decision_rule(counts, len(rows), context.recipe).link,
        "parameters": run.method.loss.params,
        "recipe": run.method.configure(context.recipe).with_enough_steps(len(rows)).model_dump(mode="json"),
        "class_counts": dict(zip(context.training_data.table.class_names, counts, strict=True)),
        "images": len(rows),
        "environment": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "timm": timm.__version__,
            "device": accelerator.device.type,
            "precision": accelerator.mixed_precision,
            "processes": accelerator.num_processes,
            "platform": f"{platform.system()} {platform.machine()}",
        },
    }

"""One run of a study: train on all folds but one, predict that one, and put the result on disk in one step."""

from __future__ import annotations

import json
import math
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import nn

from tametail.data import ImageTable
from tametail.data.loaders import training_batches
from tametail.data.mixing import BatchMixing
from tametail.predictions import Predictions, exclusive, write_predictions
from tametail.predictions_multi_label import LabelPredictions, write_label_predictions
from tametail.training.allocator import keep_freed_memory
from tametail.training.checkpoint import flush, save_weights
from tametail.training.hardware import Hardware
from tametail.training.inference import predict_logits
from tametail.training.keeping import RunKeeper
from tametail.training.material import Material
from tametail.training.multi_label import predict_labels
from tametail.training.recipe import Recipe
from tametail.training.run import (
    DESCRIPTION,
    HEAD,
    PREDICTIONS,
    TEST_PREDICTIONS,
    WEIGHTS,
    Run,
    appearing,
    trained_counts,
    trained_model,
)
from tametail.training.strategies import Judgement
from tametail.training.trainer import Observer, RunFailed, Trained, train
from tametail.training.watch import Validation, history_csv, timing_csv, validate

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Workshop:
    """What all runs of a study are done with.

    Attributes:
        material: arrays, table, splits.
        recipe: the study's own; the strategies of a run change it.
        accelerator: with several processes all do every run together, and the main one writes.
        study: the study's directory.
        hardware: how the machine is used.
    """

    material: Material
    recipe: Recipe
    accelerator: Accelerator
    study: Path
    hardware: Hardware

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes."""
        return bool(self.accelerator.is_main_process)


def execute(run: Run, workshop: Workshop, keeper: RunKeeper, observer: Observer | None = None) -> None:
    """Train (or, for what follows a training, fit to the base run's features) and predict.

    The run's directory appears at the end, whole. The run that it starts from must be finished.

    Raises:
        RunFailed: the loss or a prediction became NaN or infinite, or memory is short; run.json then says so.
        Stopped: the keeper asked for it, and everything is saved.
    """
    started = time.monotonic()
    if workshop.accelerator.device.type == "cpu":
        keep_freed_memory()
    rows = training_rows(run, workshop.material)
    counts = workshop.material.class_counts(rows)
    described = _describe(run, counts, len(rows), workshop)
    try:
        with threads(workshop.material.threads):
            held_out = held_out_rows(run, workshop.material)
            if run.method.after:
                trained, (model, outputs) = None, _fit_head(run, workshop, rows, held_out, counts)
            else:
                trained = _train(run, workshop, rows, counts, keeper, observer)
                model = trained.model
                outputs = _outputs(model, workshop, held_out)
            judgement = run.method.judgement(counts, len(rows))
            predictions = _predictions(run, workshop.material.table, held_out, outputs, judgement)
    except RunFailed as error:
        failure = {"status": "failed", "message": str(error), "batch": error.images}
        if workshop.writes:
            with appearing(run.directory(workshop.study)) as folder:
                _write_json(folder / DESCRIPTION, described | failure)
            keeper.remove()
        workshop.accelerator.wait_for_everyone()
        raise
    if workshop.writes:
        seconds = round(time.monotonic() - started, 3)
        described |= {"status": "finished", "message": "", "seconds": seconds}
        with appearing(run.directory(workshop.study)) as folder:
            _write(predictions, folder / PREDICTIONS)
            if trained:
                (folder / "history.csv").write_text(history_csv(trained.history), encoding="utf-8")
                (folder / "timing.csv").write_text(timing_csv(trained.history), encoding="utf-8")
                save_weights(model, folder / WEIGHTS)
                described |= {"micro_batch": trained.micro_batch}
            else:
                save_weights(model, folder / HEAD)
            _write_json(folder / DESCRIPTION, described)
        keeper.remove()
    workshop.accelerator.wait_for_everyone()


def training_rows(run: Run, material: Material) -> Rows:
    """Rows of the table that a run is trained on."""
    splits = material.splits
    return np.flatnonzero((splits.part == "train") & (splits.fold != run.fold))


def held_out_rows(run: Run, material: Material) -> Rows:
    """Rows of the table that a run is judged by."""
    return np.flatnonzero(material.splits.fold == run.fold)


def steps_per_epoch(run: Run, workshop: Workshop) -> int:
    """Batches in an epoch of a run."""
    return math.ceil(len(training_rows(run, workshop.material)) / workshop.recipe.batch_size)


def _train(
    run: Run,
    workshop: Workshop,
    rows: Rows,
    counts: list[int],
    keeper: RunKeeper,
    observer: Observer | None,
) -> Trained:
    material, accelerator = workshop.material, workshop.accelerator
    recipe = run.method.configure(workshop.recipe)
    seed = run.random_seed()
    torch.manual_seed(seed)
    loss = run.method.loss.create(class_counts=counts)
    batches = training_batches(
        material.array,
        rows,
        material.targets[rows],
        batch_size=recipe.batch_size,
        seed=seed,
        sampler=recipe.sampler,
        deferred_from=recipe.deferred_from,
        epochs=recipe.epochs,
        extra=material.extra_draws,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
        workers=workshop.hardware.workers,
        pin_memory=accelerator.device.type == "cuda",
    )
    judgement = run.method.judgement(counts, len(rows))
    held_out = held_out_rows(run, material)

    def validation(model: nn.Module) -> Validation:
        outputs = torch.from_numpy(_outputs(model, workshop, held_out))
        return validate(judgement.decision(outputs).numpy(), material.targets[held_out], counts)

    try:
        return train(
            material.new_model(run.method, rows),
            loss,
            batches,
            recipe,
            accelerator,
            seed=seed,
            class_counts=counts,
            transform=material.train_transform,
            mixing=batch_mixing(recipe, counts, seed),
            hardware=workshop.hardware,
            keeper=keeper,
            observer=observer,
            validate=validation if workshop.hardware.watch else None,
        )
    except RunFailed as error:
        if error.epoch is not None and error.step is not None:
            positions = batches.positions(error.epoch, error.step)
            error.images = material.table.images[rows[positions]].tolist()
        raise


def _fit_head(
    run: Run, workshop: Workshop, rows: Rows, held_out: Rows, counts: list[int]
) -> tuple[nn.Module, NDArray[np.float32]]:
    """The head that the strategies after training make of the base run's, and its outputs for the held-out rows."""
    material, accelerator = workshop.material, workshop.accelerator
    base = trained_model(run.base, workshop.study, material.new_model)
    features = material.features(base[0], accelerator)
    target = torch.from_numpy(material.targets[rows])
    head = run.method.fit_head(base[1], torch.from_numpy(features[rows]), target, counts, run.random_seed())
    return head, predict_logits(head, features, held_out, accelerator)


def _outputs(model: nn.Module, workshop: Workshop, rows: Rows) -> NDArray[np.float32]:
    material = workshop.material
    return predict_logits(
        model, material.array, rows, workshop.accelerator, transform=material.eval_transform
    )


def _predictions(
    run: Run, table: ImageTable, rows: Rows, outputs: NDArray[np.float32], judgement: Judgement
) -> Predictions | LabelPredictions:
    """What a head's outputs (len(rows), C) say of some rows of the table, marked with the run's fold."""
    if not np.isfinite(outputs).all():
        raise RunFailed(
            "the trained model's predictions are not finite numbers. Lower the learning rate (--lr)."
        )
    if table.multi_label:
        return predict_labels(outputs, judgement, table, rows, run.fold)
    head_outputs = torch.from_numpy(outputs)
    return Predictions(
        table.images[rows],
        table.groups[rows],
        table.targets[rows],
        np.full(len(rows), run.fold, dtype=np.int64),
        judgement.decision(head_outputs).numpy(),
        table.class_names,
        judgement.family,
        exclusive(judgement.posterior(head_outputs).numpy()).astype(np.float32),
    )


def batch_mixing(recipe: Recipe, class_counts: list[int], seed: int) -> BatchMixing | None:
    """The mixing that a recipe asks for."""
    asked = recipe.mixing
    if asked.kind == "none":
        return None
    return BatchMixing(
        asked.kind, alpha=asked.alpha, probability=asked.probability, class_counts=class_counts, seed=seed
    )


def predict_test(run: Run, workshop: Workshop) -> None:
    """Predict the hold-out with a finished run's model, and keep the predictions beside it."""
    directory = run.directory(workshop.study)
    model = trained_model(run, workshop.study, workshop.material.new_model)
    rows = np.flatnonzero(workshop.material.splits.part == "test")
    outputs = _outputs(model, workshop, rows)
    judgement = run.method.judgement(*trained_counts(directory))
    predictions = _predictions(run, workshop.material.table, rows, outputs, judgement)
    if workshop.writes:
        temporary = directory / f".{TEST_PREDICTIONS}.{os.getpid()}"
        _write(predictions, temporary)
        flush(temporary)
        os.replace(temporary, directory / TEST_PREDICTIONS)


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Compute with so many threads on the CPU, and then as before; None changes nothing."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(count or before)
        yield
    finally:
        torch.set_num_threads(before)


def _write(predictions: Predictions | LabelPredictions, path: Path) -> None:
    if isinstance(predictions, LabelPredictions):
        write_label_predictions(predictions, path)
    else:
        write_predictions(predictions, path)


def _describe(run: Run, counts: list[int], images: int, workshop: Workshop) -> dict[str, Any]:
    import timm

    accelerator = workshop.accelerator
    return {
        "loss": run.method.text,
        "seed": run.seed,
        "fold": run.fold,
        "link": run.method.judgement(counts, images).link,
        "parameters": run.method.loss.params,
        "recipe": run.method.configure(workshop.recipe).model_dump(mode="json"),
        "class_counts": dict(zip(workshop.material.table.class_names, counts, strict=True)),
        "images": images,
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


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

"""One run of a study: train on all folds but one, predict that one, and put the result on disk in one step."""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import nn

from tametail.data.loaders import training_batches
from tametail.data.mixing import BatchMixing
from tametail.losses import Loss, LossSpec, parse_loss
from tametail.predictions import Predictions, exclusive, write_predictions
from tametail.training.checkpoint import flush, load_weights, save_weights
from tametail.training.material import Material
from tametail.training.recipe import Recipe
from tametail.training.trainer import EpochRecord, NonFiniteError, history_csv, predict_logits, train

PREDICTIONS = "predictions.parquet"
TEST_PREDICTIONS = "test_predictions.parquet"
WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Run:
    """A loss, a seed and a fold: with the study's table, splits and recipe they fix the result."""

    loss: LossSpec
    seed: int
    fold: int

    @property
    def title(self) -> str:
        return f"{self.loss.text} seed {self.seed} fold {self.fold}"

    def directory(self, study: Path) -> Path:
        """Where the run lies in a study."""
        return study / "runs" / self.loss.slug / f"seed{self.seed}-fold{self.fold}"

    def random_seed(self) -> int:
        """Shared by all losses, so that they start from the same weights and see the same batches."""
        return int(np.random.SeedSequence([self.seed, self.fold]).generate_state(1)[0])


def all_runs(described: Mapping[str, Any]) -> list[Run]:
    """Every run of a study, done or not."""
    losses = [parse_loss(text) for text in described["losses"]]
    folds = range(described["splits"]["folds"])
    return [Run(loss, seed, fold) for seed in described["seeds"] for fold in folds for loss in losses]


def is_finished(directory: Path) -> bool:
    """Whether a run stands finished in this directory."""
    try:
        described = json.loads((directory / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return described.get("status") == "finished" and (directory / PREDICTIONS).is_file()


def trained_counts(directory: Path) -> list[int]:
    """Images per class that a finished run was trained on, in the order of the classes."""
    described = json.loads((directory / "run.json").read_text(encoding="utf-8"))
    return list(described["class_counts"].values())


def execute(
    run: Run,
    material: Material,
    recipe: Recipe,
    accelerator: Accelerator,
    study: Path,
    *,
    on_epoch: Callable[[EpochRecord], None] | None = None,
) -> None:
    """Train and predict; the run's directory appears at the end, whole.

    Raises:
        NonFiniteError: the loss or a prediction became NaN or infinite; run.json then says so.
    """
    started = time.monotonic()
    targets, splits = material.table.targets, material.splits
    rows = np.flatnonzero((splits.part == "train") & (splits.fold != run.fold))
    held_out = np.flatnonzero(splits.fold == run.fold)
    counts = np.bincount(targets[rows], minlength=len(material.table.class_names)).tolist()
    torch.manual_seed(run.random_seed())
    loss = run.loss.create(class_counts=counts)
    described = _describe(run, loss, counts, material, accelerator)
    batches = training_batches(
        material.array,
        rows,
        targets[rows],
        batch_size=recipe.batch_size,
        seed=run.random_seed(),
        sampler=recipe.sampler,
        epochs=recipe.epochs,
        pin_memory=accelerator.device.type == "cuda",
    )
    try:
        with threads(material.threads):
            model, history = train(
                material.new_model(loss.head, rows),
                loss,
                batches,
                recipe,
                accelerator,
                transform=material.train_transform,
                mixing=batch_mixing(recipe, counts, run.random_seed()),
                on_epoch=on_epoch,
            )
            predictions = predict(model, loss, material, held_out, run.fold, accelerator)
    except NonFiniteError as error:
        with appearing(run.directory(study)) as folder:
            _write_json(folder / "run.json", described | {"status": "failed", "message": str(error)})
        raise
    with appearing(run.directory(study)) as folder:
        write_predictions(predictions, folder / PREDICTIONS)
        (folder / "history.csv").write_text(history_csv(history), encoding="utf-8")
        save_weights(model, folder / WEIGHTS)
        seconds = round(time.monotonic() - started, 3)
        _write_json(
            folder / "run.json", described | {"status": "finished", "message": "", "seconds": seconds}
        )


def batch_mixing(recipe: Recipe, class_counts: list[int], seed: int) -> BatchMixing | None:
    """The mixing that a recipe asks for."""
    asked = recipe.mixing
    if asked.kind == "none":
        return None
    return BatchMixing(
        asked.kind, alpha=asked.alpha, probability=asked.probability, class_counts=class_counts, seed=seed
    )


def predict(
    model: nn.Module,
    loss: Loss,
    material: Material,
    rows: NDArray[np.int64],
    fold: int,
    accelerator: Accelerator,
) -> Predictions:
    """The model's predictions on some rows of the material, marked with the model's fold."""
    table = material.table
    outputs = predict_logits(model, material.array, rows, accelerator, transform=material.eval_transform)
    if not np.isfinite(outputs).all():
        raise NonFiniteError(
            "the trained model's predictions are not finite numbers. Lower the learning rate (--lr)."
        )
    head_outputs = torch.from_numpy(outputs)
    posterior = exclusive(loss.cpu().link(head_outputs).numpy())
    folds = np.full(len(rows), fold, dtype=np.int64)
    return Predictions(
        table.images[rows],
        table.groups[rows],
        table.targets[rows],
        folds,
        loss.decision(head_outputs).numpy(),
        table.class_names,
        loss.family,
        posterior.astype(np.float32),
    )


def predict_test(run: Run, material: Material, accelerator: Accelerator, study: Path) -> None:
    """Predict the hold-out with a finished run's model, and keep the predictions beside it."""
    directory = run.directory(study)
    loss = run.loss.create(class_counts=trained_counts(directory))
    model = load_weights(material.new_model(loss.head, None), directory / WEIGHTS)
    rows = np.flatnonzero(material.splits.part == "test")
    temporary = directory / f".{TEST_PREDICTIONS}.{os.getpid()}"
    write_predictions(predict(model, loss, material, rows, run.fold, accelerator), temporary)
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


@contextmanager
def appearing(directory: Path) -> Iterator[Path]:
    """A folder to fill that takes the name ``directory`` when it is full, and vanishes if that fails."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = directory.with_name(f".{directory.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.iterdir():
            flush(file)
        shutil.rmtree(directory, ignore_errors=True)
        os.replace(temporary, directory)
        flush(directory.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _describe(
    run: Run, loss: Loss, counts: list[int], material: Material, accelerator: Accelerator
) -> dict[str, Any]:
    import timm

    return {
        "loss": run.loss.text,
        "seed": run.seed,
        "fold": run.fold,
        "link": loss.link.name,
        "parameters": run.loss.params,
        "class_counts": dict(zip(material.table.class_names, counts, strict=True)),
        "environment": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "timm": timm.__version__,
            "device": accelerator.device.type,
            "platform": f"{platform.system()} {platform.machine()}",
        },
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

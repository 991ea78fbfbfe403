"""Fine-tuning by tametail and by a plain loop, one epoch per turn: started by train.py, one process for each side.

A side prints one line of JSON per epoch on standard output, and continues when it receives a line.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from tametail.core.run_files import PREDICTIONS
from tametail.data import ImageTable, Splits, decoded_images, make_splits, read_images
from tametail.models import torchvision_ops
from tametail.models.backbones import BackboneSpec, build_backbone
from tametail.models.heads import build_head
from tametail.predictions.single_label import Predictions, write_predictions
from tametail.training.checkpointing.checkpointer import RunCheckpointer, Stop
from tametail.training.execute import execute
from tametail.training.hardware import Hardware, make_accelerator
from tametail.training.optimisation import learning_rate
from tametail.training.recipe import Recipe, load_recipe
from tametail.training.run import Run, RunContext
from tametail.training.strategies import parse_method
from tametail.training.training_data import backbone_of, training_data_from_images

torchvision_ops.ensure_importable()
from torchvision import transforms  # noqa: E402 - its extension may be missing, see above

FOLDS = 5


@dataclass
class Turns:
    """Waits for its turn, and measures it.

    Attributes:
        network: seconds inside the network's forward and the backward pass, since the turn began.
    """

    network: float = 0.0
    _began: float = field(default=0.0, init=False)

    def wait(self) -> None:
        if not sys.stdin.readline():
            raise SystemExit  # nobody asks any more
        self.network, self._began = 0.0, time.perf_counter()

    def end(self, **said: Any) -> None:
        seconds = time.perf_counter() - self._began
        print(json.dumps(said | {"seconds": seconds, "network": self.network}), flush=True)

    @contextmanager
    def in_network(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.network += time.perf_counter() - began

    def validate_epochs(self, model: nn.Module) -> None:
        """Count the forward passes of a model."""
        began = [0.0]

        def before(*_: object) -> None:
            began[0] = time.perf_counter()

        def after(*_: object) -> None:
            self.network += time.perf_counter() - began[0]

        model.register_forward_pre_hook(before)
        model.register_forward_hook(after)


@dataclass(frozen=True)
class Task:
    """The same images, split, network and recipe for both sides."""

    table: ImageTable
    splits: Splits
    recipe: Recipe
    spec: BackboneSpec
    backbone: nn.Module
    fold: int

    @property
    def rows(self) -> NDArray[np.int64]:
        return np.flatnonzero((self.splits.part == "train") & (self.splits.fold != self.fold))

    @property
    def held_out(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.splits.fold == self.fold)


def make_task(data: str, images: int | None, epochs: int, fold: int) -> Task:
    """One fold of a data set, or of some of its images, under the recipe ``quick``."""
    recipe = load_recipe(
        "quick", fields={"weights": "offline", "epochs": epochs}, assignments=["precision=float32"]
    )
    table = read_images(data)
    if images:
        some = np.zeros(len(table), bool)
        some[np.linspace(0, len(table) - 1, images).astype(int)] = True
        table = table.take(some)
    spec = backbone_of(recipe)
    torch.manual_seed(0)
    splits = make_splits(table, folds=FOLDS, seed=0)
    return Task(table, splits, recipe, spec, build_backbone(spec, recipe.weights), fold)


def ours(task: Task, seed: int, turns: Turns, out: Path) -> None:
    """A run as `tametail compare` does it, checkpoints, validation and all."""
    turns.wait()
    accelerator = make_accelerator(task.recipe, "cpu")
    decoded = decoded_images(task.table, task.spec.canvas)
    training_data = training_data_from_images(
        task.table, task.splits, decoded, task.spec, task.backbone, task.recipe
    )
    make_model, backward = training_data.new_model, accelerator.backward

    def watched_model(*given: Any) -> nn.Sequential:
        model = make_model(*given)
        turns.validate_epochs(model)
        return model

    def watched_backward(value: Tensor) -> None:
        with turns.in_network():
            backward(value)

    class Callback:
        def begin(self, *_: object) -> None:
            pass

        def step(self, *_: object) -> None:
            pass

        def epoch(self, record: Any) -> None:
            turns.end(images=len(task.rows), loss=record.loss)
            if record.epoch < task.recipe.epochs:
                turns.wait()

    accelerator.backward = watched_backward
    training_data = replace(training_data, new_model=watched_model)
    context = RunContext(training_data, task.recipe, accelerator, out, Hardware(device="cpu"))
    run = Run(parse_method("ce"), seed, task.fold)
    checkpointer = RunCheckpointer(run.directory(out), f"benchmark {task.fold} {seed}", Stop(), warn=print)
    execute(run, context, checkpointer, Callback())
    (run.directory(out) / PREDICTIONS).rename(out / f"ours-{task.fold}-{seed}.parquet")


class Files(Dataset[tuple[Tensor, int]]):
    """Opens and decodes its file whenever an image is asked for."""

    def __init__(
        self, paths: list[Path], target: NDArray[np.int64], transform: Callable[[Image.Image], Tensor]
    ) -> None:
        self.paths = paths
        self.target = target.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = Image.open(self.paths[index]).convert("RGB")
        return self.transform(image), self.target[index]


def plain(task: Task, seed: int, turns: Turns, out: Path) -> None:
    """A loop as public research code has it: decoded every epoch in two workers, float32, PyTorch's default layout."""
    recipe, spec, moving = task.recipe, task.spec, task.recipe.augmentation
    low, high = moving.scale
    normalise = [transforms.ToTensor(), transforms.Normalize(spec.mean, spec.std)]
    augment = transforms.Compose(
        [
            transforms.RandomResizedCrop(spec.image_size, scale=(low**2, high**2), ratio=(1.0, 1.0)),
            transforms.RandomHorizontalFlip(),
            transforms.RandomVerticalFlip(),
            transforms.RandomRotation(moving.rotation),
            *normalise,
        ]
    )
    centre = [transforms.Resize(round(spec.image_size / spec.crop)), transforms.CenterCrop(spec.image_size)]
    paths, targets = task.table.paths, task.table.targets

    def loader(rows: NDArray[np.int64], transform: Any, shuffle: bool) -> DataLoader[tuple[Tensor, int]]:
        files = Files([paths[row] for row in rows], targets[rows], transform)
        return DataLoader(files, batch_size=recipe.batch_size, shuffle=shuffle, num_workers=2)

    turns.wait()
    torch.manual_seed(seed)
    train_loader = loader(task.rows, augment, True)
    val_loader = loader(task.held_out, transforms.Compose([*centre, *normalise]), False)
    model = nn.Sequential(task.backbone, build_head("linear", spec.features, len(task.table.class_names)))
    turns.validate_epochs(model)
    criterion = nn.CrossEntropyLoss()
    settings = recipe.optimizer
    optimizer = torch.optim.AdamW(model.parameters(), settings.lr, weight_decay=settings.weight_decay)
    steps = len(train_loader)
    for epoch in range(recipe.epochs):
        model.train()
        total = 0.0
        for step, (inputs, target) in enumerate(train_loader):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(epoch + step / steps, recipe)
            optimizer.zero_grad()
            loss = criterion(model(inputs), target)
            with turns.in_network():
                loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_clip or float("inf"))
            optimizer.step()
            total += loss.item()
        model.eval()
        with torch.no_grad():
            logits = torch.cat([model(inputs) for inputs, _ in val_loader]).numpy()
        turns.end(images=len(task.rows), loss=total / steps)
        if epoch + 1 < recipe.epochs:
            turns.wait()
    table, rows = task.table, task.held_out
    folds = np.full(len(rows), task.fold)
    found = Predictions(
        table.images[rows], table.groups[rows], targets[rows], folds, logits, table.class_names, "softmax"
    )
    write_predictions(found, out / f"plain-{task.fold}-{seed}.parquet")


SIDES: dict[str, Callable[[Task, int, Turns, Path], None]] = {"ours": ours, "plain": plain}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", choices=SIDES)
    parser.add_argument("data")
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--fold", type=int, required=True, help="the one that is held out")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    task = make_task(options.data, options.images, options.epochs, options.fold)
    SIDES[options.side](task, options.seed, Turns(), options.out)


if __name__ == "__main__":
    main()

"""The runs of a study: their identity, directory and model."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from tametail.core.atomic import flush, make_folder, temporary_sibling
from tametail.core.errors import explain_save_error
from tametail.core.run_files import DESCRIPTION, HEAD, WEIGHTS
from tametail.storage.identity import IDENTITY
from tametail.storage.study_file import folds_to_run
from tametail.training.checkpointing.checkpoint import load_weights
from tametail.training.strategies import Method, parse_method
from tametail.training.training_data import NewModel
from tametail.training.training_key import TrainingKey


@dataclass(frozen=True)
class Run:
    """A method, a seed and a fold; with the study's table, splits and recipe they determine the result."""

    method: Method
    seed: int
    fold: int

    @property
    def title(self) -> str:
        return f"{self.method.text} seed {self.seed} fold {self.fold}"

    @property
    def base(self) -> Run:
        """The run whose trained model this one starts from: itself where no strategy is applied after training."""
        return Run(self.method.base, self.seed, self.fold)

    def directory(self, study: Path) -> Path:
        """The run's directory in a study."""
        return study / "runs" / self.method.slug / f"seed{self.seed}-fold{self.fold}"

    def random_seed(self) -> int:
        """Seed of weights and batches, the same for all methods."""
        return TrainingKey(self.seed, (self.fold,)).random_seed()

    def identity(self, described: Mapping[str, Any]) -> str:
        """Digest of what determines the run's result."""
        parts = [self.method.text, self.seed, self.fold, *(described.get(key) for key in IDENTITY)]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def all_runs(described: Mapping[str, Any]) -> list[Run]:
    """All runs of a study, finished or not; base runs come before the runs that start from them."""
    methods = [parse_method(text) for text in described["methods"]]
    places = [(seed, fold) for seed in described["seeds"] for fold in folds_to_run(described)]
    runs = [Run(method, *place) for place in places for method in methods]
    return list(dict.fromkeys(each for run in runs for each in (run.base, run)))


def load_class_counts(directory: Path) -> tuple[list[int], int]:
    """Training images per class, in the order of the classes, and in total, of a finished run."""
    described = json.loads((directory / DESCRIPTION).read_text(encoding="utf-8"))
    counts = list(described["class_counts"].values())
    return counts, described.get("images", sum(counts))


def load_trained_model(run: Run, study: Path, new_model: NewModel) -> nn.Sequential:
    """Load the model of a finished run, ``nn.Sequential(representation, head)``, into one from ``new_model``.

    Raises:
        DataError: weights are missing or damaged.
    """
    base = run.base.directory(study)
    model = new_model(run.method.base, None)
    load_weights(model, base / WEIGHTS)
    if run.method.after:
        model[1] = load_weights(new_model(run.method, None)[1], run.directory(study) / HEAD)
    return model


@contextmanager
def atomic_directory(directory: Path) -> Iterator[Path]:
    """Create a directory atomically: yields a temporary one, which is renamed at the end, or deleted after an error.

    Raises:
        TametailError: it, or a file in it, cannot be written.
    """
    temporary = temporary_sibling(directory)
    with explain_save_error(directory):
        try:
            make_folder(directory.parent)
            temporary.mkdir()
            yield temporary
            for file in temporary.iterdir():
                flush(file)
            flush(temporary)
            shutil.rmtree(directory, ignore_errors=True)
            os.replace(temporary, directory)
            flush(directory.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

"""One of the processes that share the trainings of a recommendation."""

from __future__ import annotations

from pathlib import Path

from tametail.core.console import Console
from tametail.recommend.candidates import method_texts
from tametail.recommend.outputs import read_unfinished, settings_digest
from tametail.recommend.trainings import run_trainings, training_set
from tametail.study.inputs import load_inputs
from tametail.study.worker import WorkerSettings
from tametail.training.checkpointing.checkpointer import Stop
from tametail.training.hardware import make_accelerator, torch_threads
from tametail.training.recipe import recorded_recipe


def work(directory: Path, settings: WorkerSettings, stop: Stop) -> None:
    """Do the trainings that no other process does, until none is left.

    Raises:
        DataError: the folder is damaged, or its images have changed.
        Stopped: requested; every training that was started is stored.
    """
    silent = Console(quiet=True)
    described = read_unfinished(directory)
    accelerator = make_accelerator(recorded_recipe(described), settings.hardware.device)
    inputs = load_inputs(directory, described, image_root=settings.image_root, training=True, console=silent)
    with torch_threads(settings.cores):
        data = inputs.training_data(accelerator, silent, stop=stop, shared=directory)
    part = training_set(inputs, data.array)
    digest, repeats = settings_digest(described), described["repeats"]
    run_trainings(directory, part, method_texts(), repeats, inputs.recipe, digest, accelerator, stop, silent)

"""One of the processes that share the trials of a search."""

from __future__ import annotations

from pathlib import Path

from tametail.core.console import Console
from tametail.core.trust import Trust
from tametail.search.journal import explain_damage, folder_lock, open_journal, register_worker
from tametail.search.nested_search import run_searches
from tametail.search.search import runner_of, settings_of
from tametail.search.space import make_space
from tametail.storage.search_file import SEARCH_FOLDER, read_search
from tametail.study.inputs import load_inputs
from tametail.study.worker import WorkerSettings
from tametail.training.checkpointing.checkpointer import Stop
from tametail.training.hardware import make_accelerator, torch_threads
from tametail.training.recipe import recorded_recipe
from tametail.training.run import class_indices, read_methods


def work(directory: Path, settings: WorkerSettings, stop: Stop) -> None:
    """Do the trials that no other process does, until none is left.

    Raises:
        DataError: the folder is damaged, or its images have changed.
        UsageError: the method names code that is not trusted.
        Stopped: requested; everything that was trained is stored.
    """
    silent = Console(quiet=True)
    content = read_search(directory)
    recipe = recorded_recipe(content)
    accelerator = make_accelerator(recipe, settings.hardware.device)
    asked = [content["search"]["method"]]
    order = class_indices({**content, "class_order": content["search"]["class_order"]})
    (method,) = read_methods(
        asked, Trust(settings.trust_code), directory / SEARCH_FOLDER.file, class_order=order
    )
    space = make_space(method, recipe, content["search"]["space"])
    inputs = load_inputs(directory, content, image_root=settings.image_root, training=True, console=silent)
    with torch_threads(settings.cores):
        folds, runner = runner_of(
            directory, content, inputs, accelerator, settings.hardware, stop, silent, shared=True
        )
    with register_worker(directory) as worker:
        with folder_lock(directory), explain_damage(directory):
            storage = open_journal(directory)
        run_searches(directory, storage, space, folds, settings_of(content), runner, worker, stop, silent)

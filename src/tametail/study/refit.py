"""Train a method of a study on all of its training images, for a model to use. Its test set stays held out.

It is one more run of the study, in ``runs/METHOD/seed0-all``, with checkpoints, and is not repeated once it is finished. A head
that is trained to its minimum gets its penalty from the study's folds; other trainings last as long as in the folds.
"""

from __future__ import annotations

from pathlib import Path

from tametail.core.console import Console
from tametail.core.errors import TametailError
from tametail.core.removal import remove
from tametail.core.run_files import DESCRIPTION, failure, is_finished, is_run_file
from tametail.core.trust import Trust
from tametail.storage import study_file
from tametail.storage.locks import lock_folder
from tametail.storage.run_file import read_run_file
from tametail.study.inputs import load_inputs, remember_root
from tametail.study.runs import RunCallback
from tametail.study.train_units import UnitTrainer
from tametail.training.checkpointing.checkpointer import stop_on_signals
from tametail.training.display import show_training
from tametail.training.hardware import Hardware, check_one_process, make_accelerator
from tametail.training.recipe import recorded_recipe
from tametail.training.run import ALL_FOLDS, Run, RunContext, all_runs


def refit(
    directory: Path,
    method: str,
    *,
    image_root: str | Path | None,
    device: str,
    trust: Trust,
    console: Console,
) -> Run:
    """Train a method of a study on all training images, unless that is done.

    Args:
        method: one of the study's, as its text is there.
        image_root: folder of the images; None for where they were.

    Raises:
        DataError: there is no study, or its images or weights have changed.
        TametailError: the training failed.
        Stopped: interrupted, with everything saved.
    """
    check_one_process("train on all training images")
    described = study_file.read_study_file(directory)
    like = next(run for run in all_runs(directory, described, trust, [method]) if run.method.text == method)
    run = Run(like.method, 0, ALL_FOLDS)
    wanted = [each for each in dict.fromkeys((run.base, run)) if not is_finished(each.directory(directory))]
    if not wanted:
        return run
    recipe = recorded_recipe(described)
    accelerator = make_accelerator(recipe, device)
    with lock_folder(directory, say=console.warn):
        inputs = load_inputs(directory, described, image_root=image_root, training=True, console=console)
        if image_root is not None:
            remember_root(directory, inputs.table.root)
        for each in wanted:
            if failure(each.directory(directory)) is not None:
                remove(each.directory(directory), is_run_file)
        data = inputs.training_data(accelerator, console, described["threads"])
        hardware = Hardware(device, validate_epochs=False)  # no image is held out
        context = RunContext(data, recipe, accelerator, directory, hardware, trust)
        with (
            stop_on_signals(lambda: console.say("Saving ... (once more to quit at once)")) as stop,
            show_training(console, len(wanted), recipe.epochs) as display,
        ):
            trainer = UnitTrainer(context, described, (), stop, console.warn)
            for each in wanted:
                callback = RunCallback(display, each.title, "")
                try:
                    if recipe.trains == "head" and not each.method.after:
                        trainer.train_stacks([[each]], callback)
                    else:
                        trainer.train_run(each, callback)
                finally:
                    display.done()
    for message in trainer.failures(wanted).values():
        raise TametailError(f"{message}; repeat the command to try again")
    ended = read_run_file(run.base.directory(directory) / DESCRIPTION)
    if not ended.get("convergence", {"converged": True})["converged"] or ended.get("still_falling"):
        console.warn(
            f"{run.title}: the training has not converged, so that the model may be worse than its loss could be; a recipe with "
            f"more epochs may help"
        )
    return run

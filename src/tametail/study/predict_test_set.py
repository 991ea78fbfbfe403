"""Predict the test set with the finished runs of a study, unit by unit, in an evaluation that is recorded before any of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tametail.core.run_files import DESCRIPTION, EVALUATION, TEST_PREDICTIONS, is_finished
from tametail.predictions.parquet import read_metadata
from tametail.storage.run_file import FILES, file_digest, read_run_file
from tametail.study.units import Unit
from tametail.training.checkpointing.checkpointer import Stop, Stopped
from tametail.training.run import Run, RunContext, predict_test, run_directory


def is_predicted(directory: Path, evaluation: int) -> bool:
    """Whether the test set was predicted with the run in this directory, in the evaluation of this number, to the end."""
    path = directory / TEST_PREDICTIONS
    if not path.is_file() or (read_metadata(path) or {}).get(EVALUATION) != evaluation:
        return False
    recorded: object = read_run_file(directory / DESCRIPTION).get(FILES, {}).get(TEST_PREDICTIONS)
    return recorded == file_digest(path)


def evaluated_part(unit: Unit, study: Path) -> Unit:
    """A unit with those of its runs alone that are finished."""

    def finished(texts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(t for t in texts if is_finished(run_directory(study, t, unit.seed, unit.fold)))

    return unit.model_copy(update={"methods": finished(unit.methods), "after": finished(unit.after)})


def is_done(unit: Unit, study: Path, evaluation: int | None) -> bool:
    """Whether nothing is left of a unit: to predict in the evaluation of this number, or to train if that is None."""
    if evaluation is None:
        return unit.is_ended(study)
    return all(is_predicted(folder, evaluation) for folder in evaluated_part(unit, study).folders(study))


def predict_test_of(
    runs: Sequence[Run],
    context: RunContext,
    evaluation: int,
    stop: Stop,
    starts: Callable[[str], None],
) -> None:
    """Predict the test set with finished runs, unless that is done.

    Raises:
        Stopped: requested; every prediction that was made is saved.
        DataError: weights are missing, damaged, or those of another run.
    """
    for run in runs:
        directory = run.directory(context.study)
        if not is_predicted(directory, evaluation):
            if stop.requested:
                raise Stopped
            starts(f"{run.title}, test set")
            predict_test(run, context, evaluation)

"""The main job: methods × folds × seeds → runs → one table of results. What is done is not done again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tametail.core.console import Console
from tametail.core.errors import TametailError
from tametail.core.run_files import TEST_PREDICTIONS, is_finished
from tametail.data import ImageTable, check_folds, read_images
from tametail.models.backbones import describe_backbone
from tametail.report import best_method, write_report
from tametail.report.study.tuned_methods import tuned_in_words
from tametail.storage import study_file
from tametail.storage.identity import lock_folder, prepare_directory
from tametail.study.inputs import load_inputs, prepare_inputs, remember_root
from tametail.study.runs import run_all
from tametail.study.search_result import read_tuned
from tametail.study.settings import asked_recipe, check_counts, parse_methods, try_out
from tametail.training.checkpointing.checkpointer import checkpoint_interval
from tametail.training.hardware import Hardware, broadcast, check_one_process, make_accelerator
from tametail.training.multi_label import check_methods
from tametail.training.predicting import RunContext, predict_test
from tametail.training.recipe import Recipe
from tametail.training.run import all_runs
from tametail.training.strategies import Method
from tametail.training.trackers import check_trackers
from tametail.training.training_data import with_training_canvas

if TYPE_CHECKING:
    import pandas as pd
    from accelerate import Accelerator

DEFAULT_METHODS = ("alpa", "asl", "focal", "ce", "ce+la", "balanced_softmax", "ldam")
DEFAULT_LABEL_METHODS = ("alpa", "asl", "focal", "bce")  # where an image may have several labels


@dataclass(frozen=True)
class Study:
    """A finished or unfinished study on disk."""

    directory: Path
    failed: tuple[str, ...] = ()

    @property
    def settings(self) -> dict[str, Any]:
        """What the study is: the content of study.json."""
        return study_file.read_study_file(self.directory)

    @property
    def results(self) -> pd.DataFrame:
        """One row per loss, with intervals: the content of results.csv."""
        import pandas as pd

        return pd.read_csv(self.directory / "results.csv")

    @property
    def report(self) -> Path:
        """The report, one HTML file."""
        return self.directory / "report.html"

    @property
    def best_method(self) -> str:
        """The loss of the highest out-of-fold balanced accuracy."""
        return best_method(self.directory)


def compare(
    data: str | Path | ImageTable,
    methods: Sequence[str] | str | None = None,
    *,
    out: str | Path | None = None,
    recipe: str | Path = "head",
    folds: int = 5,
    only_folds: Sequence[int] | None = None,
    seeds: int = 1,
    seed: int = 0,
    hardware: Hardware | None = None,
    track: Sequence[str] = (),
    columns: Mapping[str, Any] | None = None,
    group_duplicates: bool = False,
    fields: Mapping[str, Any] | None = None,
    assignments: Sequence[str] = (),
    tuned: Sequence[str | Path] | str | Path | None = None,
    console: Console | None = None,
) -> Study:
    """Train every loss on every fold, keep the hold-out sealed, and write the report.

    Args:
        data: what `read_images` takes, or a table.
        losses: texts such as ``alpa``, ``alpa[variant=code]`` or ``ldam+drw``, or one text with commas; None for the
            ``DEFAULT_METHODS``, or ``DEFAULT_LABEL_METHODS`` where an image may have several labels.
        out: the study's folder; ``runs/<name of the data>`` when None. A study that is there goes on.
        recipe: a name or a YAML file.
        folds: k of the cross-validation, at least 2.
        only_folds: the folds, from 0, that are held out in turn; None for all. Results are then of their images alone.
        seeds: how many seeds each fold is trained with.
        seed: of the splits.
        hardware: device and how it is used.
        track: experiment trackers that are told of every step, see `tametail.training.trackers`.
        columns: options of `read_images` (``label_col`` ...), when ``data`` is not a table.
        group_duplicates: put duplicate images in one group, so that they cannot cross a split.
        fields, assignments: changes to the recipe, see `load_recipe`.
        tuned: folders of finished searches on the same data, splits and recipe, whose best methods are compared as well.
        console: where progress is shown; None for silence.

    Raises:
        UsageError, DataError, TametailError: see their messages; checked in the order configuration, data,
            weights, and before any long work.
        Stopped: asked for by Ctrl-C or SIGTERM, with everything saved.
    """
    console = console or Console(quiet=True)
    hardware = hardware or Hardware()
    searches = read_tuned(tuned)
    of_searches = parse_methods([search.method for search in searches]) if searches else []
    parsed = _joined(parse_methods(DEFAULT_METHODS if methods is None else methods), of_searches)
    places = check_counts(folds, only_folds, seeds)
    checkpoint_interval()
    check_trackers(track)
    settings = asked_recipe(data, recipe, fields, assignments)
    for method in parsed:
        method.configure(settings)
    spec = with_training_canvas(settings, describe_backbone(settings.backbone, settings.image_size))
    accelerator = make_accelerator(settings, hardware.device)
    console = console if accelerator.is_main_process else Console(quiet=True)
    if not isinstance(data, ImageTable):
        if out is not None:
            prepare_directory(Path(out), study_file.STUDY_FOLDER)
        data = read_images(data, **(columns or {}))
    if methods is None and data.multi_label:
        parsed = _joined(parse_methods(DEFAULT_LABEL_METHODS), of_searches)
    check_methods(parsed, data, settings)
    check_folds(data, folds)
    try_out(parsed, settings, len(data.class_names), hardware, accelerator)
    directory = Path(out) if out is not None else Path("runs") / data.name
    prepare_directory(directory, study_file.STUDY_FOLDER)
    with _alone(directory, accelerator):
        with accelerator.main_process_first():
            inputs = prepare_inputs(
                data,
                settings,
                spec,
                folds=folds,
                seed=seed,
                group_duplicates=group_duplicates,
                console=console,
            )
        described = inputs.describe([method.text for method in parsed], list(range(seeds)), places)
        described |= {"assignments": list(assignments)}
        for search in searches:
            search.check(described)
        if searches:
            described |= {"tuned": {search.method: search.note for search in searches}}
        study_file.check_same_study(directory, described)
        if accelerator.is_main_process:
            inputs.save(directory)
            described = study_file.create_or_extend_study(directory, described)
        described = broadcast(described, accelerator)
        failed = run_all(directory, described, inputs, accelerator, hardware, track, console)
    for line in tuned_in_words(described):
        console.warn(line)
    return Study(directory, tuple(failed))


def _joined(methods: Sequence[Method], more: Sequence[Method]) -> list[Method]:
    return list({method.text: method for method in (*methods, *more)}.values())


def resume(
    directory: str | Path,
    *,
    image_root: str | Path | None = None,
    hardware: Hardware | None = None,
    track: Sequence[str] = (),
    console: Console | None = None,
) -> Study:
    """Do the runs of a study that are not finished, with the settings it was begun with.

    Args:
        directory: the study's folder.
        image_root: where the images lie now, if they have moved since.
        hardware: device and how it is used.
        track: experiment trackers that are told of every step.

    Raises:
        DataError: no study is there, or its images or weights are not the ones it was begun with.
        Stopped: asked for by Ctrl-C or SIGTERM, with everything saved.
    """
    hardware = hardware or Hardware()
    checkpoint_interval()
    check_trackers(track)
    study = Study(Path(directory))
    described = study.settings
    accelerator = make_accelerator(Recipe.model_validate(described["recipe"]), hardware.device)
    console = console if console and accelerator.is_main_process else Console(quiet=True)
    with _alone(study.directory, accelerator):
        with accelerator.main_process_first():
            inputs = load_inputs(
                study.directory, described, image_root=image_root, training=True, console=console
            )
        if accelerator.is_main_process and image_root is not None:
            remember_root(study.directory, inputs.table.root)
        failed = run_all(study.directory, described, inputs, accelerator, hardware, track, console)
    return Study(study.directory, tuple(failed))


def _alone(directory: Path, accelerator: Accelerator) -> AbstractContextManager[None]:
    """Hold the study; of several processes that work on it together the main one does."""
    return lock_folder(directory) if accelerator.is_main_process else nullcontext()


def evaluate_test_set(
    directory: str | Path,
    *,
    image_root: str | Path | None = None,
    device: str = "auto",
    console: Console | None = None,
) -> Study:
    """Evaluate every finished run on the held-out test set, record that it was opened, and renew the report.

    Args:
        directory: the study's folder.
        image_root: where the images lie now, if they have moved since.

    Raises:
        DataError: no study is there, or its images are not the ones it was made with.
        TametailError: no run is finished.
        UsageError: it is done by several processes.
    """
    console = console or Console(quiet=True)
    study = Study(Path(directory))
    described = study.settings
    check_one_process("open the test set")
    with lock_folder(study.directory):
        runs = [run for run in all_runs(described) if is_finished(run.directory(study.directory))]
        if not runs:
            raise TametailError(
                f"no run of {directory} is finished, so there is nothing to evaluate; run tametail compare"
            )
        inputs = load_inputs(study.directory, described, image_root=image_root, console=console)
        if image_root is not None:
            remember_root(study.directory, inputs.table.root)
        accelerator = make_accelerator(inputs.recipe, device, training=False)
        training_data = inputs.training_data(accelerator, console)
        context = RunContext(training_data, inputs.recipe, accelerator, study.directory, Hardware(device))
        new = [run for run in runs if not (run.directory(study.directory) / TEST_PREDICTIONS).is_file()]
        facts = {
            "methods": described["methods"],
            "runs": len(runs),
            "new_runs": len(new),
            "best_out_of_fold": study.best_method,
        }
        number = study_file.record_test_set_evaluation(study.directory, facts)["evaluation"]
        console.say(f"Test-set evaluation {number}; it is recorded in the study and shown in its report.")
        with console.track("Test set", len(runs)) as advance:
            for run in runs:
                predict_test(run, context)
                advance(1)
        write_report(study.directory)
    return study

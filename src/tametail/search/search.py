"""The search: which values of a method's parameters, and whether they are worth more than the defaults.

Nested: what an outer fold's choice is judged by took no part in it. The held-out test set takes part in nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tametail.core.atomic import write_atomically
from tametail.core.console import Console
from tametail.core.errors import DataError, UsageError, explain_save_error
from tametail.data import ImageTable, check_folds, read_images
from tametail.models.backbones import describe_backbone
from tametail.report.search.page import write_search_page
from tametail.search.choice import best_of, indistinguishable, nested
from tametail.search.folds import Folds, training_folds
from tametail.search.image_runner import ImageRunner, Making
from tametail.search.journal import check_search, judging, lock, open_journal, reading, working
from tametail.search.nested_search import Settings, run_searches, search_study, trial_records
from tametail.search.objective import Runner
from tametail.search.queue import SAMPLERS, Sampler
from tametail.search.results import importances, result_of, trials_csv
from tametail.search.space import Space, make_space
from tametail.search.trainings import METRICS, SECONDS, TrainingKey
from tametail.storage import search_file, study_file
from tametail.study.inputs import StudyInputs, prepare_inputs
from tametail.study.settings import asked_recipe, check_counts, parse_methods, try_out
from tametail.training.checkpointing.checkpointer import seconds_between
from tametail.training.checkpointing.interrupts import Stop, stopping
from tametail.training.hardware import Hardware, check_one_process, make_accelerator
from tametail.training.heads.head_experiments import Trial, TrialData, TrialResult, run_trials
from tametail.training.multi_label import check_methods
from tametail.training.recipe import complete_recipe
from tametail.training.training_data import with_training_canvas

if TYPE_CHECKING:
    from accelerate import Accelerator
    from optuna.storages import BaseStorage

# Trials that one process takes at once: many heads are trained as one, few are lost to a kill and few wait for each other.
_HEADS = {"random": 32, "tpe": 8}
_HALVED = 8  # with fine-tuning each training is kept by itself, and a batch is what halving halves


@dataclass(frozen=True)
class Search:
    """A finished search on disk."""

    directory: Path

    @property
    def settings(self) -> dict[str, Any]:
        """What was searched, on what, and what was found: the content of search.json."""
        return search_file.read_finished(self.directory)

    @property
    def best(self) -> str:
        """The method with the values to recommend, as text."""
        return str(self.settings["result"]["best"]["method"])

    @property
    def report(self) -> Path:
        """The report, one HTML file."""
        return self.directory / search_file.PAGE


def search(
    data: str | Path | ImageTable,
    loss: str = "alpa",
    *,
    out: str | Path | None = None,
    trials: int = 50,
    space: Sequence[str] = (),
    sampler: Sampler = "random",
    halving: bool = False,
    metric: str = "balanced_accuracy",
    recipe: str | Path = "head",
    folds: int = 5,
    seeds: int = 1,
    seed: int = 0,
    hardware: Hardware | None = None,
    columns: Mapping[str, Any] | None = None,
    group_duplicates: bool = False,
    fields: Mapping[str, Any] | None = None,
    assignments: Sequence[str] = (),
    console: Console | None = None,
) -> Search:
    """Search a method's parameters by nested cross-validation, keep the hold-out sealed, and write the report.

    Args:
        data: what `read_images` takes, or a table; each image of one class.
        loss: one method, such as ``alpa`` or ``alpa[variant=pade]+la``; what its text gives is fixed.
        out: the search's folder; ``runs/search-<name of the data>-<loss>`` when None. A search that is there goes on, also beside another
            process that works on it.
        trials: of each search.
        space: texts such as ``gamma_neg=0:5``, in place of or beside the loss's default space.
        sampler: ``random`` or ``tpe``.
        halving: give up the worse half of a batch of trials after the first inner fold, half of the rest after the second,
            and so on.
        metric: what is searched by: ``balanced_accuracy``, ``macro_f1``, ``accuracy``, ``mcc`` or ``kappa``.
        recipe: a name or a YAML file.
        folds: k of the outer cross-validation, at least 3; the inner one has the k - 1 others.
        seeds: how many seeds each model is trained with.
        seed: of the splits and of the sampler.
        hardware: device and how it is used.
        columns: options of `read_images` (``label_col`` ...), when ``data`` is not a table.
        group_duplicates: put duplicate images in one group, so that they cannot cross a split.
        fields, assignments: changes to the recipe, see `load_recipe`.
        console: where progress is shown; None for silence.

    Raises:
        UsageError, DataError, TametailError: see their messages; checked before any long work.
        Stopped: asked for by Ctrl-C or SIGTERM, with everything saved.
    """
    console = console or Console(quiet=True)
    hardware = hardware or Hardware()
    if find_spec("optuna") is None:
        raise UsageError(
            "expected Optuna, which draws the trials, to be installed: pip install 'tametail[search]'"
        )
    check_one_process("search (start the command several times to share the work)")
    seconds_between()
    methods = parse_methods(loss)
    if len(methods) != 1:
        raise UsageError(f"expected one loss to search, got {len(methods)}; search them one by one")
    (method,) = methods
    _check(folds, seeds, trials, sampler, metric)
    settings = asked_recipe(data, recipe, fields, assignments)
    found = make_space(method, settings, space)
    spec = with_training_canvas(settings, describe_backbone(settings.backbone, settings.image_size))
    accelerator = make_accelerator(settings, hardware.device)
    if not isinstance(data, ImageTable):
        data = read_images(data, **(columns or {}))
    directory = Path(out) if out is not None else Path("runs") / f"search-{data.name}-{method.slug}"
    if data.multi_label:
        raise DataError(
            "expected images of one class each to search on, got several labels per image; compare takes those"
        )
    check_methods([method], data, settings)
    check_folds(data, folds)
    try_out([method], settings, len(data.class_names), hardware, accelerator)
    search_file.prepare_directory(directory)
    inputs = prepare_inputs(
        data, settings, spec, folds=folds, seed=seed, group_duplicates=group_duplicates, console=console
    )
    batch = _HEADS[sampler] if settings.trains == "head" else _HALVED if halving else 1
    asked = Settings(trials, sampler, halving, metric, seeds, seed, batch)
    with lock(directory):
        described = search_file.create_or_extend(directory, _described(inputs, found, asked), complete_recipe)
    # Another process may have asked for more.
    asked = replace(asked, trials=described["search"]["trials"], identity=search_file.identity(described))
    if "result" in described:
        console.say(f"{directory} holds this search, finished with {described['search']['trials']} trials")
        write_search_page(directory)
        return Search(directory)
    with (
        stopping(
            lambda: console.say("Stopping after the training at hand ... (once more to quit at once)")
        ) as stop,
        working(directory) as worker,
    ):
        with lock(directory):
            storage = open_journal(directory)
            with reading(directory):
                check_search(storage, directory, asked.identity)
        arrays, runner = _runner(directory, described, inputs, accelerator, hardware, stop, console)
        own = training_folds(arrays, inputs.table.targets, inputs.splits, len(inputs.table.class_names))
        run_searches(directory, storage, found, own, asked, runner, worker, stop, console)
        with judging(directory, stop, console.say):
            _finish(directory, described, storage, inputs, found, own, asked, runner, console)
    return Search(directory)


def _check(folds: int, seeds: int, trials: int, sampler: str, metric: str) -> None:
    check_counts(folds, None, seeds)
    if folds < 3:
        raise UsageError(f"expected at least 3 folds, so that two inner ones are left, got {folds}")
    if not 1 <= trials <= 100_000:
        raise UsageError(f"expected --trials of 1 to 100000, got {trials}")
    if sampler not in SAMPLERS:
        raise UsageError(f"expected --sampler as one of {', '.join(SAMPLERS)}, got {sampler!r}")
    if metric not in METRICS:
        raise UsageError(f"expected --metric as one of {', '.join(METRICS)}, got {metric!r}")


def _described(inputs: StudyInputs, space: Space, settings: Settings) -> dict[str, Any]:
    """The content of search.json before there is a result."""
    described = inputs.describe([], [], [])
    for key in ("methods", "seeds", "run_folds"):
        del described[key]
    return described | {
        "format": search_file.FORMAT,
        "search": {
            "method": space.method.text,
            "space": space.texts,
            "sampler": settings.sampler,
            "halving": settings.halving,
            "metric": settings.metric,
            "seeds": settings.seeds,
            "seed": settings.seed,
            "trials": settings.trials,
        },
    }


def _runner(
    directory: Path,
    described: Mapping[str, Any],
    inputs: StudyInputs,
    accelerator: Accelerator,
    hardware: Hardware,
    stop: Stop,
    console: Console,
) -> tuple[Any, Runner]:
    """The inputs (N, *D) of all images, and what trains on those that it is given."""
    training_data = inputs.training_data(accelerator, console)
    if inputs.recipe.trains == "all":
        identity = json.dumps([described.get(key) for key in study_file.IDENTITY], sort_keys=True)
        making = Making.of(training_data)
        return training_data.array, ImageRunner(
            directory, identity, making, accelerator, hardware, stop, console.warn
        )

    def heads(trials: Sequence[Trial], data: TrialData, training: TrainingKey) -> list[TrialResult]:
        return run_trials(trials, data, accelerator, seed=training.random_seed())

    return training_data.array, heads


def _finish(
    directory: Path,
    described: dict[str, Any],
    storage: BaseStorage,
    inputs: StudyInputs,
    space: Space,
    folds: Folds,
    settings: Settings,
    runner: Runner,
    console: Console,
) -> None:
    """Judge what was chosen and write it down, unless another process has."""
    present = search_file.read_search(directory)
    if "result" in present and present["search"]["trials"] >= settings.trials:
        return
    console.say("Judging what each outer fold chose, on that fold ...")
    seeds = range(settings.seeds)
    with reading(directory):
        trials = trial_records(storage, folds.names, settings)
    best = best_of(trials, None)
    chosen = {fold: best_of(trials, fold) for fold in folds.names}
    found = nested(chosen, space, folds, inputs.table, inputs.splits, seeds, settings.metric, runner)
    with reading(directory):
        beside = indistinguishable(trials, best, inputs.table, inputs.splits, seeds)
        importance = importances(search_study(storage, None, settings), space)
    result = result_of(trials, best, chosen, found, beside, space, settings.metric, importance)
    searches = [None] if settings.shared else [None, *folds.names]
    of_each = [
        of_one[SECONDS]
        for trial in trials
        if trial.outer in searches
        for of_one in trial.found.values()
        if isinstance(of_one, Mapping) and SECONDS in of_one
    ]
    result |= {"trainings": len(of_each), "seconds": round(sum(of_each), 1)}
    described["search"]["trials"] = max(settings.trials, sum(trial.outer is None for trial in trials))
    with explain_save_error(directory / search_file.TRIALS):
        write_atomically(directory / search_file.TRIALS, trials_csv(trials, beside, space))
    search_file.write(directory, described | {"result": result})
    write_search_page(directory)

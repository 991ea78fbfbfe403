"""Hyper-parameter search by nested cross-validation: which values to use, and whether they beat the defaults.

The selection of an outer fold is evaluated on images that took no part in it; the held-out test set is never used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from tametail.core.atomic import write_atomically
from tametail.core.console import Console
from tametail.core.errors import UsageError, explain_save_error
from tametail.core.option import as_given, pick, takes
from tametail.core.options import LossOptions, ReadImagesOptions, SearchOptions, SplitOptions
from tametail.core.trust import code_name
from tametail.data import ImageTable, check_folds, read_images, say_reading
from tametail.evaluation import Estimate
from tametail.evaluation.class_order import find_class_order, require_class_order
from tametail.evaluation.evaluate import headline
from tametail.search.folds import FoldData, folds_of, training_folds
from tametail.search.image_runner import ImageRunner, ModelFactory
from tametail.search.journal import (
    check_search,
    evaluation_lock,
    explain_damage,
    folder_lock,
    open_journal,
    register_worker,
)
from tametail.search.nested_estimate import best_of, indistinguishable, nested_estimate
from tametail.search.nested_search import run_searches, search_study, trial_records, trials_left
from tametail.search.objective import Runner
from tametail.search.queue import SearchSettings
from tametail.search.results import importances, result_content, trials_csv
from tametail.search.space import Space, make_space
from tametail.search.trainings import SECONDS, is_ordinal, metric_names
from tametail.storage import search_file
from tametail.storage.identity import IDENTITY, prepare_directory, write_settings
from tametail.storage.locks import lock_folder
from tametail.storage.study_file import remove_work_folder
from tametail.study.inputs import StudyInputs, prepare_inputs
from tametail.study.settings import (
    check_counts,
    engine_from,
    hardware_from,
    parse_methods,
    recipe_from,
    try_out,
)
from tametail.study.shared_work import check_shared, share
from tametail.study.worker import WorkerSettings
from tametail.training.checkpointing.checkpointer import Stop, checkpoint_interval, stop_on_signals
from tametail.training.hardware import Hardware, check_one_process, make_accelerator
from tametail.training.heads.head_experiments import Trial, TrialData, TrialResult, run_trials
from tametail.training.multi_label import check_methods
from tametail.training.ordinal import required_order
from tametail.training.run import TrainingKey
from tametail.training.strategies import Method
from tametail.training.training_data import backbone_of

if TYPE_CHECKING:
    from accelerate import Accelerator
    from optuna.storages import BaseStorage

# Trials that a process claims at a time: enough heads to train together, few enough to share the work and to lose to a kill.
_HEADS = {"random": 32, "tpe": 8}
_HALVED = 8  # with fine-tuning each training is stored on its own, and a batch is what halving halves


@dataclass(frozen=True)
class SearchResult:
    """A finished search on disk."""

    directory: Path

    @property
    def settings(self) -> dict[str, Any]:
        """Settings and result: the content of search.json."""
        return search_file.read_finished(self.directory)

    @property
    def best(self) -> str:
        """The method with the recommended values, as text."""
        return str(self.settings["result"]["best"]["method"])

    @property
    def estimate(self) -> Estimate:
        """The nested estimate of the metric, on images that took no part in the selection."""
        return Estimate.from_dict(self.settings["result"]["nested"]["tuned"])

    @property
    def report(self) -> Path:
        """Path of the report, one HTML file."""
        return self.directory / search_file.PAGE

    def __repr__(self) -> str:
        asked = self.settings["search"]
        return f"SearchResult({str(self.directory)!r}: {asked['method']}, {asked['trials']} trials; best {self.best})"


@takes(LossOptions, SearchOptions)
def search(
    data: str | Path | ImageTable,
    loss: str = "alpa",
    *,
    console: Console | None = None,
    **options: Unpack[SearchOptions],
) -> SearchResult:
    """Search a method's parameters by nested cross-validation without the test set, and write the report.

    An existing search in the output folder is resumed or extended; several processes can share it.

    Args:
        data: what `read_images` takes, or a table.
        loss: one method, such as ``alpa`` or ``alpa[variant=pade]+la``; parameters that its text gives are fixed.
        console: where progress is shown; None for silence.
        options: see below. The outer cross-validation has k ``folds``, at least 3; the inner one uses the k - 1 others.

    Returns:
        The finished search.

    Raises:
        UsageError: an invalid option, or the output folder holds something else.
        DataError: the data cannot be read, or are not fit for the search.
        Stopped: interrupted by Ctrl-C or SIGTERM, with everything saved.
    """
    from tametail.report.search.page import write_search_page

    console = console or Console(quiet=True)
    hardware = hardware_from(options)
    folds, trials = options["folds"], options["trials"]
    sampler, halving, metric = options["sampler"], options["halving"], options["metric"]
    if find_spec("optuna") is None:
        raise UsageError(
            "expected Optuna, which draws the trials, to be installed: pip install 'tametail[search]'"
        )
    check_one_process("search (start the command several times to share the work)")
    checkpoint_interval()
    methods = parse_methods(loss)
    if len(methods) != 1:
        raise UsageError(f"expected one method to search, got {len(methods)}; search them one by one")
    (method,) = methods
    check_counts(options)
    _check(folds, trials)
    settings = recipe_from(options, data)
    search_space = make_space(method, settings, options["space"] or ())
    spec = backbone_of(settings)
    accelerator = make_accelerator(settings, hardware.device)
    choice = engine_from(options, accelerator)
    check_shared(choice)
    out = options["out"]
    if not isinstance(data, ImageTable):
        if out is not None:
            prepare_directory(Path(out), search_file.SEARCH_FOLDER)
        data = read_images(data, **pick(ReadImagesOptions, options))
    say_reading(data, console)
    directory = Path(out) if out is not None else Path("runs") / f"search-{data.name}-{method.slug}"
    metric = _metric(metric, multi_label=data.multi_label)
    if data.multi_label and options["class_order"]:
        raise UsageError("expected images of one class each with --class-order, got several labels per image")
    order = _order(metric, method, options["class_order"], data.class_names)
    method = method.in_order(order)
    search_space = replace(search_space, method=method)
    check_methods([method], data, settings)
    check_folds(data, folds)
    try_out([method], settings, len(data.class_names), hardware, accelerator)
    prepare_directory(directory, search_file.SEARCH_FOLDER)
    inputs = prepare_inputs(data, settings, spec, **pick(SplitOptions, options), console=console)
    requested = SearchSettings(
        trials, sampler, halving, metric, options["repeats"] or 1, options["seed"], batch=1, order=order
    )
    wanted = _content(inputs, search_space, requested) | {"options": as_given(SearchOptions, options)}
    with lock_folder(directory, wait=True, say=console.warn):
        content = search_file.create_or_extend_search(directory, wanted)
    requested = settings_of(content)  # another process may have requested more trials
    if "result" in content:
        console.say(f"{directory} holds this search, finished with {requested.trials} trials")
        write_search_page(directory)
        return SearchResult(directory)
    if not choice.here:
        inputs.save(directory)  # for the workers
    stopping = "Stopping after this training ... (press again to quit now)"
    with stop_on_signals(lambda: console.say(stopping)) as stop, register_worker(directory) as worker:
        with folder_lock(directory):
            storage = open_journal(directory)
            with explain_damage(directory):
                check_search(storage, directory, requested.identity)
        if not choice.here:
            gpu = accelerator.device.type == "cuda"
            named = bool(code_name(method.text))  # by the user
            worker_settings = WorkerSettings(hardware, trust_code=named, cores=choice.cores)
            left = partial(trials_left, storage, folds_of(inputs.splits), requested)
            share(choice, directory, worker_settings, gpu=gpu, left=left, console=console, stop=stop)
        fold_data, runner = runner_of(
            directory, content, inputs, accelerator, hardware, stop, console, shared=not choice.here
        )
        run_searches(directory, storage, search_space, fold_data, requested, runner, worker, stop, console)
        with evaluation_lock(directory, stop, console.say):
            _finish(directory, content, storage, inputs, search_space, fold_data, requested, runner, console)
    remove_work_folder(directory)
    return SearchResult(directory)


def _check(folds: int, trials: int) -> None:
    if folds < 3:
        raise UsageError(f"expected at least 3 folds, so that two inner folds remain, got {folds}")
    if not 1 <= trials <= 100_000:
        raise UsageError(f"expected --trials of 1 to 100000, got {trials}")


def _metric(given: str | None, *, multi_label: bool) -> str:
    """The metric that is maximised: the given one, or that which ranks the methods of a study."""
    known = metric_names(multi_label=multi_label)
    if given is not None and given not in known:
        several = " for several labels per image" if multi_label else ""
        raise UsageError(f"expected --metric as one of {', '.join(known)}{several}, got {given!r}")
    return given or headline(multi_label=multi_label)


def _order(
    metric: str, method: Method, given: Sequence[str] | None, class_names: Sequence[str]
) -> tuple[int, ...] | None:
    """Class indices from the lowest grade to the highest; None for a metric and a method that need no order."""
    if order := required_order([method], class_names, given):
        return tuple(map(class_names.index, order))
    if not is_ordinal(metric):
        find_class_order(class_names, given)  # a wrong one is refused even if it is not used
        return None
    return tuple(map(class_names.index, require_class_order(class_names, given, f"--metric {metric}")))


def settings_of(content: Mapping[str, Any]) -> SearchSettings:
    """The settings of a search from the content of its search.json."""
    asked, names = content["search"], content["class_names"]
    batch = 1
    if content["recipe"]["trains"] == "head":
        batch = _HEADS[asked["sampler"]]
    elif asked["halving"]:
        batch = _HALVED
    return SearchSettings(
        **{key: asked[key] for key in ("trials", "sampler", "halving", "metric", "seeds", "seed")},
        batch=batch,
        identity=search_file.identity(content),
        order=tuple(map(names.index, asked["class_order"])) or None,
    )


def _content(inputs: StudyInputs, space: Space, settings: SearchSettings) -> dict[str, Any]:
    """The content of search.json before there is a result."""
    content = inputs.describe([], [], [])
    for key in ("methods", "seeds", "run_folds"):
        del content[key]
    order = [inputs.table.class_names[index] for index in settings.order or ()]
    return content | {
        "search": {"method": space.method.text, "space": space.texts, "class_order": order}
        | {key: getattr(settings, key) for key in (*search_file.SEARCH_KEYS[3:], "trials")}
    }


def runner_of(
    directory: Path,
    content: Mapping[str, Any],
    inputs: StudyInputs,
    accelerator: Accelerator,
    hardware: Hardware,
    stop: Stop,
    console: Console,
    *,
    shared: bool,
) -> tuple[FoldData, Runner]:
    """The images that a search may use, and the runner that trains on parts of them.

    Args:
        shared: whether features are computed together with the other processes of the folder.
    """
    blocks, table = directory if shared else None, inputs.table
    training_data = inputs.training_data(accelerator, console, stop=stop, shared=blocks)
    folds = training_folds(
        training_data.array, training_data.targets, inputs.splits, len(table.class_names), inputs.spec.blocks
    )
    if inputs.recipe.trains == "all":
        identity = json.dumps([content.get(key) for key in IDENTITY], sort_keys=True)
        data = training_data
        models = ModelFactory(data.new_model, data.train_transform, data.eval_transform, data.extra_draws)
        runner = ImageRunner(directory, identity, models, accelerator, hardware, stop, console.warn)
        return folds, runner

    def train_heads(
        trials: Sequence[Trial], data: TrialData, training: TrainingKey, predicted: Sequence[int]
    ) -> list[TrialResult]:
        return run_trials(trials, data, accelerator, seed=training.random_seed())

    return folds, train_heads


def _finish(
    directory: Path,
    content: dict[str, Any],
    storage: BaseStorage,
    inputs: StudyInputs,
    space: Space,
    folds: FoldData,
    settings: SearchSettings,
    runner: Runner,
    console: Console,
) -> None:
    """Compute the nested estimate and write the result, unless another process has."""
    from tametail.report.search.page import write_search_page

    present = search_file.read_search(directory)
    if "result" in present and present["search"]["trials"] >= settings.trials:
        return
    console.say("Evaluating the values that each outer fold selected, on that fold ...")
    table, splits, seeds = inputs.table, inputs.splits, range(settings.seeds)
    with explain_damage(directory):
        trials = trial_records(storage, folds.folds, settings)
    best = best_of(trials, None)
    selected = {fold: best_of(trials, fold) for fold in folds.folds}
    nested = nested_estimate(selected, space, folds, table, splits, seeds, settings.selection, runner)
    with explain_damage(directory):
        similar = indistinguishable(trials, best, table, splits, seeds)
        importance = importances(search_study(storage, None, settings), space)
    result = result_content(trials, best, selected, nested, similar, space, settings.metric, importance)
    outputs = [o for t in trials if t.outer is None or not settings.shared for o in t.outputs.values()]
    seconds = [stored[SECONDS] for stored in outputs if isinstance(stored, Mapping) and SECONDS in stored]
    result |= {"trainings": len(seconds), "seconds": round(sum(seconds), 1)}
    content["search"]["trials"] = max(settings.trials, sum(trial.outer is None for trial in trials))
    with explain_save_error(directory / search_file.TRIALS):
        write_atomically(directory / search_file.TRIALS, trials_csv(trials, similar, space))
    write_settings(directory, search_file.SEARCH_FOLDER, content | {"result": result})
    write_search_page(directory)

"""Compare methods: methods × folds × repeats → runs → one table of results. Finished runs are not repeated."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from tametail.core.console import Console
from tametail.core.errors import TametailError
from tametail.core.option import as_given, pick, takes
from tametail.core.options import (
    CompareOptions,
    MethodsOptions,
    ReadImagesOptions,
    ResumeOptions,
    SplitOptions,
    TestSetOptions,
)
from tametail.core.run_files import is_finished
from tametail.core.trust import Trust, code_name
from tametail.data import ImageTable, check_folds, read_images, say_reading
from tametail.data.splitting.given_folds import has_given_folds
from tametail.engines.choose import PLAN
from tametail.report import best_method, results_frame, write_report
from tametail.report.study import narrative
from tametail.report.study.tuned_methods import tuned_in_words
from tametail.storage import study_file
from tametail.storage.identity import prepare_directory
from tametail.storage.locks import lock_folder
from tametail.study.inputs import StudyInputs, load_inputs, prepare_inputs, remember_root
from tametail.study.predict_test_set import evaluated_part, is_done, is_predicted
from tametail.study.runs import planned, remove_work, run_all, runs_to_train, say_plan, worker_settings
from tametail.study.settings import (
    check_class_order,
    check_counts,
    count_repeats,
    engine_from,
    hardware_from,
    order_methods,
    packages_of,
    parse_methods,
    read_tuned,
    recipe_from,
    threads_of,
    try_out,
)
from tametail.study.shared_work import blocks_in, run_by
from tametail.study.split_ledger import other_splits, record_split
from tametail.study.worker import describe_work
from tametail.training.checkpointing.checkpointer import checkpoint_interval, stop_on_signals
from tametail.training.hardware import Hardware, broadcast, check_one_process, make_accelerator
from tametail.training.multi_label import check_methods
from tametail.training.recipe import recorded_recipe
from tametail.training.run import (
    RunContext,
    all_runs,
    finished_runs,
    is_test_predicted,
    predict_test,
    read_methods,
)
from tametail.training.trackers import check_trackers
from tametail.training.training_data import backbone_of

if TYPE_CHECKING:
    import pandas as pd
    from accelerate import Accelerator

DEFAULT_METHODS = ("alpa", "asl", "focal", "ce", "ce+la", "balanced_softmax", "ldam")
CLASSICAL_METHODS = ("logistic_regression", "logistic_regression+la")  # added to them on frozen features
DEFAULT_LABEL_METHODS = ("alpa", "asl", "focal", "bce")  # where an image may have several labels


@dataclass(frozen=True)
class Study:
    """A finished or unfinished study on disk.

    Attributes:
        directory: its folder.
        failed: one message for each run that failed in this session.
    """

    directory: Path
    failed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "directory", Path(self.directory))  # a text is fine too

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of the study: the content of study.json."""
        return study_file.read_study_file(self.directory)

    @property
    def results(self) -> pd.DataFrame:
        """One row per method, with intervals: the content of results.csv."""
        return results_frame(self.directory)

    @property
    def report(self) -> Path:
        """Path of the report, one HTML file."""
        return self.directory / "report.html"

    @property
    def best_method(self) -> str:
        """The method with the highest balanced accuracy in cross-validation."""
        return best_method(self.directory)

    def __repr__(self) -> str:
        try:
            settings = self.settings
            runs = [
                done for text in settings["methods"] for done in finished_runs(self.directory, settings, text)
            ]
            evaluations = len(study_file.read_test_set_evaluations(self.directory))
        except TametailError as error:
            return f"Study({str(self.directory)!r}: {error})"
        counts = [
            _count(len(settings["methods"]), "method"),
            _count(len(study_file.folds_to_run(settings)), "fold"),
            _count(len(settings["seeds"]), "repeat"),
        ]
        test = f"evaluated {_count(evaluations, 'time')}" if evaluations else "held out"
        return f"Study({str(self.directory)!r}: {' × '.join(counts)}, {sum(runs)} of {len(runs)} runs finished; test set {test})"


@takes(MethodsOptions, CompareOptions)
def compare(
    data: str | Path | ImageTable,
    methods: Sequence[str] | str | None = None,
    *,
    console: Console | None = None,
    **options: Unpack[CompareOptions],
) -> Study:
    """Train every method on every fold, and write the report; the test set stays held out.

    A study that exists in the output folder is continued: finished runs are not repeated, and new methods, repeats and folds
    are added.

    Args:
        data: what `read_images` takes, or a table.
        methods: texts such as ``alpa``, ``alpa[variant=code]`` or ``ldam+drw``, or one comma-separated text. Default:
            ``DEFAULT_METHODS``, on frozen features with ``CLASSICAL_METHODS``, or ``DEFAULT_LABEL_METHODS`` if images
            may have several labels.
        console: where progress is shown; None for silence.
        options: see below.

    Returns:
        The study; with ``dry_run`` its folder is not created.

    Raises:
        UsageError: an invalid option, or the output folder holds something else.
        DataError: the data cannot be read, or are not fit for the study.
        TametailError: weights or output cannot be read or written.
        Stopped: interrupted by Ctrl-C or SIGTERM, with everything saved.

    Example:
        >>> study = tt.compare("skin/", methods=["alpa", "ce"], label_col="dx", lr=1e-3, folds=5)  # doctest: +SKIP
    """
    console, hardware = console or Console(quiet=True), hardware_from(options)
    searches = read_tuned(options["tuned"])
    recipe = recipe_from(options, data)
    default = (*DEFAULT_METHODS, *(CLASSICAL_METHODS if recipe.trains == "head" else ()))
    parsed = parse_methods(default if methods is None else methods)
    trust = Trust(options["trust_code"], frozenset(method.loss.name for method in parsed))
    tuned = [method for search in searches for method in read_methods([search.method], trust, search.file)]
    run_folds = check_counts(options)
    checkpoint_interval()
    check_trackers(options["track"] or ())
    for method in (*parsed, *tuned):
        method.configure(recipe)
    spec = backbone_of(recipe)
    accelerator = make_accelerator(recipe, hardware.device)
    choice = engine_from(options, accelerator)
    console = console if accelerator.is_main_process else Console(quiet=True)
    if hardware.compile and accelerator.device.type == "cpu":
        console.warn(
            "--compile does not pay on a CPU: compiling takes minutes, and training is no faster; leave it out"
        )
    out = options["out"]
    if not isinstance(data, ImageTable):
        if out is not None:
            prepare_directory(Path(out), study_file.STUDY_FOLDER)
        data = read_images(data, **pick(ReadImagesOptions, options))
    say_reading(data, console)
    if methods is None and data.multi_label:
        parsed = parse_methods(DEFAULT_LABEL_METHODS)
    parsed = list({method.text: method for method in (*parsed, *tuned)}.values())
    check_methods(parsed, data, recipe)
    class_order = check_class_order(options["class_order"], data)
    check_folds(data, options["folds"])
    directory = Path("runs") / data.name if out is None else Path(out)
    class_order, parsed = order_methods(parsed, class_order, data.class_names, directory, console)
    if options["dry_run"]:
        return Study(directory)
    try_out(parsed, recipe, len(data.class_names), hardware, accelerator)
    prepare_directory(directory, study_file.STUDY_FOLDER)
    if (directory / study_file.STUDY_FOLDER.file).is_file():  # refuse code before any long work
        runs_to_train(directory, study_file.read_study_file(directory), trust)
    with _locked(directory, accelerator, console):
        with accelerator.main_process_first():
            repeats = count_repeats(options, recipe, directory, given_folds=has_given_folds(data))
            split = pick(SplitOptions, options)
            inputs = prepare_inputs(data, recipe, spec, **split, repeats=repeats, console=console)
        seeds = list(range(repeats))
        described = inputs.describe([method.text for method in parsed], seeds, run_folds)
        threads = threads_of(directory, recipe, options["threads"], several=not choice.here)
        described |= {"threads": broadcast(threads, accelerator)}
        described |= {"options": as_given(CompareOptions, options), "packages": packages_of(parsed, spec)}
        if class_order is not None:
            described |= {"class_order": class_order}
        for search in searches:
            search.check(described)
        if searches:
            described |= {"tuned": {search.method: search.note for search in searches}}
        study_file.check_same_study(directory, described)
        if accelerator.is_main_process:
            if not (directory / study_file.STUDY_FOLDER.file).is_file():
                console.say(
                    f"{directory} will hold file names and group codes of the images and the path of their folder; tametail "
                    f"share writes a copy without them."
                )
            described |= _other_splits(directory, inputs, console)
            inputs.save(directory)
            described = study_file.create_or_extend_study(directory, described)
        described = broadcast(described, accelerator)
        track = options["track"] or ()
        failed = run_all(directory, described, inputs, accelerator, hardware, track, console, trust, choice)
    for line in tuned_in_words(described):
        console.warn(line)
    return Study(directory, tuple(failed))


@takes(ResumeOptions)
def resume(study: str | Path, *, console: Console | None = None, **options: Unpack[ResumeOptions]) -> Study:
    """Resume an interrupted study with its original settings.

    Args:
        study: the study's folder.
        console: where progress is shown; None for silence.
        options: see below.

    Returns:
        The study.

    Raises:
        DataError: there is no study, or its images or weights have changed.
        Stopped: interrupted by Ctrl-C or SIGTERM, with everything saved.
    """
    hardware, track, image_root = hardware_from(options), options["track"] or (), options["image_root"]
    checkpoint_interval()
    check_trackers(track)
    directory = Path(study)
    described, trust = study_file.read_study_file(directory), Trust(options["trust_code"])
    runs_to_train(directory, described, trust)  # refuses code before any long work
    accelerator = make_accelerator(recorded_recipe(described), hardware.device)
    choice = engine_from(options, accelerator, described["threads"])
    console = console if console and accelerator.is_main_process else Console(quiet=True)
    with _locked(directory, accelerator, console):
        with accelerator.main_process_first():
            inputs = load_inputs(directory, described, image_root=image_root, training=True, console=console)
        if accelerator.is_main_process and image_root is not None:
            remember_root(directory, inputs.table.root)
        if accelerator.is_main_process:
            inputs.save_digests(directory)  # which a study of an earlier version lacks
        failed = run_all(directory, described, inputs, accelerator, hardware, track, console, trust, choice)
    return Study(directory, tuple(failed))


def _other_splits(directory: Path, inputs: StudyInputs, console: Console) -> dict[str, Any]:
    """The entry of study.json about other splits of the same images, for a new study, whose split is recorded."""
    if (directory / study_file.STUDY_FOLDER.file).is_file():
        return {}
    found = other_splits(inputs.content_digests, inputs.splits)
    record_split(inputs.content_digests, inputs.splits, directory)
    if found.get("evaluated") or found.get("same"):
        console.warn(narrative.other_splits_in_words(found))
    return {"other_splits": found} if found else {}


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _locked(directory: Path, accelerator: Accelerator, console: Console) -> AbstractContextManager[None]:
    """Hold the study's lock; of several processes that share the work, the main one does."""
    return lock_folder(directory, say=console.warn) if accelerator.is_main_process else nullcontext()


@takes(TestSetOptions)
def evaluate_test_set(
    study: str | Path, *, console: Console | None = None, **options: Unpack[TestSetOptions]
) -> Study:
    """Evaluate every finished run on the held-out test set, record the evaluation, and update the report.

    Args:
        study: the study's folder.
        console: where progress is shown; None for silence.
        options: see below.

    Returns:
        The study.

    Raises:
        DataError: there is no study, or its images have changed.
        TametailError: no run is finished.
        UsageError: several processes were started.
    """
    console = console or Console(quiet=True)
    directory, image_root, hardware = Path(study), options["image_root"], Hardware(options["device"])
    described, trust = study_file.read_study_file(directory), Trust(options["trust_code"])
    check_one_process("evaluate the test set")
    accelerator = make_accelerator(recorded_recipe(described), hardware.device, training=False)
    choice = engine_from(options, accelerator, described["threads"])
    with lock_folder(directory, say=console.warn):
        begun = [
            text
            for text in described["methods"]
            if not code_name(text) or any(finished_runs(directory, described, text))
        ]
        runs = all_runs(directory, described, trust, begun)
        runs = [run for run in runs if is_finished(run.directory(directory))]
        if not runs:
            raise TametailError(
                f"no run of {directory} is finished, so there is nothing to evaluate; run tametail compare"
            )
        inputs = load_inputs(directory, described, image_root=image_root, console=console)
        if image_root is not None:
            remember_root(directory, inputs.table.root)
        context = None
        if choice.here:  # features before the evaluation begins
            context = _test_context(directory, described, inputs, accelerator, hardware, console)
        new = [run for run in runs if not is_test_predicted(run.directory(directory))]
        facts = {
            "methods": described["methods"],
            "runs": len(runs),
            "new_runs": len(new),
            "best_out_of_fold": best_method(directory),
        }
        before = study_file.read_test_set_evaluations(directory)
        found = other_splits(inputs.content_digests, inputs.splits)
        found["same"] = bool(found.get("same")) and not before  # otherwise by this very study
        if found.get("evaluated") or found["same"]:
            facts["other_splits"] = found
        number = study_file.record_test_set_evaluation(directory, facts)["evaluation"]
        record_split(inputs.content_digests, inputs.splits, directory, evaluated=True)
        state = "is recorded in the study and counted in its report" if number > len(before) else "continues"
        console.say(f"Test-set evaluation {number}; it {state}.")
        if "other_splits" in facts:
            console.warn(narrative.other_splits_in_words(found))

        rest = list(runs)

        def left() -> int:
            rest[:] = [run for run in rest if not is_predicted(run.directory(directory), number)]
            return len(rest)

        if not choice.here and left():
            units = planned(directory, rest, inputs, accelerator, alone=False)
            parts = [evaluated_part(unit, directory) for unit in units]
            settings = worker_settings(parts, directory, described, hardware, trust, choice)
            settings = replace(settings, test_set=True)
            if choice.name == PLAN:
                say_plan(units, directory, settings, console)
                return Study(directory)
            gpu = accelerator.device.type == "cuda"
            work = describe_work(directory, settings, described["threads"], gpu=gpu)
            by_number = {unit.number: unit for unit in units}
            with stop_on_signals(lambda: console.say("Stopping ... (press again to quit now)")) as stop:
                run_by(
                    choice.make(work),
                    list(by_number),
                    title="Test set",
                    left=left,
                    is_done=lambda unit: is_done(by_number[unit], directory, number),
                    saved=lambda _: (left(), blocks_in(directory)),
                    console=console,
                    stop=stop,
                )
        with console.track("Test set", left()) as advance:
            for run in rest:
                context = context or _test_context(
                    directory, described, inputs, accelerator, hardware, console
                )
                predict_test(run, context, number)
                advance(1)
        write_report(directory)
        study_file.finish_test_set_evaluation(directory, number)
        remove_work(directory, described)
    return Study(directory)


def _test_context(
    directory: Path,
    described: dict[str, Any],
    inputs: StudyInputs,
    accelerator: Accelerator,
    hardware: Hardware,
    console: Console,
) -> RunContext:
    """What is needed to predict the test set in this process."""
    data = inputs.training_data(accelerator, console, described["threads"])
    return RunContext(data, inputs.recipe, accelerator, directory, hardware)

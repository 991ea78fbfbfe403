"""Recommend a method for a data set, from linear heads on the features of a frozen backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from tametail.audit import LEAKS
from tametail.core.console import Console
from tametail.core.errors import DataError, TametailError, UsageError
from tametail.core.option import declared, pick, takes
from tametail.core.options import ReadImagesOptions, RecommendOptions, SplitOptions
from tametail.data import ImageTable, check_folds, read_images, save_splits, say_reading
from tametail.data.table import COLUMNS, RESERVED
from tametail.evaluation.subgroups import as_texts
from tametail.recommend import outputs
from tametail.recommend.candidates import BASELINE, CANDIDATES, Candidate, method_texts
from tametail.recommend.nested import AllOutputs
from tametail.recommend.objective import Objective, ObjectiveData, parse_objective
from tametail.recommend.results import TrainingImages, evaluate_candidates
from tametail.recommend.trainings import run_trainings, training_set, trainings_left
from tametail.storage.identity import prepare_directory
from tametail.storage.locks import lock_folder
from tametail.storage.study_file import remove_work_folder
from tametail.study.inputs import prepare_inputs
from tametail.study.settings import check_counts, engine_from, recipe_from
from tametail.study.shared_work import check_shared, share
from tametail.study.worker import WorkerSettings
from tametail.training.checkpointing.checkpointer import stop_on_signals
from tametail.training.hardware import Hardware, check_one_process, make_accelerator
from tametail.training.recipe import Recipe
from tametail.training.run import TrainingKey
from tametail.training.training_data import backbone_of

if TYPE_CHECKING:
    from tametail.recommend.narrative import Provenance
    from tametail.study.inputs import StudyInputs

MIN_FOLDS = 3


@dataclass(frozen=True)
class Recommendation:
    """A finished recommendation in a folder."""

    directory: Path

    @property
    def content(self) -> dict[str, Any]:
        """All results: the content of recommend.json."""
        return outputs.read_recommendation(self.directory)

    @property
    def recommended(self) -> str:
        """The candidate to use: a method, or ``ce+thresholds``; ``chosen`` stands for a tuned value in ``content``."""
        return str(self.content["recommended"])

    @property
    def methods(self) -> list[str]:
        """Methods that are worth comparing in a study, see `tametail.compare`."""
        return list(self.content["methods_to_compare"])

    @property
    def answer(self) -> list[str]:
        """The recommendation in sentences."""
        return list(self.content["answer"])

    @property
    def report(self) -> Path:
        """Path of the report, one HTML file."""
        return self.directory / outputs.RECOMMEND_HTML

    def __repr__(self) -> str:
        return f"Recommendation({str(self.directory)!r}: {self.answer[0]})"


@takes(RecommendOptions)
def recommend(
    data: str | Path | ImageTable, *, console: Console | None = None, **options: Unpack[RecommendOptions]
) -> Recommendation:
    """Recommend a method for a data set, from features of a frozen backbone, with an estimate of its uncertainty.

    Every parameter of a candidate is chosen on inner folds and evaluated on the outer one; so is the choice of the candidate
    itself, for the estimate of following the recommendation. Both are chosen for ``objective``; balanced accuracy, macro-F1,
    accuracy and log-loss are reported. The test set stays held out. A recommendation that exists in the output folder is
    continued.

    Args:
        data: what `read_images` takes, or a table.
        console: where progress is shown; None for silence.
        options: see below; at least 3 ``folds``, and a ``recipe`` with a frozen backbone.

    Returns:
        The recommendation.

    Raises:
        UsageError: an invalid option, or the output folder holds something else.
        DataError: the data cannot be read, or are not fit for a recommendation.
        Stopped: interrupted by Ctrl-C or SIGTERM, with every finished training saved.
    """
    from tametail.recommend.writers import write_files

    console, source = console or Console(quiet=True), data
    objective, recipe = parse_objective(options["objective"]), _checked_recipe(data, options)
    out, folds, repeats = options["out"], options["folds"], options["repeats"] or 1
    spec = backbone_of(recipe)
    accelerator = make_accelerator(recipe, options["device"])
    choice = engine_from(options, accelerator)
    check_shared(choice)
    if not isinstance(data, ImageTable):
        if out is not None:
            prepare_directory(Path(out), outputs.RECOMMENDATION_FOLDER)
        data = read_images(data, **pick(ReadImagesOptions, options))
    say_reading(data, console)
    _check_table(data, folds)
    directory = Path(out) if out is not None else Path("runs") / f"recommend-{data.name}"
    prepare_directory(directory, outputs.RECOMMENDATION_FOLDER)
    with lock_folder(directory, say=console.warn):
        inputs = prepare_inputs(data, recipe, spec, **pick(SplitOptions, options), console=console)
        objective = _on_training_set(objective, inputs)
        described = inputs.describe([], [], []) | {outputs.REPEATS: repeats}
        settings = outputs.create_or_extend(directory, described, objective.name)
        if choice.here:
            save_splits(inputs.splits, directory / "splits.csv")
        else:
            inputs.save(directory)  # for the workers
        rows = np.flatnonzero(inputs.splits.part == "train")
        images = TrainingImages(
            inputs.table.images[rows], inputs.table.groups[rows], inputs.table.class_names
        )
        stopping = "Stopping after this training ... (press again to quit now)"
        with stop_on_signals(lambda: console.say(stopping)) as stop:
            if not choice.here:
                worker = WorkerSettings(Hardware(options["device"]), cores=choice.cores)
                gpu = accelerator.device.type == "cuda"
                left = partial(trainings_left, directory, folds, repeats)
                share(choice, directory, worker, gpu=gpu, left=left, console=console, stop=stop)
            shared = None if choice.here else directory
            data_of_runs = inputs.training_data(accelerator, console, stop=stop, shared=shared)
            part = training_set(inputs, data_of_runs.array)
            done = run_trainings(
                directory, part, method_texts(), repeats, recipe, settings, accelerator, stop, console
            )
        remove_work_folder(directory)
        candidates, failed = _without_failures(CANDIDATES, done)
        for name, why in failed.items():
            console.warn(f"{name} is left out because its training failed: {why}")
        decisions = {training: of_heads.logits for training, of_heads in done.items()}
        posteriors = {training: of_heads.posteriors for training, of_heads in done.items()}
        all_outputs = AllOutputs(
            part.target,
            part.fold,
            part.classes,
            repeats,
            part.folds,
            decisions,
            posteriors,
            objective.subgroup(images.image),
        )
        with console.track("Nested estimate", folds) as advance:
            results = evaluate_candidates(candidates, all_outputs, images, failed, objective, advance)
        write_files(directory, results, _provenance(inputs, repeats, _repeated(source, options)))
    return Recommendation(directory)


def _on_training_set(objective: Objective, inputs: StudyInputs) -> Objective:
    development = inputs.splits.part == "train"
    table = inputs.table.take(development)
    columns = {
        name: as_texts(table.frame[name].tolist())
        for name in table.frame.columns
        if name not in (*COLUMNS, *RESERVED)
    }
    return objective.on(
        ObjectiveData(table.class_names, table.images, table.targets, columns, inputs.splits.folds)
    )


def _checked_recipe(data: str | Path | ImageTable, options: Mapping[str, Any]) -> Recipe:
    folds = options["folds"]
    if folds < MIN_FOLDS:
        raise UsageError(
            f"expected at least {MIN_FOLDS} folds, got {folds}: one to evaluate on, one to tune on and one to train on"
        )
    check_counts(options)
    check_one_process("recommend")
    recipe = recipe_from(options, data)
    if recipe.trains != "head" or recipe.head != "auto":
        raise UsageError(
            "expected trains: head and head: auto, as recommendations are based on linear heads on a frozen backbone; leave these "
            "fields unchanged, and fine-tune with tametail compare"
        )
    return recipe


def _check_table(table: ImageTable, folds: int) -> None:
    if table.multi_label:
        raise DataError(
            f"expected one class per image, but in {table.name} an image may have several labels: re-training, thresholds "
            f"and most of the losses need a single class. Compare methods for several labels with: tametail compare DATA "
            f"--methods alpa,asl,focal,bce,bce+la"
        )
    check_folds(table, folds)


def _without_failures(
    candidates: Sequence[Candidate], done: Mapping[TrainingKey, outputs.HeadOutputs]
) -> tuple[list[Candidate], dict[str, str]]:
    """The candidates without a failed training, which must include plain cross-entropy, and why the others failed."""
    failures = {text: why for of_heads in done.values() for text, why in of_heads.failures.items()}
    failed = {
        candidate.name: failures[text]
        for candidate in candidates
        for text in reversed(candidate.methods)  # the first that failed gives the reason
        if text in failures
    }
    if BASELINE in failed:
        raise TametailError(
            f"expected plain cross-entropy, the baseline of all comparisons, to be trained, but it failed: {failed[BASELINE]}; lower the "
            f"learning rate with --lr, in another folder"
        )
    return [candidate for candidate in candidates if candidate.name not in failed], failed


def _repeated(data: object, options: Mapping[str, Any]) -> list[str]:
    """DATA and the options of a comparison that are not defaults, as words of the command line that is proposed next."""
    known = declared(RecommendOptions)
    words = [
        word
        for name, value in options.items()
        if name not in {"out", "objective"} and value != known[name].default
        for word in known[name].written(value)
    ]
    return ["DATA" if isinstance(data, ImageTable) else str(data), *words]


def _provenance(inputs: StudyInputs, seeds: int, options: Sequence[str]) -> Provenance:
    from tametail.recommend.narrative import Provenance

    table, splits = inputs.table, inputs.splits
    development = splits.part == "train"
    return Provenance(
        name=table.name,
        synthetic=table.synthetic,
        class_counts=table.take(development).counts(),
        test_images=int((~development).sum()),
        folds=splits.folds,
        seeds=seeds,
        backbone=inputs.spec.name,
        features=inputs.spec.summary,
        recipe=inputs.recipe.model_dump(mode="json"),
        splits=splits.fingerprint,
        unsafe=tuple(
            f"{found.message}. {found.advice}"
            for found in inputs.findings
            if found.severity == "unsafe" or (found.severity == "warning" and found.code in LEAKS)
        ),
        options=tuple(options),
    )

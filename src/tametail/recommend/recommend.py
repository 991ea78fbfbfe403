"""What to use on a data set: cross-entropy is trained once per fold, what is cheap after it is tried, and other losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tametail.core.console import Console
from tametail.core.errors import DataError, TametailError, UsageError
from tametail.data import ImageTable, check_folds, read_images, save_splits
from tametail.models.backbones import describe_backbone
from tametail.recommend import outputs
from tametail.recommend.candidates import CANDIDATES, PLAIN, Candidate, method_texts
from tametail.recommend.files import RECOMMEND_HTML, read_recommendation, write_files
from tametail.recommend.findings import Images, find
from tametail.recommend.narrative import Circumstances
from tametail.recommend.nested import AllOutputs, TrainingKey
from tametail.recommend.trainings import TrainingSet, run_all
from tametail.storage.identity import lock_folder, prepare_directory
from tametail.study.inputs import prepare_inputs
from tametail.study.settings import asked_recipe, check_counts
from tametail.training.hardware import check_one_process, make_accelerator
from tametail.training.recipe import Recipe
from tametail.training.training_data import with_training_canvas

if TYPE_CHECKING:
    from tametail.study.inputs import StudyInputs

LEAST_FOLDS = 3


@dataclass(frozen=True)
class Recommendation:
    """A finished recommendation on disk."""

    directory: Path

    @property
    def content(self) -> dict[str, Any]:
        """All of it: the content of recommend.json."""
        return read_recommendation(self.directory)

    @property
    def use(self) -> str:
        """The candidate to use: a method's text, or ``ce+thresholds``; ``chosen`` stands for a number in ``content``."""
        return str(self.content["use"])

    @property
    def answer(self) -> list[str]:
        """The recommendation in sentences."""
        return list(self.content["answer"])

    @property
    def report(self) -> Path:
        """The page, one HTML file."""
        return self.directory / RECOMMEND_HTML


def recommend(
    data: str | Path | ImageTable,
    *,
    out: str | Path | None = None,
    folds: int = 5,
    seeds: int = 1,
    seed: int = 0,
    device: str = "auto",
    columns: Mapping[str, Any] | None = None,
    group_duplicates: bool = False,
    fields: Mapping[str, Any] | None = None,
    assignments: Sequence[str] = (),
    options: Sequence[str] = (),
    console: Console | None = None,
) -> Recommendation:
    """Try what is cheap on the features of a frozen backbone, and say what to use and how sure that is.

    Every number that a candidate needs is chosen on inner folds and judged on the outer one; so is, for the estimate of what
    following the recommendation comes to, the choice of the candidate itself. The test set stays held out.

    Args:
        data: what `read_images` takes, or a table.
        out: the folder; ``runs/recommend-<name of the data>`` when None. A recommendation that is there goes on.
        folds: k of the cross-validation, at least 3.
        seeds: how many seeds each fold is trained with.
        seed: of the splits, those that `compare` makes with it.
        device: auto, cpu, cuda, mps ...
        columns: options of `read_images` (``label_col`` ...), when ``data`` is not a table.
        group_duplicates: put duplicate images in one group, so that they cannot cross a split.
        fields, assignments: changes to the recipe ``head``, see `load_recipe`.
        options: what of the command line is to be repeated in the next command that is proposed.
        console: where progress is shown; None for silence.

    Raises:
        UsageError, DataError, TametailError: see their messages; checked in the order configuration, data, weights, and
            before any long work.
        Stopped: asked for by Ctrl-C or SIGTERM, with every finished training kept.
    """
    console = console or Console(quiet=True)
    recipe = _checked_recipe(data, folds, seeds, fields, assignments)
    spec = with_training_canvas(recipe, describe_backbone(recipe.backbone, recipe.image_size))
    accelerator = make_accelerator(recipe, device)
    if not isinstance(data, ImageTable):
        if out is not None:
            prepare_directory(Path(out), outputs.RECOMMENDATION_FOLDER)
        data = read_images(data, **(columns or {}))
    _check_table(data, folds)
    directory = Path(out) if out is not None else Path("runs") / f"recommend-{data.name}"
    prepare_directory(directory, outputs.RECOMMENDATION_FOLDER)
    with lock_folder(directory):
        inputs = prepare_inputs(
            data,
            recipe,
            spec,
            folds=folds,
            seed=seed,
            group_duplicates=group_duplicates,
            console=console,
        )
        settings = outputs.create_or_extend(directory, inputs.describe([], [], []))
        save_splits(inputs.splits, directory / "splits.csv")
        features = inputs.training_data(accelerator, console).array.astype(np.float32)
        part, images = _training_set(inputs, features)
        readings = run_all(directory, part, method_texts(), seeds, recipe, settings, accelerator, console)
        usable, failed = _without_failures(CANDIDATES, readings)
        for name, why in failed.items():
            console.warn(f"{name} is left out, as its training failed: {why}")
        decisions = {training: reading.logits for training, reading in readings.items()}
        known = AllOutputs(part.target, part.fold, part.classes, seeds, part.folds, decisions)
        with console.track("Nested estimate", folds) as advance:
            findings = find(usable, known, images, failed, advance)
        write_files(directory, findings, _circumstances(inputs, seeds, options))
    return Recommendation(directory)


def _checked_recipe(
    data: str | Path | ImageTable,
    folds: int,
    seeds: int,
    fields: Mapping[str, Any] | None,
    assignments: Sequence[str],
) -> Recipe:
    if folds < LEAST_FOLDS:
        raise UsageError(
            f"expected at least {LEAST_FOLDS} folds, got {folds}: one is judged, one is chosen by, and one is trained on"
        )
    check_counts(folds, None, seeds)
    check_one_process("recommend")
    recipe = asked_recipe(data, "head", fields, assignments)
    if recipe.trains != "head" or recipe.head != "auto":
        raise UsageError(
            "expected trains: head and head: auto, as a recommendation tries linear heads on a frozen backbone; leave these "
            "fields as they are, and fine-tune with tametail compare"
        )
    return recipe


def _check_table(table: ImageTable, folds: int) -> None:
    if table.multi_label:
        raise DataError(
            f"expected one class per image, but in {table.name} an image may have several labels: re-training, thresholds "
            f"and most of the losses tried here take one for granted. Compare what works there with: tametail compare DATA "
            f"--losses alpa,asl,focal,bce,bce+la"
        )
    check_folds(table, folds)


def _training_set(inputs: StudyInputs, features: Any) -> tuple[TrainingSet, Images]:
    """The rows outside the test set; nothing below this line sees another."""
    rows = np.flatnonzero(inputs.splits.part == "train")
    table = inputs.table
    names = table.class_names
    part = TrainingSet(
        features[rows], table.targets[rows], inputs.splits.fold[rows], len(names), inputs.splits.folds
    )
    return part, Images(table.images[rows], table.groups[rows], names)


def _without_failures(
    candidates: Sequence[Candidate], readings: Mapping[TrainingKey, outputs.HeadOutputs]
) -> tuple[list[Candidate], dict[str, str]]:
    """Candidates all of whose methods were trained everywhere, and why the others are left out.

    Raises:
        TametailError: plain cross-entropy is among those.
    """
    failures = {text: why for reading in readings.values() for text, why in reading.failures.items()}
    failed = {
        candidate.name: next(failures[text] for text in candidate.methods if text in failures)
        for candidate in candidates
        if any(text in failures for text in candidate.methods)
    }
    if PLAIN in failed:
        raise TametailError(
            f"expected cross-entropy to be trained, as all is measured by it, but it failed: {failed[PLAIN]}; lower the "
            f"learning rate with --lr, in another folder"
        )
    return [candidate for candidate in candidates if candidate.name not in failed], failed


def _circumstances(inputs: StudyInputs, seeds: int, options: Sequence[str]) -> Circumstances:
    table, splits = inputs.table, inputs.splits
    development = splits.part == "train"
    return Circumstances(
        name=table.name,
        synthetic=table.synthetic,
        class_counts=table.take(development).counts(),
        test_images=int((~development).sum()),
        folds=splits.folds,
        seeds=seeds,
        backbone=inputs.spec.name,
        recipe=inputs.recipe.model_dump(mode="json"),
        splits=splits.fingerprint,
        unsafe=tuple(
            f"{finding.message}. {finding.advice}"
            for finding in inputs.findings
            if finding.severity == "unsafe"
        ),
        options=tuple(options),
    )

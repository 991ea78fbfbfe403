"""The main job: losses × folds × seeds → runs → one table of results. What is done is not done again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tametail import preparation, study_file
from tametail.console import Console
from tametail.data import ImageTable, check_folds, read_images
from tametail.errors import TametailError, UsageError, choosing_losses
from tametail.losses import LossSpec, parse_loss, split_losses
from tametail.models import check_weights, describe_backbone
from tametail.preparation import Prepared
from tametail.report import best_loss, write_report
from tametail.training.recipe import load_recipe
from tametail.training.run import TEST_PREDICTIONS, all_runs, execute, is_finished, predict_test
from tametail.training.trainer import NonFiniteError, make_accelerator

if TYPE_CHECKING:
    import pandas as pd
    from accelerate import Accelerator

DEFAULT_LOSSES = ("alpa", "asl", "focal", "ce", "ldam")


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
    def best_loss(self) -> str:
        """The loss of the highest out-of-fold balanced accuracy."""
        return best_loss(self.directory)


def compare(
    data: str | Path | ImageTable,
    losses: Sequence[str] | str = DEFAULT_LOSSES,
    *,
    out: str | Path | None = None,
    recipe: str | Path = "head",
    folds: int = 5,
    seeds: int = 1,
    seed: int = 0,
    device: str = "auto",
    columns: Mapping[str, Any] | None = None,
    group_duplicates: bool = False,
    fields: Mapping[str, Any] | None = None,
    assignments: Sequence[str] = (),
    console: Console | None = None,
) -> Study:
    """Train every loss on every fold, keep the hold-out sealed, and write the report.

    Args:
        data: what `read_images` takes, or a table.
        losses: texts such as ``alpa`` or ``alpa[variant=code]``, or one text with commas.
        out: the study's folder; ``runs/<name of the data>`` when None. A study that is there goes on.
        recipe: a name or a YAML file.
        folds: k of the cross-validation, at least 2.
        seeds: how many seeds each fold is trained with.
        seed: of the splits.
        device: auto, cpu, cuda, mps.
        columns: options of `read_images` (``label_col`` ...), when ``data`` is not a table.
        group_duplicates: put duplicate images in one group, so that they cannot cross a split.
        fields, assignments: changes to the recipe, see `load_recipe`.
        console: where progress is shown; None for silence.

    Raises:
        UsageError, DataError, TametailError: see their messages; checked in the order configuration, data,
            weights, and before any long work.
    """
    console = console or Console(quiet=True)
    wanted = _parse(losses)
    if folds < 2:
        raise UsageError(f"expected at least 2 folds, got {folds}")
    if seeds < 1:
        raise UsageError(f"expected at least 1 seed, got {seeds}")
    fields = {name: value for name, value in (fields or {}).items() if value is not None}
    if data == "demo" and "backbone" not in fields:
        fields = {"weights": "offline"} | fields  # the demo needs no network
    settings = load_recipe(recipe, fields=fields, assignments=assignments)
    check_weights(settings.weights, settings.backbone)
    spec = describe_backbone(settings.backbone, settings.image_size)
    accelerator = make_accelerator(settings, device)
    if not isinstance(data, ImageTable):
        if out is not None:
            study_file.prepare_directory(Path(out))
        data = read_images(data, **(columns or {}))
    if data.multi_label:
        raise UsageError(
            "expected one label per image: sets with several can be inspected, not yet trained on"
        )
    check_folds(data, folds)
    for loss in wanted:
        with choosing_losses():
            loss.try_out(len(data.class_names))
    directory = Path(out) if out is not None else Path("runs") / data.name
    study_file.prepare_directory(directory)
    with study_file.locked(directory):
        prepared = preparation.prepare(
            data, settings, spec, folds=folds, seed=seed, group_duplicates=group_duplicates, console=console
        )
        described = prepared.describe([loss.text for loss in wanted], list(range(seeds)))
        study_file.check_same(directory, described)
        prepared.save(directory)
        described = study_file.settle(directory, described)
        failed = _run_all(directory, described, prepared, accelerator, console)
    return Study(directory, tuple(failed))


def _parse(losses: Sequence[str] | str) -> list[LossSpec]:
    with choosing_losses():
        texts = split_losses(losses) if isinstance(losses, str) else list(losses)
        parsed = [parse_loss(text) for text in texts]
    if not parsed:
        raise UsageError("expected at least one loss, got none; tametail losses lists them")
    return list({loss.text: loss for loss in parsed}.values())


def _run_all(
    directory: Path,
    described: Mapping[str, Any],
    prepared: Prepared,
    accelerator: Accelerator,
    console: Console,
) -> list[str]:
    """Do every run of the study that is not done yet; returns the messages of those that failed."""
    runs = all_runs(described)
    left = [run for run in runs if not is_finished(run.directory(directory))]
    if study_file.read_openings(directory) and left:
        console.warn(
            "the test part of this study was opened before these runs: choices made since may lean on it"
        )
    study_file.sweep(directory)
    failed = []
    try:
        if left:
            material = prepared.material(accelerator, console)
            console.say(f"{len(runs)} runs ({len(runs) - len(left)} already finished) in {directory}")
            with console.track("Training", len(left) * prepared.recipe.epochs) as advance:
                for run in left:
                    try:
                        execute(
                            run,
                            material,
                            prepared.recipe,
                            accelerator,
                            directory,
                            on_epoch=lambda _: advance(1),
                        )
                    except NonFiniteError as error:
                        failed.append(f"{run.title}: {error}")
                        console.warn(failed[-1])
    finally:
        if any(is_finished(run.directory(directory)) for run in runs):
            write_report(directory)
    return failed


def open_test_part(
    directory: str | Path,
    *,
    image_root: str | Path | None = None,
    device: str = "auto",
    console: Console | None = None,
) -> Study:
    """Evaluate every finished run on the sealed hold-out, record that it was opened, and renew the report.

    Args:
        directory: the study's folder.
        image_root: where the images lie now, if they have moved since.

    Raises:
        DataError: no study is there, or its images are not the ones it was made with.
        TametailError: no run is finished.
    """
    console = console or Console(quiet=True)
    study = Study(Path(directory))
    described = study.settings
    with study_file.locked(study.directory):
        runs = [run for run in all_runs(described) if is_finished(run.directory(study.directory))]
        if not runs:
            raise TametailError(
                f"no run of {directory} is finished, so there is nothing to evaluate; run tametail compare"
            )
        prepared = preparation.restore(study.directory, described, image_root=image_root, console=console)
        accelerator = make_accelerator(prepared.recipe, device)
        material = prepared.material(accelerator, console)
        new = [run for run in runs if not (run.directory(study.directory) / TEST_PREDICTIONS).is_file()]
        facts = {
            "losses": described["losses"],
            "runs": len(runs),
            "new_runs": len(new),
            "best_out_of_fold": study.best_loss,
        }
        opening = study_file.record_opening(study.directory, facts)["opening"]
        console.say(
            f"Opening {opening} of the test part; it is recorded in the study and printed in its report."
        )
        with console.track("Test part", len(runs)) as advance:
            for run in runs:
                predict_test(run, material, accelerator, study.directory)
                advance(1)
        write_report(study.directory)
    return study

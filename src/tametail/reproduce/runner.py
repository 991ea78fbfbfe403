"""Runs an experiment: the study, its test-set evaluation, and the comparison with the published table."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from tametail.core.atomic import write_atomically
from tametail.core.console import Console
from tametail.core.errors import TametailError, UsageError
from tametail.core.run_files import TEST_PREDICTIONS
from tametail.report import read_results
from tametail.report.study.runs import find_runs
from tametail.reproduce.comparison import Comparison, as_dict, compare_with_published
from tametail.reproduce.differences import NO_DIFFERENCE, PAPER_FOLDS, ExperimentSetup, differences_from_paper
from tametail.reproduce.experiments import Rivals, Variant, find_experiment
from tametail.reproduce.paper_set import match_classes, read_paper_set
from tametail.reproduce.text import as_markdown, as_text, interpretation
from tametail.storage.study_file import read_study_file
from tametail.study.study import Study, compare, evaluate_test_set
from tametail.training.hardware import Hardware
from tametail.training.recipe import load_recipe

MARKDOWN, JSON = "reproduce.md", "reproduce.json"


@dataclass(frozen=True)
class Reproduction:
    """A finished experiment.

    Attributes:
        study: its runs, and the messages of those that failed.
        comparison: the results compared with the paper.
        text: the comparison as text for a terminal.
    """

    study: Study
    comparison: Comparison
    text: str

    @property
    def markdown(self) -> Path:
        """The comparison as Markdown; reproduce.json is in the same folder."""
        return self.study.directory / MARKDOWN


def reproduce(
    name: str,
    root: str | Path | None,
    *,
    out: str | Path | None = None,
    sealed: bool = False,
    variant: Variant = "paper",
    rivals: Rivals = "figure1",
    recipe: str | Path = "paper",
    folds: int = PAPER_FOLDS,
    seeds: int = 1,
    hardware: Hardware | None = None,
    fields: Mapping[str, Any] | None = None,
    assignments: Sequence[str] = (),
    console: Console | None = None,
) -> Reproduction:
    """Run one of the paper's tables on a set, and write reproduce.md and reproduce.json into the study's folder.

    The test set is opened, as the paper reports it, and the opening recorded; it is not opened again as long as no run
    is added. What is done is not done again.

    Args:
        name: ``table2`` to ``table5``.
        root: folder of the paper's set as downloaded, or any set of its classes that `read_images` reads.
        out: folder of the study; ``runs/reproduce-<name>`` when None.
        sealed: leave the test set closed, and compare out-of-fold results.
        variant: of ALPA: ``paper`` (its equation), ``code`` (the released class), ``pade``.
        rivals: ``figure1`` or ``defaults``, see `RIVALS`.
        recipe, folds, seeds, hardware, fields, assignments, console: as `tametail.study.study.compare` takes them.

    Raises:
        UsageError, DataError, TametailError: see their messages; an unknown name, an absent set or one of other classes
            before anything is trained.
    """
    console, hardware = console or Console(quiet=True), hardware or Hardware()
    experiment = find_experiment(name)
    _check_choice("--variant", variant, get_args(Variant))
    _check_choice("--rivals", rivals, get_args(Rivals))
    _check_processes(sealed)
    settings = load_recipe(recipe, fields=fields, assignments=assignments)
    table = read_paper_set(experiment, None if root is None else Path(root))
    classes = match_classes(experiment, table)
    setup = ExperimentSetup(table, classes, settings, folds, seeds, variant, rivals, test_set=not sealed)
    differences = differences_from_paper(experiment, setup)
    console.say(f"Differs from the paper in: {'; '.join(differences.stated) or NO_DIFFERENCE}")
    methods = experiment.methods(variant, rivals)
    study = compare(
        table,
        list(methods.values()),
        out=Path("runs") / f"reproduce-{name}" if out is None else out,
        recipe=recipe,
        folds=folds,
        seeds=seeds,
        hardware=hardware,
        fields=fields,
        assignments=assignments,
        console=console,
    )
    if not sealed and _has_untested(study.directory, methods.values()):
        evaluate_test_set(study.directory, device=hardware.device, console=console)
    comparison = compare_with_published(
        experiment, read_results(study.directory), methods, classes, differences, test_set=not sealed
    )
    sentences = interpretation(comparison)
    _write(study.directory, comparison, sentences)
    return Reproduction(study, comparison, as_text(comparison, sentences))


def _check_choice(option: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise UsageError(f"expected {option} as one of {', '.join(known)}, got {value!r}")


def _check_processes(sealed: bool) -> None:
    if not sealed and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(
            "expected --sealed with several processes: they train together, but one alone opens the test set; train with "
            "--sealed, then repeat the command as one process without it, which trains nothing anew"
        )


def _has_untested(directory: Path, methods: Any) -> bool:
    """Whether a method is complete and one of its runs not yet evaluated on the test set."""
    runs = [run for run in find_runs(directory, read_study_file(directory)) if run.method in set(methods)]
    folders = [folder for run in runs if run.complete for folder in run.finished.values()]
    return any(not (folder / TEST_PREDICTIONS).is_file() for folder in folders)


def _write(directory: Path, comparison: Comparison, sentences: tuple[str, ...]) -> None:
    content = json.dumps(as_dict(comparison, sentences), indent=1, ensure_ascii=False)
    try:
        write_atomically(directory / MARKDOWN, as_markdown(comparison, sentences))
        write_atomically(directory / JSON, content + "\n")
    except OSError as error:
        raise TametailError(
            f"{MARKDOWN} cannot be written to {directory} ({error.strerror or error})"
        ) from error

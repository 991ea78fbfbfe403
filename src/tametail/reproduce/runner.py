"""Runs an experiment: the study, its test-set evaluation, and the comparison with the published table."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from tametail.core.atomic import write_atomically
from tametail.core.console import Console
from tametail.core.errors import UsageError, explain_save_error
from tametail.core.option import pick, takes
from tametail.core.options import (
    EngineOptions,
    MachineOptions,
    ReproduceOptions,
    RootOptions,
    ThreadsOptions,
    TrainingOptions,
)
from tametail.core.ranks import process_count
from tametail.core.run_files import TEST_PREDICTIONS
from tametail.engines.choose import PLAN
from tametail.report import read_results
from tametail.report.study.runs import find_runs
from tametail.reproduce.comparison import Comparison, as_dict, compare_with_published
from tametail.reproduce.differences import NO_DIFFERENCE, ExperimentSetup, differences_from_paper
from tametail.reproduce.experiments import find_experiment
from tametail.reproduce.paper_set import match_classes, read_paper_set
from tametail.reproduce.text import as_markdown, as_text, interpretation
from tametail.storage.study_file import read_study_file
from tametail.study.settings import count_repeats, recipe_from
from tametail.study.study import Study, compare, evaluate_test_set

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


@takes(RootOptions, ReproduceOptions)
def reproduce(
    experiment: str,
    root: str | Path | None = None,
    *,
    console: Console | None = None,
    **options: Unpack[ReproduceOptions],
) -> Reproduction:
    """Run one of the paper's tables on a data set, and write reproduce.md and reproduce.json into the study's folder.

    The study is evaluated on its test set, as in the paper, and the evaluation recorded; only once as long as no run is
    added. Finished runs are not repeated.

    Args:
        experiment: ``table2`` to ``table5``.
        root: folder of the paper's data set as downloaded, or any data set with its classes that `read_images` reads.
        console: where progress is shown; None for silence.
        options: see below.

    Raises:
        UsageError: an unknown experiment or an invalid option.
        DataError: the data set is missing or has other classes.
    """
    console = console or Console(quiet=True)
    test_set = options["test_set"]
    name, folds = experiment, options["folds"]
    variant, rivals = options["variant"], options["rivals"]
    found = find_experiment(name)
    if test_set and process_count() > 1:
        raise UsageError(
            "expected --no-test-set with several processes: they train together, but the test set is evaluated by one; train with "
            "--no-test-set, then repeat the command as one process without it, which trains nothing again"
        )
    if options["engine"] == PLAN:
        raise UsageError(
            "expected --engine local, slurm or ray: what is reproduced is compared with the paper when all is done; give other "
            "schedulers the units of the same methods by tametail compare --engine plan"
        )
    recipe = recipe_from(options)
    repeats = count_repeats(options, recipe)
    table = read_paper_set(found, None if root is None else Path(root))
    classes = match_classes(found, table)
    setup = ExperimentSetup(table, classes, recipe, folds, repeats, variant, rivals, test_set=test_set)
    differences = differences_from_paper(found, setup)
    console.say(f"Differs from the paper in: {'; '.join(differences.stated) or NO_DIFFERENCE}")
    methods = found.methods(variant, rivals)
    out = options["out"] or Path("runs") / f"reproduce-{name}"
    study = compare(
        table,
        list(methods.values()),
        out=out,
        console=console,
        **pick(TrainingOptions, {**options, "repeats": repeats}),
        **pick(MachineOptions, options),
        **pick(ThreadsOptions, options),
        **pick(EngineOptions, options),
    )
    if test_set and _has_untested(study.directory, methods.values()):
        evaluate_test_set(
            study.directory, device=options["device"], console=console, **pick(EngineOptions, options)
        )
    comparison = compare_with_published(
        found, read_results(study.directory), methods, classes, differences, test_set=test_set
    )
    sentences = interpretation(comparison)
    _write(study.directory, comparison, sentences)
    return Reproduction(study, comparison, as_text(comparison, sentences))


def _has_untested(directory: Path, methods: Any) -> bool:
    """Whether a method is complete and one of its runs not yet evaluated on the test set."""
    runs = [run for run in find_runs(directory, read_study_file(directory)) if run.method in set(methods)]
    folders = [folder for run in runs if run.complete for folder in run.finished.values()]
    return any(not (folder / TEST_PREDICTIONS).is_file() for folder in folders)


def _write(directory: Path, comparison: Comparison, sentences: tuple[str, ...]) -> None:
    content = json.dumps(as_dict(comparison, sentences), indent=1, ensure_ascii=False)
    with explain_save_error(directory / MARKDOWN):
        write_atomically(directory / MARKDOWN, as_markdown(comparison, sentences))
        write_atomically(directory / JSON, content + "\n")

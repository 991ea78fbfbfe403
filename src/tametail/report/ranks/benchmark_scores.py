"""Scores of methods on several data sets, each a study or an evaluation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tametail.core.errors import DataError, UsageError
from tametail.evaluation import Estimate, Evaluation, evaluate, evaluate_labels
from tametail.evaluation.evaluate import headline
from tametail.evaluation.metric_registry import metric_facts
from tametail.evaluation.multi_dataset import Ranks, rank_sets
from tametail.report.study.evaluation_results import evaluate_label_model
from tametail.report.study.runs import MethodRuns, disagreeing, find_runs
from tametail.storage.evaluation_file import (
    is_evaluation,
    read_evaluation_file,
    read_label_tables,
    read_tables,
)
from tametail.storage.study_file import SHARED, folds_to_run, read_study_file

FEW = 5  # data sets, below which the tests have little power


@dataclass(frozen=True)
class DataSet:
    """One study or evaluation.

    Attributes:
        name: a unique name.
        score_name: name of the score that ranks its methods.
        scores: by finished method.
        unfinished: unfinished methods.
        images, groups: numbers of evaluated images and groups.
        classes: number of classes.
        protocol: how the predictions were made.
        fingerprint: of its image table; empty if unknown.
        greater_is_better: the direction of the score.
        shared: whether it is a copy made by `tametail share`, whose fingerprint is not that of its study.
    """

    name: str
    score_name: str
    scores: Mapping[str, Estimate]
    unfinished: tuple[str, ...]
    images: int
    groups: int
    classes: int
    protocol: str
    fingerprint: str
    greater_is_better: bool = True
    shared: bool = False


@dataclass(frozen=True)
class BenchmarkScores:
    """Methods over data sets.

    Attributes:
        sets: the data sets.
        ranks: of the methods that all data sets have.
        left_out: each other method with the data sets that lack it.
        warnings: limits of the comparison, in sentences.
    """

    sets: tuple[DataSet, ...]
    ranks: Ranks
    left_out: tuple[tuple[str, tuple[str, ...]], ...]
    warnings: tuple[str, ...]

    @property
    def score_name(self) -> str:
        """The name of the score that ranks the methods."""
        return self.sets[0].score_name


def read_data_sets(directories: Sequence[Path], metric: str | None = None) -> list[DataSet]:
    """Read studies and evaluation folders; data sets of the same name get that of their folder.

    Args:
        metric: name of a registered metric over all classes; None for the one that ranks the methods of a study.

    Raises:
        UsageError: fewer than two, or one twice, or a metric that is unknown, of single classes, or not defined for a set.
        DataError: one holds neither a study nor an evaluation, or is damaged.
    """
    if len(directories) < 2:
        raise UsageError(
            f"expected at least two studies or evaluations, as methods are ranked over data sets, got {len(directories)}; "
            "tametail report shows a single one"
        )
    seen = Counter(directory.resolve() for directory in directories)
    twice = [str(path) for path, count in seen.items() if count > 1]
    if twice:
        raise UsageError(f"expected each study once, {', '.join(twice)} comes twice; leave one out")
    try:
        by_class = metric is not None and metric_facts(metric).by_class
    except LookupError as error:
        raise UsageError(f"--metric: {error.args[0]}") from error
    if by_class:
        raise UsageError(
            f"expected a metric over all classes with --metric, got {metric}, which is of one class"
        )
    read = [_evaluation(one, metric) if is_evaluation(one) else _study(one, metric) for one in directories]
    names = Counter(one.name for one in read)
    called: Counter[str] = Counter()
    found = []
    for one, directory in zip(read, directories, strict=True):
        name = one.name if names[one.name] == 1 else f"{one.name} ({directory.resolve().name})"
        called[name] += 1
        name = name if called[name] == 1 else f"{name} {called[name]}"
        found.append(DataSet(**{**vars(one), "name": name}))
    return found


def compare_data_sets(sets: Sequence[DataSet]) -> BenchmarkScores:
    """Rank the methods that all data sets have.

    Raises:
        UsageError: the data sets have different scores, or fewer than two methods in common.
    """
    import pandas as pd

    score_names = dict.fromkeys(one.score_name for one in sets)
    if len(score_names) > 1:
        raise UsageError(
            f"expected studies that are ranked by one score, got {' and '.join(score_names)}: sets with several labels per "
            "image and sets without cannot be ranked together"
        )
    methods = list(dict.fromkeys(method for one in sets for method in one.scores))
    methods += [m for m in dict.fromkeys(m for one in sets for m in one.unfinished) if m not in methods]
    lacking = {method: tuple(one.name for one in sets if method not in one.scores) for method in methods}
    shared = [method for method in methods if not lacking[method]]
    if len(shared) < 2:
        having = "; ".join(f"{one.name}: {', '.join(one.scores) or 'none finished'}" for one in sets)
        raise UsageError(
            f"expected two methods or more that all {len(sets)} sets have finished, found {len(shared)} ({having}); train "
            "the same methods on every set"
        )
    undefined = [
        f"{m} on {one.name}" for one in sets for m in shared if one.scores[m].value != one.scores[m].value
    ]
    if undefined:
        raise DataError(f"expected a score of every method on every set, undefined: {', '.join(undefined)}")
    # Rounded, as the order of a sum must not break ties.
    sign = 1 if sets[0].greater_is_better else -1
    scores = {one.name: {m: sign * round(one.scores[m].value, 12) for m in shared} for one in sets}
    frame = pd.DataFrame.from_dict(scores, orient="index", columns=shared)
    return BenchmarkScores(
        tuple(sets),
        rank_sets(frame),
        tuple((method, where) for method, where in lacking.items() if where),
        tuple(_warnings(sets)),
    )


def _warnings(sets: Sequence[DataSet]) -> list[str]:
    said = []
    if len(sets) < FEW:
        said.append(
            f"With {len(sets)} data sets the tests have little power: no significant difference does not mean no difference."
        )
    for fingerprint in dict.fromkeys(one.fingerprint for one in sets if one.fingerprint):
        same = [one.name for one in sets if one.fingerprint == fingerprint]
        if len(same) > 1:
            said.append(
                f"{' and '.join(same)} have the same images: they count as {len(same)} data sets but are one, so "
                "the p values are too small."
            )
    copies = [one.name for one in sets if one.shared]
    if copies and len(copies) < len(sets):
        said.append(
            f"Made by tametail share: {', '.join(copies)}. Whether these have images of other sets here is unknown: if they do, "
            "the p values are too small."
        )
    return said


def _study(directory: Path, metric: str | None) -> DataSet:
    settings = read_study_file(directory)
    runs = find_runs(directory, settings)
    evaluated = {of_method.method: _score(of_method, metric) for of_method in runs if of_method.complete}
    images, groups = next(((n, g) for _, n, g in evaluated.values()), (0, 0))
    seeds, folds = len(settings["seeds"]), len(folds_to_run(settings))
    return DataSet(
        name=str(settings["name"]),
        **_score_facts(metric or headline(multi_label=settings.get("multi_label", False))),
        scores={method: score for method, (score, _, _) in evaluated.items()},
        unfinished=tuple(of_method.method for of_method in runs if not of_method.complete),
        images=images,
        groups=groups,
        classes=len(settings["class_names"]),
        protocol=f"cross-validation, {folds} of {settings['splits']['folds']} folds, {seeds} "
        f"{'repeat' if seeds == 1 else 'repeats'}, {settings['backbone']}, recipe {settings['recipe'].get('name', '')}",
        fingerprint=str(settings["table"]["fingerprint"]),
        shared=bool(settings.get(SHARED)),
    )


def _score_facts(metric: str) -> dict[str, Any]:
    facts = metric_facts(metric)
    return {"score_name": metric.replace("_", " "), "greater_is_better": facts.greater_is_better}


def _value(evaluation: Evaluation, metric: str | None) -> Estimate:
    try:
        return evaluation.score if metric is None else evaluation[metric]
    except KeyError:
        have = ", ".join(facts.name for facts, _ in evaluation.overall())
        raise UsageError(
            f"expected a metric that is defined for every set with --metric ({have}), got {metric}"
        ) from None


def _score(of_method: MethodRuns, metric: str | None) -> tuple[Estimate, int, int]:
    """The score with its interval, and the numbers of images and groups."""
    try:
        if of_method.multi_label:
            evaluation = evaluate_labels(of_method.label_replicates)
        else:
            evaluation = evaluate(of_method.replicates)
    except ValueError as error:
        raise disagreeing(of_method.method, error) from error
    return _value(evaluation, metric), evaluation.n, evaluation.groups


def _evaluation(directory: Path, metric: str | None) -> DataSet:
    about = read_evaluation_file(directory)
    try:
        evaluated = {
            model.name: evaluate_label_model(model, read_label_tables(directory, model))
            if about.multi_label
            else evaluate(read_tables(directory, model))
            for model in about.models
        }
    except ValueError as error:
        raise DataError(
            f"expected predictions of the same images in {directory}, but they do not fit: {error}; make the evaluation "
            "again with tametail evaluate"
        ) from error
    first = next(iter(evaluated.values()))
    return DataSet(
        name=about.name,
        **_score_facts(metric or headline(multi_label=about.multi_label)),
        scores={name: _value(evaluation, metric) for name, evaluation in evaluated.items()},
        unfinished=(),
        images=first.n,
        groups=first.groups,
        classes=len(about.class_names),
        protocol="existing predictions",
        fingerprint="",
    )

"""From a study directory to its results: what is finished, how it ranks, and every number with its interval.

Read-only, and nothing but the directory is read: results can be computed again at any time, without torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tametail.errors import DataError
from tametail.evaluation import Evaluation, evaluate
from tametail.predictions import ensemble
from tametail.report.runs import LossRuns, disagreeing, find_runs, ranked
from tametail.study_file import read_openings, read_study_file

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class LossResults:
    """What a study says about one loss.

    Attributes:
        loss: the loss's text, such as ``alpa[variant=code]``.
        finished, expected: runs that are done, and all of them (folds × seeds).
        failures: one message per failed run.
        score: balanced accuracy out of fold, mean over seeds; None unless every run is finished.
        out_of_fold: folds pooled, one replicate per seed; None unless every run is finished.
        test: the fold models on the test part, one replicate each; None while it is sealed for this loss.
        test_ensemble: the mean of the fold models' probabilities on the test part; None likewise.
        histories: per finished run its epochs (columns epoch, step, loss, lr and what else it recorded).
    """

    loss: str
    finished: int
    expected: int
    failures: tuple[str, ...]
    score: float | None
    out_of_fold: Evaluation | None
    test: Evaluation | None
    test_ensemble: Evaluation | None
    histories: tuple[pd.DataFrame, ...]

    @property
    def status(self) -> str:
        """``"complete"``, or how far it is: ``"3 of 5 runs"``."""
        return "complete" if self.finished == self.expected else f"{self.finished} of {self.expected} runs"


@dataclass(frozen=True)
class PartCounts:
    """Images per class, and images and groups in all, of the training and the test part.

    Attributes:
        train, test: images per class name, in the order of the class names.
        train_groups, test_groups: how many groups each part holds.
    """

    train: Mapping[str, int]
    test: Mapping[str, int]
    train_groups: int
    test_groups: int

    @property
    def images(self) -> dict[str, int]:
        """Images per class in both parts."""
        return {name: self.train[name] + self.test[name] for name in self.train}


@dataclass(frozen=True)
class StudyResults:
    """Everything a report shows.

    Attributes:
        settings: the content of study.json.
        losses: complete ones in the order of their rank, then the others in the study's order.
        openings: each opening of the test part, oldest first.
        counts: images per class and part.
        environments: the distinct environments of the finished runs.
        seconds: time all finished runs took, added up.
    """

    settings: Mapping[str, Any]
    losses: tuple[LossResults, ...]
    openings: tuple[Mapping[str, Any], ...]
    counts: PartCounts
    environments: tuple[Mapping[str, str], ...]
    seconds: float

    @property
    def class_names(self) -> tuple[str, ...]:
        """All classes, in the order of the logits."""
        return tuple(self.settings["class_names"])

    @property
    def class_order(self) -> list[int]:
        """Class indices, the most frequent in training first, so that the tail is at the end."""
        counts, names = self.counts.train, self.class_names
        return sorted(range(len(names)), key=lambda index: (-counts[names[index]], names[index]))

    @property
    def ranking(self) -> tuple[LossResults, ...]:
        """Complete losses, the highest balanced accuracy out of fold first; equal ones by name."""
        return tuple(result for result in self.losses if result.score is not None)

    @property
    def opened(self) -> bool:
        """Whether the test part has been looked at."""
        return bool(self.openings)


def read_results(directory: Path) -> StudyResults:
    """Read a study directory and evaluate its complete losses.

    Raises:
        DataError: the directory holds no study, or one of its files is damaged.
    """
    settings = read_study_file(directory)
    runs = find_runs(directory, settings)
    openings = tuple(read_openings(directory))
    results = [_evaluate(of_loss, opened=bool(openings)) for of_loss in ranked(runs)]
    described = [run for of_loss in runs for run in of_loss.described if run["status"] == "finished"]
    environments = {json.dumps(run.get("environment", {}), sort_keys=True): None for run in described}
    return StudyResults(
        settings=settings,
        losses=tuple(results),
        openings=openings,
        counts=_count(directory, settings["class_names"]),
        environments=tuple(json.loads(text) for text in environments),
        seconds=float(sum(run.get("seconds", 0.0) for run in described)),
    )


def _evaluate(runs: LossRuns, *, opened: bool) -> LossResults:
    on_test = runs.test_replicates() if opened else []
    try:
        out_of_fold = evaluate(runs.replicates) if runs.complete else None
        test = evaluate(on_test) if on_test else None
        test_ensemble = evaluate([ensemble(on_test)]) if on_test else None
    except ValueError as error:
        raise disagreeing(runs.loss, error) from error
    return LossResults(
        loss=runs.loss,
        finished=len(runs.finished),
        expected=len(runs.wanted),
        failures=tuple(
            f"seed {run['seed']}, fold {run['fold']}: {run.get('message') or 'no message'}"
            for run in runs.described
            if run.get("status") == "failed"
        ),
        score=runs.score,
        out_of_fold=out_of_fold,
        test=test,
        test_ensemble=test_ensemble,
        histories=tuple(
            _history(folder / "history.csv")
            for folder in runs.finished.values()
            if (folder / "history.csv").is_file()  # a head that is fitted after training has none
        ),
    )


def _history(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise DataError(f"expected the history of a run at {path}, but it cannot be read: {error}") from error


def _count(directory: Path, class_names: Sequence[str]) -> PartCounts:
    import pandas as pd

    try:
        table = pd.read_parquet(directory / "table.parquet", columns=["image", "label", "group"])
        splits = pd.read_csv(
            directory / "splits.csv", dtype={"image": str}, keep_default_na=False, usecols=["image", "part"]
        )
    except (OSError, ValueError) as error:
        raise DataError(f"expected the table and the splits of a study in {directory}: {error}") from error
    joined = table.merge(splits, on="image", validate="one_to_one")
    if len(joined) != len(table):
        raise DataError(
            f"expected a part for each of {len(table)} images in {directory}, found {len(joined)}"
        )
    parts = {part: joined[joined["part"] == part] for part in ("train", "test")}
    per_class = {
        part: {name: int((rows["label"] == name).sum()) for name in class_names}
        for part, rows in parts.items()
    }
    groups = {part: int(rows["group"].nunique()) for part, rows in parts.items()}
    return PartCounts(per_class["train"], per_class["test"], groups["train"], groups["test"])

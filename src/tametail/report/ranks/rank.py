"""Rank methods across data sets, and write the ranking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from tametail.core.option import takes
from tametail.core.options import RankOptions
from tametail.report.figures.files import formats_of
from tametail.report.ranks.benchmark_scores import BenchmarkScores
from tametail.report.ranks.narrative import answer, left_out
from tametail.report.ranks.page import RANKS_HTML, write_ranks


@dataclass(frozen=True)
class Ranking:
    """A ranking of methods across data sets.

    Attributes:
        directory: its folder.
        scores: the methods' scores and ranks.
    """

    directory: Path
    scores: BenchmarkScores

    @property
    def mean_ranks(self) -> dict[str, float]:
        """Mean rank of each method, the best first."""
        ranks = self.scores.ranks
        return {name: float(rank) for name, rank in zip(ranks.methods, ranks.mean_ranks, strict=True)}

    @property
    def answer(self) -> list[str]:
        """The result in sentences."""
        return answer(self.scores)

    @property
    def warnings(self) -> list[str]:
        """What limits the ranking, and which methods were left out."""
        return [*self.scores.warnings, *(f"left out, {line}" for line in left_out(self.scores))]

    @property
    def report(self) -> Path:
        """Path of the report, one HTML file."""
        return self.directory / RANKS_HTML

    def __repr__(self) -> str:
        return f"Ranking({str(self.directory)!r}: {len(self.mean_ranks)} methods, {len(self.scores.sets)} data sets)"


@takes(RankOptions)
def rank(studies: Sequence[str | Path], **options: Unpack[RankOptions]) -> Ranking:
    """Rank the methods of several studies across data sets: mean ranks, Friedman test, critical-difference plot.

    Args:
        studies: two or more studies or evaluations, one per data set.
        options: see below.

    Returns:
        The ranking.

    Raises:
        UsageError: fewer than two data sets or common methods, or the output folder holds something else.
        DataError: a study cannot be read.
    """
    out = Path(options["out"] or "ranks")
    formats = () if options["figures"] is None else formats_of(",".join(options["figures"]))
    scores, _ = write_ranks(
        [Path(study) for study in studies],
        out,
        bars=options["bars"],
        metric=options["metric"],
        figures=formats,
    )
    return Ranking(out, scores)

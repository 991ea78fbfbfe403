"""Evaluate predictions of models trained elsewhere, or a study's models on another data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from tametail.core.console import Console
from tametail.core.errors import UsageError
from tametail.core.option import declared, pick, read_operating, takes
from tametail.core.options import (
    AnalysisOptions,
    DeviceOptions,
    EvaluateOptions,
    ExternalOptions,
    ReadImagesOptions,
    TrustOptions,
)
from tametail.evaluation.class_order import check_ordered
from tametail.external.class_mapping import read_mapping
from tametail.external.evaluate_files import evaluate_files
from tametail.report import results_frame

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class EvaluationResult:
    """A finished evaluation on disk."""

    directory: Path

    @property
    def results(self) -> pd.DataFrame:
        """One row per model, with intervals: the content of results.csv."""
        return results_frame(self.directory)

    @property
    def report(self) -> Path:
        """Path of the report, one HTML file."""
        return self.directory / "report.html"

    def __repr__(self) -> str:
        return f"EvaluationResult({str(self.directory)!r}: {', '.join(self.results['method'])})"


@takes(EvaluateOptions)
def evaluate(
    predictions: Sequence[str | Path] | str | Path,
    *,
    console: Console | None = None,
    **options: Unpack[EvaluateOptions],
) -> EvaluationResult:
    """Evaluate predictions of models trained elsewhere, or, with ``data``, a study's models on another data set.

    Args:
        predictions: tables of predictions, one per model; or a study's folder.
        console: where progress is shown; None for silence.
        options: see below.

    Returns:
        The evaluation. An earlier one in the output folder is replaced.

    Raises:
        UsageError: an invalid option, or the output folder holds something else.
        DataError: predictions or data cannot be read, or do not match.
    """
    paths = [Path(p) for p in ([predictions] if isinstance(predictions, str | Path) else predictions)]
    out = Path(options["out"] or "evaluation")
    analysis = pick(AnalysisOptions, options)
    operating = read_operating(analysis["operating"] or ())
    check_ordered(analysis["ordered"], analysis["class_order"])
    analysis |= {"by": analysis["by"] or (), "operating": operating}
    if options["data"] is None:
        known = declared(ExternalOptions, ReadImagesOptions, DeviceOptions, TrustOptions)
        given = [
            known[name].flag
            for name, value in options.items()
            if name in known and value != known[name].default
        ]
        if given:
            raise UsageError(f"{', '.join(given)} can only be given for a study with --data; leave it out")
        evaluate_files(paths, out, classes=list(options["classes"] or ()), console=console, **analysis)
        return EvaluationResult(out)
    from tametail.external.evaluate_study import evaluate_study

    if len(paths) != 1:
        raise UsageError(f"expected one study with --data, got {len(paths)} paths")
    if options["classes"] is not None:
        raise UsageError("--classes can only be given for tables of predictions; a study has its classes")
    evaluate_study(
        paths[0],
        options["data"],
        out,
        methods=options["methods"],
        mapping=read_mapping(list(options["map"] or ())),
        drop_unknown=options["drop_unknown"],
        columns=pick(ReadImagesOptions, options),
        device=options["device"],
        trust_code=options["trust_code"],
        console=console,
        **analysis,
    )
    return EvaluationResult(out)

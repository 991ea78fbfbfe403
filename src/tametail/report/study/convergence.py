"""Whether training converged: a table for the report, and warnings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tametail.report.study.results import MethodResults
from tametail.report.study.runs import find_runs
from tametail.report.table import Cell, Column, Row, Table
from tametail.storage.study_file import read_study_file

Ending = Mapping[str, Any]  # ``convergence`` of run.json


def convergence_table(methods: Sequence[MethodResults]) -> Table | None:
    """How the heads that were trained to their minimum ended; None without such methods.

    Gradient: the largest final norm, relative to that at weights of 0. Iterations, λ: range over runs. Start kept: how often
    each was. Spread: the largest relative difference between the objectives of the starts of a run.
    """
    rows = []
    for result in methods:
        if endings := result.endings:
            kept = Counter(ending["start"] for ending in endings)
            spreads = [
                100 * (max(ending["starts"].values()) / min(ending["starts"].values()) - 1)
                for ending in endings
                if len(ending["starts"]) > 1
            ]
            texts = (
                result.method,
                str(sum(ending["converged"] for ending in endings)),
                str(len(endings)),
                f"{max(ending['gradient'] for ending in endings):.1e}",
                _range([ending["iterations"] for ending in endings]),
                _range([ending["l2"] for ending in endings]),
                ", ".join(f"{name} {count}" if len(kept) > 1 else name for name, count in kept.most_common()),
                f"{max(spreads):.2g}" if spreads else "",
            )
            rows.append(Row(tuple(map(Cell, texts))))
    titles = ("Method", "Converged", "Runs", "Largest gradient", "Iterations", "λ", "Start kept", "Spread, %")
    columns = tuple(Column(title, text=True) for title in titles)
    return Table("Convergence", columns, tuple(rows)) if rows else None


def not_converged(method: str, endings: Sequence[Ending], still_falling: Sequence[bool]) -> list[str]:
    """Lines about runs of a method that did not converge, or whose training loss was still falling."""
    lines = []
    if missed := [ending for ending in endings if not ending["converged"]]:
        worst = max(ending["gradient"] for ending in missed)
        lines.append(
            f"{method}: {len(missed)} of {len(endings)} runs did not converge (gradient {worst:.1e} of that at the start); "
            f"read its results with care"
        )
    if any(still_falling):
        lines.append(
            f"{method}: in {sum(still_falling)} of {len(still_falling)} runs the training loss was still falling when the "
            f"learning rate reached zero; more epochs may change its results"
        )
    return lines


def unconverged(directory: Path) -> list[str]:
    """The lines of `not_converged` for a study.

    Raises:
        DataError: the directory holds no study, or one of its files is damaged.
    """
    runs = find_runs(directory, read_study_file(directory))
    return [line for each in runs for line in not_converged(each.method, each.endings, each.still_falling)]


def _range(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"

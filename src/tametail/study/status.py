"""What the units of a study do at present, as its folder tells."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from tametail.core.errors import DataError
from tametail.core.option import takes
from tametail.core.options import StatusOptions
from tametail.core.run_files import failure
from tametail.storage.study_file import read_study_file
from tametail.study.progress import ProgressReader
from tametail.study.units import Unit, read_units
from tametail.study.worker import is_worked_on
from tametail.training.run import run_directory


@takes(StatusOptions)
def status(study: str | Path) -> dict[str, str]:
    """What the units of a study do at present: a summary, then those that run or have failed, and how far they are.

    Args:
        study: the study's folder.

    Returns:
        Lines of a table, by their headings.

    Raises:
        DataError: there is no study, or it has no plan.
    """
    directory = Path(study)
    read_study_file(directory)
    units = read_units(directory)
    if not units:
        raise DataError(
            f"expected a study with planned units at {directory}, but it has none yet; run tametail compare"
        )
    entries: dict[int, dict[str, Any]] = {}
    for number, entry in ProgressReader(directory).new_entries():
        entries[number] = entries.get(number, {}) | entry
    states = {unit.number: _state(directory, unit) for unit in units}
    counts = Counter(states.values())
    rows = {"Units": ", ".join(f"{counts[state]} {state}" for state in _STATES if counts[state])}
    for unit in units:
        if states[unit.number] in ("running", "failed"):
            rows[f"Unit {unit.number}"] = (
                f"{states[unit.number]}: {_describe(directory, unit, entries.get(unit.number, {}))}"
            )
    return rows


_STATES = ("finished", "running", "waiting", "failed")


def _state(directory: Path, unit: Unit) -> str:
    if unit.is_ended(directory):
        return "failed" if _failures(directory, unit) else "finished"
    return "running" if is_worked_on(directory, unit.number) else "waiting"


def _failures(directory: Path, unit: Unit) -> list[str]:
    found = {text: failure(run_directory(directory, text, unit.seed, unit.fold)) for text in unit.texts}
    return [f"{text}: {why}" for text, why in found.items() if why is not None]


def _describe(directory: Path, unit: Unit, entry: dict[str, Any]) -> str:
    what = f"{', '.join(unit.texts)}, seed {unit.seed}, fold {unit.fold}"
    if failures := _failures(directory, unit):
        return f"{what}; {'; '.join(failures)}"
    where = [f"{name} {entry[name]}" for name in ("host", "process", "job") if name in entry]
    training = str(entry.get("training", ""))
    done = (
        f"{training}, step {entry['step']} of {entry['steps']}"
        if {"step", "steps"} <= set(entry)
        else training
    )
    return "; ".join(
        part for part in (what, ", ".join(where), done, f"seen {entry.get('time', 'never')}") if part
    )

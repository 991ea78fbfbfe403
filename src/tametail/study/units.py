"""Units of a study: what one process trains, or predicts the test set with, at a time. They are planned once, so that no result depends on who trains them.

The plan is a file of the study. A unit is finished when each of its runs is finished or has failed, which the folders of
the runs show; there is no other record of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tametail.core.atomic import write_atomically
from tametail.core.errors import DataError, UsageError, explain_save_error
from tametail.core.invalid import first_error
from tametail.core.regular_file import regular
from tametail.core.run_files import is_ended
from tametail.core.trust import Trust
from tametail.storage.study_file import UNITS_FILE
from tametail.training.heads.execute_heads import make_stacks
from tametail.training.recipe import Recipe
from tametail.training.run import Run, class_indices, read_methods, run_directory

_Number = Annotated[int, Field(ge=0, lt=2**31)]
_Texts = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=10_000)], ...], Field(max_length=10_000)
]
_MOST_BYTES = 2**28


class Unit(BaseModel):
    """Runs of one seed and fold that one process trains.

    Attributes:
        number: place in the plan, from 0.
        seed, fold: of all its runs.
        methods: texts of the methods that are trained; several are heads that are trained at once.
        stacked: whether they are trained as a stack of heads, even if there is just one.
        after: methods that start from trained ones, here or in the units that it needs.
        needs: numbers of these units.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    number: _Number
    seed: _Number
    fold: _Number
    methods: _Texts
    stacked: bool
    after: _Texts
    needs: tuple[_Number, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        """The methods of all its runs."""
        return (*self.methods, *self.after)

    def runs(self, study: Path, described: Mapping[str, Any], trust: Trust) -> tuple[list[Run], list[Run]]:
        """The runs that are trained, and those that start from trained ones.

        Raises:
            UsageError: a method names code that is not trusted.
            DataError: a method is unknown here.
        """
        file, packages = study / UNITS_FILE, described.get("packages", ())
        trained, after = (
            [
                Run(method, self.seed, self.fold)
                for method in read_methods(texts, trust, file, packages, class_indices(described))
            ]
            for texts in (self.methods, self.after)
        )
        return trained, after

    def folders(self, study: Path) -> list[Path]:
        """The folders of its runs."""
        return [run_directory(study, text, self.seed, self.fold) for text in self.texts]

    def is_ended(self, study: Path) -> bool:
        """Whether each of its runs is finished or has failed."""
        return all(map(is_ended, self.folders(study)))


def plan(
    left: Sequence[Run],
    present: Sequence[Unit],
    recipe: Recipe,
    classes: int,
    width: int,
    *,
    alone: bool = False,
) -> list[Unit]:
    """Extend a plan by units for the runs that it lacks.

    Args:
        left: runs that are to be trained; base runs come before those that start from them.
        present: the plan so far, of which nothing changes.
        recipe: of the study.
        classes, width: C, and D of the features.
        alone: train heads that are trained step by step one by one, and not in stacks.
    """
    unit_of = {(unit.seed, unit.fold, text): unit.number for unit in present for text in unit.texts}
    missing = [run for run in left if _key(run) not in unit_of]
    trained, after = ([run for run in missing if bool(run.method.after) is late] for late in (False, True))
    stacks = make_stacks(trained, recipe, classes, width, alone=alone) if recipe.trains == "head" else []
    stacked = {run for stack in stacks for run in stack}
    groups = [*stacks, *([run] for run in trained if run not in stacked)]
    new: list[Unit] = []
    for runs in groups:
        number = len(present) + len(new)
        texts = tuple(run.method.text for run in runs)
        found = [run for run in after if run.base in runs]
        new.append(_unit(number, runs[0], texts, runs[0] in stacked, found, ()))
        unit_of |= dict.fromkeys(map(_key, (*runs, *found)), number)
    by_place: dict[tuple[int, int], list[Run]] = {}
    for run in after:
        if _key(run) not in unit_of:
            by_place.setdefault((run.seed, run.fold), []).append(run)
    for runs in by_place.values():
        needs = {unit_of[_key(run.base)] for run in runs if _key(run.base) in unit_of}
        new.append(_unit(len(present) + len(new), runs[0], (), False, runs, sorted(needs)))
    return [*present, *new]


def _unit(
    number: int, of: Run, methods: tuple[str, ...], stacked: bool, after: Sequence[Run], needs: Iterable[int]
) -> Unit:
    late = tuple(run.method.text for run in after)
    return Unit(
        number=number,
        seed=of.seed,
        fold=of.fold,
        methods=methods,
        stacked=stacked,
        after=late,
        needs=tuple(needs),
    )


def _key(run: Run) -> tuple[int, int, str]:
    return run.seed, run.fold, run.method.text


def read_units(study: Path) -> list[Unit]:
    """Read the plan of a study; empty if there is none.

    Raises:
        DataError: it is damaged.
    """
    path = study / UNITS_FILE
    if not path.exists():
        return []
    expected = f"expected the units of a study at {path}, one JSON object per line"
    advice = "remove the file, and repeat tametail compare"
    try:
        if regular(path).stat().st_size > _MOST_BYTES:
            raise DataError(f"{expected}, but it is larger than {_MOST_BYTES >> 20} MB; {advice}")
        units = [Unit.model_validate_json(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except ValidationError as error:
        raise DataError(f"{expected}, but it is damaged ({first_error(error)}); {advice}") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{expected}, but it cannot be read: {error}; {advice}") from error
    for place, unit in enumerate(units):
        if unit.number != place or any(needed >= place for needed in unit.needs) or not unit.texts:
            raise DataError(f"{expected}, but it is damaged (unit {place} is not the one expected); {advice}")
    return units


def save_units(study: Path, units: Sequence[Unit]) -> None:
    """Write the plan of a study; call it only while the study's lock is held.

    Raises:
        TametailError: it cannot be written; the previous plan is kept.
    """
    lines = [json.dumps(unit.model_dump(mode="json"), ensure_ascii=False) for unit in units]
    with explain_save_error(study / UNITS_FILE):
        write_atomically(study / UNITS_FILE, "\n".join([*lines, ""]))


def find_units(study: Path, numbers: Iterable[int]) -> list[Unit]:
    """Units of a study's plan by number.

    Raises:
        DataError: the study has no plan.
        UsageError: a number is not in it.
    """
    units = read_units(study)
    if not units:
        raise DataError(
            f"expected a study with a plan of its units at {study}, but it has none; run tametail compare"
        )
    found = []
    for number in numbers:
        if not 0 <= number < len(units):
            raise UsageError(f"expected the number of a unit of {study}, 0 to {len(units) - 1}, got {number}")
        found.append(units[number])
    return found

"""A folder of finished predictions to be evaluated: evaluation.json says what they are, and what is asked of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tametail.core.atomic import atomic_path, make_folder, write_atomically
from tametail.core.errors import DataError, UsageError, explain_save_error
from tametail.core.version import __version__
from tametail.predictions.single_label import Predictions, read_predictions, write_predictions

FORMAT = 1
NAME = "evaluation.json"
PREDICTIONS = "predictions"
CARRIED = "columns.parquet"
_REPORT = {
    "report.html",
    "report.json",
    "results.csv",
    "results.md",
    "results.tex",
    "metrics.json",
}
_BEGUN = "begun"
_TABLE = re.compile(rf"{PREDICTIONS}/[A-Za-z0-9_-][A-Za-z0-9._-]*\.parquet")
_LONGEST = 80


@dataclass(frozen=True)
class Model:
    """One model, or several trained alike that each predicted the same images.

    Attributes:
        name: as the report calls it.
        tables: files of its predictions, relative to the folder; one per replicate.
        temperatures: one per table, fitted on other images; empty where that was not possible.
        thresholds: one per operating point, chosen on other images; None where there is nothing to choose by.
        train_counts: images per class that it was trained on; empty where that is not known.
    """

    name: str
    tables: tuple[str, ...]
    temperatures: tuple[float, ...] = ()
    thresholds: tuple[float | None, ...] = ()
    train_counts: tuple[int, ...] = ()


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation is about.

    Attributes:
        name: title of the report.
        class_names: C names, in the order of the logits.
        models: in the order in which they were named.
        ordered: whether the order of the classes means something.
        grouped: whether it is known which images belong together.
        by: columns to evaluate by, in ``columns.parquet``.
        operating: (class, required sensitivity) of each operating point.
        facts: (term, text) of where the predictions come from.
        command: that makes this evaluation again, with the names of files but not their folders.
        synthetic: the images are drawn, not taken.
    """

    name: str
    class_names: tuple[str, ...]
    models: tuple[Model, ...]
    ordered: bool = False
    grouped: bool = False
    by: tuple[str, ...] = ()
    operating: tuple[tuple[str, float], ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    command: str = ""
    synthetic: bool = False


@dataclass(frozen=True)
class ModelPredictions:
    """What one model said: its tables, and what is known of it beside; see `Model`."""

    tables: Sequence[Predictions]
    temperatures: Sequence[float] = ()
    thresholds: Sequence[float | None] = ()
    train_counts: Sequence[int] = field(default=())


def is_evaluation(directory: Path) -> bool:
    """Whether this folder holds an evaluation."""
    return (directory / NAME).is_file()


def prepare_folder(directory: Path, inputs: Iterable[Path] = ()) -> None:
    """Make the folder of an evaluation; what an earlier one wrote there is taken away when the new one is written.

    Args:
        inputs: files and folders that the evaluation is made from.

    Raises:
        UsageError: something else is there, or an input.
        TametailError: it cannot be made.
    """
    with explain_save_error(directory):
        make_folder(directory)
        found = {entry.name for entry in directory.iterdir() if not entry.name.startswith(".")}
    if found and NAME not in found:
        raise UsageError(
            f"expected an empty folder or an earlier evaluation at {directory}, found {', '.join(sorted(found)[:3])}; give "
            f"another one with -o"
        )
    for path in inputs:
        if path.resolve().is_relative_to(directory.resolve()):
            raise UsageError(
                f"expected a folder for the evaluation that holds none of what it is made from, but {path} lies in "
                f"{directory}; give another one with -o"
            )


def write_evaluation(
    directory: Path,
    answers: Mapping[str, ModelPredictions],
    carried: Mapping[str, NDArray[np.str_]],
    about: Evaluated,
) -> None:
    """Write the predictions, the columns to evaluate by, and, last, evaluation.json.

    Until then an evaluation.json stands there that says which files there are or may be: an interruption leaves a folder
    that is no evaluation to be read, but one that can be written again, and whose files are known from any others.

    Args:
        answers: by the name of the model.
        carried: columns (N,) in the order of the images of the first table.
        about: all but the models.

    Raises:
        UsageError: a file of predictions is in the way that no evaluation wrote.
        TametailError: a file cannot be written.
    """
    models = []
    for name, slug in zip(answers, _slugs(list(answers)), strict=True):
        said = answers[name]
        files = [slug] if len(said.tables) == 1 else [f"{slug}-{k}" for k in range(len(said.tables))]
        paths = tuple(f"{PREDICTIONS}/{file}.parquet" for file in files)
        models.append(
            Model(name, paths, tuple(said.temperatures), tuple(said.thresholds), tuple(said.train_counts))
        )
    written = [path for model in models for path in model.tables]
    with explain_save_error(directory):
        earlier = _tables_named(directory)
        strange = [path for path in written if path not in earlier and (directory / path).exists()]
        if strange:
            raise UsageError(
                f"expected no file at {directory / strange[0]} that the evaluation there did not write; move it, or give "
                f"another folder with -o"
            )
        begun = {"format": FORMAT, _BEGUN: sorted({*earlier, *written})}
        write_atomically(directory / NAME, json.dumps(begun, indent=1, ensure_ascii=False) + "\n")
        for old in (*earlier, *_REPORT, CARRIED):
            (directory / old).unlink(missing_ok=True)
        make_folder(directory / PREDICTIONS)
        tables = (table for said in answers.values() for table in said.tables)
        for table, path in zip(tables, written, strict=True):
            with atomic_path(directory / path) as temporary:
                write_predictions(table, temporary)
        if carried:
            _write_columns(directory / CARRIED, next(iter(answers.values())).tables[0].image, carried)
        content = {"format": FORMAT, "tametail": __version__, **asdict(about)}
        content["models"] = [asdict(model) for model in models]
        write_atomically(directory / NAME, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _tables_named(directory: Path) -> list[str]:
    """The files in predictions/ that the evaluation there, whole or begun, says are its own; none where it is damaged."""
    try:
        content = json.loads((directory / NAME).read_text(encoding="utf-8"))
        named = content.get(_BEGUN) or [path for model in content["models"] for path in model["tables"]]
        return [path for path in named if _TABLE.fullmatch(path) and not (directory / path).is_dir()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _slugs(names: Sequence[str]) -> list[str]:
    """Names of files, all different also where capitals do not count."""
    taken: list[str] = []
    for name in names:
        slug = re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:_LONGEST].strip("-.") or "model"
        number, unique = 2, slug
        while unique.lower() in {other.lower() for other in taken}:
            unique, number = f"{slug}-{number}", number + 1
        taken.append(unique)
    return taken


def _write_columns(path: Path, images: NDArray[np.str_], carried: Mapping[str, NDArray[np.str_]]) -> None:
    import pandas as pd

    # A column may be called image, too: those that are carried are numbered.
    columns = {f"{number}": values.tolist() for number, values in enumerate(carried.values())}
    with atomic_path(path) as temporary:
        pd.DataFrame({"image": images.tolist(), **columns}).to_parquet(temporary, index=False)


def read_evaluation_file(directory: Path) -> Evaluated:
    """What evaluation.json says.

    Raises:
        DataError: it is absent, damaged, or of another format.
    """
    try:
        content = json.loads((directory / NAME).read_text(encoding="utf-8"))
        if content.pop("format") != FORMAT:
            raise ValueError(f"it is not of format {FORMAT}")
        if _BEGUN in content:
            raise ValueError("it was not written to the end")
        content.pop("tametail")
        models = [
            Model(**{key: _frozen(value) for key, value in one.items()}) for one in content.pop("models")
        ]
        return Evaluated(models=tuple(models), **{key: _frozen(value) for key, value in content.items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"expected an evaluation at {directory} (a folder with {NAME}), but it cannot be read: {error}; make it again "
            f"with tametail evaluate"
        ) from error


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def read_tables(directory: Path, model: Model) -> list[Predictions]:
    """The predictions of one model, sorted by image.

    Raises:
        DataError: a file is absent or damaged.
    """
    return [read_predictions(directory / path).sorted_by_image() for path in model.tables]


def read_columns(directory: Path, about: Evaluated, images: NDArray[np.str_]) -> dict[str, NDArray[np.str_]]:
    """The columns to evaluate by, (N,) in the order of these images.

    Raises:
        DataError: the file is absent, damaged, or about other images.
    """
    import pandas as pd

    if not about.by:
        return {}
    try:
        frame = pd.read_parquet(directory / CARRIED).sort_values("image")
        if frame["image"].tolist() != images.tolist():
            raise ValueError("it is about other images than the predictions")
        values = [np.array(frame[f"{number}"].tolist(), dtype=np.str_) for number in range(len(about.by))]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"expected the columns to evaluate by at {directory / CARRIED}, but they cannot be read: {error}; make the "
            f"evaluation again with tametail evaluate"
        ) from error
    return dict(zip(about.by, values, strict=True))

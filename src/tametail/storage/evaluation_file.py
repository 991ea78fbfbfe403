"""evaluation.json and the files next to it: predictions that were evaluated, and the settings of the evaluation."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator

from tametail.core.arrays import TextArray
from tametail.core.atomic import atomic_path, make_folder
from tametail.core.errors import DataError, UsageError, explain_save_error
from tametail.core.json_file import read_json
from tametail.core.parquet_file import read_frame
from tametail.core.removal import remove
from tametail.core.version import __version__
from tametail.predictions.multi_label import LabelPredictions, read_label_predictions, write_label_predictions
from tametail.predictions.single_label import Predictions, read_predictions, write_predictions
from tametail.storage.identity import SCHEMA, FolderKind, prepare_directory, read_settings, write_settings
from tametail.storage.schema import Count, Name, Number, Share, Strict, Text, damage

_TABLES = "predictions"
_COLUMNS = "columns.parquet"
_REPORT = (
    "report.html",
    "report.json",
    "results.csv",
    "results_long.csv",
    "results.md",
    "results.tex",
    "metrics.json",
)
_BEGUN = "begun"
_TABLE = re.compile(rf"{_TABLES}/[A-Za-z0-9_-][A-Za-z0-9._-]*\.parquet")
_LONGEST_SLUG = 80
EVALUATION_FOLDER = FolderKind("an evaluation", "evaluation.json", "tametail evaluate")


class _Model(Strict):
    name: Name
    tables: Annotated[
        list[Annotated[str, Field(pattern=rf"^{_TABLE.pattern}$")]], Field(min_length=1, max_length=10_000)
    ]
    thresholds: Annotated[list[Number | None], Field(max_length=10_000)]
    train_counts: Annotated[list[Count], Field(max_length=100_000)]
    label_thresholds: Annotated[list[Share], Field(max_length=100_000)] = []


class _Evaluation(Strict):
    name: Text
    class_names: Annotated[list[Name], Field(min_length=2, max_length=100_000)]
    models: Annotated[list[_Model], Field(min_length=1, max_length=10_000)]
    class_order: list[Name]
    grouped: bool
    by: Annotated[list[Name], Field(max_length=1_000)]
    operating: Annotated[
        list[Annotated[list[Any], Field(min_length=2, max_length=2)]], Field(max_length=10_000)
    ]
    facts: Annotated[list[Annotated[list[Text], Field(min_length=2, max_length=2)]], Field(max_length=1_000)]
    command: Text
    synthetic: bool
    multi_label: bool = False

    @model_validator(mode="after")
    def _check(self) -> _Evaluation:
        names = [model.name for model in self.models]
        if len(set(names)) < len(names) or len(set(self.class_names)) < len(self.class_names):
            raise ValueError("a model or class is named twice")
        if self.class_order and sorted(self.class_order) != sorted(self.class_names):
            raise ValueError("class_order is not every class once")
        if self.multi_label and (self.class_order or self.by or self.operating):
            raise ValueError("class_order, by or operating is given for several labels per image")
        for name, sensitivity in self.operating:
            if name not in self.class_names or not (
                type(sensitivity) in {int, float} and 0 < sensitivity <= 1
            ):
                raise ValueError("operating is not a list of a class and a sensitivity above 0, up to 1")
        for model in self.models:
            if model.thresholds and len(model.thresholds) != len(self.operating):
                raise ValueError(
                    f"{model.name} has {len(model.thresholds)} thresholds for {len(self.operating)} operating points"
                )
            if model.train_counts and len(model.train_counts) != len(self.class_names):
                raise ValueError(
                    f"{model.name} has {len(model.train_counts)} train_counts for {len(self.class_names)} classes"
                )
            given = len(model.label_thresholds)
            if given and not (self.multi_label and given == len(self.class_names)):
                raise ValueError(
                    f"{model.name} has {given} label_thresholds for {len(self.class_names) if self.multi_label else 0} labels"
                )
        return self


@dataclass(frozen=True)
class EvaluatedModel:
    """One model, or several replicates of it that predicted the same images.

    Attributes:
        name: as in the report.
        tables: files of its predictions, relative to the folder; one per replicate.
        thresholds: one per operating point, chosen on other images; None where none could be chosen.
        train_counts: training images per class; empty if unknown.
        label_thresholds: one per label, where images may have several, chosen on other images; empty if none were.
    """

    name: str
    tables: tuple[str, ...]
    thresholds: tuple[float | None, ...] = ()
    train_counts: tuple[int, ...] = ()
    label_thresholds: tuple[float, ...] = ()


@dataclass(frozen=True)
class EvaluationSettings:
    """The content of evaluation.json.

    Attributes:
        name: title of the report.
        class_names: C names, in the order of the logits.
        models: in the order in which they were given.
        class_order: all classes from the lowest grade to the highest; empty unless they are ordinal.
        grouped: whether the groups (patients) of the images are known.
        by: columns of the subgroups, in ``columns.parquet``.
        operating: (class, required sensitivity) of each operating point.
        facts: (term, text) about the origin of the predictions.
        command: the command that repeats this evaluation, with file names but not their folders.
        synthetic: whether the images are drawn by a program.
        multi_label: whether an image may have several labels; the classes are the labels then.
    """

    name: str
    class_names: tuple[str, ...]
    models: tuple[EvaluatedModel, ...]
    class_order: tuple[str, ...] = ()
    grouped: bool = False
    by: tuple[str, ...] = ()
    operating: tuple[tuple[str, float], ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    command: str = ""
    synthetic: bool = False
    multi_label: bool = False


@dataclass(frozen=True)
class ModelPredictions:
    """Predictions of one model, one table per replicate; see `EvaluatedModel` for the other fields."""

    tables: Sequence[Predictions] | Sequence[LabelPredictions]
    thresholds: Sequence[float | None] = ()
    train_counts: Sequence[int] = ()
    label_thresholds: Sequence[float] = ()


def is_evaluation(directory: Path) -> bool:
    """Whether this folder holds an evaluation."""
    return (directory / EVALUATION_FOLDER.file).is_file()


def prepare_evaluation(directory: Path, inputs: Iterable[Path] = ()) -> None:
    """Make the folder of an evaluation; an earlier evaluation there is replaced when the new one is written.

    Args:
        inputs: files and folders that the evaluation reads.

    Raises:
        DataError, TametailError: see `tametail.storage.identity.prepare_directory`.
        UsageError: the folder holds something else, or one of the inputs.
    """
    prepare_directory(directory, EVALUATION_FOLDER)
    for path in inputs:
        if path.resolve().is_relative_to(directory.resolve()):
            raise UsageError(
                f"expected a folder for the evaluation that contains none of its inputs, but {path} is in {directory}; give "
                f"another one with -o"
            )


def write_evaluation(
    directory: Path,
    predictions: Mapping[str, ModelPredictions],
    columns: Mapping[str, TextArray],
    settings: EvaluationSettings,
) -> None:
    """Write the predictions, the columns of the subgroups, and, last, evaluation.json.

    Until then evaluation.json lists the files that exist or may exist: after an interruption the folder cannot be read
    as an evaluation, but it can be written again, and its files can be distinguished from others.

    Args:
        predictions: by the name of the model.
        columns: (N,) each, in the order of the images of the first table.
        settings: all but the models.

    Raises:
        UsageError: an existing file of predictions was not written by an evaluation.
        TametailError: a file cannot be written.
    """
    models = []
    for (name, model), slug in zip(predictions.items(), _slugs(list(predictions)), strict=True):
        files = [slug] if len(model.tables) == 1 else [f"{slug}-{k}" for k in range(len(model.tables))]
        paths = tuple(f"{_TABLES}/{file}.parquet" for file in files)
        fitted = tuple(model.thresholds), tuple(model.train_counts), tuple(model.label_thresholds)
        models.append(EvaluatedModel(name, paths, *fitted))
    written = [path for model in models for path in model.tables]
    with explain_save_error(directory):
        earlier = _tables_named(directory)
        foreign = [path for path in written if path not in earlier and (directory / path).exists()]
        if foreign:
            raise UsageError(
                f"expected no file at {directory / foreign[0]} that the earlier evaluation did not write; move it, or give "
                f"another folder with -o"
            )
        common = {"schema": SCHEMA, "tametail": __version__}
        write_settings(directory, EVALUATION_FOLDER, common | {_BEGUN: sorted({*earlier, *written})})
        for old in (*earlier, *_REPORT, _COLUMNS):
            remove(directory.resolve() / old)
        make_folder(directory / _TABLES)
        tables = [table for model in predictions.values() for table in model.tables]
        for table, path in zip(tables, written, strict=True):
            with atomic_path(directory / path) as temporary:
                if isinstance(table, LabelPredictions):
                    write_label_predictions(table, temporary)
                else:
                    write_predictions(table, temporary)
        if columns:
            _write_columns(directory / _COLUMNS, tables[0].image, columns)
        content = common | asdict(settings) | {"models": [asdict(model) for model in models]}
        write_settings(directory, EVALUATION_FOLDER, content)


def _tables_named(directory: Path) -> list[str]:
    """The prediction files that an evaluation there, finished or not, lists as its own; empty if it is damaged."""
    try:
        content = read_json(directory / EVALUATION_FOLDER.file)
        named = content.get(_BEGUN) or [path for model in content["models"] for path in model["tables"]]
        return [path for path in named if _TABLE.fullmatch(path) and not (directory / path).is_dir()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _slugs(names: Sequence[str]) -> list[str]:
    """File names that differ also where case is ignored."""
    taken: list[str] = []
    for name in names:
        slug = re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:_LONGEST_SLUG].strip("-.") or "model"
        number, unique = 2, slug
        while unique.lower() in {other.lower() for other in taken}:
            unique, number = f"{slug}-{number}", number + 1
        taken.append(unique)
    return taken


def _write_columns(path: Path, images: TextArray, columns: Mapping[str, TextArray]) -> None:
    import pandas as pd

    # Columns are numbered, as one may be called "image".
    numbered = {f"{number}": values.tolist() for number, values in enumerate(columns.values())}
    with atomic_path(path) as temporary:
        pd.DataFrame({"image": images.tolist(), **numbered}).to_parquet(temporary, index=False)


def read_evaluation_file(directory: Path) -> EvaluationSettings:
    """Read evaluation.json.

    Raises:
        DataError: it is absent, damaged, or of another schema.
    """
    content = read_settings(directory, EVALUATION_FOLDER)
    try:
        if _BEGUN in content:
            raise ValueError("it was not written to the end")
        if found := damage(_Evaluation, content):
            raise ValueError(found)
    except ValueError as error:
        raise DataError(
            f"expected an evaluation at {directory}, but its {EVALUATION_FOLDER.file} is damaged: {error}; make it again with "
            f"tametail evaluate"
        ) from error
    known = {field.name for field in fields(EvaluationSettings)}
    settings = {key: _frozen(value) for key, value in content.items() if key in known}
    of_model = {field.name for field in fields(EvaluatedModel)}
    models = tuple(
        EvaluatedModel(**{key: value for key, value in model.items() if key in of_model})
        for model in settings.pop("models")
    )
    return EvaluationSettings(models=models, **settings)


def _frozen(value: Any) -> Any:
    """The value with tuples in place of lists, also inside it."""
    if isinstance(value, dict):
        return {key: _frozen(inner) for key, inner in value.items()}
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def read_tables(directory: Path, model: EvaluatedModel) -> list[Predictions]:
    """Read the predictions of one model, sorted by image; a `DataError` if a file is absent or damaged."""
    return [read_predictions(directory / path).sorted_by_image() for path in model.tables]


def read_label_tables(directory: Path, model: EvaluatedModel) -> list[LabelPredictions]:
    """The same of images that may have several labels."""
    return [read_label_predictions(directory / path).sorted_by_image() for path in model.tables]


def read_columns(directory: Path, settings: EvaluationSettings, images: TextArray) -> dict[str, TextArray]:
    """Read the columns of the subgroups, (N,) each in the order of these images.

    Raises:
        DataError: the file is absent, damaged, or about other images.
    """
    if not settings.by:
        return {}
    try:
        frame = read_frame(directory / _COLUMNS).sort_values("image")
        if frame["image"].tolist() != images.tolist():
            raise ValueError("its images are not those of the predictions")
        values = [np.array(frame[f"{number}"].tolist(), dtype=np.str_) for number in range(len(settings.by))]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"expected the columns of the subgroups at {directory / _COLUMNS}, but they cannot be read: {error}; make the "
            f"evaluation again with tametail evaluate"
        ) from error
    return dict(zip(settings.by, values, strict=True))

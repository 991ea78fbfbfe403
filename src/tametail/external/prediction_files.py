"""Read predictions of models trained elsewhere: files with image, label and one number per class.

Unexpected content is an error that names rows and columns.
Shape legend: N images, C classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tametail.core.errors import DataError, UsageError
from tametail.core.text import quoted, sample_of
from tametail.data.readers.table_file import PARQUET_SUFFIXES
from tametail.evaluation.subgroups import subgroup_values
from tametail.external.label_table import LabelTable, has_several_labels, read_label_table
from tametail.external.prediction_table import PredictionTable, read_prediction_table
from tametail.predictions.multi_label import LabelPredictions
from tametail.predictions.single_label import Predictions


@dataclass(frozen=True)
class PredictionFiles:
    """Predictions from several files for the same images.

    Attributes:
        models: their predictions by name, sorted by image.
        subgroup_columns: the requested columns, (N,) text in the same order.
        grouped: whether any file has groups.
    """

    models: Mapping[str, Predictions]
    subgroup_columns: Mapping[str, NDArray[np.str_]]
    grouped: bool


def read_prediction_files(
    paths: Sequence[Path], *, by: Sequence[str] = (), classes: Sequence[str] = ()
) -> PredictionFiles:
    """Read one file per model, all for the same images.

    Args:
        paths: CSV, TSV, JSON Lines or Parquet, see `read_prediction_table`. Models are named by their
            files, without the suffix.
        by: columns that define subgroups; a column may be in some of the files only.
        classes: names of all classes, in their order; empty for those of the columns, sorted by name.

    Raises:
        UsageError: no file, or a missing subgroup column.
        DataError: a file cannot be read, has another form, or contradicts another file.
    """
    if not paths:
        raise UsageError("expected at least one file of predictions, got none")
    tables = [read_prediction_table(path, by=by, classes=classes) for path in paths]
    for table in tables[1:]:
        _check_same(tables[0], table)
    images, found = tables[0].rows.image, tables[0].rows.class_names
    names = list(classes) or sorted(found)
    groups = _agreed({t.path: t.rows.group if t.grouped else None for t in tables}, images, "group")
    own = images if groups is None else groups
    models = {
        name: table.predictions(names, own) for name, table in zip(_model_names(paths), tables, strict=True)
    }
    subgroup_columns = {}
    for column in by:
        values = _agreed({table.path: table.subgroup_columns.get(column) for table in tables}, images, column)
        if values is None:
            known = dict.fromkeys(name for table in tables for name in table.others)
            raise UsageError(
                f"expected a column {column!r} to evaluate by in {sample_of(paths)}, found "
                f"{sample_of(list(known), most=20) or 'no other column'}; name one of them with --by"
            )
        subgroup_columns[column] = subgroup_values(values, column)
    return PredictionFiles(models, subgroup_columns, groups is not None)


@dataclass(frozen=True)
class LabelFiles:
    """Predictions from several files for the same images, which may have several labels.

    Attributes:
        models: their predictions by name, sorted by image.
        thresholds: of the labels, by model; empty for those whose file has none.
        grouped: whether any file has groups.
    """

    models: Mapping[str, LabelPredictions]
    thresholds: Mapping[str, tuple[float, ...]]
    grouped: bool


def have_several_labels(paths: Sequence[Path]) -> bool:
    """Whether the files are of images that may have several labels.

    Raises:
        DataError: a file cannot be read, or only some of them are.
    """
    several = {path: has_several_labels(path) for path in paths}
    if len(set(several.values())) > 1:
        kinds = [sample_of([path for path in paths if several[path] is kind]) for kind in (True, False)]
        raise DataError(
            f"expected files that all have one label per image or all several, but {kinds[0]} have columns label_NAME and "
            f"{kinds[1]} have not; evaluate them apart"
        )
    return any(several.values())


def read_label_files(paths: Sequence[Path]) -> LabelFiles:
    """Read one file per model of images that may have several labels, all for the same images.

    Args:
        paths: CSV, TSV, JSON Lines or Parquet, see `read_label_table`. Models are named by their files, without the suffix.

    Raises:
        DataError: a file cannot be read, has another form, or contradicts another file.
    """
    tables = [read_label_table(path) for path in paths]
    for table in tables[1:]:
        _check_same(tables[0], table)
    images, names = tables[0].rows.image, sorted(tables[0].rows.class_names)
    groups = _agreed({t.path: t.rows.group if t.grouped else None for t in tables}, images, "group")
    named = dict(zip(_model_names(paths), tables, strict=True))
    own = images if groups is None else groups
    return LabelFiles(
        {name: table.predictions(names, own) for name, table in named.items()},
        {name: table.thresholds_of(names) for name, table in named.items()},
        groups is not None,
    )


def _check_same(reference: PredictionTable | LabelTable, table: PredictionTable | LabelTable) -> None:
    """Raise `DataError` unless two tables, sorted by image, have the same images, labels and classes."""
    ours, theirs = set(reference.rows.class_names), set(table.rows.class_names)
    if ours != theirs:
        raise DataError(
            f"expected the same classes in every file, but {sample_of(sorted(ours - theirs)) or 'none'} are in "
            f"{reference.path} alone and {sample_of(sorted(theirs - ours)) or 'none'} in {table.path} alone; give each "
            f"model a column for every class"
        )
    images = table.rows.image
    if not np.array_equal(images, reference.rows.image):
        here, there = set(images.tolist()), set(reference.rows.image.tolist())
        raise DataError(
            f"expected the same images in every file, as models are compared image by image, but {len(there - here)} of "
            f"{reference.path} are not in {table.path} ({sample_of(sorted(there - here)) or 'none'}) and "
            f"{len(here - there)} the other way round ({sample_of(sorted(here - there)) or 'none'}); keep the images that all "
            f"files have, written the same way"
        )
    differing = np.flatnonzero(table.labels != reference.labels)
    if len(differing):
        one = differing[0]
        raise DataError(
            f"expected one label for an image in every file, but {len(differing)} images differ: {images[one]} is "
            f"{reference.labels[one] or 'without a label'} in {reference.path} and {table.labels[one] or 'without a label'} in {table.path}; correct the wrong one"
        )


def _agreed(
    columns: Mapping[Path, NDArray[np.str_] | None], images: NDArray[np.str_], name: str
) -> NDArray[np.str_] | None:
    """Values of a column that some files have, or a `DataError` if these differ; None if no file has it."""
    given = [(path, values) for path, values in columns.items() if values is not None]
    if not given:
        return None
    path, agreed = given[0]
    for other, values in given[1:]:
        differing = np.flatnonzero(values != agreed)
        if len(differing):
            raise DataError(
                f"expected one {name} for an image in every file, but {len(differing)} images differ between {path} and "
                f"{other} ({sample_of(images[differing].tolist())}); fix them, or keep the column in one file only"
            )
    return agreed


def _model_names(paths: Sequence[Path]) -> list[str]:
    """File names without suffix, with their folder where two are equal; `UsageError` if a file is given twice."""
    stems = Counter(path.stem for path in paths)
    folders = [path.resolve().parent.name for path in paths]
    names = [
        path.stem if stems[path.stem] == 1 else f"{folder}/{path.stem}"
        for path, folder in zip(paths, folders, strict=True)
    ]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UsageError(
            f"expected files of different names, as they name the models, got {quoted(twice[0])} more than once; "
            f"rename one"
        )
    return names


def check_files(paths: Sequence[Path]) -> None:
    """Check that the paths are files, before any is read.

    Raises:
        DataError: one is missing or a folder.
    """
    for path in paths:
        if path.is_dir():
            raise DataError(
                f"expected a file of predictions at {path}, found a folder; for a study's models on other images give "
                f"them with --data"
            )
        if not path.is_file():
            raise DataError(
                f"expected a file of predictions at {path} (.csv, .tsv or {PARQUET_SUFFIXES[0]}), but nothing is there"
            )

"""Predictions of models that were trained elsewhere: files of image, label and one number per class → the project's own.

Nothing is guessed in silence: what a file says otherwise than expected is an error with its rows and columns.
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
from tametail.external.prediction_table import PredictionTable, read_prediction_table
from tametail.predictions.single_label import Predictions


@dataclass(frozen=True)
class PredictionFiles:
    """What several files say of the same images.

    Attributes:
        models: their predictions by name, sorted by image.
        carried: the columns asked for, (N,) text in the same order, ready to be evaluated by.
        grouped: whether any file says which images belong together.
    """

    models: Mapping[str, Predictions]
    carried: Mapping[str, NDArray[np.str_]]
    grouped: bool


def read_prediction_files(
    paths: Sequence[Path], *, by: Sequence[str] = (), classes: Sequence[str] = (), ordered: bool = False
) -> PredictionFiles:
    """Read one file per model, all about the same images.

    Args:
        paths: CSV, TSV, JSON Lines or Parquet, see `read_prediction_table`. A model is called as its file, without the ending.
        by: further columns to carry along; a column may stand in some of the files only.
        classes: names of all classes, in their order; empty for what the columns say, sorted by name.
        ordered: keep the order that the first file's columns have, as that of the classes.

    Raises:
        UsageError: no file, or a column to evaluate by that is none.
        DataError: a file cannot be read, or is not of this form, or the files contradict each other.
    """
    if not paths:
        raise UsageError("expected at least one file of predictions, got none")
    sheets = [read_prediction_table(path, by=by, classes=classes) for path in paths]
    for sheet in sheets[1:]:
        _check_same(sheets[0], sheet)
    names = list(classes) or (list(sheets[0].classes) if ordered else sorted(sheets[0].classes))
    groups = _agreed({sheet.path: sheet.groups for sheet in sheets}, sheets[0].images, "group")
    own = sheets[0].images if groups is None else groups
    models = {
        name: sheet.predictions(names, own) for name, sheet in zip(_model_names(paths), sheets, strict=True)
    }
    carried = {}
    for column in by:
        values = _agreed({s.path: s.carried.get(column) for s in sheets}, sheets[0].images, column)
        if values is None:
            known = dict.fromkeys(name for sheet in sheets for name in sheet.others)
            raise UsageError(
                f"expected a column {column!r} to evaluate by in {sample_of(paths)}, found "
                f"{sample_of(list(known), most=20) or 'no further column'}; name one of them with --by"
            )
        carried[column] = subgroup_values(values, column)
    return PredictionFiles(models, carried, groups is not None)


def _check_same(reference: PredictionTable, sheet: PredictionTable) -> None:
    """That two sheets, each sorted by image, are about the same images and classes.

    Raises:
        DataError: they are not.
    """
    if set(sheet.classes) != set(reference.classes):
        ours, theirs = set(reference.classes), set(sheet.classes)
        raise DataError(
            f"expected the same classes in every file, but {sample_of(sorted(ours - theirs)) or 'none'} stand in "
            f"{reference.path} alone and {sample_of(sorted(theirs - ours)) or 'none'} in {sheet.path} alone; give each "
            f"model a column for every class"
        )
    if not np.array_equal(sheet.images, reference.images):
        here, there = set(sheet.images.tolist()), set(reference.images.tolist())
        raise DataError(
            f"expected the same images in every file, as models are compared image by image, but {len(there - here)} of "
            f"{reference.path} are not in {sheet.path} ({sample_of(sorted(there - here)) or 'none'}) and "
            f"{len(here - there)} the other way round ({sample_of(sorted(here - there)) or 'none'}); keep the images that all "
            f"files have, written the same way"
        )
    differing = np.flatnonzero(sheet.labels != reference.labels)
    if len(differing):
        one = differing[0]
        raise DataError(
            f"expected one label for an image in every file, but {len(differing)} images differ: {sheet.images[one]} is "
            f"{reference.labels[one]} in {reference.path} and {sheet.labels[one]} in {sheet.path}; find out which is true"
        )


def _agreed(
    columns: Mapping[Path, NDArray[np.str_] | None], images: NDArray[np.str_], name: str
) -> NDArray[np.str_] | None:
    """What those files say that have a column; None where no one has.

    Raises:
        DataError: they contradict each other.
    """
    given = [(path, values) for path, values in columns.items() if values is not None]
    if not given:
        return None
    path, agreed = given[0]
    for other, values in given[1:]:
        differing = np.flatnonzero(values != agreed)
        if len(differing):
            raise DataError(
                f"expected one {name} for an image in every file, but {len(differing)} images differ between {path} and "
                f"{other} ({sample_of(images[differing].tolist())}); mend them, or leave the column in one file only"
            )
    return agreed


def _model_names(paths: Sequence[Path]) -> list[str]:
    """The files' names without their endings, with their folder where two are alike.

    Raises:
        UsageError: a file comes twice.
    """
    stems = Counter(path.stem for path in paths)
    folders = [path.resolve().parent.name for path in paths]
    names = [
        path.stem if stems[path.stem] == 1 else f"{folder}/{path.stem}"
        for path, folder in zip(paths, folders, strict=True)
    ]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UsageError(
            f"expected files of different names, as models are called by them, got {quoted(twice[0])} more than once; "
            f"rename one"
        )
    return names


def check_files(paths: Sequence[Path]) -> None:
    """That they are files, before any is read.

    Raises:
        DataError: one is absent or a folder.
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

"""unlikeness.safetensors: by what images unlike the training images are recognised, see `tametail.evaluation.unlikeness`.

On frozen features it is one file of the study, of all training images, as all methods share the features. A fine-tuned network has
features of its own; its run has a file, of the images of the fold that it was not trained on, as new images are not either.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

from tametail.core.arrays import IntArray, TextArray
from tametail.core.errors import DataError
from tametail.core.run_files import UNLIKENESS
from tametail.storage.output_store import OutputStore

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tametail.evaluation.unlikeness import Unlikeness
    from tametail.training.training_data import TrainingData

OF_RUN = "unlikeness of a run"  # in place of a digest: run.json has that of the file
_MOST_IMAGES = 5000  # that a Gaussian is fitted on


def save_study_unlikeness(study: Path, identity: str, data: TrainingData, blocks: Sequence[int]) -> None:
    """Fit to the frozen features of the training set, and save, unless there is a file.

    Whichever process does it first writes the same bytes.

    Args:
        identity: of the study, see `tametail.storage.identity.digest_of_identity`.
        blocks: lengths of the blocks of features.

    Raises:
        TametailError: the file cannot be written.
    """
    if (study / UNLIKENESS).exists():
        return
    rows = evenly(np.flatnonzero(data.splits.part == "train"))
    fold = data.splits.fold_in(0)[rows]
    save_unlikeness(study, identity, data.store.take(rows), blocks, data.table.groups[rows], fold)


def save_run_unlikeness(
    folder: Path, features: NDArray[np.float32], data: TrainingData, rows: IntArray
) -> None:
    """Fit to the features (n, D) of a fine-tuned run, of those that `evenly` takes of its held-out rows, and save in its folder."""
    groups = data.table.groups[evenly(rows)]
    save_unlikeness(folder, OF_RUN, features, [features.shape[1]], groups, None)


def save_unlikeness(
    folder: Path,
    made_with: str,
    features: NDArray[np.float32],
    blocks: Sequence[int],
    groups: TextArray,
    fold: IntArray | None,
) -> None:
    """Fit to features and save; a file without arrays says why there is nothing to fit."""
    from tametail.evaluation.unlikeness import fit_unlikeness

    arrays: dict[str, Any] = {}
    noted = {}
    # The number of threads changes the last bits.
    with threadpool_limits(1, user_api="blas"):
        try:
            arrays = fit_unlikeness(features, blocks, groups, fold).arrays()
        except ValueError as error:
            noted = {"none": str(error)}
    OutputStore(folder).save(Path(UNLIKENESS).stem, made_with, arrays, noted)


def load_unlikeness(folder: Path, made_with: str, remedy: str) -> Unlikeness | str:
    """What the file in a folder holds, or why it holds nothing.

    Raises:
        FileNotFoundError: there is no file.
        DataError: it is damaged, or of another study.
    """
    from tametail.evaluation.unlikeness import Unlikeness

    path = folder / UNLIKENESS
    if not path.exists():
        raise FileNotFoundError(path)
    arrays, noted = OutputStore(folder).load(path.stem, made_with) or ({}, {})
    try:
        return str(noted["none"]) if "none" in noted else Unlikeness.from_arrays(arrays)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"expected the features of the training images of this study in {path}, but it is damaged or of another study; "
            f"remove the file, and {remedy}"
        ) from error


def evenly(rows: IntArray) -> IntArray:
    """At most 5,000 of the rows, evenly spaced."""
    if len(rows) <= _MOST_IMAGES:
        return rows
    return rows[np.linspace(0, len(rows) - 1, _MOST_IMAGES).round().astype(np.int64)]

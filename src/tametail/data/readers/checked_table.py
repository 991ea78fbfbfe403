"""Frame of a source → `ImageTable`, after the checks that every source must pass."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tametail.core.errors import DataError
from tametail.core.text import sample_of
from tametail.data.table import LABEL_SEPARATOR, ImageTable

if TYPE_CHECKING:
    import pandas as pd


def checked_table(
    frame: pd.DataFrame,
    root: Path,
    name: str,
    *,
    synthetic: bool = False,
    multi_label: bool = False,
    allow_leaks: bool = False,
) -> ImageTable:
    """Sort the rows and fix the classes.

    Args:
        frame: as `ImageTable` wants it, in any order of rows.
        allow_leaks: let groups pass that lie on both sides of the test set: for whoever looks for them.

    Raises:
        DataError: a single class, a name that cannot be written in UTF-8, or a group on both sides of the test set.
    """
    labels = set(frame["label"])
    if multi_label:
        labels = {part for label in labels for part in label.split(LABEL_SEPARATOR)} - {""}
    classes = tuple(sorted(labels))
    if len(classes) < 2:
        found = f"only {classes[0]!r} on all {len(frame)} images" if classes else "none"
        raise DataError(f"expected at least two classes, found {found}")
    if "" in classes:
        unnamed = frame.loc[frame["label"] == "", "image"].tolist()
        raise DataError(f"expected a class with a name for every image, found none for {sample_of(unnamed)}")
    _check_encodable(frame["image"].tolist(), "file names", "the file")
    _check_encodable([*classes, *set(frame["group"])], "labels and groups", "it")
    tested = frame["split"] == "test"
    leaks = sorted(set(frame.loc[tested, "group"]) & set(frame.loc[~tested, "group"]))
    if leaks and not allow_leaks:
        raise DataError(
            f"the split column leaks: {len(leaks)} groups have images both in test and outside it "
            f"({sample_of(leaks)}); put each group on one side, or leave the split out (rename the column)"
        )
    return ImageTable(
        frame.sort_values("image", ignore_index=True),
        root,
        classes,
        name,
        synthetic=synthetic,
        multi_label=multi_label,
    )


def _check_encodable(texts: list[str], what: str, thing: str) -> None:
    """Python keeps bytes of file names that are not UTF-8 as lone surrogates, which no file of ours could hold."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"expected {what} in UTF-8, found {text!r}; rename {thing}") from error

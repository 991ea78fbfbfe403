"""Whose image it is: columns and file names that tell patients apart although the groups do not."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from tametail.audit.finding import Finding, counted, singles
from tametail.data.table import COLUMNS, ImageTable

if TYPE_CHECKING:
    import pandas as pd

# Words of data dictionaries for what images belong together by ...
_WHOSE = {
    "patient", "patients", "pat", "ptid", "pid", "mrn", "subject", "subj", "person", "participant", "individual", "donor",
    "lesion", "case", "slide", "specimen", "animal", "accession",
}  # fmt: skip
# ... or, where there are many of them: else it may be the number of a visit, or left and right ...
_WHOSE_IF_MANY = {"study", "series", "exam", "examination", "visit", "sample", "eye", "encounter", "record"}
_NUMBERED = 20
# ... unless one of these says that the column measures or describes it, or names something else.
_OTHER = {
    "age", "date", "day", "month", "year", "time", "sex", "gender", "weight", "height", "size", "diameter", "area", "mm",
    "cm", "um", "location", "localization", "localisation", "side", "laterality", "type", "status", "position", "view",
    "description", "race", "ethnicity", "country", "stage", "grade", "score", "history", "count", "total", "follow", "up",
    "followup", "site", "scanner", "image", "img", "file", "device", "camera", "center", "centre", "hospital", "class",
    "label", "color", "colour", "fold", "split", "batch", "reader", "rater", "annotator", "model", "thickness",
}  # fmt: skip
# Folders named for a patient, and what follows the patient in a file's name.
_OWNER_FOLDER = re.compile(
    r"(patient|pat|subject|subj|sub|case|person|participant|p)[\W_]*\d+\w*", re.IGNORECASE
)
_VIEW = re.compile(
    r"(?:(?<=[\d])|[_\-. ]+)(?:left|right|cc|mlo|ap|pa|lat|lateral|frontal|od|os|ll|lm|lx|rl|rm|rx|[lrab])$", re.IGNORECASE
)  # fmt: skip
_NUMBER = re.compile(r"[_\-. ]+(?:img|image|frame|slice|view|crop)?[_\-. ]?\d+$", re.IGNORECASE)
_DATE = re.compile(r"(19|20)\d\d[_\-]?[01]\d[_\-]?[0-3]\d")


def check_columns(table: ImageTable) -> Iterator[Finding]:
    """Columns of ids whose images the groups split."""
    named: list[str] = []
    other: list[str] = []
    for column in map(str, table.frame.columns[len(COLUMNS) :]):
        whose = _says_whose(column, table.frame[column].nunique())
        if whose is not None and _splits_what_it_names(table.frame[column], table, whose):
            (named if whose else other).append(column)
    if named:
        yield Finding(
            "unused_ids",
            "unsafe",
            f"{counted(len(named), 'column looks', 'columns look')} like an id whose images belong together, but the "
            f"groups split them: {', '.join(named)}",
            f"name it with --group-col {named[0]}, so that no patient is both in training and in test",
            singles(named),
        )
    if other:
        yield Finding(
            "possible_ids",
            "note",
            f"{counted(len(other), 'column', 'columns')} with repeated codes, not used as groups: {', '.join(other)}",
            "if images with the same code belong together, name the column with --group-col",
            singles(other),
        )


def _says_whose(column: str, codes: int) -> bool | None:
    """True for a name like an id of a person, False for one that does not say, None for one that says something else."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", column)
    words = set(re.split(r"[\W_\d]+", spaced.lower())) - {""}
    if words & _OTHER:
        return None
    if words & _WHOSE_IF_MANY:
        return True if codes >= _NUMBERED else None
    return bool(words & _WHOSE) or words in ({"id"}, {"uid"})


def _splits_what_it_names(values: pd.Series, table: ImageTable, whose: bool) -> bool:
    """Whether a column has codes of several images each, and images of one code are in different groups."""
    text = values.astype(object).where(values.notna(), "").astype(str).str.strip()
    text = text.str.replace(r"^(\d+)\.0$", r"\1", regex=True)  # a number where another cell is empty
    known = ~text.isin({"", "nan", "None"})
    codes, repeated = text[known].nunique(), int(known.sum())
    if not 1 < codes < repeated:
        return False
    if not whose:
        # A name that says nothing: only what looks like codes, and not a word, a grade or a measurement.
        mixed = (
            text[known].str.contains(r"\d").mean() > 0.9 and not text[known].str.fullmatch(r"[-+.\d]+").all()
        )
        if not (mixed and known.mean() > 0.5 and codes >= max(2 * len(table.class_names) + 2, repeated / 50)):
            return False
    pairs = table.frame.loc[known, "group"].to_frame("group").assign(code=text[known])
    if (pairs.groupby("code")["group"].nunique() > 1).sum() == 0:
        return False
    given = (table.frame["group"] != table.frame["image"]).any()
    # Where groups are given, a coarser id holds them whole; what cuts through them is something else.
    return not given or bool((pairs.groupby("group")["code"].nunique() == 1).mean() > 0.95)


def check_names(table: ImageTable) -> Iterator[Finding]:
    """Folders such as patient12/ and file names such as patient12_03.png, where no group is known."""
    if (table.frame["group"] != table.frame["image"]).any():
        return
    owners = Counter(owner for image in table.frame["image"] if (owner := _owner(PurePosixPath(image))))
    counts = np.array(list(owners.values()), dtype=np.int64)
    shared = counts[(counts > 1) & (counts <= max(50, len(table) // 5))]
    if shared.sum() > len(table) / 2 and len(shared) >= 8:
        yield Finding(
            "grouped_by_name",
            "warning",
            f"no groups are given, but {int(shared.sum()):,} of {len(table):,} images share a folder or the beginning of a "
            f"name with a few others ({len(shared):,} of them), as images of one patient often do",
            "if so, add a column with the patient and name it with --group-col",
        )


def _owner(image: PurePosixPath) -> str | None:
    for folder in image.parts[:-1]:
        if _OWNER_FOLDER.fullmatch(folder):
            return folder
    stem = image.stem
    bare = stem
    for _ in range(3):  # P_00001_LEFT_CC
        bare = _VIEW.sub("", bare)
    bare = bare if bare != stem else _NUMBER.sub("", stem)
    if bare == stem or not re.search(r"\d", bare) or _DATE.fullmatch(bare):
        return None
    return f"{image.parent}/{bare}" if len(image.parts) > 2 else bare

"""Patient ids: columns and file names that identify patients although the groups do not."""

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

# Words of data dictionaries for units whose images belong together ...
_ID_WORDS = {
    "patient", "patients", "pat", "ptid", "pid", "mrn", "subject", "subj", "person", "participant", "individual", "donor",
    "lesion", "case", "slide", "specimen", "animal", "accession",
}  # fmt: skip
# ... and, if they have many values, of these: with few, it may be the number of a visit, or left and right ...
_ID_WORDS_IF_MANY = {
    "study",
    "series",
    "exam",
    "examination",
    "visit",
    "sample",
    "eye",
    "encounter",
    "record",
}
_MANY_VALUES = 20
# ... unless one of these words shows that the column measures or describes something.
_OTHER_WORDS = {
    "age", "date", "day", "month", "year", "time", "sex", "gender", "weight", "height", "size", "diameter", "area", "mm",
    "cm", "um", "location", "localization", "localisation", "side", "laterality", "type", "status", "position", "view",
    "description", "race", "ethnicity", "country", "stage", "grade", "score", "history", "count", "total", "follow", "up",
    "followup", "site", "scanner", "image", "img", "file", "device", "camera", "center", "centre", "hospital", "class",
    "label", "color", "colour", "fold", "split", "batch", "reader", "rater", "annotator", "model", "thickness",
}  # fmt: skip
# Folders named after a patient, and what follows the patient in the name of a file.
_PATIENT_FOLDER = re.compile(
    r"(patient|pat|subject|subj|sub|case|person|participant|p)[\W_]*\d+\w*", re.IGNORECASE
)
_VIEW = re.compile(
    r"(?:(?<=[\d])|[_\-. ]+)(?:left|right|cc|mlo|ap|pa|lat|lateral|frontal|od|os|ll|lm|lx|rl|rm|rx|[lrab])$", re.IGNORECASE
)  # fmt: skip
_NUMBER = re.compile(r"[_\-. ]+(?:img|image|frame|slice|view|crop)?[_\-. ]?\d+$", re.IGNORECASE)
_DATE = re.compile(r"(19|20)\d\d[_\-]?[01]\d[_\-]?[0-3]\d")


def check_columns(table: ImageTable) -> Iterator[Finding]:
    """Columns that look like ids of patients whose images are in several groups."""
    named: list[str] = []
    other: list[str] = []
    for column in map(str, table.frame.columns[len(COLUMNS) :]):
        is_id = _named_as_id(column, table.frame[column].nunique())
        if is_id is not None and _groups_split_codes(table.frame[column], table, is_id):
            (named if is_id else other).append(column)
    if named:
        looks = counted(len(named), "column looks", "columns look")
        yield Finding(
            "unused_ids",
            "unsafe",
            f"{looks} like a patient id, but images with the same id are in different groups: {', '.join(named)}",
            f"name it with --group-col {named[0]}, so that no patient is in both the training set and the test set",
            singles(named),
        )
    if other:
        yield Finding(
            "possible_ids",
            "note",
            f"{counted(len(other), 'column', 'columns')} with repeated codes that are not used as groups: {', '.join(other)}",
            "if images with the same code belong together, name the column with --group-col",
            singles(other),
        )


def _named_as_id(column: str, codes: int) -> bool | None:
    """True for the name of a patient id, False for a name without meaning, None for the name of something else."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", column)
    words = set(re.split(r"[\W_\d]+", spaced.lower())) - {""}
    if words & _OTHER_WORDS:
        return None
    if words & _ID_WORDS_IF_MANY:
        return True if codes >= _MANY_VALUES else None
    return bool(words & _ID_WORDS) or words in ({"id"}, {"uid"})


def _groups_split_codes(values: pd.Series, table: ImageTable, is_id: bool) -> bool:
    """Whether codes of a column are repeated, and images of one code are in different groups."""
    text = values.astype(object).where(values.notna(), "").astype(str).str.strip()
    text = text.str.replace(r"^(\d+)\.0$", r"\1", regex=True)  # a number where another cell is empty
    known = ~text.isin({"", "nan", "None"})
    codes, repeated = text[known].nunique(), int(known.sum())
    if not 1 < codes < repeated:
        return False
    if not is_id:
        # The name has no meaning: the values must look like codes, not like words, grades or measurements.
        given = text[known].str
        mixed = given.contains(r"\d").mean() > 0.9 and not given.fullmatch(r"[-+.\d]+").all()
        if not (mixed and known.mean() > 0.5 and codes >= max(2 * len(table.class_names) + 2, repeated / 50)):
            return False
    pairs = table.frame.loc[known, "group"].to_frame("group").assign(code=text[known])
    if (pairs.groupby("code")["group"].nunique() > 1).sum() == 0:
        return False
    has_groups = (table.frame["group"] != table.frame["image"]).any()
    # Given groups lie within the images of a coarser id; a column that divides groups is something else.
    return not has_groups or bool((pairs.groupby("group")["code"].nunique() == 1).mean() > 0.95)


def check_names(table: ImageTable) -> Iterator[Finding]:
    """Folders such as patient12/ and file names such as patient12_03.png, if no groups are given."""
    if (table.frame["group"] != table.frame["image"]).any():
        return
    patients = Counter(filter(None, map(_patient_of, map(PurePosixPath, table.frame["image"]))))
    counts = np.array(list(patients.values()), dtype=np.int64)
    shared = counts[(counts > 1) & (counts <= max(50, len(table) // 5))]
    if shared.sum() > len(table) / 2 and len(shared) >= 8:
        yield Finding(
            "grouped_by_name",
            "warning",
            f"no groups are given, but {int(shared.sum()):,} of {len(table):,} images share a folder or the beginning of "
            f"the file name with a few others ({len(shared):,} such sets), as images of one patient often do",
            "if they are of one patient, add a column with the patient and name it with --group-col",
        )


def _patient_of(image: PurePosixPath) -> str | None:
    """The part of a path that seems to identify a patient."""
    for folder in image.parts[:-1]:
        if _PATIENT_FOLDER.fullmatch(folder):
            return folder
    stem = bare = image.stem
    for _ in range(3):  # P_00001_LEFT_CC
        bare = _VIEW.sub("", bare)
    bare = bare if bare != stem else _NUMBER.sub("", stem)
    if bare == stem or not re.search(r"\d", bare) or _DATE.fullmatch(bare):
        return None
    return f"{image.parent}/{bare}" if len(image.parts) > 2 else bare

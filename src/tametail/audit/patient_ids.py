"""Patient ids: columns and file names that identify patients although the groups do not."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

import numpy as np

from tametail.audit.finding import Finding, singles
from tametail.core.text import counted
from tametail.data.group_from import KNOWN_SCHEMES, known_scheme
from tametail.data.table import COLUMNS, RESERVED, SPLIT_WORDS, ImageTable

if TYPE_CHECKING:
    import pandas as pd

# Words of data dictionaries, in several languages, for units whose images belong together ...
_ID_WORDS = {
    "patient", "patients", "pat", "pid", "mrn", "rid", "empi", "nhc", "subject", "subjects", "subj", "person", "participant",
    "individual", "donor", "proband", "volunteer", "lesion", "lesions", "case", "cases", "slide", "wsi", "specimen",
    "animal", "accession", "patienten", "patientin", "paciente", "pacientes", "pacient", "paziente", "pazienti", "pacjent",
    "pasient", "potilas", "hasta", "malade", "sujet", "sujeto", "sujeito", "soggetto", "lesione", "laesion", "пациент",
    "пациента", "患者", "病人", "病例", "환자",
}  # fmt: skip
# ... with a word for a number or a code, of these ...
_ID_WORDS_IF_NUMBERED = {
    "pt", "sub", "client", "submitter", "member", "tumor", "tumour", "nodule", "polyp", "biopsy", "core", "block", "mouse",
    "acc", "video", "clip", "movie", "volume", "scan", "sequence", "chart", "dossier", "fall", "cas", "caso", "historia",
    "medical", "research",
}  # fmt: skip
_NUMBER_WORDS = {
    "id", "ids", "uid", "guid", "uuid", "no", "nr", "num", "nb", "number", "nummer", "numero", "numer", "code", "codigo",
    "key", "identifier", "identifiant", "identificador", "kennung", "pseudonym", "anon", "hash", "idx", "index", "barcode",
    "номер", "番号", "编号", "編號", "번호",
}  # fmt: skip
# ... and, if they have many values, of these: with few, it may be the number of a visit, or left and right ...
_ID_WORDS_IF_MANY = {
    "study", "series", "exam", "examination", "visit", "sample", "eye", "encounter", "record", "video",
}  # fmt: skip
_MANY_VALUES = 20
# ... unless a word shows that the column measures something, ...
_MEASURES = {
    "age", "date", "day", "month", "year", "time", "weight", "height", "width", "length", "depth", "size", "diameter", "area",
    "mm", "cm", "um", "thickness", "count", "total", "score", "grade", "stage", "follow", "up", "followup", "alter", "edad",
    "idade", "eta", "alder", "fecha", "datum", "bmi", "dose", "pressure", "percent", "ratio", "probability", "confidence",
    "resolution", "pixels", "rows", "columns", "x", "y", "xmin", "xmax", "ymin", "ymax", "bbox",
}  # fmt: skip
# ... or describes something, with values that are no codes.
_DESCRIPTIONS = {
    "sex", "gender", "sexo", "sexe", "geschlecht", "genero", "location", "localization", "localisation", "side",
    "laterality", "type", "status", "position", "view", "description", "race", "ethnicity", "country", "history", "site",
    "hospital", "scanner", "device", "camera", "center", "centre", "class", "label", "color", "colour", "fold", "split", "batch",
    "reader", "rater", "annotator", "model",
}  # fmt: skip
_FILES = {"image", "images", "img", "file", "filename"}  # a number of these may be that of the image
_PARTS = {"instance", "unique", "original", "registration", "reference", "of", "de", "del", "da", "do", "du", "der"}  # fmt: skip
_VOCABULARY = (
    _ID_WORDS
    | _ID_WORDS_IF_NUMBERED
    | _NUMBER_WORDS
    | _ID_WORDS_IF_MANY
    | _MEASURES
    | _DESCRIPTIONS
    | _FILES
    | _PARTS
)
_Name = Literal["id", "measure", "description", "unknown"]
_FEWEST_SETS = (
    8  # sets of several images that make a column or a scheme of file names look like one of patients
)
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
        if column in RESERVED:
            continue
        kind = _kind_of_name(column, table.frame[column].nunique())
        if _groups_split_codes(table.frame[column], table, kind):
            (named if kind == "id" else other).append(column)
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
            "warning",
            f"{counted(len(other), 'column gathers', 'columns gather')} the images into many small sets that are not used as "
            f"groups: {', '.join(other)}",
            "if images with the same value belong together, as those of a patient do, name the column with --group-col",
            singles(other),
        )


def _kind_of_name(column: str, codes: int) -> _Name:
    """What the name of a column says about it, if it has this number of different values."""
    words = _words_of(column)
    if words & _MEASURES:
        return "measure"
    numbered = bool(words & _NUMBER_WORDS)
    if "hospital" in words and numbered and codes >= _MANY_VALUES:
        return "id"  # the number of a patient there; with few values, the number of the hospital
    if words & _DESCRIPTIONS:
        return "description"
    if numbered and words & _FILES:
        return "unknown"
    if words & _ID_WORDS or (numbered and words & _ID_WORDS_IF_NUMBERED):
        return "id"
    if words & _ID_WORDS_IF_MANY:
        return "id" if codes >= _MANY_VALUES else "description"
    return "id" if words in ({"id"}, {"uid"}, {"identifier"}) else "unknown"


def _words_of(column: str) -> set[str]:
    """The words of a name in lower case, without accents; joined ones are separated: patientid, PtNo, Patientennummer."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", column)
    letters = (
        letter for letter in unicodedata.normalize("NFKD", spaced) if not unicodedata.combining(letter)
    )
    plain = unicodedata.normalize("NFC", "".join(letters)).lower()
    return {word for token in re.split(r"[\W_\d]+", plain) if token for word in _separated(token)}


def _separated(token: str) -> tuple[str, ...]:
    """The known words that a token consists of, as few as possible; the token itself if there are none."""
    best: list[tuple[str, ...] | None] = [()]  # for each length of the beginning
    for end in range(1, len(token) + 1):
        ways = [
            (*before, token[start:end])
            for start in range(end)
            if (before := best[start]) is not None and token[start:end] in _VOCABULARY
        ]
        best.append(min(ways, key=len, default=None))
    return best[-1] or (token,)


def _groups_split_codes(values: pd.Series, table: ImageTable, kind: _Name) -> bool:
    """Whether codes of a column are repeated, and images of one code are in different groups."""
    if kind == "measure":
        return False
    text = values.astype(object).where(values.notna(), "").astype(str).str.strip()
    text = text.str.replace(r"^(\d+)\.0$", r"\1", regex=True)  # a number where another cell is empty
    known = ~text.isin({"", "nan", "None"})
    codes, repeated = text[known].nunique(), int(known.sum())
    if not 1 < codes < repeated:
        return False
    if kind != "id":
        # The name does not say it: there must be many sets of few images, and the values must not be measurements.
        sizes = text[known].value_counts()
        sets = sizes[sizes > 1]
        many = len(sets) >= _FEWEST_SETS and codes >= max(2 * len(table.class_names) + 2, repeated / 50)
        if not (many and sets.sum() > repeated / 2 and known.mean() > 0.5):
            return False
        if text[known].str.fullmatch(r"[-+]?\d*\.\d+(e[-+]?\d+)?").mean() > 0.5:
            return False
        if kind == "description" and not _are_codes(text[known]):
            return False
    pairs = table.frame.loc[known, "group"].to_frame("group").assign(code=text[known])
    if (pairs.groupby("code")["group"].nunique() > 1).sum() == 0:
        return False
    has_groups = (table.frame["group"] != table.frame["image"]).any()
    # Given groups lie within the images of a coarser id; a column that divides groups is something else.
    return not has_groups or bool((pairs.groupby("group")["code"].nunique() == 1).mean() > 0.95)


def _are_codes(text: pd.Series) -> bool:
    """Whether values look like codes, not like words, grades or numbers."""
    return bool(text.str.contains(r"\d").mean() > 0.9 and not text.str.fullmatch(r"[-+.:/\d]+").all())


def check_names(table: ImageTable) -> Iterator[Finding]:
    """Folders such as patient12/ and file names such as patient12_03.png, if no groups are given."""
    if (table.frame["group"] != table.frame["image"]).any():
        return
    images, tested = table.frame["image"].tolist(), (table.frame["split"] == "test").tolist()
    scheme = known_scheme(images)
    owner_of = KNOWN_SCHEMES[scheme].owner_of if scheme else _owner_of
    by_owner: dict[str, list[int]] = defaultdict(list)
    for row, image in enumerate(images):
        if owner := owner_of(_without_split(image)):
            by_owner[owner].append(row)
    crossing = {owner: rows for owner, rows in by_owner.items() if len({tested[row] for row in rows}) > 1}
    if _numbered_anew(images, tested, crossing):
        by_owner = defaultdict(list, _by_side(by_owner, tested))
        crossing = {}
    counts = np.array([len(rows) for rows in by_owner.values()], dtype=np.int64)
    shared = counts[(counts > 1) & (counts <= max(50, len(table) // 5))]
    convincing = shared.sum() > len(table) / 2 and len(shared) >= _FEWEST_SETS
    use = f"--group-from known:{scheme}" if scheme else "--group-from folder or name:REGEX"
    if crossing and (scheme or convincing):
        patients = sorted(crossing)
        yield Finding(
            "names_cross_split",
            "unsafe",
            f"{counted(len(patients), 'patient or other owner', 'patients or other owners')} of images, as far as file names and folders tell, "
            f"{'has' if len(patients) == 1 else 'have'} images both in the given test set and outside it",
            f"if they are patients, give them with {use}, and leave the given split out or put each patient on one side",
            tuple(tuple(images[row] for row in crossing[owner]) for owner in patients),
            tuple(patients),
        )
    if convincing:
        as_of = f", named as in {scheme}" if scheme else ""
        yield Finding(
            "grouped_by_name",
            "warning",
            f"no groups are given, but {int(shared.sum()):,} of {len(table):,} images{as_of} share a folder or the beginning of "
            f"the file name with a few others ({len(shared):,} such sets), as images of one patient often do",
            f"if they are of one patient, use {use}, or add a column with the patient and name it with --group-col",
        )


def _without_split(image: str) -> str:
    """A path without the folder of a given split."""
    first, slash, rest = image.partition("/")
    return rest if slash and first.lower() in SPLIT_WORDS else image


def _numbered_anew(
    images: Sequence[str], tested: Sequence[bool], crossing: Mapping[str, Sequence[int]]
) -> bool:
    """Whether most owners have the same file name on both sides of the split, so that each side counts from 1."""
    again = 0
    for owner, rows in crossing.items():
        names: dict[bool, set[str]] = {True: set(), False: set()}
        for row in rows:
            path = PurePosixPath(_without_split(images[row]))
            # Files in the folder of a patient often have the same names as those of another.
            names[tested[row]].add(str(path) if owner in path.parts else path.name)
        again += bool(names[True] & names[False])
    return again > len(crossing) / 2


def _by_side(by_owner: Mapping[str, Sequence[int]], tested: Sequence[bool]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for owner, rows in by_owner.items():
        for row in rows:
            found[f"{'test' if tested[row] else 'training'}/{owner}"].append(row)
    return found


def _owner_of(path: str) -> str | None:
    """The part of a path that seems to identify a patient."""
    image = PurePosixPath(path)
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

"""The page of `tametail predict --html`: a small copy of each image with its predictions and its flags, to sort and to filter."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tametail.core.console import Message, printable
from tametail.core.text import counted
from tametail.data.table import LABEL_SEPARATOR
from tametail.deployment.facts import ModelFacts
from tametail.report.jpeg import jpeg, jpeg_url
from tametail.report.render import render
from tametail.report.study.narrative import SYNTHETIC

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS = 2_000  # about 6 MB, which browsers sort at once; the CSV file has all rows
_SIDE, _QUALITY = 96, 80
_SHOWN_CLASSES = 3
_LISTED_CLASSES = 12
_LONGEST_TERM = 40  # letters; a longer beginning of a sentence is no term
# What rows are filtered by: its name on the page, and what it means.
FILTERS = {
    "unlike": ("Unlike training", "unlike the training images: do not use the prediction"),
    "quality": ("Quality", "blank, tiny, or not of the colours of the training images"),
    "uncertain": ("Uncertain", "set of several classes, empty, or without the predicted class"),
    "errors": ("Errors", "cannot be read"),
}


class Thumbnails(dict[str, str]):
    """Small copies of images as data URLs, by the name of their row: the argument ``on_image`` of `Classifier.predict_table`.

    Those of the first `MOST_ROWS` rows are kept; of a group that of its first image that can be read.

    Args:
        groups: the group of each image, if rows are groups.
    """

    def __init__(self, groups: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._groups = groups
        # Rows of groups are in the order of their names.
        self._wanted = set(islice(sorted(set((groups or {}).values())), MOST_ROWS))

    def __call__(self, name: str, pixels: NDArray[np.uint8]) -> None:
        """Add the copy of an image (K, K, 3)."""
        row = name if self._groups is None else self._groups[name]
        if row in self or len(self) == MOST_ROWS or (self._groups is not None and row not in self._wanted):
            return
        if data := jpeg(pixels, _QUALITY, _SIDE):
            self[row] = jpeg_url(data)


class ProbabilityBar(NamedTuple):
    """The probability of a class, from 0 to 1, and whether it is predicted."""

    name: str
    p: float
    predicted: bool


class Fact(NamedTuple):
    """A term with its text, and the cells of a table below it, the head first."""

    term: str
    text: str
    rows: tuple[tuple[str, ...], ...] = ()


class Row(NamedTuple):
    """A row of the page. ``kinds`` are the `FILTERS` that it is part of."""

    name: str
    images: str
    picture: str | None
    unlikeness: str
    error: str
    kinds: tuple[str, ...]
    predicted: str = ""
    most_probable: str = ""
    bars: tuple[ProbabilityBar, ...] = ()
    probabilities: str = ""
    in_set: str = ""
    set_size: str = ""
    flags: tuple[str, ...] = ()


def predictions_html(
    table: pd.DataFrame,
    facts: ModelFacts,
    rule: str,
    *,
    thumbnails: Mapping[str, str],
    said: Sequence[Message] = (),
    prevalence: Mapping[str, float] | None = None,
) -> str:
    """The page as self-contained HTML. It contains small copies of the images and their names.

    Args:
        table: of `Classifier.predict_table`. The first `MOST_ROWS` rows are shown.
        facts: about the model.
        rule: by which it decides, in words.
        thumbnails: data URLs by the name of a row.
        said: messages of `Classifier.predict_table`, which the page repeats.
        prevalence: the given one, if any.
    """
    grouped = "images" in table
    unit = "group" if grouped else "image"
    names = [printable(str(name)) for name in table["image"]]
    folder = "" if grouped else _common_folder(names)
    records: list[dict[str, Any]] = table.to_dict("records")  # type: ignore[assignment]  # names of columns are texts
    shown, kinds = records[:MOST_ROWS], [_kinds(row) for row in records]
    counts = Counter(kind for each in kinds for kind in each)
    columns = set(table.columns)
    knows_unlikeness = "unlike_training" in columns and bool(table["unlike_training"].notna().any())
    offered = ["errors"]
    offered += ["uncertain"] if "set_size" in columns else []
    offered += ["unlike"] if knows_unlikeness else []
    offered += ["quality"] if "quality" in columns else []
    counts_shown = Counter(kind for each in kinds[:MOST_ROWS] for kind in each)
    filters = [("all", f"All {len(shown):,}")]
    filters += [
        (kind, f"{name} {counts_shown[kind]:,}") for kind, (name, _) in FILTERS.items() if kind in offered
    ]
    failed = counts["errors"]
    return render(
        "predictions.html.j2",
        title=f"Predictions of {counted(len(table), unit)}",
        unit=unit,
        synthetic=SYNTHETIC if facts.synthetic else "",
        warnings=[message.text for message in said if message.warning],
        answer=f"{counted(len(table) - failed, unit)} predicted, {failed:,} could not be read.",
        facts=_facts(facts, rule, prevalence, folder) + _noted(said),
        attention=[
            (name, meaning, counts[kind]) for kind, (name, meaning) in FILTERS.items() if kind in offered
        ],
        predicted=_predicted(table, facts),
        classes=[printable(name) for name in facts.class_names],
        filters=filters,
        has_sets="set_size" in columns,
        has_unlikeness=knows_unlikeness,
        rows=[
            _row(row, facts, name[len(folder) :], thumbnails.get(str(row["image"])), each)
            for row, name, each in zip(shown, names, kinds, strict=False)
        ],
        left_out=len(table) - len(shown),
    )


def _common_folder(names: Sequence[str]) -> str:
    """The folder that all these files are in, with a slash at its end; empty if there is none."""
    try:
        folder = os.path.commonpath([os.path.dirname(name) for name in names]) if names else ""
    except ValueError:  # some absolute and some not
        return ""
    folder = os.path.join(folder, "") if folder else ""
    return folder if all(name.startswith(folder) for name in names) else ""


def _kinds(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The `FILTERS` that a row is part of."""
    if row["error"]:
        return ("errors",)
    found = {
        "unlike": _number(row.get("unlike_training")) == 1,
        "quality": bool(_text(row.get("quality"))),
        "uncertain": "set_size" in row and (_number(row["set_size"]) != 1 or _is_outside(row)),
    }
    return tuple(kind for kind, is_so in found.items() if is_so)


def _is_outside(row: Mapping[str, Any]) -> bool:
    """Whether the predicted class is not in the prediction set."""
    inside = _text(row.get("prediction_set")).split(LABEL_SEPARATOR)
    return inside != [""] and row["predicted"] not in inside


def _row(
    row: Mapping[str, Any], facts: ModelFacts, name: str, picture: str | None, kinds: tuple[str, ...]
) -> Row:
    images = counted(int(row["images"]), "image") if "images" in row else ""
    unlikeness = _decimals(_number(row.get("unlikeness")), 2)
    found = Row(name, images, picture, unlikeness, printable(row["error"]), kinds)
    if row["error"]:
        return found
    p = np.array([row[f"p_{each}"] for each in facts.class_names], dtype=np.float64)
    if facts.several_labels:
        chosen = [bool(row[f"has_{each}"]) for each in facts.class_names]
    else:
        chosen = [each == row["predicted"] for each in facts.class_names]
    predicted = [printable(each) for each, has in zip(facts.class_names, chosen, strict=True) if has]
    other = row.get("most_probable", row["predicted"])
    order = np.argsort(-p, kind="stable")[:_SHOWN_CLASSES]
    size = _number(row.get("set_size"))
    return found._replace(
        predicted=", ".join(predicted) if predicted else "no label",
        most_probable="" if other == row["predicted"] else printable(other),
        bars=tuple(
            ProbabilityBar(printable(facts.class_names[at]), float(p[at]), chosen[at]) for at in order
        ),
        probabilities=" ".join(f"{each:.4f}" for each in p),
        in_set=printable(_text(row.get("prediction_set")).replace(LABEL_SEPARATOR, ", ")),
        set_size=_decimals(size, 0),
        flags=tuple(_flags(row, size)),
    )


def _flags(row: Mapping[str, Any], size: float) -> list[str]:
    found = []
    if "unlike" in _kinds(row):
        own = (
            f"{row['unlike_images']} of {counted(int(row['images']), 'image')} "
            if "unlike_images" in row
            else ""
        )
        found.append(own + FILTERS["unlike"][1])
    found += [printable(each) for each in _text(row.get("quality")).split(LABEL_SEPARATOR) if each]
    if size == 0:
        found.append("no class is probable enough for the set")
    elif size > 1:
        found.append(f"set of {size:.0f} classes")
    if _is_outside(row):
        found.append("predicted class not in the set")
    if row["saturated"] is True or _number(row["saturated"]) == 1:
        found.append("largest probability that the method can give")
    return found


def _facts(facts: ModelFacts, rule: str, prevalence: Mapping[str, float] | None, folder: str) -> list[Fact]:
    model = f"{facts.method}, {facts.trained_as}; {facts.spec.name} at {facts.spec.image_size} px"
    trained = dict(zip(facts.class_names, facts.trained_prevalence.tolist(), strict=True))
    found = [
        ("Model", model),
        ("Trained on", facts.name),
        ("Probabilities", f"link {facts.link}; calibration: {facts.calibration.summary}"),
        ("Decision rule", rule),
        (
            "Share of all training labels" if facts.several_labels else "Prevalence in training",
            _shares(trained),
        ),
    ]
    if prevalence is not None:
        total = sum(prevalence.values())
        given = {name: prevalence[name] / total for name in facts.class_names}
        found.append(("Given prevalence", _shares(given)))
    return [Fact(term, printable(text)) for term, text in [*found, ("Folder of the images", folder)] if text]


def _noted(said: Sequence[Message]) -> list[Fact]:
    """Messages, at their first colon divided into a term and its text; rows of a table, aligned by spaces, are added to the message before."""
    found: list[Fact] = []
    for text in (message.text for message in said if not message.warning):
        term, colon, rest = text.partition(": ")
        if "  " in text and found:
            found[-1] = found[-1]._replace(rows=(*found[-1].rows, tuple(re.split(" {2,}", text))))
        elif colon and len(term) <= _LONGEST_TERM:
            found.append(Fact(term, rest))
        else:
            found.append(Fact("Note", text))
    return found


def _shares(shares: Mapping[str, float]) -> str:
    """``nv 67.0 %, mel 11.2 %, ...``, the most frequent first."""
    order = sorted(shares, key=lambda name: -shares[name])
    text = ", ".join(f"{name} {100 * shares[name]:.3g} %" for name in order[:_LISTED_CLASSES])
    more = len(order) - _LISTED_CLASSES
    return f"{text}, and {more} more" if more > 0 else text


def _predicted(table: pd.DataFrame, facts: ModelFacts) -> str:
    """How often each class is predicted, the most frequent first."""
    read = table[table["error"] == ""]
    if facts.several_labels:
        counts = {name: int(read[f"has_{name}"].sum()) for name in facts.class_names}
    else:
        counts = {name: int((read["predicted"] == name).sum()) for name in facts.class_names}
    order = [name for name in sorted(counts, key=lambda name: -counts[name]) if counts[name]]
    text = ", ".join(f"{printable(name)} {counts[name]:,}" for name in order[:_LISTED_CLASSES])
    more = len(order) - _LISTED_CLASSES
    return (f"{text}, and {more} more" if more > 0 else text) or "none"


def _number(value: Any) -> float:
    """A number; nan for a missing one."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def _decimals(value: float, decimals: int) -> str:
    return "" if np.isnan(value) else f"{value:.{decimals}f}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""

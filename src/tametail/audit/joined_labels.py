"""Labels that look like several: names joined by a sign, or lists, in a table that was read as one label per image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from tametail.audit.finding import Finding, singles
from tametail.core.text import counted, sample_of
from tametail.data.readers.label_columns import looks_like_list
from tametail.data.table import LABEL_SEPARATOR, ImageTable

_AMBIGUOUS_SIGNS = (";", ",", "/", "+", "&")


def check_joined_labels(table: ImageTable) -> Iterator[Finding]:
    """Find class names that hold several labels.

    A list is one. Names joined by ``|`` are if one of the parts occurs elsewhere, otherwise they may be; those joined by
    another sign only if all parts are classes of their own.
    """
    if table.multi_label:
        return
    lists = [name for name in table.class_names if looks_like_list(name)]
    if lists:
        yield _finding("unsafe", lists, "written as lists", "read them with --multi-label")
        return
    parts = {name: _split(name, LABEL_SEPARATOR) for name in table.class_names if LABEL_SEPARATOR in name}
    if parts:
        severity = "unsafe" if _repeated(parts, table.class_names) else "warning"
        yield _finding(
            severity, list(parts), f"joined by {LABEL_SEPARATOR!r}", "read them with --multi-label"
        )
    for sign in _AMBIGUOUS_SIGNS:
        joined = [
            name
            for name in table.class_names
            if sign in name and len(of := _split(name, sign)) > 1 and of <= set(table.class_names)
        ]
        if joined:
            advice = f"read them with --multi-label --label-sep {sign!r}"
            yield _finding("unsafe", joined, f"joined by {sign!r}", advice)


def _split(name: str, sign: str) -> set[str]:
    return {part.strip() for part in name.split(sign)} - {""}


def _repeated(parts: Mapping[str, set[str]], names: Sequence[str]) -> bool:
    """Whether a part of a joined name is a class of its own or part of another one."""
    counts = Counter(part for of_name in parts.values() for part in of_name)
    return any(count > 1 or part in names for part, count in counts.items())


def _finding(severity: str, names: list[str], how: str, advice: str) -> Finding:
    looks = counted(len(names), "class looks", "classes look")
    message = f"{looks} like several labels {how}: {sample_of(names)}"
    return Finding(
        "several_labels", "unsafe" if severity == "unsafe" else "warning", message, advice, singles(names)
    )

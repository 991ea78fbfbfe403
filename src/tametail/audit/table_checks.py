"""Checks of the table alone: leaks, classes that are too small, similar labels, and columns of ids."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations

import numpy as np

from tametail.audit.finding import Finding, singles
from tametail.audit.joined_labels import check_joined_labels
from tametail.audit.patient_ids import check_columns
from tametail.core.errors import DataError
from tametail.core.text import counted
from tametail.data.splitting.splits import check_folds
from tametail.data.table import ImageTable

_SMALL_CLASS = 30  # images; with fewer, confidence intervals of a class are wide
_ROMAN = re.compile(r"[ivx]+[a-c]?")
_NEGATIONS = ("non", "un", "in", "im", "a", "an", "dis", "hyper", "hypo")
_PLACEHOLDERS = {
    "?", "??", "-", "--", ".", "unknown", "unk", "unlabeled", "unlabelled", "undefined", "unspecified", "unassigned", "missing",
    "not available", "n/a", "na", "nan", "null", "nil", "tbd", "tba", "todo", "pending",
}  # fmt: skip
_FEWEST_OF_UNION = 2  # classes that a class may be the union of
_LONG = 6  # least letters of a word in which an extra letter, or two swapped ones, count as a typing error


def check_table(table: ImageTable, folds: int) -> Iterator[Finding]:
    """All checks that need no image."""
    yield from _crossing_groups(table)
    yield from _too_small(table, folds)
    yield from _similar_labels(table)
    yield from check_joined_labels(table)
    yield from _placeholders(table)
    yield from _unions(table)
    yield from _exclusive(table)
    yield from check_columns(table)


def _crossing_groups(table: ImageTable) -> Iterator[Finding]:
    sides: dict[str, set[bool]] = defaultdict(set)
    for group, split in zip(table.groups.tolist(), table.frame["split"], strict=True):
        sides[group].add(split == "test")
    crossing = sorted(group for group, tested in sides.items() if len(tested) > 1)
    if crossing:
        images = table.frame.groupby("group")["image"].apply(tuple)
        yield Finding(
            "groups_cross_split",
            "unsafe",
            f"{counted(len(crossing), 'group has', 'groups have')} images both in the given test set and outside it",
            "put each group on one side, or remove the split column so that tametail splits the groups",
            tuple(images[group] for group in crossing),
            tuple(crossing),
        )


def _too_small(table: ImageTable, folds: int) -> Iterator[Finding]:
    if not table.multi_label:
        try:
            check_folds(table, folds)
        except DataError as error:
            groups = table.frame.groupby("label")["group"].nunique()
            few = [name for name in table.class_names if groups.get(name, 0) < folds + 1]
            yield Finding("classes_too_small", "unsafe", str(error), "", singles(few))
    small = [name for name, count in table.counts().items() if count < _SMALL_CLASS]
    if small:
        has = counted(len(small), "class has", "classes have")
        message = f"{has} fewer than {_SMALL_CLASS} images: confidence intervals will be wide"
        yield Finding("small_classes", "note", message, "", singles(small))


def _similar_labels(table: ImageTable) -> Iterator[Finding]:
    pairs = [(a, b) for a, b in combinations(table.class_names, 2) if same_word(a, b)]
    if pairs:
        listed = ", ".join(f"{a!r} and {b!r}" for a, b in pairs[:5])
        yield Finding(
            "similar_labels",
            "unsafe",
            f"{counted(len(pairs), 'pair of classes looks', 'pairs of classes look')} like one class in two "
            f"spellings: {listed}",
            "use one spelling, or more distinct names",
            tuple(pairs),
        )


def _placeholders(table: ImageTable) -> Iterator[Finding]:
    names = set(table.class_names)
    # Two classes may be called -1 and 1.
    wrong = [
        name
        for name in table.class_names
        if (name.strip().casefold() in _PLACEHOLDERS or (_is_minus_one(name) and len(names) > 2))
    ]
    if wrong:
        counts = table.counts()
        listed = ", ".join(f"{name!r} ({counts[name]:,} images)" for name in wrong)
        yield Finding(
            "placeholder_labels",
            "warning",
            f"{counted(len(wrong), 'class looks', 'classes look')} like the place of a missing label: {listed}",
            "leave these images out, or label them; a model would learn them as a class",
            singles(wrong),
        )


_NO_FINDING = {
    "no finding", "no findings", "nofinding", "normal", "healthy", "negative", "none", "no abnormality", "unremarkable",
    "no disease", "no pathology", "clear",
}  # fmt: skip


def _is_minus_one(name: str) -> bool:
    return bool(re.fullmatch(r"-1(\.0*)?", name.strip()))


def _unions(table: ImageTable) -> Iterator[Finding]:
    labels = table.labels
    if not table.multi_label or labels.shape[1] < _FEWEST_OF_UNION + 1:
        return
    found = []
    for column, name in enumerate(table.class_names):
        others = np.delete(labels, column, axis=1)
        parts = others[:, others.any(axis=0) & ~(others == labels[:, [column]]).all(axis=0)]
        if parts.shape[1] >= _FEWEST_OF_UNION and (others.any(axis=1) == labels[:, column]).all():
            found.append(name)
    if found:
        yield Finding(
            "union_classes",
            "warning",
            f"{counted(len(found), 'class is', 'classes are')} exactly the images that have any other class: {', '.join(found)}",
            "leave out the column, unless it is to be predicted as well: it says nothing that the others do not say",
            singles(found),
        )


def _exclusive(table: ImageTable) -> Iterator[Finding]:
    """Labels that say that there is no finding, on images that have another one."""
    if not table.multi_label:
        return
    labels, images = table.labels, table.images
    for column, name in enumerate(table.class_names):
        if " ".join(_words(name)) not in _NO_FINDING:
            continue
        both = labels[:, column] & np.delete(labels, column, axis=1).any(axis=1)
        if both.any():
            with_name = int(labels[:, column].sum())
            yield Finding(
                "contradicting_labels",
                "warning",
                f"{counted(int(both.sum()), 'image')} of {with_name:,} with {name!r}, which excludes other labels, {'has' if both.sum() == 1 else 'have'} another label",
                "correct these labels; a label such as a support device may be no contradiction, and can stay",
                singles(images[both].tolist()),
            )


def same_word(left: str, right: str) -> bool:
    """Whether names differ only by case, punctuation, British spelling, plural or one typing error.

    Words with digits, single letters and Roman numerals are grades, stages and types, which must be equal.
    """
    a, b = _words(left), _words(right)
    if "".join(a) == "".join(b) and _spaced_digits(left) == _spaced_digits(right):
        return True
    if len(a) != len(b):
        return False
    differing = [(x, y) for x, y in zip(a, b, strict=True) if x != y]
    return len(differing) == 1 and _is_typing_error(*differing[0])


def _words(name: str) -> list[str]:
    """Words in lower case, without accents; punctuation between digits is kept."""
    plain = unicodedata.normalize("NFKD", name).casefold()
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    plain = re.sub(r"(?<![\d])[-./](?![\d])", " ", plain)  # punctuation between letters counts as a blank
    words = re.sub(r"[\s_]+", " ", plain).split()
    return [word if _is_grade(word) else _stem(word) for word in words]


def _spaced_digits(name: str) -> list[str]:
    """Digits with blanks between them: grade 1 1 is not grade 11."""
    return re.findall(r"\d[\s_]+\d", unicodedata.normalize("NFKC", name))


def _is_grade(word: str) -> bool:
    return len(word) == 1 or any(letter.isdigit() for letter in word) or bool(_ROMAN.fullmatch(word))


def _stem(word: str) -> str:
    """A word in American spelling and singular."""
    word = re.sub(r"our$", "or", word.replace("ae", "e").replace("oe", "e"))
    is_plural = len(word) > 4 and word.endswith("s") and not word.endswith(("ss", "is", "us"))
    return word[:-1] if is_plural else word


def _is_typing_error(left: str, right: str) -> bool:
    """Whether two words differ by one extra letter, or by two adjacent letters swapped."""
    if _is_grade(left) or _is_grade(right) or min(len(left), len(right)) < _LONG:
        return False
    short, long = sorted((left, right), key=len)
    if len(long) == len(short) + 1:
        is_negation = any(long == prefix + short for prefix in _NEGATIONS)
        return not is_negation and any(long[:at] + long[at + 1 :] == short for at in range(len(long)))
    differing = [at for at in range(len(short)) if len(short) == len(long) and left[at] != right[at]]
    if len(differing) != 2:
        return False
    first, second = differing
    return second == first + 1 and left[first] == right[second]

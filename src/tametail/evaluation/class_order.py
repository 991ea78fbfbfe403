"""The order of ordinal classes, from the lowest grade to the highest: as given, by the numbers in their names, or as known.

The order of the alphabet is never taken for it: Mild, Moderate, No_DR, Severe.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tametail.core.errors import UsageError
from tametail.core.text import sample_of
from tametail.data.readers.known_sets import KNOWN_SETS
from tametail.predictions.single_label import Predictions

# ``grade_10``, ``stage 2``, ``2.5 mm``; in ``v.5`` or ``1-2`` the number is unclear.
_NUMBERED = re.compile(r"(?P<before>[^0-9]*)(?P<number>[0-9]+(\.[0-9]+)?)(?P<after>[^0-9]*)")
_SIGNS = {"", "+", "-"}
_MOST_NAMED = 20


def find_class_order(
    class_names: Sequence[str], given: Sequence[str] | None = None
) -> tuple[str, ...] | None:
    """Find the order of classes, from the lowest grade to the highest.

    Args:
        class_names: all classes, in any order.
        given: their order; None or empty if it was not given. Classes whose names are numbers, all with the same text
            before and after them, are then in the order of the numbers; the classes of a known set (see
            `tametail.data.KNOWN_SETS`) are in its order.

    Returns:
        All classes; None if their order is unknown.

    Raises:
        UsageError: what is given is not every class once.
    """
    if not given:
        return _by_number(class_names) or _of_known_set(class_names)
    unknown = [name for name in dict.fromkeys(given) if name not in class_names]
    missing = [name for name in class_names if name not in given]
    repeated = [name for name in dict.fromkeys(given) if given.count(name) > 1]
    wrong = {"missing": missing, "unknown": unknown, "more than once": repeated}
    if any(wrong.values()):
        found = "; ".join(
            f"{what}: {sample_of(names, most=_MOST_NAMED)}" for what, names in wrong.items() if names
        )
        raise UsageError(
            f"expected every class once with --class-order, from the lowest grade to the highest, got {','.join(given)} "
            f"({found}); the classes are {sample_of(class_names, most=_MOST_NAMED)}"
        )
    return tuple(given)


def require_class_order(
    class_names: Sequence[str], given: Sequence[str] | None, needed_for: str
) -> tuple[str, ...]:
    """The order of classes that an option needs, see `find_class_order`.

    Raises:
        UsageError: it is unknown, or what is given is not every class once.
    """
    order = find_class_order(class_names, given)
    if order is None:
        raise UsageError(
            f"expected the order of the classes for {needed_for}, from the lowest grade to the highest, as their names do not "
            f"tell it; give it with --class-order, separated by commas. The classes, here by name: {', '.join(class_names)}"
        )
    return order


def ordinal_classes(
    class_names: Sequence[str], *, ordered: bool | None, given: Sequence[str] | None
) -> tuple[str, ...]:
    """The order of classes that an evaluation uses; empty if they are not to be taken as ordinal.

    Args:
        class_names: all classes.
        ordered: whether they are ordinal; None if they are where an order is given.
        given: their order, see `find_class_order`.

    Raises:
        UsageError: they are ordinal and their order is unknown, or what is given is not every class once.
    """
    if ordered is False or not (ordered or given):
        return ()
    return require_class_order(class_names, given, "--ordered")


def check_ordered(ordered: bool | None, class_order: Sequence[str] | None) -> None:
    """Refuse an order of classes that are not to be taken as ordinal.

    Raises:
        UsageError: both were given.
    """
    if ordered is False and class_order:
        raise UsageError(
            "--class-order makes the classes ordinal, --unordered does not: leave one of them out"
        )


def order_in_words(order: Sequence[str]) -> str:
    """``none < mild < severe``."""
    return " < ".join(order)


def order_sentence(words: str) -> str:
    """A sentence with the order that is used; empty if there is none."""
    return f"The classes are ordinal: {words}." if words else ""


def with_class_order(table: Predictions, order: Sequence[str]) -> Predictions:
    """The same predictions with their classes in another order."""
    if tuple(order) == table.class_names:
        return table
    place = {name: index for index, name in enumerate(order)}
    at = [table.class_names.index(name) for name in order]
    return replace(
        table,
        target=np.array([place[name] for name in table.class_names])[table.target],
        logits=np.ascontiguousarray(table.logits[:, at]),
        class_names=tuple(order),
        posterior=None if table.posterior is None else np.ascontiguousarray(table.posterior[:, at]),
    )


def _of_known_set(class_names: Sequence[str]) -> tuple[str, ...] | None:
    orders = (known.class_order for known in KNOWN_SETS.values() if known.class_order)
    return next((order for order in orders if set(order) == set(class_names)), None)


def _by_number(class_names: Sequence[str]) -> tuple[str, ...] | None:
    """The classes by the numbers in their names; None if these are no numbers, or not all different."""
    found = [_NUMBERED.fullmatch(name) for name in class_names]
    matches = [match for match in found if match]
    before, after = ({match[side] for match in matches} for side in ("before", "after"))
    signed = before <= _SIGNS
    alike = signed or (len(before) == 1 and not next(iter(before)).endswith("."))
    if len(matches) < len(class_names) or not alike or len(after) != 1:
        return None
    values = {
        name: float((match["before"] if signed else "") + match["number"])
        for name, match in zip(class_names, matches, strict=True)
    }
    return tuple(sorted(values, key=values.__getitem__)) if len(set(values.values())) == len(values) else None

"""Methods whose loss depends on the order of the classes: the order they are given, and refusals where it is unknown."""

from __future__ import annotations

from collections.abc import Sequence

from tametail.core.errors import UsageError
from tametail.evaluation.class_order import order_in_words, require_class_order
from tametail.training.strategies import Method


def ordinal_methods(methods: Sequence[Method]) -> list[str]:
    """The methods whose loss depends on the order of the classes."""
    return [method.text for method in methods if method.ordinal]


def required_order(
    methods: Sequence[Method], class_names: Sequence[str], given: Sequence[str] | None
) -> tuple[str, ...] | None:
    """The order of the classes that methods need, from the lowest grade to the highest; None if none of them needs one.

    Args:
        class_names: all classes.
        given: their order; None or empty to find it by their names, see `find_class_order`.

    Raises:
        UsageError: it is unknown, or what is given is not every class once.
    """
    ordinal = ordinal_methods(methods)
    return require_class_order(class_names, given, ", ".join(ordinal)) if ordinal else None


def check_same_order(
    trained: Sequence[Method], present: Sequence[str] | None, wanted: Sequence[str] | None
) -> None:
    """Refuse another order of the classes than that which methods of a study were trained with.

    Args:
        trained: methods of the study.
        present: its order.
        wanted: the order that it would have from now on; None to keep it.

    Raises:
        UsageError: it is another one.
    """
    ordinal = ordinal_methods(trained)
    if ordinal and present and wanted is not None and list(wanted) != list(present):
        raise UsageError(
            f"expected the order of the classes with which the study trains {', '.join(ordinal)}, "
            f"{order_in_words(present)}, got {order_in_words(wanted) or 'none'}; leave --class-order out, or give another folder "
            f"with -o"
        )

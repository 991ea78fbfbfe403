"""What measured beside printed says, and what it cannot say, in plain sentences."""

from __future__ import annotations

from tametail.report import formatting
from tametail.reproduce.comparison import KINDS, Column, Comparison, Kind


def reading(comparison: Comparison) -> tuple[str, ...]:
    """Sentences on a comparison, from what agrees to what cannot be told."""
    if not comparison.measured:
        return ("Nothing is measured yet: no loss has all its runs finished.",)
    kind = comparison.kinds[0]
    return (
        _how_many_inside(comparison, kind),
        _order(comparison, kind),
        _what_it_cannot(comparison),
        _small_classes(comparison),
    )


def _how_many_inside(comparison: Comparison, kind: Kind) -> str:
    rows = [row for column in comparison.measured for row in column.rows[kind].values()]
    recalls = [row.recall.inside for row in rows if not row.recall.impossible]
    f1s = [row.f1.inside for row in rows if not row.f1.impossible]
    overall = [column.balanced_accuracy[kind].inside for column in comparison.measured]
    return (
        f"In the measured 95 % intervals ({KINDS[kind]}) lie {_of(recalls)} printed recalls, {_of(f1s)} F1 and "
        f"{_of(overall)} balanced accuracies{_without_impossible(comparison)}."
    )


def _of(inside: list[bool]) -> str:
    return f"{sum(inside)} of {len(inside)}"


def _without_impossible(comparison: Comparison) -> str:
    rows = [row for column in comparison.measured for row in next(iter(column.rows.values())).values()]
    count = sum(row.recall.impossible + row.f1.impossible for row in rows)
    return f"; {count} that cannot be (†) not counted" if count else ""


def _order(comparison: Comparison, kind: Kind) -> str:
    columns = comparison.measured
    if len(columns) == 1:
        return f"Only {columns[0].name} is measured, so that no order can be compared."
    printed = sorted(columns, key=lambda column: -column.balanced_accuracy[kind].share)
    here = sorted(columns, key=lambda column: -column.balanced_accuracy[kind].measured.value)
    first = here[0]
    close = [column.name for column in here[1:] if _overlap(first, column, kind)]
    told_apart = (
        f"the interval{'s' if len(close) > 1 else ''} of {formatting.join_names(close)} "
        f"overlap{'' if len(close) > 1 else 's'} with that of {first.name}, so that these do not differ significantly"
        if close
        else f"no other interval overlaps with that of {first.name}; that is no paired test"
    )
    same = "the same order" if printed == here else "another order"
    return f"Order by balanced accuracy: printed {_ordered(printed)}; measured {_ordered(here)}, {same}; {told_apart}."


def _ordered(columns: list[Column]) -> str:
    return ", ".join(column.name for column in columns)


def _overlap(one: Column, other: Column, kind: Kind) -> bool:
    a, b = one.balanced_accuracy[kind].measured, other.balanced_accuracy[kind].measured
    return not (a.low > b.high or b.low > a.high)  # an undefined interval excludes nothing


def _what_it_cannot(comparison: Comparison) -> str:
    if comparison.differences.told:
        return (
            "As images or training are not the paper's (above), a printed number outside an interval does not refute it, "
            "and one inside does not confirm it; what can be read is how these losses stand to each other here."
        )
    return (
        "The intervals speak of the test images alone, not of the draw of the split, of the chance in training, nor of "
        "what the paper leaves open: a printed number outside one may come from any of these."
    )


def _small_classes(comparison: Comparison) -> str:
    test = {name: printed for name, (printed, _) in comparison.test.items()}
    smallest = min(test, key=lambda name: test[name])
    return (
        f"The printed numbers come without interval, and from few images themselves: {smallest} has {test[smallest]} test "
        f"images in the paper, so that one of them is {100 / test[smallest]:.1f} points of its recall."
    )

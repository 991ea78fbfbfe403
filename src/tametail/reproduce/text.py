"""A comparison with the paper as text for a terminal and as Markdown, and its interpretation in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from tametail.core.text import align_columns
from tametail.report.formatting import (
    ABSENT,
    join_names,
    percent,
    percent_with_interval,
    score_with_interval,
    times,
)
from tametail.report.writers.markdown_table import NUMBER, markdown_lines
from tametail.reproduce.comparison import KINDS, ColumnComparison, Comparison, Kind, NumberComparison
from tametail.reproduce.differences import NO_DIFFERENCE

Grid = list[list[str]]  # the header first; the first column is text, the others are numbers

_LEGEND = (
    "Recall in %. In: whether the published number lies in the 95 % interval (in brackets). Images: in the paper / here; n: "
    "images that the recall is computed on. A published balanced accuracy is computed from its column."
)
_IMPOSSIBLE = " † An impossible number, see the notes."
_SOURCE = "The full account: docs/paper.md of tametail."


def as_text(comparison: Comparison, interpretation: Sequence[str]) -> str:
    """Plain text for a terminal; of the two evaluations on the test set, the classes of the first alone."""
    kind = comparison.kinds[0]
    blocks = [
        _title(comparison),
        _list("Differs from the paper in:", _stated(comparison)),
        _list("Not stated in the paper; used here:", comparison.differences.unstated),
        _test_set(comparison),
        f"Balanced accuracy, %\n{_aligned(_summary(comparison))}",
        *(
            f"{_heading(column)}: {KINDS[kind]}\n{_aligned(_classes(comparison, column, kind))}"
            for column in comparison.measured
        ),
        _legend(comparison),
        _list("Notes on the published numbers:", comparison.notes),
        _list("Interpretation:", interpretation),
    ]
    return "\n\n".join(blocks)


def as_markdown(comparison: Comparison, interpretation: Sequence[str]) -> str:
    """All of it as Markdown."""
    blocks = [
        f"# {_title(comparison)}",
        "## Differs from the paper in",
        _bullets(_stated(comparison)),
        "## Not stated in the paper; used here",
        _bullets(comparison.differences.unstated),
        _test_set(comparison),
        "## Balanced accuracy, %",
        _table(_summary(comparison)),
        _legend(comparison),
    ]
    for kind in comparison.kinds:
        blocks.append(f"## Classes: {KINDS[kind]}")
        for column in comparison.measured:
            blocks += [f"### {_heading(column, tick='`')}", _table(_classes(comparison, column, kind))]
    blocks += ["## Notes on the published numbers", _bullets(comparison.notes), _SOURCE]
    blocks += ["## Interpretation", _bullets(interpretation)]
    return "\n\n".join(blocks) + "\n"


def _title(comparison: Comparison) -> str:
    experiment = comparison.experiment
    return f"Table {experiment.number} of the paper ({experiment.title}), on {comparison.data}"


def _stated(comparison: Comparison) -> Sequence[str]:
    return comparison.differences.stated or (NO_DIFFERENCE,)


def _test_set(comparison: Comparison) -> str:
    evaluated = times(comparison.test_set_evaluations)
    if "out_of_fold" in comparison.kinds:
        state = "is held out"
        if comparison.test_set_evaluations:
            state = f"was evaluated {evaluated} before, and is not shown"
        return f"The test set {state}: each image of the training set is predicted by a model that has not seen it."
    return (
        f"This command evaluates on the test set, as the paper does. It was evaluated {evaluated}, which the study records; "
        "whatever is selected from now on must be evaluated on other images."
    )


def _legend(comparison: Comparison) -> str:
    rows = chain.from_iterable(
        of_kind.values() for column in comparison.columns for of_kind in column.rows.values()
    )
    return _LEGEND + (_IMPOSSIBLE if any(row.recall.impossible or row.f1.impossible for row in rows) else "")


def _heading(column: ColumnComparison, tick: str = "") -> str:
    return f"{column.name} ({tick}{column.method}{tick})"


def _summary(comparison: Comparison) -> Grid:
    models = f"{comparison.models} fold models"
    names = {
        "fold_models": f"mean of {models}",
        "ensemble": f"ensemble of {models}",
        "out_of_fold": "cross-validation",
    }
    grid = [["Method", "published", *chain.from_iterable((names[kind], "in") for kind in comparison.kinds)]]
    for column in comparison.columns:
        cells = [column.status, *[ABSENT] * (2 * len(comparison.kinds) - 1)]
        if column.rows:
            numbers = [column.balanced_accuracy[kind] for kind in comparison.kinds]
            cells = [cell for one in numbers for cell in (percent_with_interval(one.measured), _inside(one))]
        grid.append([column.name, percent(comparison.experiment.published.mean_recall(column.name)), *cells])
    return grid


def _classes(comparison: Comparison, column: ColumnComparison, kind: Kind) -> Grid:
    measured = ["measured", "in"]
    grid = [["Class", "train", "test", "n", "Recall published", *measured, "F1 published", *measured]]
    for name, row in column.rows[kind].items():
        images = [
            f"{published:,} / {here:,}" for published, here in (comparison.train[name], comparison.test[name])
        ]
        recall, f1 = row.recall, row.f1
        numbers = [_published(recall), percent_with_interval(recall.measured), _inside(recall)]
        numbers += [_published(f1), score_with_interval(f1.measured), _inside(f1)]
        grid.append([name, *images, f"{recall.measured.n:,}", *numbers])
    return grid


def _published(number: NumberComparison) -> str:
    return f"{number.published}{'†' if number.impossible else ''}"


def _inside(number: NumberComparison) -> str:
    return "yes" if number.inside else "no"


def _list(title: str, lines: Sequence[str]) -> str:
    return "\n".join([title, *(f"  - {line}" for line in lines)])


def _aligned(grid: Grid) -> str:
    return "\n".join(f"  {line}" for line in align_columns(grid, right=True))


def _table(grid: Grid) -> str:
    return markdown_lines(grid[0], ["---", *[NUMBER] * (len(grid[0]) - 1)], grid[1:])


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def interpretation(comparison: Comparison) -> tuple[str, ...]:
    """Sentences on a comparison, from what agrees to what cannot be concluded."""
    if not comparison.measured:
        return ("There are no results yet: no method has finished all its runs.",)
    kind = comparison.kinds[0]
    return (
        _agreement(comparison, kind),
        _order(comparison, kind),
        _limits(comparison),
        _small_classes(comparison),
    )


def _agreement(comparison: Comparison, kind: Kind) -> str:
    rows = [row for column in comparison.measured for row in column.rows[kind].values()]
    recalls = [row.recall.inside for row in rows if not row.recall.impossible]
    f1s = [row.f1.inside for row in rows if not row.f1.impossible]
    overall = [column.balanced_accuracy[kind].inside for column in comparison.measured]
    count = sum(row.recall.impossible + row.f1.impossible for row in rows)
    return (
        f"The 95 % intervals ({KINDS[kind]}) contain {_of(recalls)} published recalls, {_of(f1s)} F1 and "
        f"{_of(overall)} balanced accuracies{f'; {count} impossible (†) not counted' if count else ''}."
    )


def _of(inside: list[bool]) -> str:
    return f"{sum(inside)} of {len(inside)}"


def _order(comparison: Comparison, kind: Kind) -> str:
    columns = comparison.measured
    if len(columns) == 1:
        return f"Only {columns[0].name} has results, so no order can be compared."
    published = sorted(columns, key=lambda column: -column.balanced_accuracy[kind].share)
    here = sorted(columns, key=lambda column: -column.balanced_accuracy[kind].measured.value)
    first = here[0]
    close = [column.name for column in here[1:] if _overlap(first, column, kind)]
    several = len(close) > 1
    overlaps = (
        f"the interval{'s' * several} of {join_names(close)} overlap{'s' * (not several)} with that of {first.name}, so the "
        "difference may be due to chance"
        if close
        else f"no other interval overlaps with that of {first.name}, although this is not a paired test"
    )
    names = [", ".join(column.name for column in order) for order in (published, here)]
    same = "the same order" if published == here else "another order"
    return f"Order by balanced accuracy: published {names[0]}; measured {names[1]}, {same}; {overlaps}."


def _overlap(one: ColumnComparison, other: ColumnComparison, kind: Kind) -> bool:
    a, b = one.balanced_accuracy[kind].measured, other.balanced_accuracy[kind].measured
    return not (a.low > b.high or b.low > a.high)  # an undefined interval excludes nothing


def _limits(comparison: Comparison) -> str:
    if comparison.differences.stated:
        return (
            "Images or training differ from the paper (see above), so a published number outside an interval is not refuted, and "
            "one inside is not confirmed; only the methods can be compared with each other here."
        )
    return (
        "The intervals cover the sampling of test images alone, not the split, the randomness of training, or what the paper "
        "does not state: any of these may explain a published number outside one."
    )


def _small_classes(comparison: Comparison) -> str:
    test = {name: published for name, (published, _) in comparison.test.items()}
    smallest = min(test, key=lambda name: test[name])
    return (
        f"The published numbers have no intervals and rest on few images as well: {smallest} has {test[smallest]} test images in "
        f"the paper, so one of them is worth {100 / test[smallest]:.1f} points of recall."
    )

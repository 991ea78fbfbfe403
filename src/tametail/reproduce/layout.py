"""A comparison as text for a terminal and as Markdown: differences first, then the tables, the remarks, the reading."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain

from tametail.evaluation import Estimate
from tametail.report import formatting
from tametail.reproduce.comparison import KINDS, Column, Comparison, Kind, Pair
from tametail.reproduce.differences import NOTHING_TOLD

Grid = list[list[str]]  # the header first; the first column is text, the others are numbers

_NOTE = (
    "Acc is recall in %. In: whether the printed number lies in the measured 95 % interval (in brackets). Images: in the "
    "paper / here; n: images that the measured recall is of. A balanced accuracy in print is what its column gives."
)
_IMPOSSIBLE = " † A number that cannot be, see the remarks."
_AUDIT = "In full, with what is behind them: docs/paper.md of tametail."


def as_text(comparison: Comparison, reading: Sequence[str]) -> str:
    """For a terminal, plain; of the test set's two evaluations the classes of the first alone."""
    blocks = [_title(comparison), _listed_text("Differs from the paper in:", _told(comparison))]
    blocks.append(_listed_text("Left open by the paper; here:", comparison.differences.left_open))
    blocks.append(_state(comparison))
    blocks.append(f"Balanced accuracy, %\n{_aligned(_summary(comparison))}")
    kind = comparison.kinds[0]
    for column in comparison.measured:
        blocks.append(f"{_heading(column)}: {KINDS[kind]}\n{_aligned(_classes(comparison, column, kind))}")
    blocks.append(_note(comparison))
    blocks.append(_listed_text("Remarks on the printed numbers:", comparison.remarks))
    blocks.append(_listed_text("What this says:", reading))
    return "\n\n".join(blocks)


def as_markdown(comparison: Comparison, reading: Sequence[str]) -> str:
    """The whole of it as Markdown."""
    blocks = [f"# {_title(comparison)}", "## Differs from the paper in", _bullets(_told(comparison))]
    blocks += ["## Left open by the paper; here", _bullets(comparison.differences.left_open)]
    blocks += [
        _state(comparison),
        "## Balanced accuracy, %",
        _piped(_summary(comparison)),
        _note(comparison),
    ]
    for kind in comparison.kinds:
        blocks.append(f"## Classes: {KINDS[kind]}")
        for column in comparison.measured:
            blocks += [f"### {_heading(column, tick='`')}", _piped(_classes(comparison, column, kind))]
    blocks += ["## Remarks on the printed numbers", _bullets(comparison.remarks), _AUDIT]
    blocks += ["## What this says", _bullets(reading)]
    return "\n\n".join(blocks) + "\n"


def _title(comparison: Comparison) -> str:
    experiment = comparison.experiment
    return f"Table {experiment.number} of the paper ({experiment.title}), on {comparison.data}"


def _told(comparison: Comparison) -> Sequence[str]:
    return comparison.differences.told or (NOTHING_TOLD,)


def _state(comparison: Comparison) -> str:
    if "out_of_fold" in comparison.kinds:
        opened = formatting.times(comparison.openings)
        state = f"was opened {opened} before, and is not shown" if comparison.openings else "is held out"
        return f"The test set {state}: each image of the training set is predicted by a model that has not seen it."
    times = formatting.times(comparison.openings)
    return (
        f"The test set is open: this command evaluates on it, as the paper does. It was opened {times}, which is recorded "
        f"in the study; whatever is chosen after this must be judged on other images."
    )


def _note(comparison: Comparison) -> str:
    rows = chain.from_iterable(
        of_kind.values() for column in comparison.columns for of_kind in column.rows.values()
    )
    return _NOTE + (_IMPOSSIBLE if any(row.recall.impossible or row.f1.impossible for row in rows) else "")


def _heading(column: Column, tick: str = "") -> str:
    return f"{column.name} ({tick}{column.method}{tick})"


def _summary(comparison: Comparison) -> Grid:
    header = ["Loss", "printed"]
    for kind in comparison.kinds:
        header += [_short(comparison, kind), "in"]
    grid = [header]
    for column in comparison.columns:
        share = comparison.experiment.printed.mean_recall(column.name)
        if not column.rows:
            rest = [column.status, *[formatting.ABSENT] * (2 * len(comparison.kinds) - 1)]
            grid.append([column.name, formatting.percent(share), *rest])
            continue
        pairs = [column.balanced_accuracy[kind] for kind in comparison.kinds]
        cells = chain.from_iterable((_percent(pair.measured), _inside(pair)) for pair in pairs)
        grid.append([column.name, formatting.percent(share), *cells])
    return grid


def _short(comparison: Comparison, kind: Kind) -> str:
    models = f"{comparison.models} fold models"
    return {
        "fold_models": f"mean of {models}",
        "ensemble": f"ensemble of {models}",
        "out_of_fold": "out of fold",
    }[kind]


def _classes(comparison: Comparison, column: Column, kind: Kind) -> Grid:
    grid = [["Class", "train", "test", "n", "Acc printed", "measured", "in", "F1 printed", "measured", "in"]]
    for name, row in column.rows[kind].items():
        images = [
            f"{printed:,} / {here:,}" for printed, here in (comparison.train[name], comparison.test[name])
        ]
        recall, f1 = row.recall, row.f1
        grid.append(
            [
                name,
                *images,
                f"{recall.measured.n:,}",
                *(_printed(recall), _percent(recall.measured), _inside(recall)),
                *(_printed(f1), _score(f1.measured), _inside(f1)),
            ]
        )
    return grid


def _printed(pair: Pair) -> str:
    return f"{pair.printed}{'†' if pair.impossible else ''}"


def _inside(pair: Pair) -> str:
    return "yes" if pair.inside else "no"


def _percent(estimate: Estimate) -> str:
    return _with_interval(estimate, formatting.percent, formatting.percent_interval)


def _score(estimate: Estimate) -> str:
    return _with_interval(estimate, formatting.score, formatting.score_interval)


def _with_interval(
    estimate: Estimate, value: Callable[[float], str], interval: Callable[[Estimate], str]
) -> str:
    limits = interval(estimate)
    return value(estimate.value) + (f" ({limits})" if limits else "")


def _listed_text(title: str, lines: Sequence[str]) -> str:
    return "\n".join([title, *(f"  - {line}" for line in lines)])


def _aligned(grid: Grid) -> str:
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    return "\n".join("  " + "  ".join(_padded(row, widths)).rstrip() for row in grid)


def _padded(row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    for place, (cell, width) in enumerate(zip(row, widths, strict=True)):
        yield cell.rjust(width) if place else cell.ljust(width)


def _piped(grid: Grid) -> str:
    rows = [grid[0], ["---", *["---:"] * (len(grid[0]) - 1)], *grid[1:]]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)

"""A table of results, which pages, Markdown and TeX show alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tametail.evaluation import Estimate
from tametail.report import formatting

Write = Callable[[float], str]


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: as printed.
        below: in small letters, such as an interval.
        key: what the column is sorted by; None for the text, nan for an undefined value.
        best: whether it is the best of its row or column.
        verdict: of a test; it is shown with a sign.
        tag: a small label behind the text.
    """

    text: str
    below: str = ""
    key: float | None = None
    best: bool = False
    verdict: str = ""
    tag: str = ""

    @property
    def plain(self) -> str:
        """``71.2 (68.0–74.3)``."""
        return f"{self.text} ({self.below})" if self.below else self.text


@dataclass(frozen=True)
class Column:
    """The heading of a column.

    Attributes:
        title: as shown.
        above: heading over it and its neighbours with the same one.
        text: whether it holds text, which is aligned left.
        spare: whether a narrow screen leaves it out.
    """

    title: str
    above: str = ""
    text: bool = False
    spare: bool = False

    @property
    def name(self) -> str:
        """The heading with the one above it."""
        return f"{self.above} {self.title}" if self.above else self.title


@dataclass(frozen=True)
class Row:
    """A row; ``kind`` is a name for what it belongs to, such as a class group."""

    cells: tuple[Cell, ...]
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """A table of results.

    Attributes:
        title: says what it shows.
        columns: their headings.
        rows: the body.
        totals: means and sums below the body.
        head: index of the column whose cells name the rows.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    totals: tuple[Row, ...] = ()
    head: int = 0

    @property
    def kinds(self) -> dict[str, int]:
        """Number of rows of each kind, in order."""
        found: dict[str, int] = {}
        for row in self.rows:
            found[row.kind] = found.get(row.kind, 0) + 1
        return found

    @property
    def headings(self) -> list[tuple[str, int]]:
        """The upper line of headings with the number of columns of each; empty if there is none."""
        if not any(column.above for column in self.columns):
            return []
        found: list[tuple[str, int]] = []
        for column in self.columns:
            if found and column.above and found[-1][0] == column.above:
                found[-1] = (column.above, found[-1][1] + 1)
            else:
                found.append((column.above, 1))
        return found

    def begins(self, index: int) -> bool:
        """Whether a column is the first below its upper heading."""
        above = self.columns[index].above
        return bool(above) and (not index or self.columns[index - 1].above != above)


def estimate_cell(estimate: Estimate | None, write: Write = formatting.percent) -> Cell:
    """An estimate with its interval; a dash where it is undefined, nothing for None."""
    if estimate is None:
        return Cell("")
    limits = [write(limit) for limit in (estimate.low, estimate.high)]
    between = " to " if write in (formatting.points, formatting.signed) else "–"
    below = between.join(limits) if estimate.low == estimate.low else ""
    return Cell(write(estimate.value), below, estimate.value)


def number_cell(value: float, write: Write) -> Cell:
    """A number without an interval."""
    return Cell(write(value), key=value)


def count_cell(count: float) -> Cell:
    """A count; of several replicates it may be a mean."""
    return Cell(f"{count:,.10g}", key=count)


def marked(cells: Sequence[Cell], *, greater_is_better: bool = True) -> list[Cell]:
    """The same cells, with those marked that are the best as printed; none if all are equal or there is only one."""
    sign = 1 if greater_is_better else -1
    defined = [cell for cell in cells if cell.key is not None and cell.key == cell.key]
    if len({cell.text for cell in defined}) < 2:
        return list(cells)
    best = max(defined, key=lambda cell: sign * (cell.key or 0.0)).text
    return [replace(cell, best=cell in defined and cell.text == best) for cell in cells]

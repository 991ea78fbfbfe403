r"""results.tex: the ranking and the table of the paper (classes × methods), for ``\input`` with booktabs.

Each value is printed above its 95 % interval. The highest value of a row, or of a column of the ranking, is bold, as are
all that are equal to it as printed.
"""

from __future__ import annotations

from collections.abc import Sequence

from tametail.report.study import narrative
from tametail.report.study.results import StudyResults
from tametail.report.study.tables import (
    Choose,
    class_table,
    method_table,
    out_of_fold,
    test_ensemble,
    test_mean,
)
from tametail.report.table import Cell, Row, Table
from tametail.report.writers.latex_text import ABSENT_TEX, breakable, number_tex, tabular, tex

RESULTS_TEX = "results.tex"
MOST_ACROSS = 3  # methods side by side that fit on a page with their intervals
_LONG = 14  # letters of a method's name from which it is broken


def results_tex(results: StudyResults) -> str:
    """All tables as TeX, methods in the order of their rank."""
    head = [
        f"% {' '.join(tex(results.settings['name']).split())}: made by tametail, to be read with \\input{{results}}",
        "% In the preamble: \\usepackage{booktabs}",
    ]
    if results.settings["synthetic"]:
        head.append(f"% {narrative.SYNTHETIC}")
    waiting = [
        f"% Not finished, and therefore not ranked: {tex(line)}" for line in narrative.not_ranked(results)
    ]
    blocks = ["\n".join([*head, *waiting])]
    where = narrative.comparison_terms(results).where
    if results.ranking:
        blocks += [_ranking(results, where), *_classes(results, out_of_fold, "oof", where)]
    for choose, key, which in (
        (test_mean, "test", "mean over the fold models"),
        (test_ensemble, "ensemble", "ensemble of the fold models"),
    ):
        blocks += _classes(results, choose, key, f"test set, {which}")
    return "\n\n".join(blocks) + "\n"


def _ranking(results: StudyResults, where: str) -> str:
    whole = method_table(results, results.ranking, title="Ranking", in_print=True, compared=True)
    table = _columns(whole, [i for i, one in enumerate(whole.columns) if one.title not in ("Verdict", "n")])
    test = ""
    if results.pairs is not None:
        test = (
            f" Difference from the first in points, with $p$ of {tex(narrative.primary_test(results))}, Holm-corrected over all "
            r"pairs; significant where $p \le 0.05$ and the interval excludes 0."
        )
    return _float(table_tex(table), f"Ranking. {_caption(results, out_of_fold, where)}{test}", "ranking")


def _classes(results: StudyResults, choose: Choose, key: str, where: str) -> list[str]:
    """Classes × methods, in several tables for many methods."""
    chosen = [result for result in results.ranking if choose(result) is not None]
    unit = "Label" if results.multi_label else "Class"
    whole = class_table(results, chosen, choose, title=unit)
    sizes = len(whole.columns) - 2 * len(chosen)
    first = [i for i in range(sizes) if whole.columns[i].title not in ("Groups", "Negatives")]
    parts = -(-len(chosen) // MOST_ACROSS)
    blocks = []
    for number in range(parts):
        start = sizes + 2 * number * MOST_ACROSS
        across = range(start, min(start + 2 * MOST_ACROSS, len(whole.columns)))
        part = f" Part {number + 1} of {parts}." if parts > 1 else ""
        caption = f"{unit} by {unit.lower()}.{part} {_caption(results, choose, where)}"
        table = table_tex(_columns(whole, [*first, *across]))  # the best is that of all parts
        blocks.append(_float(table, caption, f"{key}-{number + 1}" if parts > 1 else key))
    return blocks


def _columns(table: Table, kept: Sequence[int]) -> Table:
    """Some columns of a table."""

    def only(rows: tuple[Row, ...]) -> tuple[Row, ...]:
        return tuple(Row(tuple(row.cells[index] for index in kept), row.kind) for row in rows)

    columns = tuple(table.columns[index] for index in kept)
    return Table(table.title, columns, only(table.rows), only(table.totals))


def table_tex(table: Table) -> str:
    """A table as TeX: each row in a line of values and, if it has intervals, a line of these."""
    header = []
    if table.headings:
        above, rules, column = [], [], 1
        for heading, count in table.headings:
            above.append(rf"\multicolumn{{{count}}}{{c}}{{{_name(heading)}}}" if heading else "")
            if heading:
                rules.append(rf"\cmidrule(lr){{{column}-{column + count - 1}}}")
            column += count
        header += [above, ["".join(rules)]]
    header.append([tex(column.title) for column in table.columns])
    bodies = [
        [line for row in rows for line in _lines(table, row)] for rows in (table.rows, table.totals) if rows
    ]
    return tabular("".join("l" if column.text else "r" for column in table.columns), header, bodies)


def _lines(table: Table, row: Row) -> list[list[str]]:
    values = [
        _name(cell.text) if column.text else _value(cell)
        for column, cell in zip(table.columns, row.cells, strict=True)
    ]
    if not any(cell.below for cell in row.cells):
        return [values]
    return [values, [_small(number_tex(cell.below)) for cell in row.cells]]


def _value(cell: Cell) -> str:
    return rf"\textbf{{{number_tex(cell.text)}}}" if cell.best else number_tex(cell.text)


def _small(text: str) -> str:
    return rf"{{\scriptsize {text}}}" if text else ""


def _name(text: str) -> str:
    if len(text) <= _LONG:
        return tex(text)
    return rf"\parbox[b]{{8em}}{{\raggedright\hspace{{0pt}}{breakable(text)}}}"


def _caption(results: StudyResults, choose: Choose, where: str) -> str:
    evaluation = next(found for result in results.ranking if (found := choose(result)) is not None)
    size = tex(narrative.evaluated_rows(results, evaluation))
    synthetic = f" {narrative.SYNTHETIC}" if results.settings["synthetic"] else ""
    said = (
        f"{tex(results.settings['name'])}, {where}, $n$ = {size}; 95\\,\\% intervals below the values; "
        f"{ABSENT_TEX}: undefined."
    )
    return f"{said} Bold is the highest value; this is not a test.{synthetic}"


def _float(table: str, caption: str, key: str) -> str:
    return "\n".join(
        [
            r"\begin{table}[htbp]",
            r"\centering\footnotesize\setlength{\tabcolsep}{2.5pt}",
            rf"\caption{{{caption}}}\label{{tab:tametail-{key}}}\par\smallskip",
            table,
            r"\end{table}",
        ]
    )

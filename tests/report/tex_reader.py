"""A reader of the tables in results.tex that knows no more TeX than they may use, and stumbles over anything else."""

from __future__ import annotations

import re
from dataclasses import dataclass

COMMANDS = {
    "begin", "end", "centering", "footnotesize", "setlength", "tabcolsep", "caption", "label", "par", "smallskip", "toprule",
    "midrule", "bottomrule", "cmidrule", "multicolumn", "parbox", "raggedright", "hspace", "allowbreak", "textbf", "scriptsize",
    "textbackslash", "textasciitilde", "textasciicircum", "textless", "textgreater", "textbar", "ifdefined", "Umathchar", "else",
    "fi", "le",
}  # fmt: skip
LETTERS = set("{}$&#_%,` ")  # that may follow a backslash


@dataclass(frozen=True)
class Table:
    """A tabular: its column letters, and its rows of cells as they are written."""

    columns: str
    rows: tuple[tuple[str, ...], ...]
    caption: str


def read_tables(text: str) -> list[Table]:
    """The tables of a file.

    Raises:
        AssertionError: an unknown command, a brace or environment without its other, or a row of another width.
    """
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    assert not re.search(r"(?<!\\)%", body), "a comment swallows the rest of its line"
    assert not re.search(r"(?<!\\)[#~^]|(?<!\\)_", body), "a letter with a meaning of its own"
    for command in re.findall(r"\\([A-Za-z]+|.)", body.replace("\\\\", "")):
        assert command in COMMANDS or command in LETTERS, command
    assert len(re.findall(r"(?<!\\)\$", body)) % 2 == 0, "mathematics is closed"
    _balanced(body)
    opened = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", body):
        if kind == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert not opened
    return [_table(part) for part in body.split(r"\begin{table}")[1:]]


def _balanced(text: str) -> None:
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", text.replace("\\\\", "")):
        depth += 1 if brace == "{" else -1
        assert depth >= 0
    assert depth == 0


def _table(text: str) -> Table:
    found = re.search(r"\\begin\{tabular\}\{(\w+)\}(.*)\\end\{tabular\}", text, flags=re.DOTALL)
    assert found
    columns, inner = found.groups()
    inner = re.sub(r"\\(toprule|midrule|bottomrule)|\\cmidrule\(lr\)\{[\d-]+\}", "", inner)
    rows = [tuple(re.split(r"(?<!\\)&", row)) for row in inner.split("\\\\") if row.strip()]
    for row in rows:
        assert not row[0].strip().startswith(("[", "*")), "it would be an option of the line's end"
        width = sum(
            int(m.group(1)) if (m := re.match(r"\s*\\multicolumn\{(\d)\}", cell)) else 1 for cell in row
        )
        assert width == len(columns), row
    caption = text[text.index(r"\caption{") : text.index(r"\label")]
    return Table(columns, tuple(tuple(cell.strip() for cell in row) for row in rows), caption)

"""Find phrases and old names that the project no longer uses.

    python scripts/check_language.py            the working tree, with the terms of scripts/language_terms.txt
    python scripts/check_language.py FILE...    these files only

Each line of the term list is ``kind | pattern | use instead``:

- ``phrase``: words, in any case and across line breaks; ``*`` stands for the rest of a word
- ``name``: a Python identifier, in code, in backticks and in template expressions
- ``option``: a command-line option
- ``file``: a file, also as ``test_<file>.py``; one with a folder also as a module, ``tametail.<folder>.<file>``

Prints ``file:line: found; use: replacement`` and exits with 1 if anything is found.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
TERMS = ROOT / "scripts" / "language_terms.txt"
SUFFIXES = {".cff", ".css", ".j2", ".js", ".json", ".md", ".py", ".sh", ".toml", ".txt", ".yaml", ".yml", ""}
KINDS = ("phrase", "name", "option", "file")

# Between two words of a phrase: blanks, a line break with its comment sign, or the border of two string literals.
GAP = r"""[*_`]*(?:["']\s*\n\s*[rfb]{0,2}["']\s*|\s*\n[ \t]*(?:\#|//|>|\*|-)?[ \t]*|[ \t]+(?:["']\s*\n\s*[rfb]{0,2}["'])?)[*_`]*"""
IN_BACKTICKS = re.compile(r"`[^`\n]+`")
CODE_IN_TEXT = re.compile(r"`[^`\n]+`|\{\{.*?\}\}|\{%.*?%\}|^```.*?^```", re.DOTALL | re.MULTILINE)


class Term(NamedTuple):
    """One line of the term list."""

    kind: str
    pattern: str
    instead: str


class Finding(NamedTuple):
    """One occurrence of a term."""

    path: Path
    line: int
    found: str
    instead: str


def read_terms(path: Path) -> list[Term]:
    """Read a term list.

    Raises:
        ValueError: If a line has another form.
    """
    terms = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = [cell.strip() for cell in line.split(" | ")]
        if len(cells) != 3 or cells[0] not in KINDS or not all(cells):
            raise ValueError(f"{path}:{number}: expected 'kind | pattern | use instead', got {line!r}")
        terms.append(Term(*cells))
    return terms


def expression(term: Term) -> re.Pattern[str]:
    """Compile the regular expression of a term."""
    if term.kind == "phrase":
        words = [re.escape(word).replace(r"\*", r"\w*") for word in term.pattern.split()]
        return re.compile(r"(?<![\w-])" + GAP.join(words) + r"(?![\w-])", re.IGNORECASE)
    if term.kind == "file":
        path = re.escape(term.pattern.removesuffix(".py"))
        if "/" not in path:
            # A single word is a file only with its suffix, as the word itself is English.
            after = r"\.py" if re.fullmatch(r"[a-z]+\.py", term.pattern) else r"(?:\.py)?(?!\w)"
            return re.compile(rf"(?<!\w)(?:test_)?{path}{after}")
        folder, _, stem = path.rpartition("/")
        file = rf"(?:src/|tests/)?(?:tametail/)?{folder}/(?:test_)?{stem}(?:\.py)?"
        module = rf"tametail\.{path.removeprefix('tametail/').replace('/', chr(92) + '.')}"
        return re.compile(rf"(?<![\w/])(?:{file}|{module})(?!\w)")
    return re.compile(rf"(?<![\w-]){re.escape(term.pattern)}(?![\w-])")


class Checker:
    """Finds the terms of a list in texts.

    A quick search for words comes first, so that regular expressions are used only on texts that have all words of a
    term in a row.

    Args:
        terms: The terms to look for.
    """

    def __init__(self, terms: Iterable[Term]) -> None:
        # Longer terms first: what is part of a longer one is reported once.
        ordered = sorted(terms, key=lambda term: -len(term.pattern))
        self._terms = [(term, expression(term), _plain(term)) for term in ordered]
        self._names = {term.pattern: term.instead for term, _, _ in self._terms if term.kind == "name"}

    def find(self, path: Path, text: str) -> Iterator[Finding]:
        """Yield the findings in one text; the suffix of the path says what kind of text it is."""
        words = re.findall(r"\w+", text)
        known = set(words)
        joined = " " + " ".join(words).lower().replace(" f ", " ") + " "
        reported: list[tuple[int, int]] = []
        for term, pattern, plain in self._terms:
            if term.kind == "name" or plain not in joined:
                continue
            for match in pattern.finditer(text):
                if not any(start <= match.start() and match.end() <= end for start, end in reported):
                    reported.append(match.span())
                    yield self._finding(path, text, match, term.instead)
        names = {name: instead for name, instead in self._names.items() if name in known}
        if not names:
            return
        code = CODE_IN_TEXT
        if path.suffix == ".py":
            code = IN_BACKTICKS
            for line, name in identifiers(text):
                if name in names:
                    yield Finding(path, line, name, names[name])
        for region in code.finditer(text):
            for match in re.compile(r"\w+").finditer(text, *region.span()):
                if match[0] in names:
                    yield self._finding(path, text, match, names[match[0]])

    def find_in_path(self, path: Path) -> Iterator[Finding]:
        """Yield a finding if a file has the name of a ``file`` term."""
        for term, pattern, _ in self._terms:
            if term.kind == "file" and any(
                match.end() == len(match.string) for match in pattern.finditer(path.as_posix())
            ):
                yield Finding(path, 1, path.name, term.instead)

    @staticmethod
    def _finding(path: Path, text: str, match: re.Match[str], instead: str) -> Finding:
        return Finding(path, text.count("\n", 0, match.start()) + 1, " ".join(match[0].split()), instead)


def _plain(term: Term) -> str:
    """Return the words of a term in lower case, as they must follow each other in a text."""
    pattern = term.pattern.removesuffix(".py").lower()
    plain = " " + " ".join(re.findall(r"\w+", pattern))
    if term.kind == "file":
        return plain.lstrip()
    return plain if pattern.endswith("*") else plain + " "


def identifiers(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and text of each identifier of a Python source; none if it does not parse."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 1)
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield line, name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield line, name
            case ast.keyword(arg=str(name)):
                yield line, name
            case ast.alias(name=name, asname=other):
                yield line, name
                if other:
                    yield line, other


def text_files(root: Path) -> list[Path]:
    """Return tracked and untracked, not ignored text files below a root, relative to it."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    return [
        path
        for path in map(Path, sorted(set(filter(None, listed))))
        if path.suffix in SUFFIXES and (root / path) != TERMS and (root / path).is_file()
    ]


def main(arguments: list[str]) -> int:
    """Print all findings; return 1 if there are any."""
    checker = Checker(read_terms(TERMS))
    findings = []
    for path in [Path(argument) for argument in arguments] or text_files(ROOT):
        text = (ROOT / path).read_text(encoding="utf-8", errors="replace")
        findings += [*checker.find_in_path(path), *checker.find(path, text)]
    for finding in sorted(findings):
        print(f"{finding.path}:{finding.line}: {finding.found}; use: {finding.instead}")
    if findings:
        print(f"{len(findings)} findings. The words to use are listed in scripts/language_terms.txt.")
    return int(bool(findings))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

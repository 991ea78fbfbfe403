"""List every option with its place of declaration and the commands that have it.

    python scripts/list_options.py

Exits with 1 if an option is declared twice, or if a command and its Python function differ in their options.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections import defaultdict
from pathlib import Path

import tametail
from tametail.cli.app import COMMANDS
from tametail.core import options as declarations
from tametail.core.option import declared
from tametail.reproduce import reproduce

SOURCE = Path(declarations.__file__)
# Commands whose Python function has another name.
FUNCTIONS = {"test_set": "evaluate_test_set", "predict": "load", "inspect": "audit"}
# Options of the command line alone: what a caller in Python does with the result or with errors.
COMMAND_ONLY = {"quiet", "debug", "context", "json"}
# Functions that return an object, which their command writes to --out; predict also predicts.
# inspect --labels is `inspect_labels`.
RETURNS_OBJECT = {
    "predict": {
        "out",
        "prevalence",
        "adapt_prevalence",
        "coverage",
        "sets",
        "operating",
        "image_paths",
        "group_from",
        "html",
    },
    "inspect": {"out", "labels"},
    "subsample": {"out"},
    "monitor": {"out"},
}
# --format is that of packed data or of an exported model, with other choices.
TWO_MEANINGS = {"format"}
# Parameters of Python functions alone.
PYTHON_ONLY = {"console", "stats"}


def declared_lines() -> dict[str, list[int]]:
    """The lines on which each option is declared."""
    found = defaultdict(list)
    for node in ast.walk(ast.parse(SOURCE.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef):
            for field in node.body:
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                    found[field.target.id].append(field.lineno)
    return found


def problems() -> list[str]:
    """What is wrong, in words."""
    found = [
        f"{name} is declared on lines {lines}"
        for name, lines in declared_lines().items()
        if len(lines) > 1 and name not in TWO_MEANINGS
    ]
    for command in COMMANDS:
        name = command.__name__
        if name in {"losses", "strategies", "gradients", "launch"}:  # they print, or start processes
            continue
        function = reproduce if name == "reproduce" else getattr(tametail, FUNCTIONS.get(name, name))
        ours = set(inspect.signature(command).parameters) - COMMAND_ONLY - RETURNS_OBJECT.get(name, set())
        theirs = set(inspect.signature(function).parameters) - PYTHON_ONLY
        if ours != theirs:
            found.append(
                f"tametail {name} and its Python function differ in {', '.join(sorted(ours ^ theirs))}"
            )
    return found


def main() -> int:
    """Print the options and what is wrong with them."""
    used = defaultdict(list)
    for command in COMMANDS:
        for name in inspect.signature(command).parameters:
            used[name].append(command.__name__.replace("_", "-"))
    known = declared(*declarations.GROUPS)
    for name, lines in sorted(declared_lines().items()):
        print(f"{known[name].flag:20} {SOURCE.name}:{lines[0]:<5} {', '.join(used[name])}")
    wrong = problems()
    print("\n".join(wrong), file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())

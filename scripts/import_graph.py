"""The imports of the package: top-level folders, dependencies between them, and import cycles.

A room is a folder or a file at the top of src/tametail. An arrow is an ordered pair of rooms of which the first imports
the second at run time, including inside functions; imports for type checkers only do not count. A circle is a set of files
that import each other.

    python scripts/import_graph.py            counts
    python scripts/import_graph.py --arrows   each arrow with its imports
    python scripts/import_graph.py --check    fails above the limits, or if a name with _ is imported from another room
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src"
MOST_ROOMS, MOST_ARROWS = 22, 110


def module_of(path: Path) -> str:
    """``src/tametail/data/table.py`` → ``tametail.data.table``."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """The folder or file at the top of the package that a module lies in."""
    return module.split(".")[1] if "." in module else "__init__"


def runtime_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under ``if TYPE_CHECKING:``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from runtime_nodes(child)


def imports_of(path: Path, modules: set[str]) -> Iterator[tuple[str, str]]:
    """Modules of the package that a file imports at run time, each with the name it takes ("" for the module)."""
    for node in runtime_nodes(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if inner in modules:
                    yield inner, ""
                elif node.module in modules:
                    yield node.module, alias.name
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in modules:
                    yield alias.name, ""


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected components of more than one module (Tarjan)."""
    found: list[list[str]] = []
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in graph[module]:
            if other not in index:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            component = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(component) > 1:
                found.append(sorted(component))

    for module in sorted(graph):
        if module not in index:
            visit(module)
    return found


def main() -> int:
    """Print the counts; with --check, 1 where a limit is broken."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--arrows", action="store_true")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    sys.setrecursionlimit(10_000)
    files = {module_of(path): path for path in sorted((SOURCE / "tametail").rglob("*.py"))}
    graph: dict[str, set[str]] = {module: set() for module in files}
    arrows: dict[tuple[str, str], set[str]] = defaultdict(set)
    private: list[str] = []
    for module, path in files.items():
        for other, name in imports_of(path, set(files)):
            if other != module:
                graph[module].add(other)
            if room_of(module) != room_of(other):
                arrows[room_of(module), room_of(other)].add(f"{module} -> {other}")
                if name.startswith("_") and not name.startswith("__"):
                    private.append(f"{module} takes {name} from {other}")
    # The package itself is imported by every import of a part of it; it imports nothing but the version at once.
    rooms = {room_of(module) for module in files}
    found = circles(graph)
    if options.arrows:
        for (one, other), why in sorted(arrows.items()):
            print(f"{one} -> {other}: {len(why)}, such as {min(why)}")
    print(f"{len(files)} files, {len(rooms)} rooms, {len(arrows)} arrows, {len(found)} circles of files")
    for component in found:
        print("circle: " + ", ".join(component))
    for line in private:
        print(line)
    broken = len(rooms) > MOST_ROOMS or len(arrows) > MOST_ARROWS or bool(found) or bool(private)
    return int(options.check and broken)


if __name__ == "__main__":
    sys.exit(main())

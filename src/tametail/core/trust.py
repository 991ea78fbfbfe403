"""Whether code that a file names may be run.

A loss named ``package.module:Class`` is imported, which runs its module, also one in the current folder. Who types such a
name wants that; who reads a folder received from somebody else need not. So a name from a file is imported only if the user
trusts the code in that file, or gave the same name himself. Nothing is trusted by default.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path

from tametail.core.errors import UsageError


@dataclass(frozen=True)
class Trust:
    """What the user trusts.

    Attributes:
        code: all code that files name, as given by ``--trust-code``.
        given: names of code that the user gave too.
    """

    code: bool = False
    given: frozenset[str] = frozenset()

    def allows(self, text: str) -> bool:
        """Whether a method from a file may be parsed, which imports the code that it names."""
        name = code_name(text)
        return not name or self.code or name in self.given

    def check(self, texts: Iterable[str], file: Path) -> None:
        """Refuse methods with code that is not trusted.

        Args:
            texts: of methods.
            file: where they stand.

        Raises:
            UsageError: it says what would be run.
        """
        for text in texts:
            if not self.allows(text):
                name = code_name(text)
                raise UsageError(
                    f"expected --trust-code for the code that {file} names: {name} would run {_module_file(name)}; add the "
                    f"option (in Python trust_code=True) if you trust this code, or use other methods"
                )


NO_TRUST = Trust()


def code_name(text: str) -> str:
    """The ``package.module:Class`` in the text of a method; empty if it names no code."""
    name = text.partition("[")[0].partition("+")[0].strip()
    return name if ":" in text.partition("[")[0] else ""


def _module_file(name: str) -> str:
    """The file that an import would run, as far as it can be found without running anything."""
    top, *inner = name.partition(":")[0].split(".")
    try:
        found = PathFinder.find_spec(top) or PathFinder.find_spec(top, [os.getcwd()])
    except (ImportError, ValueError):
        found = None
    if found is None:
        return f"the module {top}, which is neither installed nor in {os.getcwd()}"
    for folder in found.submodule_search_locations or ():
        path = Path(folder, *inner)
        for file in (path.with_name(f"{path.name}.py"), path / "__init__.py"):
            if inner and file.is_file():
                return str(file)
    return found.origin or f"the package {top}"

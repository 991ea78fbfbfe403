"""The documentation names commands and options that exist, and its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from tametail.cli.app import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
CODE = re.compile(r"^```.*?^```|^ {4}[^\n]*|`[^`\n]+`", re.DOTALL | re.MULTILINE)
CALL = re.compile(r"(?<![\w-])(?<!import )tametail ([a-z][\w-]*)((?:[^`\n&]|\\\n)*)")


def anchors(page: Path) -> set[str]:
    """Anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_and_their_options_exist(page: Path) -> None:
    commands = vars(typer.main.get_command(app))["commands"]
    code = "\n".join(CODE.findall(page.read_text(encoding="utf-8")))
    for call in CALL.finditer(code):
        assert call[1] in commands, call[0]
        groups = [commands[call[1]], *getattr(commands[call[1]], "commands", {}).values()]
        if call[1] == "launch":  # the options of the command after it as well
            groups += [commands[name] for name in re.findall(r"\b(?:compare|resume)\b", call[2])]
        known = {
            name
            for group in groups
            for option in group.params
            for name in option.opts + option.secondary_opts
        }
        used = re.findall(r"(?<![\w-])--[a-z][\w-]*", call[2].partition("  #")[0])
        assert set(used) <= known, call[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        linked = (page.parent / file).resolve() if file else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target

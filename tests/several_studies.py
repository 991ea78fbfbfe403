"""Studies of the same losses on several made-up data sets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from class_study import write_study


def rename(study: Path, name: str, fingerprint: str) -> Path:
    """Give a study another name and another table of images."""
    settings = json.loads((study / "study.json").read_text(encoding="utf-8"))
    settings["name"] = name
    settings["table"]["fingerprint"] = fingerprint * 64
    (study / "study.json").write_text(json.dumps(settings), encoding="utf-8")
    return study


def write_sets(
    folder: Path, names: Sequence[str], *, losses: Sequence[str] = ("alpa", "ce", "focal", "ldam")
) -> list[Path]:
    """One study for each name, of other images each."""
    return [
        rename(
            write_study(
                folder / f"set{number}",
                losses=losses,
                class_names=("a", "b", "c"),
                counts=(20 + 5 * number, 60, 100),
            ),
            name,
            f"{number:x}",
        )
        for number, name in enumerate(names)
    ]

"""The images of an experiment: the paper's set as downloaded, or any set of the same classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tametail.core.errors import DataError
from tametail.data import ImageTable, read_images
from tametail.data.decoding.decode import IMAGE_FORMATS
from tametail.reproduce.experiments import Experiment

_LOOKED_AT = 64  # files whose size is read


def read_paper_set(experiment: Experiment, root: Path | None) -> ImageTable:
    """Read the folder (or table, or MedMNIST file) of an experiment.

    A folder with the files of the set as downloaded is read as that set, any other as `read_images` reads it.

    Raises:
        DataError: it is absent (the message says where the paper's set is to be had) or unreadable.
    """
    if root is None or not root.exists():
        return read_images(experiment.layouts[0].known_set, root=root)
    for layout in experiment.layouts:
        if root.is_dir() and any(next(root.glob(mark), None) for mark in layout.marks):
            return read_images(layout.known_set, root=root)
    return read_images(root)


def match_classes(experiment: Experiment, table: ImageTable) -> dict[str, str]:
    """Printed class → class of the table, each once; spelling, capitals and signs may differ.

    Raises:
        DataError: the table lacks a class, or has another one; the message names both sides.
    """
    printed = experiment.printed.classes
    spelled = {
        _plain(spelling): name for name in printed for spelling in (name, *experiment.spellings.get(name, ()))
    }
    found: dict[str, str] = {}
    foreign: list[str] = []
    for name in table.class_names:
        meant = spelled.get(_plain(name))
        if meant is None or meant in found:
            foreign.append(name)
        else:
            found[meant] = name
    missing = [name for name in printed if name not in found]
    if missing or foreign:
        raise DataError(
            f"Table {experiment.number} is about the {len(printed)} classes {', '.join(printed)}, but {table.name} has "
            f"the {len(table.class_names)} classes {', '.join(table.class_names)}; missing: "
            f"{', '.join(missing) or 'none'}, foreign: {', '.join(foreign) or 'none'}. Give a set of these classes with "
            f"--root, or use tametail compare for another set"
        )
    return {name: found[name] for name in printed}


def file_sizes(paths: Sequence[Path]) -> list[tuple[int, int]]:
    """The distinct (width, height) of up to 64 files, evenly spaced over the list; those that cannot be read do not count."""
    from PIL import Image

    sizes = set()
    for path in paths[:: max(1, -(-len(paths) // _LOOKED_AT))]:
        try:
            with Image.open(path, formats=IMAGE_FORMATS) as image:
                sizes.add(image.size)
        except (OSError, ValueError, Image.DecompressionBombError):
            continue  # the study names what it cannot read
    return sorted(sizes)


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())

"""The images of an experiment: the paper's data set as downloaded, or any other with the same classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tametail.core.errors import DataError
from tametail.data import ImageTable, read_images
from tametail.data.decoding.decode import IMAGE_FORMATS
from tametail.reproduce.experiments import Experiment

_MAX_FILES = 64  # whose size is read


def read_paper_set(experiment: Experiment, root: Path | None) -> ImageTable:
    """Read the folder (or table, or MedMNIST file) of an experiment.

    A folder with the files of the download is read as that data set, any other as `read_images` reads it.

    Raises:
        DataError: it is missing (the message says where to get the paper's data set) or unreadable.
    """
    if root is None or not root.exists():
        return read_images(next(iter(experiment.layouts)), root=root)
    for known_set, patterns in experiment.layouts.items():
        if root.is_dir() and any(next(root.glob(pattern), None) for pattern in patterns):
            return read_images(known_set, root=root)
    return read_images(root)


def match_classes(experiment: Experiment, table: ImageTable) -> dict[str, str]:
    """Published class → class of the table, one to one; spelling, case and punctuation may differ.

    Raises:
        DataError: the table lacks a class, or has a further one; the message names both.
    """
    published = experiment.published.classes
    spelled = {
        _plain(spelling): name
        for name in published
        for spelling in (name, *experiment.spellings.get(name, ()))
    }
    found: dict[str, str] = {}
    for name in table.class_names:
        if (meant := spelled.get(_plain(name))) is not None:
            found.setdefault(meant, name)
    unknown = [name for name in table.class_names if name not in found.values()]
    missing = [name for name in published if name not in found]
    if missing or unknown:
        raise DataError(
            f"Table {experiment.number} has the {len(published)} classes {', '.join(published)}, but {table.name} "
            f"has the {len(table.class_names)} classes {', '.join(table.class_names)}; missing: "
            f"{', '.join(missing) or 'none'}, unknown: {', '.join(unknown) or 'none'}. Give a data set with these classes in "
            f"--root, or use tametail compare for another data set"
        )
    return {name: found[name] for name in published}


def file_sizes(paths: Sequence[Path]) -> list[tuple[int, int]]:
    """The distinct (width, height) of up to 64 files, evenly spaced over the list; unreadable files are skipped."""
    from PIL import Image

    sizes = set()
    for path in paths[:: max(1, -(-len(paths) // _MAX_FILES))]:
        try:
            with Image.open(path, formats=IMAGE_FORMATS) as image:
                sizes.add(image.size)
        except (OSError, ValueError, Image.DecompressionBombError):
            continue  # the study reports unreadable files
    return sorted(sizes)


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())

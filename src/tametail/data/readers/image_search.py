"""Files that a table names otherwise than they are stored: in another folder, in another spelling, with another extension.

A file is taken only if it is the only one, and no other entry leads to it, so that no image gets the label of another one.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from tametail.core.text import counted, sample_of
from tametail.data.decoding.slices import is_nifti
from tametail.data.readers.image_entries import DICOM_SUFFIXES, IMAGE_SUFFIXES

_SUFFIXES = (*DICOM_SUFFIXES, *IMAGE_SUFFIXES)
_MANY = 8  # images per folder whose folders are named
_Spelling = Callable[[str], str]


@dataclass(frozen=True)
class SearchedImages:
    """What was found for entries.

    Attributes:
        found: entry → file.
        ambiguous: entry → the files that it may mean.
        notes: how many were found in which way.
    """

    found: Mapping[str, str]
    ambiguous: Mapping[str, Sequence[str]]
    notes: tuple[str, ...]


def search_images(entries: Sequence[str], files: Sequence[str], taken: AbstractSet[str]) -> SearchedImages:
    """Look for the files that entries mean.

    A file fits an entry if one of the two paths ends with the other: ``part_1/a.jpg`` fits ``a.jpg``, and
    ``train/p1/a.jpg`` fits ``CheXpert/train/p1/a.jpg``, but ``p2/a.jpg`` does not fit ``p1/a.jpg``. First names are
    compared as they are, then without their extension, then in any case and Unicode form, then both.

    Args:
        entries: paths or names, with ``/`` or ``\\`` between their parts.
        files: POSIX paths, such as those of `image_files_below`.
        taken: files that other entries name, which are not taken for a second one.
    """
    found: dict[str, tuple[str, str]] = {}
    ambiguous: dict[str, Sequence[str]] = {}
    wanted = list(dict.fromkeys(entries))
    for way, spelling in _WAYS.items():
        fitting_files = _Index(files, {len(_parts(entry, spelling)) for entry in wanted}, spelling)
        for entry in wanted:
            parts = _parts(entry, spelling)
            fitting = fitting_files.find(parts)
            if len(fitting) == 1:
                omitted = spelling is _without_extension and parts == _parts(entry, str)
                found[entry] = fitting[0], "" if omitted else way
            elif fitting:
                ambiguous[entry] = fitting
        wanted = [entry for entry in wanted if entry not in found and entry not in ambiguous]
    uses: dict[str, list[str]] = defaultdict(list)
    for entry, (file, _) in list(found.items()):
        if file in taken:
            del found[entry]
        else:
            uses[file].append(entry)
    for file, several in uses.items():
        if len({_parts(entry, _any_spelling) for entry in several}) > 1:
            ambiguous |= {entry: [f"{file} (as {sample_of(several)})"] for entry in several}
    kept = {entry: file for entry, (file, _) in found.items() if entry not in ambiguous}
    return SearchedImages(kept, ambiguous, _notes({entry: found[entry] for entry in kept}))


def _notes(found: Mapping[str, tuple[str, str]]) -> tuple[str, ...]:
    ways = Counter(way for _, way in found.values())
    elsewhere = Counter(
        f"{os.path.dirname(file) or '.'}/"
        for entry, (file, _) in found.items()
        if len(_parts(file, str)) != len(_parts(entry, str))
    )
    notes = [f"{counted(count, 'image')} found by name {way}" for way, count in ways.items() if way]
    if elsewhere:
        # Folders of few images may be named after patients, who do not belong in reports.
        few = elsewhere.total() < _MANY * len(elsewhere)
        where = counted(len(elsewhere), "folder") if few else sample_of(sorted(elsewhere), most=12)
        notes.insert(0, f"{counted(elsewhere.total(), 'image')} found by name in other folders ({where})")
    return tuple(notes)


def _any_spelling(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def _without_extension(text: str) -> str:
    stem, suffix = os.path.splitext(text)
    return stem if suffix.lower() in _SUFFIXES else text


_WAYS: dict[str, _Spelling] = {
    "": str,
    "with another extension": _without_extension,
    "in another case or Unicode form": _any_spelling,
    "in another case and with another extension": lambda text: _any_spelling(_without_extension(text)),
}


def _parts(path: str, spelling: _Spelling) -> tuple[str, ...]:
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
    # Folders may be spelled otherwise wherever the name may.
    return (*map(str if spelling is _without_extension else spelling, parts[:-1]), *map(spelling, parts[-1:]))


class _Index:
    """Files by their path and by the ends of it, so that each entry is looked up once.

    Args:
        lengths: numbers of parts that entries have.
    """

    def __init__(self, files: Sequence[str], lengths: AbstractSet[int], spelling: _Spelling) -> None:
        self._whole: dict[tuple[str, ...], list[str]] = defaultdict(list)
        self._ends: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for file in files:
            parts = _parts(file, spelling)
            self._whole[parts].append(file)
            for length in lengths:
                if 0 < length < len(parts):
                    self._ends[parts[-length:]].append(file)

    def find(self, parts: tuple[str, ...]) -> list[str]:
        """The files whose path ends with an entry's, or with whose path the entry's ends."""
        if ".." in parts:
            return []
        shorter = (self._whole.get(parts[at:], ()) for at in range(len(parts)))
        return [*self._ends.get(parts, ()), *(file for files in shorter for file in files)]


def image_files_below(folder: Path, volumes: bool = False) -> Iterator[str]:
    """Image files, and NIfTI ``volumes``, below a folder, relative to it, without hidden ones and what archive programs add; links to folders are not followed."""
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        prefix = os.path.relpath(where, folder).replace(os.sep, "/")
        prefix = "" if prefix == os.curdir else f"{prefix}/"
        for name in sorted(names):
            known = os.path.splitext(name)[1].lower() in _SUFFIXES or (volumes and is_nifti(name))
            if known and not name.startswith("."):
                yield prefix + name

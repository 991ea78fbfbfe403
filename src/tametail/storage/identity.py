"""What all folders of results have in common: a schema version, a kind, and settings that fix the results."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tametail.core.atomic import make_folder, write_atomically
from tametail.core.errors import DataError, TametailError, UsageError, explain_save_error
from tametail.core.json_file import read_json
from tametail.core.regular_file import unsafe_entries
from tametail.core.removal import temporary_sibling
from tametail.core.text import sample_of

SCHEMA = 6
IDENTITY = (  # the keys that fix the results; checkpoints are identified by them in this order
    "table",
    "class_names",
    "splits",
    "recipe",
    "backbone",
    "weights_digest",
    "image_size",
    "canvas",
    "spec",
)


@dataclass(frozen=True)
class FolderKind:
    """A kind of folder that a command writes.

    Attributes:
        name: with its article, such as ``a study``.
        file: the JSON file that marks such a folder and holds its settings.
        command: the command that makes one.
        own: other names that an interrupted command may leave in it; hidden ones need not be listed.
    """

    name: str
    file: str
    command: str
    own: frozenset[str] = frozenset()


def read_settings(directory: Path, kind: FolderKind) -> dict[str, Any]:
    """Read the JSON file that marks a folder of results.

    Raises:
        DataError: it is absent, damaged, or of another schema.
    """
    expected = f"expected {kind.name} at {directory}"
    _refuse_unsafe(directory, kind)
    try:
        content = read_json(directory / kind.file)
    except (FileNotFoundError, NotADirectoryError):
        if (directory / "model.json").is_file():
            raise DataError(
                f"{expected}, found an exported model, which tametail predict and monitor read; give the folder of its study"
            ) from None
        raise DataError(f"{expected} (a folder with {kind.file}); make one with {kind.command}") from None
    except (OSError, ValueError) as error:
        raise DataError(
            f"{expected}, but its {kind.file} cannot be read: {error}; restore it from a copy, or run {kind.command} "
            f"again in another folder"
        ) from error
    if not isinstance(content, dict) or not {"schema", "format"} & set(content):
        raise DataError(
            f"{expected}, but its {kind.file} is damaged: it has no schema; restore it from a copy, or run {kind.command} "
            f"again in another folder"
        )
    check_schema(directory, content, kind)
    return content


def _refuse_unsafe(directory: Path, kind: FolderKind) -> None:
    """Refuse results with a pipe, device or socket, which a command may wait for ever to read, or a link to another folder.

    What is written into a linked folder would replace files that are not the program's own.
    """
    if not os.path.lexists(directory / kind.file):
        return  # else somebody's whole home folder may be looked through
    unsafe = unsafe_entries(directory)
    if unsafe:
        raise DataError(
            f"expected only files and folders in {directory}, found a pipe, device, socket or link to a folder: "
            f"{sample_of(list(map(str, unsafe)))}; remove it"
        )


def write_settings(directory: Path, kind: FolderKind, content: Mapping[str, Any]) -> None:
    """Write the JSON file that marks a folder of results, in one step.

    Raises:
        TametailError: it cannot be written; the previous content is kept.
    """
    with explain_save_error(directory / kind.file):
        write_atomically(directory / kind.file, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def check_schema(directory: Path, content: Mapping[str, Any], kind: FolderKind) -> None:
    """Refuse a folder that another version wrote with another schema.

    Raises:
        DataError: the message names both schemas and says what to do.
    """
    found = content.get("schema", content.get("format"))
    if found == SCHEMA:
        return
    newer = isinstance(found, int) and found > SCHEMA
    version = f" (tametail {content['tametail']})" if "tametail" in content else ""
    raise DataError(
        f"expected {kind.name} of schema {SCHEMA} at {directory}, but it was made by {'a newer' if newer else 'an older'} "
        f"tametail (schema {found}); this version reads schema {SCHEMA}: run {kind.command} again in another folder, or "
        f"use the version that made it{version}"
    )


def prepare_directory(directory: Path, kind: FolderKind) -> None:
    """Make an output folder, and check that it is writable and holds nothing else.

    Raises:
        DataError: it holds results of another schema.
        TametailError: it is not writable.
        UsageError: it holds something else.
    """
    _refuse_unsafe(directory, kind)
    with suppress(OSError, ValueError):  # absent, or damaged: whatever reads it later says so
        content = read_json(directory / kind.file)
        if isinstance(content, dict):
            check_schema(directory, content, kind)
    try:
        make_folder(directory)
        probe = temporary_sibling(directory / "probe")
        probe.touch()
        probe.unlink()
        names = sorted(entry.name for entry in directory.iterdir())
    except OSError as error:
        raise TametailError(
            f"the output folder {directory} cannot be written ({error.strerror or error}); give another one with -o"
        ) from error
    foreign = [name for name in names if not (name.startswith(".") or name in kind.own)]
    if foreign and kind.file not in names:
        raise UsageError(
            f"expected an empty folder or {kind.name} at {directory}, found {', '.join(foreign[:3])}; give another one with "
            f"-o"
        )


def check_same(
    holds: str,
    present: Mapping[str, Any],
    wanted: Mapping[str, Any],
    keys: Sequence[str] = IDENTITY,
    advice: str = "give another folder with -o",
) -> None:
    """Refuse settings that differ from the ones wanted.

    Args:
        holds: the beginning of the message, such as ``runs/skin holds another study``.
        keys: the settings to compare.
        advice: the end of the message.

    Raises:
        UsageError: it names the first difference.
    """
    for key in keys:
        if present.get(key) != wanted[key]:
            raise UsageError(f"{holds}: {difference(key, present.get(key), wanted[key])}; {advice}")


def digest_of_identity(content: Mapping[str, Any]) -> str:
    """Digest of the settings that fix the results."""
    parts = [content.get(key) for key in IDENTITY]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def difference(key: str, present: Any, wanted: Any) -> str:
    """Describe the first difference of two settings, by its dotted name."""
    if isinstance(present, Mapping) and isinstance(wanted, Mapping):
        for inner in wanted:
            if present.get(inner) != wanted[inner]:
                return difference(f"{key}.{inner}", present.get(inner), wanted[inner])
    one, other = (
        ", ".join(map(str, value)) if isinstance(value, list) else value for value in (present, wanted)
    )
    return f"its {key} is {one}, not {other}"

"""Outputs of trainings in a folder: one safetensors file each, which is used again only as it was written, for what it was made with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tametail.core.atomic import atomic_path, make_folder
from tametail.core.errors import explain_save_error
from tametail.core.json_file import parse_json
from tametail.core.regular_file import regular
from tametail.core.removal import remove
from tametail.storage.locks import Lock, files_of, holder

Arrays = Mapping[str, NDArray[Any]]
_SUFFIX, _FACTS = ".safetensors", "tametail"


@dataclass(frozen=True)
class OutputStore:
    """A folder of outputs, which several processes may share.

    Attributes:
        folder: made when the first output is saved.
    """

    folder: Path

    def path(self, name: str) -> Path:
        """The file of a training."""
        return self.folder / f"{name}{_SUFFIX}"

    def save(self, name: str, made_with: str, arrays: Arrays, noted: Mapping[str, Any] | None = None) -> None:
        """Save the outputs of a training in one step.

        Args:
            name: of the training, a file name.
            made_with: digest of what determines them.
            arrays: by name.
            noted: JSON values to keep with them.

        Raises:
            TametailError: they cannot be written.
        """
        from safetensors.numpy import save_file

        whole = {key: np.ascontiguousarray(values) for key, values in arrays.items()}
        text = json.dumps(noted or {}, ensure_ascii=False)
        facts = {"made_with": made_with, "noted": text, "digest": _digest(whole, text)}
        described = {_FACTS: json.dumps(facts)}  # one entry: the file has several in no fixed order
        with explain_save_error(self.path(name)):
            make_folder(self.folder)
            with atomic_path(self.path(name)) as temporary:
                save_file(whole, temporary, metadata=described)

    def load(self, name: str, made_with: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
        """The arrays and notes of a training; None if there are none, or damaged ones, or those of something else."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(regular(self.path(name)), framework="numpy") as file:
                facts = parse_json((file.metadata() or {})[_FACTS])
                if facts.get("made_with") != made_with:
                    return None
                arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            noted = parse_json(facts["noted"])
            if facts.get("digest") != _digest(arrays, facts["noted"]) or not isinstance(noted, dict):
                return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError):
            return None
        return arrays, noted

    @contextmanager
    def claimed(self, name: str) -> Iterator[bool]:
        """Whether this process has claimed a training during the block, and no other process works on it.

        What a lost machine holds, as far as its missing signs of life tell, is claimed from it.
        """
        with explain_save_error(self.path(name)):
            make_folder(self.folder)
            lock = Lock(self.folder / f".{name}.lock")
            ours = lock.try_acquire()
        found = None if ours else holder(lock.path)
        taken = ours or (found is not None and found.stale)
        try:
            yield taken
        finally:
            lock.release()
            if taken:
                for path in files_of(lock.path):  # at worst another process does the same work twice
                    remove(path)


def _digest(arrays: Arrays, noted: str) -> str:
    found = hashlib.sha256(noted.encode())
    for key in sorted(arrays):
        found.update(f"{key}{arrays[key].dtype}{arrays[key].shape}".encode())
        found.update(np.ascontiguousarray(arrays[key]).tobytes())
    return found.hexdigest()

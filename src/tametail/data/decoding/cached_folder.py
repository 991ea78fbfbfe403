"""A folder of the cache that is either wholly there or not at all, also when several processes want it at once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from tametail.data.decoding.cache_folder import explained, lock


def cached_folder(folder: Path, build: Callable[[Path], None], is_whole: Callable[[Path], bool]) -> Path:
    """Find ``folder``, or build it beside its place and move it there in one step.

    Args:
        build: fills the empty folder it is given.
        is_whole: whether a folder found there has all that it should; otherwise it is built again.

    Raises:
        TametailError: the cache folder cannot be written or is full.
    """
    with explained(folder.parent), lock(folder.parent, folder.name):
        if folder.is_dir() and is_whole(folder):
            return folder
        unfinished = folder.with_name(f"{folder.name}.tmp")
        for old in (unfinished, folder):  # the first is what a killed process left
            if old.is_dir():
                shutil.rmtree(old)
        unfinished.mkdir()
        try:
            build(unfinished)
            unfinished.rename(folder)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
    return folder

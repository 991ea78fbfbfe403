"""A folder of the cache that is either wholly there or not at all, also when several processes want it at once."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tametail.errors import TametailError


def built_folder(folder: Path, build: Callable[[Path], None], is_whole: Callable[[Path], bool]) -> Path:
    """Find ``folder``, or build it beside its place and move it there in one step.

    Args:
        build: fills the empty folder it is given.
        is_whole: whether a folder found there has all that it should; otherwise it is built again.

    Raises:
        TametailError: the cache folder cannot be written or is full.
    """
    with cache_use(folder.parent), alone(folder):
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


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """One process at a time makes what belongs to ``path``; the system frees the lock of a dead one."""
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f"{path.name}.lock")):
        yield


@contextmanager
def cache_use(folder: Path) -> Iterator[None]:
    """Trouble with the cache folder, told with the way out."""
    try:
        yield
    except (OSError, NotImplementedError) as error:  # the second from filelock, on file systems without locks
        raise TametailError(
            f"the cache folder {folder} cannot be used ({error}); free some space, or set the environment variable "
            f"TAMETAIL_CACHE to a folder that can be written"
        ) from error

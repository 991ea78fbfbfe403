"""Errors a user can cause and mend. Each carries the exit code of the command line.

Every message says what was expected, what was found and what to do. Nothing else is shown to a user:
tracebacks are for ``--debug``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class TametailError(Exception):
    """Something failed that the user can do something about (exit code 1)."""

    exit_code = 1


class UsageError(TametailError):
    """The command, the configuration or an option is wrong (exit code 2)."""

    exit_code = 2


class DataError(TametailError):
    """The data is absent, unreadable or unfit for what was asked (exit code 3)."""

    exit_code = 3


@contextmanager
def as_usage_error(listed: str = "tametail losses lists them") -> Iterator[None]:
    """What a loss or its text raises, as an error of use that says where the losses are listed."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise UsageError(f"{error}; {listed}") from error


@contextmanager
def explain_write_error(path: Path) -> Iterator[None]:
    """Make the folder of a file that a user asked for; trouble with it or with the file is told with the way out."""
    with _telling(path, "; give another file with -o"):
        path.parent.mkdir(parents=True, exist_ok=True)
        yield


@contextmanager
def explain_save_error(path: Path) -> Iterator[None]:
    """Trouble with a file or folder of a study, such as a full disk, told with the way to go on."""
    with _telling(
        path,
        ". Make room there, or make the folder writable, and repeat the command: what was saved before is kept.",
    ):
        yield


@contextmanager
def _telling(path: Path, way_out: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TametailError(f"{path} cannot be written ({error.strerror or error}){way_out}") from error

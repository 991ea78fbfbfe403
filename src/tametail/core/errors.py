"""Errors that a user can fix, each with its exit code on the command line.

Every message says what was expected, what was found and what to do. Tracebacks are shown with ``--debug`` only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class TametailError(Exception):
    """A failure that the user can fix (exit code 1)."""

    exit_code = 1


class UsageError(TametailError):
    """The command, the configuration or an option is wrong (exit code 2)."""

    exit_code = 2


class DataError(TametailError):
    """The data is missing, unreadable or unsuitable (exit code 3)."""

    exit_code = 3


@contextmanager
def as_usage_error(listed: str = "tametail losses lists them") -> Iterator[None]:
    """Turn errors of a loss or its text into a `UsageError` that says where losses are listed."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise UsageError(f"{error}; {listed}") from error


@contextmanager
def explain_write_error(path: Path) -> Iterator[None]:
    """Explain errors when a file that the user named, or its folder, cannot be written."""
    with _explain_os_error(path, "; give another file with -o"):
        yield


@contextmanager
def explain_save_error(path: Path) -> Iterator[None]:
    """Explain errors when a file or folder of results cannot be written, such as a full disk."""
    with _explain_os_error(
        path,
        ". Make room there, or make the folder writable, and repeat the command: everything saved before is kept.",
    ):
        yield


@contextmanager
def _explain_os_error(path: Path, advice: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TametailError(f"{path} cannot be written ({error.strerror or error}){advice}") from error

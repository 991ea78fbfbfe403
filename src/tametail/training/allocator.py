"""Memory that a step gives back stays with the process for the next step."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of glibc's malloc.h
_KEEP = 2**31 - 1  # bytes, the most it takes


def keep_freed_memory() -> bool:
    """Have the C library keep freed memory of this process instead of handing it back to the system.

    Every step of a training on a CPU takes and frees the same large tensors. glibc asks the system for each anew, which
    clears page after page of it; for networks of light layers that takes about as long as computing them. Results are the
    same, bit by bit. The process then keeps what it once used until it ends.

    Returns:
        Whether it was done: only on Linux with glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False  # another C library
    return bool(mallopt(_MMAP_THRESHOLD, _KEEP) and mallopt(_TRIM_THRESHOLD, _KEEP))

"""Which of several processes of one run this is, as launchers such as torchrun say it."""

from __future__ import annotations

import os
import time

LEAD = 10.0  # seconds that the main process has to end before the others do


def process_count() -> int:
    """Number of processes that a launcher has started; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def process_rank() -> int:
    """Number of this process, from 0, which is the main one: it prints and writes."""
    return int(os.environ.get("RANK", "0")) if process_count() > 1 else 0


def let_main_end() -> None:
    """Before this process ends with an error: a launcher ends all others, also the one that prints, after one has failed."""
    if process_rank():
        time.sleep(LEAD)  # until the launcher ends it


def local_process_count() -> int:
    """Number of those processes on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))

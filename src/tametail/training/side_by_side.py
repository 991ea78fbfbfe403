"""Pieces of work that need nothing of each other, one on each core of a CPU.

A step of a stack of heads is too short to be shared out among threads: they would wait for each other at every operation,
and on a busy machine for long. Whole trainings side by side never wait.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from tametail.training.execute import threads

T = TypeVar("T")


def cores(device: torch.device) -> int:
    """How many pieces of work go on at a time: one on anything but a CPU, where torch would use so many threads."""
    return torch.get_num_threads() if device.type == "cpu" else 1


def side_by_side(work: Sequence[Callable[[], T]], device: torch.device) -> list[T]:
    """Do all pieces of work, and return what came of each, in their order.

    Raises:
        What the first of them, in their order, raises; those that had begun by then are let finish, the others are not begun.
    """
    if device.type != "cpu":
        return [each() for each in work]
    # One thread also for a single piece: how an operation is shared out changes its last bits.
    at_a_time = max(min(cores(device), len(work)), 1)
    with threads(1), ThreadPoolExecutor(at_a_time) as pool:
        waiting = [pool.submit(each) for each in work]
        try:
            return [each.result() for each in waiting]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

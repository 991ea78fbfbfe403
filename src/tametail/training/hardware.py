"""What a run is computed on: device, precision, processes, and how much of a batch is taken at once.

What is trained does not depend on it; only rounding does, and what batch normalisation sees (see `Hardware.micro_batch`).
"""

from __future__ import annotations

import ctypes
import datetime
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed
from accelerate import Accelerator, InitProcessGroupKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list, gather_object

from tametail.core.errors import TametailError, UsageError
from tametail.training.recipe import Recipe

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of glibc's malloc.h
_KEEP = 2**31 - 1  # bytes, the most it takes

_T = TypeVar("_T")
_TIMEOUT = datetime.timedelta(
    hours=12
)  # the others wait while one process decodes images or computes features
_MIXED = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}


@dataclass(frozen=True)
class Hardware:
    """How runs use the machine.

    Attributes:
        device: auto, cpu, cuda, mps ...
        micro_batch: images that one device takes at once: a batch is worked through in parts of so many, whose gradients
            add up to the batch's. None: whole batches, halved and halved again where memory runs short. Batch
            normalisation sees a part where others see the batch; layer normalisation makes no difference.
        compile: compile the network with torch.compile.
        workers: processes that read batches ahead; with 0 the training reads them itself.
        watch: judge the model after every epoch on the images that it is not trained on. That is written down, and used
            for nothing.

    Raises:
        UsageError: a number that cannot be.
    """

    device: str = "auto"
    micro_batch: int | None = None
    compile: bool = False
    workers: int = 0
    validate_epochs: bool = True

    def __post_init__(self) -> None:
        if self.micro_batch is not None and self.micro_batch < 1:
            raise UsageError(f"expected --micro-batch of at least 1 image, got {self.micro_batch}")
        if not 0 <= self.workers <= 256:
            raise UsageError(f"expected --workers of 0 to 256 processes, got {self.workers}")


def make_accelerator(recipe: Recipe, device: str, *, training: bool = True) -> Accelerator:
    """The device, precision and processes to compute with; of torchrun and accelerate launch it knows by itself.

    Args:
        device: auto, cpu, cuda, mps ...
        training: without it a precision that the device does not have gives way to float32.

    Raises:
        UsageError: a device that this machine does not have, or a precision that the device does not have.
    """
    precision = _precision(recipe, device, training)
    # accelerate keeps the first choice of a process for good; a Python session may compare twice.
    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
    accelerator = Accelerator(
        # Processes on a machine without a GPU find each other only if the CPU is asked for.
        cpu=device == "cpu" or (device == "auto" and not _has_gpu()),
        mixed_precision=_MIXED[precision],
        kwargs_handlers=[InitProcessGroupKwargs(timeout=_TIMEOUT)],
    )
    if device not in {"auto", accelerator.device.type}:
        raise UsageError(
            f"expected --device auto or one this machine has ({accelerator.device.type}), got {device!r}"
        )
    return accelerator


def _has_gpu() -> bool:
    return torch.cuda.is_available() or torch.backends.mps.is_available() or torch.xpu.is_available()


def _precision(recipe: Recipe, device: str, training: bool) -> str:
    gpu = device != "cpu" and torch.cuda.is_available()
    if recipe.precision == "auto":
        return "bfloat16" if gpu and torch.cuda.is_bf16_supported() else "float32"
    if recipe.precision == "float16" and not gpu:
        if not training:
            return "float32"
        raise UsageError("expected precision float32 or bfloat16 without a CUDA GPU, got float16")
    return recipe.precision


def check_one_process(what: str) -> None:
    """Refuse what one process does alone to the several of a launcher.

    Raises:
        UsageError: this is one of several.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(f"expected one process to {what}, got several; start tametail without a launcher")


def broadcast(value: _T, accelerator: Accelerator) -> _T:
    """The main process's value, in all processes."""
    if accelerator.num_processes == 1:
        return value
    carried = [value]
    broadcast_object_list(carried)
    return carried[0]


def gather(value: _T, accelerator: Accelerator) -> list[_T]:
    """The values of all processes."""
    return [value] if accelerator.num_processes == 1 else list(gather_object([value]))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or in the system."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


class OutOfMemory(TametailError):
    """What is to be computed does not fit in memory, in however small parts it may be taken."""


def empty_cache(device: torch.device) -> None:
    """Let the device have the memory back that tensors have left, so that smaller ones find room in one piece."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def disable_malloc_trim() -> bool:
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


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Compute with so many torch_threads on the CPU, and then as before; None changes nothing."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(count or before)
        yield
    finally:
        torch.set_num_threads(before)


def parallel_workers(device: torch.device) -> int:
    """How many pieces of work go on at a time: one on anything but a CPU, where torch would use so many threads."""
    return torch.get_num_threads() if device.type == "cpu" else 1


def run_parallel(work: Sequence[Callable[[], _T]], device: torch.device) -> list[_T]:
    """Do all pieces of work, and return what came of each, in their order.

    Raises:
        What the first of them, in their order, raises; those that had begun by then are let finish, the others are not begun.
    """
    if device.type != "cpu":
        return [each() for each in work]
    # One thread also for a single piece: how an operation is shared out changes its last bits.
    at_a_time = max(min(parallel_workers(device), len(work)), 1)
    with torch_threads(1), ThreadPoolExecutor(at_a_time) as pool:
        waiting = [pool.submit(each) for each in work]
        try:
            return [each.result() for each in waiting]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

"""Device, precision, processes, threads and memory of a run.

Results do not depend on them, except for rounding and the batch statistics of batch normalisation (see
`Hardware.micro_batch`).
"""

from __future__ import annotations

import ctypes
import datetime
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
from threadpoolctl import threadpool_limits

from tametail.core.errors import TametailError, UsageError
from tametail.core.ranks import local_process_count, process_count
from tametail.training.peers import watch_peers
from tametail.training.recipe import Recipe

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # from glibc's malloc.h
_MAX_THRESHOLD = 2**31 - 1  # bytes

_T = TypeVar("_T")
# Other processes wait while one decodes images or computes features; `peers` ends those that wait in vain.
_TIMEOUT = datetime.timedelta(hours=12)
_MIXED = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}


@dataclass(frozen=True)
class Hardware:
    """How runs use the machine.

    Attributes:
        device: auto, cpu, cuda, mps ...
        micro_batch: micro-batch size per device for gradient accumulation. None for whole batches, which are halved
            repeatedly when out of memory. Batch normalisation uses the statistics of the micro-batch.
        compile: compile the network with torch.compile.
        workers: number of data-loading worker processes; 0 loads in the main process.
        validate_epochs: validate after each epoch on the held-out fold (display only, never used for selection).

    Raises:
        UsageError: a number out of range.
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
    """Create the accelerator for a device and the recipe's precision; detects the processes of a launcher such as torchrun.

    Args:
        device: auto, cpu, cuda, mps ...
        training: if False, a precision that the device does not support falls back to float32.

    Raises:
        UsageError: a device that this machine does not have, more processes than it has GPUs, or a precision that the device
            does not support.
    """
    precision = _precision(recipe, device, training)
    gpus = torch.cuda.device_count() if device in {"auto", "cuda"} else 0
    if 0 < gpus < local_process_count():
        raise UsageError(
            f"expected one process per GPU, so at most {gpus} on this machine, got {local_process_count()}; start fewer, or choose "
            f"--device cpu"
        )
    has_gpu = torch.cuda.is_available() or torch.backends.mps.is_available() or torch.xpu.is_available()
    # accelerate keeps its first configuration; a Python session may run several studies.
    joins = not torch.distributed.is_initialized()
    AcceleratorState._reset_state(reset_partial_state=joins)
    accelerator = Accelerator(
        # Without a GPU, several processes connect only if cpu is set.
        cpu=device == "cpu" or (device == "auto" and not has_gpu),
        mixed_precision=_MIXED[precision],
        kwargs_handlers=[InitProcessGroupKwargs(timeout=_TIMEOUT)],
    )
    if joins and torch.distributed.is_initialized():
        watch_peers(lambda value: broadcast(value, accelerator))
    if device not in {"auto", accelerator.device.type}:
        raise UsageError(
            f"expected --device auto or one this machine has ({accelerator.device.type}), got {device!r}"
        )
    return accelerator


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
    """Check that no launcher has started several processes.

    Raises:
        UsageError: there are several.
    """
    if process_count() > 1:
        raise UsageError(f"expected one process to {what}, got several; start tametail without a launcher")


def broadcast(value: _T, accelerator: Accelerator) -> _T:
    """Return the main process's value in all processes."""
    if accelerator.num_processes == 1:
        return value
    values = [value]
    broadcast_object_list(values)
    return values[0]


def gather(value: _T, accelerator: Accelerator) -> list[_T]:
    """Return the values of all processes in all processes."""
    return [value] if accelerator.num_processes == 1 else list(gather_object([value]))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is an out-of-memory error of a GPU or the system."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


class OutOfMemory(TametailError):
    """Out of memory, even with the smallest micro-batch."""


def empty_cache(device: torch.device) -> None:
    """Release cached GPU memory, so that smaller tensors fit."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def disable_malloc_trim() -> bool:
    """Make the C library keep freed memory instead of returning it to the system.

    Every training step on a CPU allocates and frees the same large tensors, and glibc requests memory for each from the
    system, which takes about as long as the computation of light networks. The process keeps its peak memory until it ends.

    Returns:
        Whether it was done; only on Linux with glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False  # another C library
    return bool(mallopt(_MMAP_THRESHOLD, _MAX_THRESHOLD) and mallopt(_TRIM_THRESHOLD, _MAX_THRESHOLD))


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Set the number of torch's CPU threads inside the block; None changes nothing."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(count or before)
        yield
    finally:
        torch.set_num_threads(before)


def run_parallel(tasks: Sequence[Callable[[], _T]], device: torch.device) -> list[_T]:
    """Run tasks in threads, and return their results in order.

    Raises:
        The exception of the first task, in order, that failed; running tasks are completed, waiting ones are cancelled.
    """
    if device.type != "cpu":
        return [task() for task in tasks]
    # One thread also for a single task: the number of threads changes the last bits of results. Of NumPy as well, whose
    # threads would wait for those of the other tasks.
    workers = max(min(torch.get_num_threads(), len(tasks)), 1)
    with torch_threads(1), threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(task) for task in tasks]
        try:
            return [future.result() for future in futures]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

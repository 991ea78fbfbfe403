"""Plain operations as one kernel on a GPU, by torch.compile; where that cannot be had, as they are."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from tametail.losses.base import Loss

LossCall = Callable[[Loss, Tensor, Tensor], Tensor]


def on_gpu(input: Tensor) -> bool:
    """Whether the kernel is worth asking for: on a GPU, and not already within a compilation or a transform."""
    return (
        isinstance(input, Tensor)
        and input.is_cuda
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
    )


def fused(call: LossCall) -> LossCall:
    """``call(loss, input, target)`` compiled at its first use for any batch size, forward and backward.

    If the compiler fails (no compiler on the machine, an unsupported GPU), a warning says so once and the plain
    operations serve from then on.
    """
    serving: list[LossCall] = []  # the compiler is imported at the first use: that alone takes seconds

    @functools.wraps(call)
    def either(loss: Loss, input: Tensor, target: Tensor) -> Tensor:
        if call in serving:
            return call(loss, input, target)
        try:
            if not serving:
                serving.append(torch.compile(call, dynamic=True))
            return serving[0](loss, input, target)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ImportError) as error:
            value = call(loss, input, target)  # raises what is the batch's own fault
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            warnings.warn(f"the loss runs unfused, as torch.compile failed: {reason}", stacklevel=2)
            serving[:] = [call]
            return value

    return either

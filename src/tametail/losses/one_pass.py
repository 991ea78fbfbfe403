"""Value and gradient of a sigmoid loss in one pass over tiles that stay in a CPU's cache.

Automatic differentiation writes every intermediate result of a formula to memory and reads it back. Here the slope is
known in closed form, so that each tile of logits is read once, and its sum and its gradient are written once. Most
labels are zeros: every term is computed as a negative's, and the others are then computed again where they stand.

Shape legend: B batch, C classes, n the terms of a tile, k the terms that are not plain negatives.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd import forward_ad

from tametail.losses.base import Loss
from tametail.losses.fused import fused, on_gpu
from tametail.losses.terms import check_batch, index_error, label_error, prepare, reduce

# Per thread; some four buffers of this many float32 are in use at a time.
_TILE = 1 << 18
# The labels of a smaller tile are not worth looking through.
_SMALL = 1 << 15


class Slopes(Protocol):
    """The closed forms of a loss with one sigmoid per class. Both methods take flat logits z, float32 or float64.

    Values are in units of ``unit``, so that a constant factor is multiplied to the sum of a tile, not to the tile.
    """

    @property
    def unit(self) -> float:
        """What the values are to be multiplied by."""

    def positive(self, z: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """Value, and ``scale`` times the slope by z, of terms with y = 1."""

    def negative(self, z: Tensor, scale: float, slope: Tensor) -> Tensor:
        """Value of terms with y = 0; writes ``scale`` times their slope by z into ``slope``."""


class OnePassLoss(Loss):
    """A loss with one sigmoid per class that knows its slopes."""

    def slopes(self) -> Slopes:
        """The closed forms of :meth:`Loss.terms` as they are with these hyper-parameters."""
        raise NotImplementedError

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        if not _applies(input, target):
            return (_fused if on_gpu(input) else Loss.forward)(self, input, target)
        check_batch(input, target)
        logits = input if self.tau == 0 else self.adjusted(input.to(_computed_dtype(input)))
        value: Tensor = _OnePass.apply(logits, target, self)  # type: ignore[no-untyped-call]
        return value


_fused = fused(Loss.forward)
_PLAIN = (Tensor, torch.nn.Parameter)


def _applies(input: Tensor, target: Tensor) -> bool:
    """Whether the pass can take this batch: plain tensors on a CPU, and nothing else follows what is done to them.

    Compilation, function transforms (torch.func), forward-mode differentiation and labels that are to have a gradient
    take the plain operations.
    """
    return (
        type(input) in _PLAIN
        and type(target) in _PLAIN
        and input.device.type == "cpu"
        and not target.requires_grad
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
        and forward_ad._current_level < 0
    )


class _OnePass(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, target: Tensor, loss: OnePassLoss) -> Tensor:
        gradient = torch.empty_like(input, dtype=_kept_dtype(input), memory_format=torch.contiguous_format)
        by = _by_index if target.ndim == 1 else _by_label
        value = by(input, target, loss, gradient)
        ctx.loss = loss
        ctx.save_for_backward(input, target, gradient)
        return value

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None, None]:
        input, target, gradient = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative is asked for
            again = _plainly(ctx.loss, input, target)
            return torch.autograd.grad(again, input, outer, create_graph=True)[0], None, None
        if ctx.loss.reduction == "none":
            gradient = gradient * outer.unsqueeze(1).to(gradient.dtype)
        elif not _is_one(outer):
            gradient = gradient * outer.to(gradient.dtype)
        return _as(gradient, input.dtype), None, None


def _is_one(outer: Tensor) -> bool:
    """Whether the gradient can be handed on as it is; under a batched backward pass no single value can be read."""
    try:
        return outer.item() == 1
    except RuntimeError:
        return False


def _plainly(loss: OnePassLoss, logits: Tensor, target: Tensor) -> Tensor:
    """The loss of adjusted logits by plain operations, which can be differentiated again."""
    z, y, known = prepare(logits, target, ignore_index=loss.ignore_index, coupled=False)
    return reduce(loss.terms(z, y), known, loss.reduction)


def _kept_dtype(input: Tensor) -> torch.dtype:
    """The gradient waits in the input's dtype; float16 would lose what a loss scale is yet to be multiplied to."""
    return torch.float32 if input.dtype == torch.float16 else input.dtype


def _by_index(input: Tensor, target: Tensor, loss: OnePassLoss, gradient: Tensor) -> Tensor:
    classes, slopes = input.shape[1], loss.slopes()
    index, unknown = _checked_indices(target, classes, loss.ignore_index)
    samples = index.numel() - (0 if unknown is None else int(unknown.sum()))
    scale = 1 / max(samples, 1) if loss.reduction == "mean" else 1.0
    sums = []
    for rows, z, slope in _tiles(input, gradient):
        value = slopes.negative(z, scale, slope)
        at = torch.arange(0, z.numel(), classes).add_(index if rows is None else index[rows])
        _put(at, slopes.positive(z.take(at), scale), value, slope)
        if unknown is not None:
            value.view(-1, classes).masked_fill_(unknown[rows or slice(None)].unsqueeze(1), 0)
        sums.append(_sum(value, classes, loss.reduction))
    if unknown is not None:
        gradient.masked_fill_(unknown.unsqueeze(1), 0)
    return _total(sums, input, loss.reduction, scale * slopes.unit)


def _checked_indices(target: Tensor, classes: int, ignore_index: int) -> tuple[Tensor, Tensor | None]:
    """Indices (B,) int64, 0 where unknown, and where that is; None if nowhere."""
    index = _as(target, torch.int64)
    if index.numel() == 0:
        return index, None
    ends = index.aminmax()
    low, high = int(ends.min), int(ends.max)
    if low >= 0 and high < classes and not low <= ignore_index <= high:
        return index, None
    unknown = index == ignore_index
    index = index.masked_fill(unknown, 0)
    if not (int(index.min()) >= 0 and int(index.max()) < classes):
        raise index_error(index, classes, ignore_index)
    return index, unknown


def _by_label(input: Tensor, target: Tensor, loss: OnePassLoss, gradient: Tensor) -> Tensor:
    classes, slopes = input.shape[1], loss.slopes()
    scale = 1 / max(input.shape[0], 1) if loss.reduction == "mean" else 1.0
    sums, empty = [], 0
    for rows, z, slope in _tiles(input, gradient):
        labels = (target if rows is None else target[rows]).reshape(-1)
        at = _nonzero(labels)
        there = labels if at is None else labels.take(at)  # zeros need no check
        some_unknown = _checked_labels(there, target)
        if at is None or some_unknown:
            value = _mixed(z, labels, slopes, scale, slope)
        else:
            value = slopes.negative(z, scale, slope)
            again = z.new_empty(at.numel())
            _put(at, (_mixed(z.take(at), there, slopes, scale, again), again), value, slope)
        if some_unknown:
            unknown = labels.isnan()
            value.masked_fill_(unknown, 0)
            slope.masked_fill_(unknown, 0)
            empty += int(unknown.view(-1, classes).all(dim=1).sum())
        sums.append(_sum(value, classes, loss.reduction))
    if empty and loss.reduction == "mean":  # the mean is over fewer samples than was thought
        fewer = 1 / max(input.shape[0] - empty, 1)
        gradient.mul_(fewer / scale)
        scale = fewer
    return _total(sums, input, loss.reduction, scale * slopes.unit)


def _checked_labels(labels: Tensor, target: Tensor) -> bool:
    """Check that all labels (n,) lie in [0, 1]; whether some are NaN, unknown."""
    if labels.dtype == torch.bool or labels.numel() == 0:
        return False
    ends = labels.aminmax()
    if float(ends.min) >= 0 and float(ends.max) <= 1:
        return False
    if bool(((labels < 0) | (labels > 1)).any()):
        raise label_error(target)
    return True


def _tiles(input: Tensor, gradient: Tensor) -> Iterator[tuple[slice | None, Tensor, Tensor]]:
    """Tiles of rows (None for all of them), their logits (n,) and where their slopes (n,) are to be written."""
    dtype = _computed_dtype(input)
    together = max(1, _TILE * torch.get_num_threads() // input.shape[1])
    for start in range(0, input.shape[0], together):
        rows = None if together >= input.shape[0] else slice(start, start + together)
        z = _as(input if rows is None else input[rows], dtype).reshape(-1)
        kept = (gradient if rows is None else gradient[rows]).view(-1)
        if kept.dtype == dtype:
            yield rows, z, kept
        else:  # the slopes are rounded once, at their end
            slope = torch.empty_like(z)
            yield rows, z, slope
            kept.copy_(slope)


def _as(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """``tensor.to(dtype)``, sooner where it is that already: at 128 x 7 each call counts."""
    return tensor if tensor.dtype == dtype else tensor.to(dtype)


def _computed_dtype(input: Tensor) -> torch.dtype:
    return torch.float64 if input.dtype == torch.float64 else torch.float32


def _sum(value: Tensor, classes: int, reduction: str) -> Tensor:
    return value.view(-1, classes).sum(dim=1) if reduction == "none" else value.sum()


def _total(sums: list[Tensor], input: Tensor, reduction: str, factor: float) -> Tensor:
    """The sums of the tiles, times a factor, as the value of the loss."""
    if not sums:
        return input.new_zeros(0 if reduction == "none" else (), dtype=_computed_dtype(input))
    if reduction == "none":
        return torch.cat(sums).mul_(factor)
    total = sums[0] if len(sums) == 1 else torch.stack(sums).sum()
    return total.mul_(factor)


def _nonzero(labels: Tensor) -> Tensor | None:
    """Positions (k,) of labels (n,) that are not 0; None where most terms would have to be computed again.

    Eight bytes are looked at in one go, whatever the labels' dtype.
    """
    count, together = labels.numel(), 8 // labels.element_size()
    if count < _SMALL:
        return None
    if labels.storage_offset() % together or not labels.is_contiguous():
        labels = labels.clone(memory_format=torch.contiguous_format)
    words = count // together
    found = labels[: words * together].view(torch.int64).nonzero()
    if found.numel() * 2 > words:
        return None
    at = (found * together + torch.arange(together)).view(-1)
    at = torch.cat([at, torch.arange(words * together, count)])
    return at[labels.take(at).bool()]


def _mixed(z: Tensor, labels: Tensor, slopes: Slopes, scale: float, slope: Tensor) -> Tensor:
    """Values (n,) of terms with any labels; writes their slopes."""
    y = _as(labels, z.dtype)
    value, slope_pos = slopes.positive(z, scale)
    negative = slopes.negative(z, scale, slope)
    slope.lerp_(slope_pos, y)
    return negative.lerp_(value, y)


def _put(at: Tensor, terms: tuple[Tensor, Tensor], value: Tensor, slope: Tensor) -> None:
    """Replace the value and slope at positions ``at`` (k,)."""
    value.put_(at, terms[0])
    slope.put_(at, terms[1])

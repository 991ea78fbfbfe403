"""Value and gradient of a sigmoid loss in one pass over tiles that fit into a CPU's cache.

The gradient with respect to the logits is known in closed form: each tile of logits is read once, and its sum and its
gradient are written once. Most labels are zeros: every term is computed as a negative, then the others again in place.

Shape legend: B batch, C classes, n the terms of a tile, k the terms that are not plain negatives.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd import forward_ad

from tametail.losses.base import Loss, owner
from tametail.losses.terms import check_batch, index_error, label_error, prepare, reduce

LossCall = Callable[[Loss, Tensor, Tensor], Tensor]


class ClosedForm(Protocol):
    """Value and derivative of a loss with one sigmoid per class, for flat logits z (n,), float32 or float64."""

    @property
    def unit(self) -> float:
        """Factor of the values, which multiplies the sum of a tile, not the tile."""

    def positive(self, z: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """Value of terms with y = 1, and ``scale`` times their derivative by z."""

    def negative(self, z: Tensor, scale: float, gradient: Tensor) -> Tensor:
        """Value of terms with y = 0; writes ``scale`` times their derivative by z into ``gradient``."""


class WeightedForm(NamedTuple):
    """A closed form whose positives and negatives have weights of their own."""

    form: ClosedForm
    weight_pos: float
    weight_neg: float

    @property
    def unit(self) -> float:
        """That of the negatives, unless the positives would overflow in it."""
        return self.weight_neg if self.weight_neg > 1e-6 * self.weight_pos else 1.0

    def positive(self, z: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """The form's positives, weighted."""
        value, gradient = self.form.positive(z, scale * self.weight_pos)
        return value.mul_(self.weight_pos / self.unit), gradient

    def negative(self, z: Tensor, scale: float, gradient: Tensor) -> Tensor:
        """The form's negatives, weighted."""
        value = self.form.negative(z, scale * self.weight_neg, gradient)
        return value if self.unit == self.weight_neg else value.mul_(self.weight_neg)


class OnePassLoss(Loss):
    """Base class of losses with one sigmoid per class whose derivative is known in closed form.

    The closed form is used only where one class defines both :meth:`terms` and :meth:`closed_form`: a subclass that
    overrides one of them alone is evaluated by its ``terms`` and automatic differentiation.

    Attributes:
        tile: terms per thread that are computed at a time; about four buffers of this size are in use.
        sparse_from: tiles of at least so many labels are searched for labels that are not 0.
    """

    tile: ClassVar[int] = 1 << 18
    sparse_from: ClassVar[int] = 1 << 15
    _one_pass: ClassVar[bool] = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._one_pass = owner(cls, "terms") is owner(cls, "closed_form")

    def closed_form(self) -> ClosedForm:
        """The closed form of :meth:`terms` with these hyper-parameters."""
        raise NotImplementedError

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        if not (self._one_pass and _applies(input, target)):
            return (_fused if on_gpu(input) else Loss.forward)(self, input, target)
        check_batch(input, target)
        unchanged = self.tau == 0 and self.logit_scale == 1 and type(self).adjusted is Loss.adjusted
        logits = input if unchanged else self.adjusted(input.to(_computed_dtype(input)))
        value: Tensor = _OnePass.apply(logits, target, self)  # type: ignore[no-untyped-call]
        return value


def on_gpu(input: Tensor) -> bool:
    """Whether compiled operations are worthwhile: on a GPU, and not already within a compilation or a transform."""
    return (
        isinstance(input, Tensor)
        and input.is_cuda
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
    )


def fused(call: LossCall) -> LossCall:
    """``call(loss, input, target)`` as one GPU kernel, compiled by torch.compile at its first use.

    If the compiler fails, one warning says so and the plain operations are used from then on.
    """
    compiled: list[LossCall] = []  # the compiler is imported at the first use: that alone takes seconds

    @functools.wraps(call)
    def either(loss: Loss, input: Tensor, target: Tensor) -> Tensor:
        if call in compiled:
            return call(loss, input, target)
        try:
            if not compiled:
                compiled.append(torch.compile(call, dynamic=True))
            return compiled[0](loss, input, target)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ImportError) as error:
            value = call(loss, input, target)  # raises an error that the batch itself causes
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            warnings.warn(f"the loss is not compiled, as torch.compile failed: {reason}", stacklevel=2)
            compiled[:] = [call]
            return value

    return either


_fused = fused(Loss.forward)
_PLAIN = (Tensor, torch.nn.Parameter)


def _applies(input: Tensor, target: Tensor) -> bool:
    """Whether the pass can evaluate this batch: plain tensors on a CPU, with nothing that traces operations."""
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
        # float16 would lose what a loss scale still has to multiply.
        dtype = torch.float32 if input.dtype == torch.float16 else input.dtype
        gradient = torch.empty_like(input, dtype=dtype, memory_format=torch.contiguous_format)
        evaluate = _by_index if target.ndim == 1 else _by_label
        value = evaluate(input, target, loss, gradient)
        ctx.loss = loss
        ctx.save_for_backward(input, target, gradient)
        return value

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None, None]:
        input, target, gradient = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative is needed
            z, y, known = prepare(input, target, ignore_index=ctx.loss.ignore_index, coupled=False)
            again = reduce(ctx.loss.terms(z, y), known, ctx.loss.reduction)
            return torch.autograd.grad(again, input, outer, create_graph=True)[0], None, None
        if ctx.loss.reduction == "none":
            gradient = gradient * outer.unsqueeze(1).to(gradient.dtype)
        elif not _is_one(outer):
            gradient = gradient * outer.to(gradient.dtype)
        return _as(gradient, input.dtype), None, None


def _is_one(outer: Tensor) -> bool:
    """Whether the gradient can be returned without a copy; False under a batched backward pass, which has no value."""
    try:
        return outer.item() == 1
    except RuntimeError:
        return False


def _by_index(input: Tensor, target: Tensor, loss: OnePassLoss, gradient: Tensor) -> Tensor:
    classes, form = input.shape[1], loss.closed_form()
    index, unknown = _checked_indices(target, classes, loss.ignore_index)
    samples = index.numel() - (0 if unknown is None else int(unknown.sum()))
    scale = 1 / max(samples, 1) if loss.reduction == "mean" else 1.0
    sums = []
    for rows, z, part in _tiles(input, gradient, loss.tile):
        value = form.negative(z, scale, part)
        at = torch.arange(0, z.numel(), classes).add_(index if rows is None else index[rows])
        _put(at, form.positive(z.take(at), scale), value, part)
        if unknown is not None:
            value.view(-1, classes).masked_fill_(unknown[rows or slice(None)].unsqueeze(1), 0)
        sums.append(_sum(value, classes, loss.reduction))
    if unknown is not None:
        gradient.masked_fill_(unknown.unsqueeze(1), 0)
    return _total(sums, input, loss.reduction, scale * form.unit)


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
    classes, form = input.shape[1], loss.closed_form()
    scale = 1 / max(input.shape[0], 1) if loss.reduction == "mean" else 1.0
    sums, empty = [], 0
    for rows, z, part in _tiles(input, gradient, loss.tile):
        labels = (target if rows is None else target[rows]).reshape(-1)
        at = nonzero_labels(labels) if labels.numel() >= loss.sparse_from else None
        there = labels if at is None else labels.take(at)  # zeros need no check
        some_unknown = _checked_labels(there, target)
        if at is None or some_unknown:
            value = _mixed(z, labels, form, scale, part)
        else:
            value = form.negative(z, scale, part)
            again = z.new_empty(at.numel())
            _put(at, (_mixed(z.take(at), there, form, scale, again), again), value, part)
        if some_unknown:
            unknown = labels.isnan()
            value.masked_fill_(unknown, 0)
            part.masked_fill_(unknown, 0)
            empty += int(unknown.view(-1, classes).all(dim=1).sum())
        sums.append(_sum(value, classes, loss.reduction))
    if empty and loss.reduction == "mean":  # the mean is over fewer samples than assumed
        fewer = 1 / max(input.shape[0] - empty, 1)
        gradient.mul_(fewer / scale)
        scale = fewer
    return _total(sums, input, loss.reduction, scale * form.unit)


def _checked_labels(labels: Tensor, target: Tensor) -> bool:
    """Check that all labels (n,) are in [0, 1]; whether some are NaN, unknown."""
    if labels.dtype == torch.bool or labels.numel() == 0:
        return False
    ends = labels.aminmax()
    if float(ends.min) >= 0 and float(ends.max) <= 1:
        return False
    if bool(((labels < 0) | (labels > 1)).any()):
        raise label_error(target)
    return True


def _tiles(input: Tensor, gradient: Tensor, tile: int) -> Iterator[tuple[slice | None, Tensor, Tensor]]:
    """Tiles of rows (None for all of them), their logits (n,) and where their gradients (n,) are to be written."""
    dtype = _computed_dtype(input)
    together = max(1, tile * torch.get_num_threads() // input.shape[1])
    for start in range(0, input.shape[0], together):
        rows = None if together >= input.shape[0] else slice(start, start + together)
        z = _as(input if rows is None else input[rows], dtype).reshape(-1)
        part = (gradient if rows is None else gradient[rows]).view(-1)
        if part.dtype == dtype:
            yield rows, z, part
        else:  # gradients are rounded once, at the end
            precise = torch.empty_like(z)
            yield rows, z, precise
            part.copy_(precise)


def _as(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """``tensor.to(dtype)``, faster where the dtype is the same: at 128 x 7 each call counts."""
    return tensor if tensor.dtype == dtype else tensor.to(dtype)


def _computed_dtype(input: Tensor) -> torch.dtype:
    return torch.float64 if input.dtype == torch.float64 else torch.float32


def _sum(value: Tensor, classes: int, reduction: str) -> Tensor:
    return value.view(-1, classes).sum(dim=1) if reduction == "none" else value.sum()


def _total(sums: list[Tensor], input: Tensor, reduction: str, factor: float) -> Tensor:
    """The value of the loss from the sums of the tiles, times a factor."""
    if not sums:
        return input.new_zeros(0 if reduction == "none" else (), dtype=_computed_dtype(input))
    if reduction == "none":
        return torch.cat(sums).mul_(factor)
    total = sums[0] if len(sums) == 1 else torch.stack(sums).sum()
    return total.mul_(factor)


def nonzero_labels(labels: Tensor) -> Tensor | None:
    """Positions (k,) of labels (n,) that are not 0; None where most terms would have to be computed again.

    Eight bytes are compared at a time, whatever the dtype of the labels.
    """
    count, together = labels.numel(), 8 // labels.element_size()
    if labels.storage_offset() % together or not labels.is_contiguous():
        labels = labels.clone(memory_format=torch.contiguous_format)
    words = count // together
    found = labels[: words * together].view(torch.int64).nonzero()
    if found.numel() * 2 > words:
        return None
    at = (found * together + torch.arange(together)).view(-1)
    at = torch.cat([at, torch.arange(words * together, count)])
    return at[labels.take(at).bool()]


def _mixed(z: Tensor, labels: Tensor, form: ClosedForm, scale: float, gradient: Tensor) -> Tensor:
    """Values (n,) of terms with any labels; writes their gradients."""
    y = _as(labels, z.dtype)
    value, of_positive = form.positive(z, scale)
    negative = form.negative(z, scale, gradient)
    gradient.lerp_(of_positive, y)
    return negative.lerp_(value, y)


def _put(at: Tensor, terms: tuple[Tensor, Tensor], value: Tensor, gradient: Tensor) -> None:
    """Replace the value and gradient at positions ``at`` (k,)."""
    value.put_(at, terms[0])
    gradient.put_(at, terms[1])

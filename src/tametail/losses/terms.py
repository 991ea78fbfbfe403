"""Preparation of targets of every kind, and reduction of per-term losses, for all losses."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

REDUCTIONS = ("mean", "sum", "none")


class Terms(NamedTuple):
    """A batch ready for a formula, each part (B, C)."""

    logits: Tensor  # float32 or float64, 0 where no known term depends on them
    target: Tensor  # the logits' dtype, in [0, 1], 0 where unknown
    known: Tensor  # False for terms to leave out


def prepare(input: Tensor, target: Tensor, *, ignore_index: int, coupled: bool) -> Terms:
    """Check a batch and convert it into one form.

    Args:
        input: logits (B, C) of any float dtype; half precision is converted to float32.
        target: class indices (B,), or one-hot, multi-hot or soft labels (B, C) in [0, 1] with NaN for unknown.
        ignore_index: the class index that means unknown.
        coupled: the classes share one softmax, so that a logit counts even where its own label is unknown.

    Raises:
        TypeError: a dtype that makes no sense.
        ValueError: shapes that do not fit, or labels out of range (values are checked on the CPU only,
            and not inside ``torch.compile`` or ``torch.func.vmap``).
    """
    check_batch(input, target)
    logits = input.to(torch.promote_types(input.dtype, torch.float32))
    if target.ndim == 1:
        labels, known = _from_indices(target, logits, ignore_index)
    else:
        labels, known = _from_labels(target, logits)
    # A NaN or an infinity in a logit that is left out must not reach the gradient through 0 * inf.
    counts = known.any(dim=1, keepdim=True) if coupled else known
    return Terms(torch.where(counts, logits, 0.0), labels, known)


def prepare_indices(
    input: Tensor, target: Tensor, *, ignore_index: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Check a batch with class indices (B,): logits (B, C) in float32 or float64, indices, and which are known.

    Indices are 0 where unknown; None if all are known. Arguments and errors as in :func:`prepare`.
    """
    check_batch(input, target)
    exact = input.dtype in (torch.float32, torch.float64)
    logits = input if exact else input.to(torch.promote_types(input.dtype, torch.float32))
    classes, index = input.shape[1], target.to(torch.int64)
    if _all_known(index, classes, ignore_index):
        return logits, index, None
    known = index != ignore_index
    index = torch.where(known, index, 0)
    if any_true((index < 0) | (index >= classes)):
        raise index_error(index, classes, ignore_index)
    # A NaN or an infinity of a sample that is left out must not reach the gradient through 0 * inf.
    return torch.where(known.unsqueeze(1), logits, 0.0), index, known


def _all_known(index: Tensor, classes: int, ignore_index: int) -> bool:
    """Whether all indices are known classes; False also where their values cannot, or should not, be read."""
    if torch.compiler.is_compiling() or index.device.type != "cpu" or not index.numel():
        return False
    try:
        ends = index.aminmax()
        low, high = int(ends.min), int(ends.max)
        return low >= 0 and high < classes and not low <= ignore_index <= high
    except RuntimeError:  # inside vmap a tensor has no single value
        return False


def reduce_samples(per_sample: Tensor, known: Tensor | None, reduction: str) -> Tensor:
    """Reduce the losses of samples (B,), of those that are known; as :func:`reduce`."""
    if known is not None:
        per_sample = torch.where(known, per_sample, 0.0)
    if reduction == "none":
        return per_sample
    if known is None and reduction == "mean":
        return per_sample.mean()
    total = per_sample.sum()
    return total if reduction == "sum" or known is None else total / known.sum().clamp(min=1)


def reduce(per_term: Tensor, known: Tensor, reduction: str) -> Tensor:
    """Sum the known terms (B, C) over classes, then reduce over samples.

    ``mean`` divides by the number of samples with a known term; with none of them it is 0 with zero gradient.

    Returns:
        A scalar for ``mean`` and ``sum``, (B,) for ``none`` (0 for a sample without a known term).
    """
    per_sample = torch.where(known, per_term, 0.0).sum(dim=1)
    if reduction == "none":
        return per_sample
    total = per_sample.sum()
    return total if reduction == "sum" else total / known.any(dim=1).sum().clamp(min=1)


def any_true(condition: Tensor) -> bool:
    """Whether any element is true; False where values cannot, or should not, be read."""
    if torch.compiler.is_compiling() or condition.device.type != "cpu":
        return False  # reading a value would break the graph, or wait for the accelerator
    try:
        return bool(condition.any())
    except RuntimeError:  # inside vmap a tensor has no single truth value
        return False


def check_batch(input: Tensor, target: Tensor) -> None:
    """Check types and shapes, without reading values."""
    if not isinstance(input, Tensor) or not input.is_floating_point():
        raise TypeError(f"expected input as a tensor of floating-point logits (B, C), got {_kind(input)}")
    if input.ndim != 2 or input.shape[1] == 0:
        raise ValueError(f"expected input of shape (B, C) with C >= 1, got {tuple(input.shape)}")
    if not isinstance(target, Tensor) or target.is_complex():
        raise TypeError(
            f"expected target as a tensor of class indices (B,) or labels (B, C), got {_kind(target)}"
        )
    batch, classes = input.shape
    if target.shape not in ((batch,), (batch, classes)):
        raise ValueError(
            f"expected target of shape ({batch},) or ({batch}, {classes}) for input {tuple(input.shape)}, "
            f"got {tuple(target.shape)}"
        )
    if target.ndim == 1 and (target.is_floating_point() or target.dtype == torch.bool):
        raise TypeError(
            f"expected class indices (B,) of an integer dtype, got {target.dtype}; labels have shape (B, C)"
        )


def index_error(known: Tensor, classes: int, ignore_index: int) -> ValueError:
    """The error for known class indices that are out of range."""
    return ValueError(
        f"expected class indices from 0 to {classes - 1} for input of shape (B, {classes}), or "
        f"ignore_index={ignore_index}, got indices from {int(known.min())} to {int(known.max())}"
    )


def label_error(target: Tensor) -> ValueError:
    """The error for labels that are out of range."""
    return ValueError(
        f"expected labels (B, C) in [0, 1], or NaN where unknown, got values outside in a target of shape "
        f"{tuple(target.shape)}"
    )


def _from_indices(target: Tensor, logits: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    classes = logits.shape[1]
    index = target.to(torch.int64)  # first, as a uint8 target compared with -100 would match it at 156
    known = index != ignore_index
    index = torch.where(known, index, 0)
    if any_true((index < 0) | (index >= classes)):
        raise index_error(index, classes, ignore_index)
    one_hot = torch.zeros_like(logits).scatter(1, index.unsqueeze(1), 1.0)
    known = known.unsqueeze(1).expand_as(one_hot)
    return torch.where(known, one_hot, 0.0), known


def _from_labels(target: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    if any_true((target < 0) | (target > 1)):
        raise label_error(target)
    known = ~torch.isnan(target)
    return torch.where(known, target, 0).to(logits.dtype), known


def _kind(value: object) -> str:
    return (
        f"{value.dtype} of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
    )

"""Samplers: the order of the images of an epoch and their random numbers, determined by (seed, epoch) alone.

Shape legend: n rows of the training set, C classes.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from tametail.core.arrays import FloatArray, IntArray
from tametail.core.errors import UsageError
from tametail.core.registry import nearest

SamplerName = Literal["shuffled", "balanced", "sqrt", "progressive", "deferred"]
_ORDER, _DRAWS, _CYCLES = 0, 1, 2  # independent streams of random numbers; 3 is that of `mixing`
_FAR = 2**56  # beyond the counters of `uniform_draws`
_GOLDEN = 0x9E3779B97F4A7C15


class EpochOrder(ABC):
    """Sampler of n images per epoch."""

    def __init__(self, n: int, seed: int) -> None:
        self.n = n
        self.seed = seed

    def __len__(self) -> int:
        return self.n

    @abstractmethod
    def positions(self, epoch: int) -> IntArray:
        """(n,) positions in the training set in the order of ``epoch``."""

    def occurrences(self, epoch: int, positions: IntArray) -> IntArray:
        """(n,) how often the image of each of the positions of ``epoch`` was shown earlier in it."""
        return occurrences(positions)


class ShuffledOrder(EpochOrder):
    """Every image once per epoch."""

    def positions(self, epoch: int) -> IntArray:
        return permutation(self.n, self.seed, epoch, _ORDER)

    def occurrences(self, epoch: int, positions: IntArray) -> IntArray:
        return np.broadcast_to(np.int64(0), positions.shape)


class ClassOrder(EpochOrder):
    """Each class has a share of the epoch, filled by cycling through its images.

    Every cycle is a new permutation, and the next epoch continues the cycle, so that the counts of the images of a class
    never differ by more than one.

    Args:
        target: (n,) classes.
        shares: epoch → (K,) shares, summing to 1, of the K classes present, in their order.
    """

    def __init__(self, target: IntArray, seed: int, shares: Callable[[int], FloatArray]) -> None:
        super().__init__(len(target), seed)
        self.shares = shares
        self._members = [np.flatnonzero(target == c) for c in np.unique(target)]

    def positions(self, epoch: int) -> IntArray:
        before = sum((self.quotas(e) for e in range(epoch)), np.zeros(len(self._members), np.int64))
        taken = [
            members[self._cycles(which, len(members), first, count)]
            for which, (members, first, count) in enumerate(
                zip(self._members, before.tolist(), self.quotas(epoch).tolist(), strict=True)
            )
        ]
        return np.concatenate(taken)[permutation(self.n, self.seed, epoch, _ORDER)]

    def quotas(self, epoch: int) -> IntArray:
        """(K,) numbers of images per class that sum to n, by the largest remainder method."""
        exact = self.shares(epoch) * self.n
        whole = np.floor(exact + 1e-9).astype(np.int64)
        remainders = np.round(exact - whole, 9)
        # Random order of equal remainders, so that no class is favoured in every epoch.
        ties = permutation(len(whole), self.seed, epoch, _CYCLES)
        whole[np.lexsort((ties, -remainders))[: self.n - int(whole.sum())]] += 1
        return whole

    def _cycles(self, which: int, size: int, first: int, count: int) -> IntArray:
        """Elements ``first`` to ``first + count`` of the infinite sequence of permutations of ``size`` images."""
        cycles = range(first // size, (first + count - 1) // size + 1)
        row = [permutation(size, self.seed, number, _CYCLES, which + 1) for number in cycles]
        start = first - cycles.start * size
        return np.concatenate([np.empty(0, np.int64), *row])[start : start + count]


class DeferredOrder(EpochOrder):
    """One order up to an epoch, and another one from there on; both of the same training set."""

    def __init__(self, before: EpochOrder, after: EpochOrder, first: int) -> None:
        super().__init__(before.n, before.seed)
        self._before, self._after, self._first = before, after, first

    def positions(self, epoch: int) -> IntArray:
        return self._of(epoch).positions(epoch)

    def occurrences(self, epoch: int, positions: IntArray) -> IntArray:
        return self._of(epoch).occurrences(epoch, positions)

    def _of(self, epoch: int) -> EpochOrder:
        return self._before if epoch < self._first else self._after


def make_order(
    sampler: SamplerName,
    target: IntArray,
    *,
    seed: int,
    epochs: int | None = None,
    deferred_from: float = 0.8,
) -> EpochOrder:
    """Create a sampler by name. All have n images per epoch.

    - ``shuffled``: every image once per epoch;
    - ``balanced``: class-balanced sampling;
    - ``sqrt``: classes in proportion to the square root of their counts (Mahajan et al., ECCV 2018);
    - ``progressive``: linearly from the class frequencies in the first epoch to equal ones in the last (Kang et al., ICLR
      2020, section 4.1);
    - ``deferred``: ``shuffled``, then ``balanced`` in the last epochs (deferred re-sampling, Cao et al., NeurIPS 2019).

    Args:
        target: (n,) classes; absent ones are ignored.
        epochs: number of epochs of the training, needed for ``progressive`` and ``deferred``.
        deferred_from: in (0, 1), the fraction of the epochs after which ``deferred`` is balanced; the last one always is.

    Raises:
        UsageError: an unknown name.
        ValueError: ``progressive`` or ``deferred`` without ``epochs``, or ``deferred_from`` out of range.
    """
    if sampler not in get_args(SamplerName):
        known = get_args(SamplerName)
        raise UsageError(f"expected a sampler of {known}, got {sampler!r}; {nearest(str(sampler), known)}")
    if sampler == "shuffled":
        return ShuffledOrder(len(target), seed)
    counts = np.unique(target, return_counts=True)[1].astype(np.float64)
    instance, equal = counts / counts.sum(), np.full(len(counts), 1 / len(counts))
    if sampler == "balanced":
        return ClassOrder(target, seed, lambda epoch: equal)
    if sampler == "sqrt":
        roots = np.sqrt(counts)
        return ClassOrder(target, seed, lambda epoch: roots / roots.sum())
    if epochs is None:
        raise ValueError(f"expected the number of epochs of the training for the {sampler} sampler, got None")
    if sampler == "deferred":
        first = deferred_start(epochs, deferred_from)
        after = ClassOrder(target, seed, lambda epoch: instance if epoch < first else equal)
        return DeferredOrder(ShuffledOrder(len(target), seed), after, first)
    last = max(epochs - 1, 1)

    def mixed(epoch: int) -> FloatArray:
        done = min(epoch / last, 1.0)
        return np.asarray((1 - done) * instance + done * equal)

    return ClassOrder(target, seed, mixed)


def deferred_start(epochs: int | None, deferred_from: float) -> int:
    """The first epoch of a deferred sampler's second part; the last epoch always belongs to it.

    Raises:
        ValueError: the number of epochs is unknown, or ``deferred_from`` is not in (0, 1).
    """
    if epochs is None:
        raise ValueError("expected the number of epochs of the training for the deferred sampler, got None")
    if not 0 < deferred_from < 1:
        raise ValueError(f"expected deferred_from in (0, 1), a fraction of the epochs, got {deferred_from!r}")
    return min(math.ceil(deferred_from * epochs - 1e-9), epochs - 1)


def occurrences(positions: IntArray) -> IntArray:
    """(n,) number of earlier occurrences of each entry: [7, 3, 7, 7] → [0, 0, 1, 2]."""
    order = np.argsort(positions, kind="stable")
    ranked = positions[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]]) if len(ranked) else np.empty(0, np.int64)
    lengths = np.diff(np.r_[starts, len(ranked)])
    counted = np.empty_like(positions)
    counted[order] = np.arange(len(ranked)) - np.repeat(starts, lengths)
    return counted


def uniform_draws(seed: int, epoch: int, counters: IntArray, per: int) -> NDArray[np.float32]:
    """(len(counters), per) numbers in [0, 1), each determined by seed, epoch, counter and column.

    SplitMix64 (Steele, Lea & Flood, OOPSLA 2014) with random access.
    """
    key = np.random.SeedSequence([seed, epoch, _DRAWS]).generate_state(1, np.uint64)[0]
    place = counters.astype(np.uint64)[:, None] * np.uint64(per) + np.arange(1, per + 1, dtype=np.uint64)
    z = key + place * np.uint64(_GOLDEN)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    draws: NDArray[np.float32] = (z >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)
    return draws


def stream(seed: int, *what: int) -> np.random.Generator:
    """Random numbers that are determined by the seed and what they are for."""
    return np.random.default_rng(np.random.SeedSequence([seed, *what]))


def permutation(n: int, seed: int, *what: int) -> IntArray:
    """A permutation of n that is determined by the seed and what it is for."""
    state = np.random.SeedSequence([seed, *what]).generate_state(1, np.uint64)[0]
    generator = torch.Generator().manual_seed(int(state >> np.uint64(1)))
    permuted: IntArray = torch.randperm(n, generator=generator).numpy()
    return permuted


def extra_draws(seed: int, epoch: int, counters: IntArray, per: int) -> NDArray[np.float32]:
    """(len(counters), per) additional numbers in [0, 1), from a part of the sequence that `uniform_draws` never uses."""
    return uniform_draws(seed, epoch, counters + _FAR, per)

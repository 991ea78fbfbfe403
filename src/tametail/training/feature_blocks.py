"""Features of a backbone by blocks of rows, each a file: any number of processes share them, and a killed one loses at most one.

Bounds of blocks depend on nothing but the number of rows: neither several processes nor a restart change a batch, and so a bit.

Shape legend: N rows, D features.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tametail.core.arrays import IntArray
from tametail.core.removal import remove
from tametail.storage.output_store import OutputStore

BLOCK_ROWS = 1024  # a multiple of all batch sizes
_FEATURES = "features"
_POLL_SECONDS = 0.3  # between two looks at the blocks of other processes

Compute = Callable[[IntArray], NDArray[np.float32]]


@dataclass(frozen=True)
class FeatureBlocks:
    """Blocks of features (N, D) float32 in a folder.

    Attributes:
        folder: that all processes see.
        key: digest of what determines the features, see `tametail.training.training_data.features_key`.
        shape: (N, D).
    """

    folder: Path
    key: str
    shape: tuple[int, int]

    @property
    def starts(self) -> range:
        """The first row of each block."""
        return range(0, self.shape[0], BLOCK_ROWS)

    @property
    def bytes_missing(self) -> int:
        """Bytes of the blocks that are not there."""
        return sum(len(self._rows(start)) * self.shape[1] * 4 for start in self._missing())

    def share(
        self, compute: Compute, advance: Callable[[int], None], is_needless: Callable[[], bool]
    ) -> None:
        """Compute the blocks that no other process computes, until all are there.

        Args:
            compute: (n, D) of rows (n,); it advances by itself.
            advance: called with the rows of blocks of others, and often with 0: what it raises ends the work between two blocks.
            is_needless: whether another process has put all blocks together, and may have removed them.

        Raises:
            TametailError: a block cannot be written.
        """
        counted: set[int] = set()
        while True:
            missing = self._missing()
            others = set(self.starts) - {*missing, *counted}
            advance(sum(len(self._rows(start)) for start in others))
            counted |= others
            if not missing or is_needless():
                return
            random.shuffle(missing)  # in one order, all processes would ask for the same blocks
            before = len(counted)
            for start in missing:
                if self._path(start).exists():
                    continue
                with self._store.claimed(self._name(start)) as ours:
                    if not ours or self._path(start).exists() or is_needless():
                        continue
                    features = compute(self._rows(start))
                    self._store.save(self._name(start), self.key, {_FEATURES: features})
                    counted.add(start)
                advance(0)
            if len(counted) == before:
                time.sleep(_POLL_SECONDS)

    def load(self, start: int, compute: Compute) -> NDArray[np.float32]:
        """A block (n, D) from its file, or computed if that is absent or damaged."""
        rows = self._rows(start)
        arrays, _ = self._store.load(self._name(start), self.key) or ({}, {})
        features = arrays.get(_FEATURES)
        if features is None or features.shape != (len(rows), self.shape[1]) or features.dtype != np.float32:
            features = compute(rows)
        return features

    def remove(self) -> None:
        """Remove all blocks, as far as possible."""
        for start in self.starts:
            remove(self._path(start))

    @property
    def _store(self) -> OutputStore:
        return OutputStore(self.folder)

    def _missing(self) -> list[int]:
        return [start for start in self.starts if not self._path(start).exists()]

    def _rows(self, start: int) -> IntArray:
        return np.arange(start, min(start + BLOCK_ROWS, self.shape[0]))

    def _name(self, start: int) -> str:
        return f"{self.key}-{start}"

    def _path(self, start: int) -> Path:
        return self._store.path(self._name(start))

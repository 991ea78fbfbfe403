"""Standardised features as uncorrelated columns: their principal components, of which there are at most as many as images.

Shape legend: n images, D features, R columns, one more than there are components.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tametail.data.row_store import row_blocks
from tametail.training.large_tensors import join_blocks

_SMALLEST = 1e-10  # variance of a component that is kept, as a fraction of the largest


@dataclass(frozen=True, eq=False)
class Components:
    """The principal components of training features.

    A linear head on features x with weights W and bias b is the head V on the columns, with W = V[:, :-1] axes and
    b = V[:, -1]; the norm of W is that of V[:, :-1], as the axes are orthonormal. What a head learns of directions in which
    the training images do not differ would be 0 in any case.

    Attributes:
        columns: (n, R) float32; the last one is all ones. Large ones are in a file, see `join_blocks`.
        axes: (R - 1, D) float32, orthonormal.
        variances: (R,) mean squares of the columns.
    """

    columns: Tensor
    axes: Tensor
    variances: Tensor

    def weights(self, head: Tensor) -> Tensor:
        """Weights (..., C, D) for features from heads (..., C, R) on the columns."""
        return head[..., :-1] @ self.axes

    def of_weights(self, weight: Tensor, bias: Tensor) -> Tensor:
        """Heads (..., C, R) on the columns from weights (..., C, D) and biases (..., C)."""
        return torch.cat([weight @ self.axes.T, bias.unsqueeze(-1)], dim=-1)


def principal_components(features: Tensor, device: torch.device | None = None) -> Components:
    """The components of standardised features (n, D) float32, from the smaller of the two Gram matrices in float64.

    Args:
        device: where they are computed; by default that of the features.
    """
    images, width = features.shape
    device = features.device if device is None else device
    blocks = row_blocks(images, width)

    def exact(block: slice) -> Tensor:
        return features[block].to(device).double()

    if images <= width:
        whole = exact(slice(None))
        squares, vectors = _kept(torch.linalg.eigh(whole @ whole.T / images))
        roots = (squares * images).sqrt()
        columns, axes = _with_ones(vectors * roots), (vectors / roots).T @ whole
    else:
        gram = torch.zeros(width, width, dtype=torch.float64, device=device)
        for block in blocks:
            part = exact(block)
            gram += part.T @ part
        squares, vectors = _kept(torch.linalg.eigh(gram / images))
        projected = join_blocks(blocks, lambda block: _with_ones(exact(block) @ vectors).to(features.device))
        columns, axes = projected, vectors.T
    return Components(columns, axes.float().contiguous(), torch.cat([squares, squares.new_ones(1)]).float())


def _kept(eigen: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors without those of nearly no variance."""
    squares, vectors = eigen
    kept = squares > _SMALLEST * squares[-1]
    return squares[kept], vectors[:, kept]


def _with_ones(columns: Tensor) -> Tensor:
    """Columns (n, R - 1) float64 and a last one of ones, in float32."""
    filled = columns.new_ones(len(columns), columns.shape[1] + 1, dtype=torch.float32)
    filled[:, :-1] = columns
    return filled

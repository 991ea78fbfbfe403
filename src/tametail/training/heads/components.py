"""Standardised features as uncorrelated columns: their principal components, of which there are at most as many as images.

Shape legend: n images, D features, R columns, one more than there are components.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_SMALLEST = 1e-10  # variance of a component that is kept, as a fraction of the largest


@dataclass(frozen=True, eq=False)
class Components:
    """The principal components of training features.

    A linear head on features x with weights W and bias b is the head V on the columns, with W = V[:, :-1] axes and
    b = V[:, -1]; the norm of W is that of V[:, :-1], as the axes are orthonormal. What a head learns of directions in which
    the training images do not differ would be 0 in any case.

    Attributes:
        columns: (n, R) float32; the last one is all ones.
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


def principal_components(features: Tensor) -> Components:
    """The components of standardised features (n, D) float32, from the smaller of the two Gram matrices in float64."""
    images, width = features.shape
    exact = features.double()
    if images <= width:
        squares, vectors = torch.linalg.eigh(exact @ exact.T / images)
        kept = squares > _SMALLEST * squares[-1]
        squares, vectors = squares[kept], vectors[:, kept]
        roots = (squares * images).sqrt()
        columns, axes = vectors * roots, (vectors / roots).T @ exact
    else:
        squares, vectors = torch.linalg.eigh(exact.T @ exact / images)
        kept = squares > _SMALLEST * squares[-1]
        squares, vectors = squares[kept], vectors[:, kept]
        columns, axes = exact @ vectors, vectors.T
    ones = columns.new_ones(images, 1)
    with_ones = torch.cat([columns, ones], dim=1).float().contiguous()
    return Components(with_ones, axes.float().contiguous(), torch.cat([squares, ones[0]]).float())

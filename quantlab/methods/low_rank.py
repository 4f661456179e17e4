"""A weight cut into a low-rank branch that stays in 16 bits and a residual to be rounded. It rounds no residual."""

from __future__ import annotations

import torch
from torch import Tensor


def split(weight: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Cut off the ``rank`` largest singular directions: ``weight = (down up)^T + residual``.

    W^T = U S V^T gives down = U_r sqrt(S_r) and up = sqrt(S_r) V_r^T, so that a layer is x down up + x residual^T.
    Both are numbers that bfloat16 holds, 2 bytes each in a file; what that takes from them the residual takes on, and
    the sum stays the weight. Smoothing comes first (it moves outliers of the input into the weight, for the branch
    to take): hand over the folded weight.

    Args:
        weight: ``[out, in]``, finite.
        rank: From 0; at most the smaller dimension of the weight is used.

    Returns:
        down ``[in, r]``, up ``[r, out]`` and the residual ``[out, in]``, all float64. The largest singular value of
        the residual is the weight's number ``rank + 1``, up to bfloat16's share (2^-8) of the largest.

    Raises:
        ValueError: A negative rank.

    Source:
        SVDQuant (arXiv:2411.05007), section 4.2, equations 6 and 7.
    """
    if rank < 0:
        raise ValueError(f"a branch cannot have rank {rank}")
    matrix = weight.double()
    kept = min(rank, *matrix.shape)
    if matrix.shape[0] <= matrix.shape[1]:
        down, up = _thin(matrix, kept)
    else:
        transposed_up, transposed_down = _thin(matrix.T, kept)
        down, up = transposed_down.T, transposed_up.T
    down, up = (part.bfloat16().double().contiguous() for part in (down, up))
    return down, up, matrix - (down @ up).T


def _thin(wide: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Two factors ``[b, rank]`` and ``[rank, a]`` whose product is nearest to ``wide``^T, ``wide`` ``[a, b]``, a <= b.

    The eigenvectors of W W^T are the directions wanted and ten times cheaper than a whole decomposition.
    """
    values, vectors = torch.linalg.eigh(wide @ wide.T)
    # Ascending: the largest are at the end. A direction without any strength gets nothing to divide by.
    chosen = vectors[:, vectors.shape[1] - rank :].flip(1)
    root = values[len(values) - rank :].flip(0).clamp_min(0).pow(0.25)
    inverse = torch.where(root > 0, 1 / root, 0.0)
    return wide.T @ chosen * inverse, (chosen * root).T

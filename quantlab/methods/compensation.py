"""Low-rank compensation of a branch: least squares of its error on its input, gated. It runs no network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

RIDGE = 1e-4
"""Damping of the least squares, as a share of the mean variance of the inputs."""


@dataclass(frozen=True, slots=True, eq=False)
class ErrorMoments:
    """All that least squares need of rows (x, e), in bounded memory: sums of products, float64.

    Attributes:
        gram: ``[in + 1, in + 1]``, of x with a 1 appended.
        cross: ``[in + 1, out]``, of that with e.
        energy: ``[out]``, sums of e squared.
    """

    gram: Tensor
    cross: Tensor
    energy: Tensor

    @classmethod
    def of(cls, x: Tensor, error: Tensor) -> ErrorMoments:
        """From rows ``x`` ``[n, in]`` and ``error`` ``[n, out]``."""
        rows = torch.nn.functional.pad(x.double(), (0, 1), value=1.0)
        e = error.double()
        return cls(rows.T @ rows, rows.T @ e, e.square().sum(dim=0))

    def __add__(self, other: ErrorMoments) -> ErrorMoments:
        return ErrorMoments(self.gram + other.gram, self.cross + other.cross, self.energy + other.energy)

    @property
    def rows(self) -> float:
        """Number of rows."""
        return float(self.gram[-1, -1])

    @property
    def mean_x(self) -> Tensor:
        """``[in]``."""
        return self.gram[-1, :-1] / self.rows

    @property
    def mean_error(self) -> Tensor:
        """``[out]``."""
        return self.cross[-1] / self.rows


@dataclass(frozen=True, slots=True, eq=False)
class Correction:
    """What a compensated branch adds to its output: ``x down up + bias``, with x its residual-stream input.

    Attributes:
        down: float32 ``[in, rank]``.
        up: float32 ``[rank, out]``.
        bias: float32 ``[out]``.
    """

    down: Tensor
    up: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """``[..., in] -> [..., out]`` in the dtype of ``x``."""
        small = x @ self.down.to(x.device, x.dtype)
        return small @ self.up.to(x.device, x.dtype) + self.bias.to(x.device, x.dtype)

    @property
    def bytes(self) -> int:
        """Size in 16 bits a number."""
        return 2 * (self.down.numel() + self.up.numel() + self.bias.numel())


def fit_correction(moments: ErrorMoments, rank: int) -> Correction:
    """Least squares with bias, truncated to ``rank``; the bias is fitted again after the truncation.

    W = U S V^T gives down = U_r sqrt(S_r) and up = sqrt(S_r) V_r^T.

    Source:
        TAPTQ (arXiv:2602.01741), compensation; QwT (arXiv:2411.13918). The small ridge is ours: calibration may have
        fewer tokens than channels. All tokens weigh the same, as there: patches, of which a scene has most, decide
        the fit, and it can leave the few camera tokens worse than they were.
    """
    centred = moments.gram[:-1, :-1] - moments.rows * torch.outer(moments.mean_x, moments.mean_x)
    cross = moments.cross[:-1] - moments.rows * torch.outer(moments.mean_x, moments.mean_error)
    # The largest entry keeps the matrix regular where every input is constant.
    damping = RIDGE * float(centred.diagonal().mean()) + 1e-12 * float(moments.gram.abs().max())
    damped = centred + damping * torch.eye(len(centred), dtype=torch.float64, device=centred.device)
    u, s, v = torch.linalg.svd(torch.linalg.solve(damped, cross), full_matrices=False)
    kept = min(rank, len(s))
    root = s[:kept].sqrt()
    down, up = u[:, :kept] * root, root[:, None] * v[:kept]
    bias = moments.mean_error - moments.mean_x @ down @ up
    return Correction(down.float().contiguous(), up.float().contiguous(), bias.float())


def explained(correction: Correction, moments: ErrorMoments) -> float:
    """R^2 of a correction, best on rows it was not fitted on; minus infinity where there is no error to explain."""
    theta = torch.cat((correction.down.double() @ correction.up.double(), correction.bias.double()[None]))
    left = moments.energy.sum() - 2 * (theta * moments.cross).sum() + (theta * (moments.gram @ theta)).sum()
    spread = moments.energy.sum() - moments.rows * moments.mean_error.square().sum()
    floor = 1e-12 * float(moments.energy.sum())
    return 1 - float(left / spread) if float(spread) > floor else float("-inf")

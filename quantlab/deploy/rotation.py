"""The rotation nearest to a matrix by products and sums alone, for runtimes without a singular value decomposition."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SQUARINGS = 20
SHIFT = 3.0
"""The rows have length 1, so no eigenvalue is below -3."""


def rotation_from_nine(values: Tensor) -> Tensor:
    """Nine numbers [..., 9] as a matrix with rows of length 1, then the nearest rotation [..., 3, 3].

    The unit quaternion q of that rotation is the top eigenvector of a symmetric 4 x 4 matrix; squaring the shifted
    matrix over and over leaves the projector q qᵀ, of which the rotation is a linear function. The same as
    `quantlab.models.pi3_heads.rotation_from_nine` wherever the nearest rotation is unique.

    Source:
        Horn 1987, Closed-form solution of absolute orientation using unit quaternions, section 4.
    """
    rows = F.normalize(values.unflatten(-1, (3, 3)), dim=-1)
    power = _horn(rows) + SHIFT * torch.eye(4, dtype=values.dtype, device=values.device)
    for _ in range(SQUARINGS):
        power = power / _trace(power)
        power = power @ power
    return _rotation(power / _trace(power))


def _trace(matrix: Tensor) -> Tensor:
    """[..., 4, 4] to [..., 1, 1]."""
    total = matrix[..., 0, 0] + matrix[..., 1, 1] + matrix[..., 2, 2] + matrix[..., 3, 3]
    return total[..., None, None]


def _horn(m: Tensor) -> Tensor:
    """The matrix K with qᵀ K q = tr(Rᵀ M) for the rotation R of a quaternion q = (w, x, y, z): [..., 4, 4]."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = (row.unbind(-1) for row in m.unbind(-2))
    rows = (
        (xx + yy + zz, zy - yz, xz - zx, yx - xy),
        (zy - yz, xx - yy - zz, xy + yx, xz + zx),
        (xz - zx, xy + yx, yy - xx - zz, yz + zy),
        (yx - xy, xz + zx, yz + zy, zz - xx - yy),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def _rotation(p: Tensor) -> Tensor:
    """The rotation [..., 3, 3] of a projector q qᵀ [..., 4, 4] of trace 1."""
    (ww, wx, wy, wz), (_, xx, xy, xz), (_, _, yy, yz), (*_, zz) = (row.unbind(-1) for row in p.unbind(-2))
    rows = (
        (ww + xx - yy - zz, 2 * (xy - wz), 2 * (xz + wy)),
        (2 * (xy + wz), ww - xx + yy - zz, 2 * (yz - wx)),
        (2 * (xz - wy), 2 * (yz + wx), ww - xx - yy + zz),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)

"""Pi3's heads: decoders of one view each, points and confidence per patch, one pose per view. No trunk."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quantlab.models.config_pi3 import HeadsConfig
from quantlab.models.layers import Block
from quantlab.models.rotary import RotaryTables

EPS = 1e-6


class HeadDecoder(nn.Module):
    """Project, attend within each view, project: no layer scale, no normed queries and keys, no final norm."""

    def __init__(self, dim_in: int, config: HeadsConfig, dim_out: int) -> None:
        super().__init__()
        dim, heads = config.embed_dim, config.num_heads
        self.head_dim = dim // heads
        self.projects = nn.Linear(dim_in, dim)
        self.blocks = nn.ModuleList(
            Block(dim, heads, eps=EPS, layer_scale=None, narrow_rotary=True) for _ in range(config.depth)
        )
        self.linear_out = nn.Linear(dim, dim_out)

    def forward(self, hidden: Tensor, rotary: RotaryTables) -> Tensor:
        """[views, tokens, dim_in] to [views, tokens, dim_out]."""
        x = self.projects(hidden)
        for block in self.blocks:
            x = block(x, rotary)
        out: Tensor = self.linear_out(x)
        return out


class PatchHead(nn.Module):
    """A linear layer from a patch token to all pixels of its patch; patches do not see each other."""

    def __init__(self, dim: int, patch_size: int, channels: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Linear(dim, channels * patch_size**2)

    def forward(self, patches: Tensor, rows: int, columns: int) -> Tensor:
        """[views, rows * columns, dim] to [views, H, W, channels]."""
        grid = self.proj(patches).transpose(1, 2).unflatten(2, (rows, columns))
        return F.pixel_shuffle(grid, self.patch_size).permute(0, 2, 3, 1)


class ResidualUnit(nn.Module):
    """x + three linear layers, each followed by a ReLU."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.res_conv1 = nn.Linear(dim, dim)
        self.res_conv2 = nn.Linear(dim, dim)
        self.res_conv3 = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Transform ``x`` [..., dim]."""
        inner = F.relu(self.res_conv2(F.relu(self.res_conv1(x))))
        return x + F.relu(self.res_conv3(inner))


class PoseHead(nn.Module):
    """The mean of a view's patch tokens as world_from_camera: a translation and the rotation nearest to 9 numbers."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.res_conv = nn.ModuleList(ResidualUnit(dim) for _ in range(2))
        self.more_mlps = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.ReLU())
        self.fc_t = nn.Linear(dim, 3)
        self.fc_rot = nn.Linear(dim, 9)

    def forward(self, patches: Tensor) -> Tensor:
        """[views, patches, dim] to rigid matrices [views, 4, 4], in float32."""
        for unit in self.res_conv:
            patches = unit(patches)
        x = self.more_mlps(patches.mean(1))
        rotation = self.rotation(self.fc_rot(x).float())
        top = torch.cat((rotation, self.fc_t(x).float()[..., None]), dim=-1)
        return torch.cat((top, top.new_tensor((0.0, 0.0, 0.0, 1.0)).expand(len(top), 1, 4)), dim=1)

    def rotation(self, values: Tensor) -> Tensor:
        """Nine numbers [views, 9] as rotations [views, 3, 3]."""
        return rotation_from_nine(values)


def rotation_from_nine(values: Tensor) -> Tensor:
    """Nine numbers [..., 9] as a matrix with rows of length 1, then the nearest rotation [..., 3, 3].

    Source:
        Levinson et al. 2020 (arXiv:2006.14616), after a normalisation of the rows that only Pi3 has.
    """
    rows = F.normalize(values.unflatten(-1, (3, 3)), dim=-1)
    out: Tensor = _NearestRotation.apply(rows)
    return out


class _NearestRotation(torch.autograd.Function):
    """The rotation nearest to a matrix; its gradient stays finite where singular values coincide.

    Differentiating through the factors of an SVD divides by differences of singular values, which vanish at every
    rotation, where a trained head ends up. The product needs only their sums (Levinson et al. 2020, section 3.2).
    """

    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:
        u, s, vh = torch.linalg.svd(matrix)
        sign = torch.ones_like(s)
        sign[..., 2] = torch.linalg.det(u @ vh)
        u = u * sign[..., None, :]
        ctx.save_for_backward(u, s * sign, vh)
        return u @ vh

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        u, s, vh = ctx.saved_tensors
        inner = u.mT @ gradients[0] @ vh.mT
        total = s[..., :, None] + s[..., None, :]
        safe = torch.where(total.abs() > 1e-3, total, torch.full_like(total, 1e-3))
        return u @ ((inner - inner.mT) / safe) @ vh

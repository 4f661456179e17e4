"""The image encoder of VGGT and Pi3: a DINOv2 vision transformer with registers. It returns patch tokens only."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quantlab.models.layers import Block, LayerNorm

REGISTERS = 4
EPS = 1e-6


class PatchConv(nn.Module):
    """Non-overlapping patches by a strided convolution."""

    def __init__(self, patch_size: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """[frames, 3, H, W] to [frames, patches, dim], row-major."""
        grid: Tensor = self.proj(images)
        return grid.flatten(2).transpose(1, 2)


class VisionTransformer(nn.Module):
    """Patches and position, [class, 4 registers, patches], pre-norm blocks, final norm.

    Source:
        Oquab et al. 2023 (arXiv:2304.07193) with the registers of Darcet et al. 2023 (arXiv:2309.16588).
    """

    def __init__(
        self, image_size: int, patch_size: int, dim: int, depth: int, heads: int, *, mask_token: bool = True
    ) -> None:
        super().__init__()
        grid = image_size // patch_size
        self.patch_size = patch_size
        self.patch_embed = PatchConv(patch_size, dim)
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim) * 1e-6)
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + grid * grid, dim) * 0.02)
        self.register_tokens = nn.Parameter(torch.randn(1, REGISTERS, dim) * 1e-6)
        # VGGT's checkpoints carry it (masked pre-training), Pi3's do not; the forward pass never reads it.
        if mask_token:
            self.mask_token = nn.Parameter(torch.zeros(1, dim))
        self.blocks = nn.ModuleList(Block(dim, heads, eps=EPS, layer_scale=1.0) for _ in range(depth))
        self.norm = LayerNorm(dim, eps=EPS)

    def forward(self, images: Tensor) -> Tensor:
        """Encode normalised ``images`` [frames, 3, H, W] to patch tokens [frames, patches, dim]."""
        frames, _, height, width = images.shape
        patches = self.patch_embed(images.to(self.cls_token.dtype))
        position = self.position(height, width)
        cls_token = self.cls_token.expand(frames, -1, -1) + position[:, :1]
        registers = self.register_tokens.expand(frames, -1, -1)
        x = torch.cat((cls_token, registers, patches + position[:, 1:]), dim=1)
        for block in self.blocks:
            x = block(x)
        normed: Tensor = self.norm(x)
        return normed[:, 1 + REGISTERS :]

    def position(self, height: int, width: int) -> Tensor:
        """The position embedding [1, 1 + patches, dim] for pictures of this size."""
        return interpolate_position(self.pos_embed, height, width, self.patch_size)


def interpolate_position(position: Tensor, height: int, width: int, patch_size: int) -> Tensor:
    """The position embedding [1, 1 + grid * grid, dim], resampled for ``height`` x ``width`` pixels.

    A square image of the training grid takes it verbatim; all others, even with as many patches, go through
    antialiased bicubic resampling in float32. The class position comes first and is never resampled.
    """
    rows, columns = height // patch_size, width // patch_size
    if height == width and rows * columns == position.shape[1] - 1:
        return position
    grid = round((position.shape[1] - 1) ** 0.5)
    patches = position[:, 1:].float().unflatten(1, (grid, grid)).permute(0, 3, 1, 2)
    size = (rows, columns)
    resampled = F.interpolate(patches, size=size, mode="bicubic", antialias=True, align_corners=False)
    flat = resampled.flatten(2).transpose(1, 2).to(position.dtype)
    return torch.cat((position[:, :1], flat), dim=1)

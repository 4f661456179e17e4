"""Dense prediction heads (DPT) for depth, points and track features; four layers fused to one map. No cameras."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quantlab.models.layers import LayerNorm

POSITION_GAIN = 0.1
FRAMES_PER_CHUNK = 8
PIXELS_PER_CHUNK = 1 << 18
"""On a CPU a chunk is one large picture or many small ones: more together gain nothing there, and take memory."""


class ResidualConvUnit(nn.Module):
    """conv(relu(conv(relu(x)))) + relu(x): the skip carries relu(x), because the published ReLU works in place."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Refine ``x`` [frames, features, h, w]."""
        x = F.relu(x)
        out: Tensor = self.conv2(F.relu(self.conv1(x)))
        return out + x


class FusionBlock(nn.Module):
    """Add a finer layer to the running map, refine, resize to the next size, mix channels."""

    def __init__(self, features: int, *, has_skip: bool) -> None:
        super().__init__()
        self.out_conv = nn.Conv2d(features, features, 1)
        if has_skip:
            self.resConfUnit1 = ResidualConvUnit(features)
        self.resConfUnit2 = ResidualConvUnit(features)

    def forward(self, x: Tensor, skip: Tensor | None, size: tuple[int, int]) -> Tensor:
        """Fuse ``x`` and ``skip``, both [frames, features, h, w], and resize to ``size`` (rows, columns)."""
        fused = x if skip is None else x + self.resConfUnit1(skip)
        out: Tensor = self.out_conv(resize(self.resConfUnit2(fused), size))
        return out


class Scratch(nn.Module):
    """The convolutions after the projections; the name is the published state dict's."""

    def __init__(self, features: int, channels: Sequence[int], outputs: int | None) -> None:
        super().__init__()
        for level, width in enumerate(channels, 1):
            self.add_module(f"layer{level}_rn", nn.Conv2d(width, features, 3, padding=1, bias=False))
        for level in range(1, 5):
            self.add_module(f"refinenet{level}", FusionBlock(features, has_skip=level < 4))
        if outputs is None:
            self.output_conv1 = nn.Conv2d(features, features, 3, padding=1)
            return
        self.output_conv1 = nn.Conv2d(features, features // 2, 3, padding=1)
        self.output_conv2 = nn.Sequential(
            nn.Conv2d(features // 2, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, outputs, 1)
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Fuse four maps, finest first, to [frames, width of output_conv1, 2 h, 2 w] of the finest."""
        layers = [self.get_submodule(f"layer{level}_rn")(x) for level, x in enumerate(maps, 1)]
        finest = (2 * layers[0].shape[-2], 2 * layers[0].shape[-1])
        sizes = [finest, *(tuple(layer.shape[-2:]) for layer in layers[:3])]
        x = self.get_submodule("refinenet4")(layers[3], None, sizes[3])
        for level in (3, 2, 1):
            x = self.get_submodule(f"refinenet{level}")(x, layers[level - 1], sizes[level - 1])
        out: Tensor = self.output_conv1(x)
        return out


class DPTHead(nn.Module):
    """Dense head over four aggregator layers.

    Args:
        dim: Channels of the aggregator's layer outputs.
        patch_size: Pixels of a patch.
        features: Channels of the fusion path.
        out_channels: Channels of the four projected maps.
        layers: Indices of the four aggregator layers.
        activation: "exp" (depth), "inv_log" (points), or None for bare features at half resolution.

    Source:
        Ranftl et al. 2021 (arXiv:2103.13413), as VGGT uses it (arXiv:2503.11651, section 3.3).
    """

    def __init__(
        self,
        dim: int,
        patch_size: int,
        features: int,
        out_channels: Sequence[int],
        layers: Sequence[int],
        activation: str | None,
    ) -> None:
        super().__init__()
        outputs = {"exp": 2, "inv_log": 4, None: None}[activation]
        first, second, _, fourth = out_channels
        self.layers = tuple(layers)
        self.patch_size = patch_size
        self.activation = activation
        self.frames_per_chunk = FRAMES_PER_CHUNK
        self.norm = LayerNorm(dim)
        self.projects = nn.ModuleList(nn.Conv2d(dim, width, 1) for width in out_channels)
        self.resize_layers = nn.ModuleList(
            (
                nn.ConvTranspose2d(first, first, 4, stride=4),
                nn.ConvTranspose2d(second, second, 2, stride=2),
                nn.Identity(),
                nn.Conv2d(fourth, fourth, 3, stride=2, padding=1),
            )
        )
        self.scratch = Scratch(features, out_channels, outputs)

    def forward(self, tokens: Mapping[int, Tensor], images: Tensor, specials: int) -> tuple[Tensor, Tensor]:
        """Values [B, S, H, W, channels] and confidence [B, S, H, W], both float.

        Args:
            tokens: Aggregator layer outputs [B, S, specials + patches, dim] by index.
            images: [B, S, 3, H, W]; only its shape is used.
            specials: Tokens in front of the patches.
        """
        raw = self.maps(tokens, images, specials)
        return activate_dense(raw.float(), self.activation or "exp")

    def maps(self, tokens: Mapping[int, Tensor], images: Tensor, specials: int) -> Tensor:
        """The bare maps [B, S, channels, rows, columns], computed at most ``frames_per_chunk`` frames at a time."""
        batch, frames = images.shape[:2]
        height, width = images.shape[-2:]
        levels = [tokens[index].flatten(0, 1) for index in self.layers]
        most = self.frames_per_chunk if images.is_cuda else PIXELS_PER_CHUNK // (height * width)
        chunk = max(1, min(self.frames_per_chunk, most))
        parts = [
            self._chunk([level[start : start + chunk, specials:] for level in levels], height, width)
            for start in range(0, batch * frames, chunk)
        ]
        joined = parts[0] if len(parts) == 1 else torch.cat(parts)
        return joined.unflatten(0, (batch, frames))

    def _chunk(self, levels: Sequence[Tensor], height: int, width: int) -> Tensor:
        rows, columns = height // self.patch_size, width // self.patch_size
        aspect = width / height
        maps = []
        for tokens, project, resize_layer in zip(levels, self.projects, self.resize_layers, strict=True):
            grid = self.norm(tokens).transpose(1, 2).unflatten(2, (rows, columns))
            if (
                grid.dtype == torch.bfloat16
            ):  # a convolution on a CPU is three times as fast then, and keeps it so
                grid = grid.clone(memory_format=torch.channels_last)
            maps.append(resize_layer(add_position(project(grid), aspect)))
        fused = self.scratch(maps)
        shrink = 2 if self.activation is None else 1
        fused = resize(fused, (rows * self.patch_size // shrink, columns * self.patch_size // shrink))
        placed = add_position(fused, aspect)
        if self.activation is None:
            return placed
        out: Tensor = self.scratch.output_conv2(placed)
        return out


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, corner pixels on corner pixels."""
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


def activate_dense(raw: Tensor, activation: str) -> tuple[Tensor, Tensor]:
    """Split [..., channels, H, W] into values [..., H, W, channels - 1] and confidence 1 + exp(c) [..., H, W]."""
    value, logit = raw.movedim(-3, -1).split((raw.shape[-3] - 1, 1), dim=-1)
    value = value.exp() if activation == "exp" else value.sign() * torch.expm1(value.abs())
    return value, 1 + logit.squeeze(-1).exp()


def add_position(x: Tensor, aspect: float) -> Tensor:
    """``x`` [frames, channels, rows, columns] plus 0.1 times the position embedding of an image of that aspect.

    The first half of the channels depends on the column and the second on the row only, so the full-resolution
    embedding (137 MB at 518 x 518) is never built.
    """
    channels, rows, columns = x.shape[1:]
    axes = position_axes(channels, rows, columns, aspect, x.device)
    across, down = axes[0][None, :, None, :].to(x.dtype), axes[1][None, :, :, None].to(x.dtype)
    if x.is_contiguous(memory_format=torch.channels_last):
        across = across.contiguous(memory_format=torch.channels_last)
        down = down.contiguous(memory_format=torch.channels_last)
    half = channels // 2
    if torch.is_grad_enabled():
        return torch.cat((x[:, :half] + across, x[:, half:] + down), dim=1)
    out = torch.empty_like(x)
    torch.add(x[:, :half], across, out=out[:, :half])
    torch.add(x[:, half:], down, out=out[:, half:])
    return out


@lru_cache(maxsize=64)
def position_axes(
    channels: int, rows: int, columns: int, aspect: float, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Scaled embeddings of the columns [channels/2, columns] and of the rows [channels/2, rows], float32."""
    with torch.inference_mode(False), torch.no_grad():
        u, v = uv_axes(rows, columns, aspect, device)
        return (
            embed_axis(u, channels // 2).T.contiguous() * POSITION_GAIN,
            embed_axis(v, channels // 2).T.contiguous() * POSITION_GAIN,
        )


def uv_axes(
    rows: int, columns: int, aspect: float, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """Pixel-centre coordinates of columns and rows on a rectangle of half-diagonal 1: ([columns], [rows])."""
    diagonal = (aspect**2 + 1) ** 0.5
    across = aspect / diagonal * (columns - 1) / columns
    down = 1 / diagonal * (rows - 1) / rows
    return (
        torch.linspace(-across, across, columns, dtype=torch.float32, device=device),
        torch.linspace(-down, down, rows, dtype=torch.float32, device=device),
    )


def embed_axis(position: Tensor, channels: int) -> Tensor:
    """Sines then cosines of ``position`` [n] at channels/2 frequencies from 1 down to 1/100: float32 [n, channels]."""
    steps = torch.arange(channels // 2, dtype=torch.float64, device=position.device) / (channels / 2)
    angles = position.double()[:, None] * (1.0 / 100.0**steps)
    return torch.cat((angles.sin(), angles.cos()), dim=-1).float()

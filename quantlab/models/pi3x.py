"""Pi3X's image path: Pi3 with convolutional heads and one metric scale. Conditioning on known geometry is left out."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quantlab.models import layers
from quantlab.models.config_pi3 import DenseConfig, MetricConfig, Pi3Config
from quantlab.models.dpt import uv_axes
from quantlab.models.layers import MLP, LayerNorm
from quantlab.models.pi3 import Pi3
from quantlab.models.pi3_heads import EPS
from quantlab.models.rotary import RotaryTables, rotate

GROUP = 32
FURTHEST_LOG = 15.0
"""Beyond this the logarithm of a depth is cut: its exponential would leave half precision behind."""


class ResidualConv(nn.Module):
    """x + norm, ReLU, 3 x 3 to twice the channels, norm, ReLU, 3 x 3 back."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = 2 * channels
        self.layers = nn.Sequential(
            nn.GroupNorm(1, channels),
            nn.ReLU(),
            _conv(channels, hidden),
            nn.GroupNorm(hidden // GROUP, hidden),
            nn.ReLU(),
            _conv(hidden, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Transform ``x`` [views, channels, rows, columns]."""
        out: Tensor = x + self.layers(x)
        return out


class DenseHead(nn.Module):
    """Patch tokens to a picture in three doublings and one resampling; each stage is told where its pixels lie.

    Args:
        dim: Width of the tokens.
        config: Widths of the stages.
        outputs: Channels of each output block.

    Source:
        The head of MoGe (Wang et al. 2024, arXiv:2410.19115) as Pi3X uses it.
    """

    def __init__(self, dim: int, config: DenseConfig, outputs: tuple[int, ...]) -> None:
        super().__init__()
        befores = (dim, *config.widths[:-1])
        self.upsample_blocks = nn.ModuleList(
            nn.Sequential(
                nn.Sequential(nn.ConvTranspose2d(before + 2, width, 2, stride=2), _conv(width, width)),
                ResidualConv(width),
                ResidualConv(width),
            )
            for before, width in zip(befores, config.widths, strict=True)
        )
        self.output_block = nn.ModuleList(
            nn.Sequential(
                _conv(config.widths[-1] + 2, config.last), nn.ReLU(), nn.Conv2d(config.last, channels, 1)
            )
            for channels in outputs
        )

    def forward(self, patches: Tensor, rows: int, columns: int, size: tuple[int, int]) -> Tensor:
        """[views, rows * columns, dim] to [views, height, width, channels of all blocks]."""
        height, width = size
        x = patches.transpose(1, 2).unflatten(2, (rows, columns))
        for block in self.upsample_blocks:
            x = block(_with_place(x, width / height))
        x = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
        x = _with_place(x, width / height)
        return torch.cat([block(x) for block in self.output_block], dim=1).permute(0, 2, 3, 1)


class CrossAttention(nn.Module):
    """Few queries attend to many tokens, both turned by their 2-D position."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(dim, dim)
        self.k_proj = nn.Linear(dim, dim)
        self.v_proj = nn.Linear(dim, dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, y: Tensor, tables: tuple[RotaryTables, RotaryTables]) -> Tensor:
        """Attend from ``x`` [batch, queries, dim] to ``y`` [batch, tokens, dim]; ``tables`` belong to these two."""
        query, key, value = (
            layer(part).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, part in ((self.q_proj, x), (self.k_proj, y), (self.v_proj, y))
        )
        query, key = (rotate(x, table).to(value.dtype) for x, table in zip((query, key), tables, strict=True))
        mixed = layers.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return out


class CrossBlock(nn.Module):
    """x + attention to the tokens, then x + MLP; the queries do not attend to each other."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm2 = LayerNorm(dim, eps=EPS)
        self.norm_y = LayerNorm(dim, eps=EPS)
        self.cross_attn = CrossAttention(dim, heads)
        self.norm3 = LayerNorm(dim, eps=EPS)
        self.mlp = MLP(dim, 4 * dim)

    def forward(self, x: Tensor, y: Tensor, tables: tuple[RotaryTables, RotaryTables]) -> Tensor:
        """Transform ``x`` [batch, queries, dim] by ``y`` [batch, tokens, dim]."""
        x = x + self.cross_attn(self.norm2(x), self.norm_y(y), tables)
        out: Tensor = x + self.mlp(self.norm3(x))
        return out


class MetricDecoder(nn.Module):
    """One query reads all tokens of all views."""

    def __init__(self, dim_in: int, config: MetricConfig) -> None:
        super().__init__()
        dim = config.embed_dim
        self.head_dim = dim // config.num_heads
        self.projects_x = nn.Linear(dim_in, dim)
        self.projects_y = nn.Linear(dim_in, dim)
        self.blocks = nn.ModuleList(CrossBlock(dim, config.num_heads) for _ in range(config.depth))
        self.linear_out = nn.Linear(dim, dim)

    def forward(self, query: Tensor, hidden: Tensor, tables: RotaryTables) -> Tensor:
        """[batch, 1, dim_in] reads [batch, tokens, dim_in]; ``tables`` belong to the tokens, the first is at (0, 0)."""
        origin = RotaryTables(tables.cos[:1], tables.sin[:1])
        x, y = self.projects_x(query), self.projects_y(hidden)
        for block in self.blocks:
            x = block(x, y, (origin, tables))
        out: Tensor = self.linear_out(x)
        return out


class Pi3X(Pi3):
    """Pi3 with smooth dense heads, and points and translations in metres by one scale a scene.

    Known depth, rays and poses, which the released Pi3X can take as well, have no door here: without them those
    parts compute nothing. What the description leaves open is our reading: eps 1e-6 in the metric decoder, and rays
    as unit directions.

    Source:
        Wang et al. 2025 (arXiv:2507.13347) and its authors' later release.
    """

    kind = "pi3x"

    def __init__(self, config: Pi3Config) -> None:
        super().__init__(config)
        dense, metric = config.dense or DenseConfig(), config.metric or MetricConfig()
        dim, out = 2 * config.decoder.embed_dim, config.heads.out_dim
        self.point_head = DenseHead(out, dense, (2, 1))
        self.conf_head = DenseHead(out, dense, (1,))
        self.metric_token = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.metric_decoder = MetricDecoder(dim, metric)
        self.metric_head = nn.Linear(metric.embed_dim, 1)

    def decoded(self, hidden: Tensor, images: Tensor) -> dict[str, Tensor]:
        """The parts of Pi3, and under "metric" the one token [B, 1, dim] that the scale is read from."""
        batch, views = images.shape[:2]
        tables = self.tables(images, self.metric_decoder.head_dim).repeat(views)
        together = hidden.unflatten(0, (batch, views)).flatten(1, 2)
        metric = self.metric_decoder(self.metric_token.expand(batch, -1, -1), together, tables)
        return super().decoded(hidden, images) | {"metric": metric}

    def outputs(self, parts: Mapping[str, Tensor], images: Tensor) -> dict[str, Tensor]:
        """As Pi3's, scaled; and ``rays`` [B,N,H,W,3], unit directions in each camera's frame, and ``metric`` [B]."""
        found = super().outputs(parts, images)
        metric = self.metric_head(parts["metric"].float()).exp().flatten()
        scale = metric[:, None, None, None, None]
        poses = found["camera_poses"]
        place = torch.cat((poses[..., :3, 3:] * scale[..., 0], poses[..., 3:, 3:]), dim=-2)
        return found | {
            "points": found["points"] * scale,
            "local_points": found["local_points"] * scale,
            "camera_poses": torch.cat((poses[..., :3], place), dim=-1),
            "rays": F.normalize(found["local_points"], dim=-1),
            "metric": metric,
        }

    def dense(self, head: nn.Module, tokens: Tensor, images: Tensor) -> Tensor:
        """A dense head on patch tokens [B * N, patches, dim]: [B * N, H, W, channels]."""
        found: Tensor = head(tokens, *self.grid(images), images.shape[-2:])
        return found

    def log_depth(self, raw: Tensor) -> Tensor:
        """The logarithm of the depth, cut where it would overflow."""
        return raw.clamp(max=FURTHEST_LOG)

    def execution_order(self) -> list[str]:
        """Module names in the order they run, for ``structure.describe``."""
        return ["encoder", *self._trunk(), "metric_decoder", *self._after_trunk(), "metric_head"]


def _conv(channels_in: int, channels_out: int) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, 3, padding=1, padding_mode="replicate")


def _with_place(x: Tensor, aspect: float) -> Tensor:
    """Two more channels: where the pixels lie on a rectangle of half-diagonal 1."""
    rows, columns = x.shape[-2:]
    u, v = uv_axes(rows, columns, aspect, x.device)
    place = torch.stack((u.expand(rows, -1), v[:, None].expand(-1, columns))).to(x.dtype)
    return torch.cat((x, place.expand(len(x), -1, -1, -1)), dim=1)

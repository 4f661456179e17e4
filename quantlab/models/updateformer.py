"""The tracker's transformer: attention over time, and over tracks through virtual ones. No correlation here."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quantlab.models import layers
from quantlab.models.layers import MLP, LayerNorm

HEADS = 8
DEPTH = 6
VIRTUAL_TRACKS = 64


class CrossAttention(nn.Module):
    """Multi-head attention with the parameter names of ``nn.MultiheadAttention`` and a swappable core."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Queries from ``x`` [batch, tokens, dim], keys and values from ``context`` [batch, others, dim]."""
        weights = self.in_proj_weight.chunk(3)
        biases = self.in_proj_bias.chunk(3)
        sources = (x, context, context)
        projected = [F.linear(s, w, b) for s, w, b in zip(sources, weights, biases, strict=True)]
        query, key, value = (p.unflatten(-1, (HEADS, -1)).transpose(1, 2) for p in projected)
        mixed = layers.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return out


class SelfBlock(nn.Module):
    """Self-attention block whose residual starts from the normed input."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1 = LayerNorm(dim)
        self.attn = CrossAttention(dim)
        self.norm2 = LayerNorm(dim)
        self.mlp = MLP(dim, 4 * dim)

    def forward(self, x: Tensor) -> Tensor:
        """Transform ``x`` [batch, tokens, dim]."""
        x = self.norm1(x)
        x = x + self.attn(x, x)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class CrossBlock(nn.Module):
    """Cross-attention block; input and context are normed, and the residual starts from the normed input."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1 = LayerNorm(dim)
        self.norm_context = LayerNorm(dim)
        self.cross_attn = CrossAttention(dim)
        self.norm2 = LayerNorm(dim)
        self.mlp = MLP(dim, 4 * dim)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Transform ``x`` [batch, tokens, dim] with ``context`` [batch, others, dim]."""
        x = self.norm1(x)
        x = x + self.cross_attn(x, self.norm_context(context))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class UpdateFormer(nn.Module):
    """From track tokens to updates of coordinates and features.

    Source:
        Wang et al. 2025 (arXiv:2503.11651), section 3.3, after CoTracker (arXiv:2307.07635).
    """

    def __init__(self, tokens: int, dim: int, outputs: int) -> None:
        super().__init__()
        self.input_norm = LayerNorm(tokens)
        self.input_transform = nn.Linear(tokens, dim)
        self.output_norm = LayerNorm(dim)
        self.flow_head = nn.Linear(dim, outputs)
        # The spelling is the published state dict's.
        self.virual_tracks = nn.Parameter(torch.randn(1, VIRTUAL_TRACKS, 1, dim))
        self.time_blocks = nn.ModuleList(SelfBlock(dim) for _ in range(DEPTH))
        self.space_virtual_blocks = nn.ModuleList(SelfBlock(dim) for _ in range(DEPTH))
        self.space_point2virtual_blocks = nn.ModuleList(CrossBlock(dim) for _ in range(DEPTH))
        self.space_virtual2point_blocks = nn.ModuleList(CrossBlock(dim) for _ in range(DEPTH))

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [B, tracks, frames, tokens] to updates [B, tracks, frames, outputs]."""
        batch, tracks, frames, _ = x.shape
        start = self.input_transform(self.input_norm(x))
        virtual = self.virual_tracks.expand(batch, -1, frames, -1)
        state = torch.cat((start, virtual.to(start.dtype)), dim=1)
        for index, time_block in enumerate(self.time_blocks):
            state = time_block(state.flatten(0, 1)).unflatten(0, (batch, -1))
            state = self._space(index, state, tracks)
        final = state[:, :tracks] + start
        out: Tensor = self.flow_head(self.output_norm(final))
        return out

    def _space(self, index: int, state: Tensor, tracks: int) -> Tensor:
        batch = state.shape[0]
        per_frame = state.transpose(1, 2).flatten(0, 1)
        points, virtual = per_frame[:, :tracks], per_frame[:, tracks:]
        virtual = self.space_virtual2point_blocks[index](virtual, points)
        virtual = self.space_virtual_blocks[index](virtual)
        points = self.space_point2virtual_blocks[index](points, virtual)
        return torch.cat((points, virtual), dim=1).unflatten(0, (batch, -1)).transpose(1, 2)

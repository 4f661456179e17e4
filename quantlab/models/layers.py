"""Transformer parts shared by every network here: attention, MLP, layer scale, block. No network and no checkpoint."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quantlab.models.rotary import RotaryTables, rotate


def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention with scale 1/sqrt(head_dim) and no mask; all of [batch, heads, tokens, head_dim].

    Every attention of every network looks this function up at each call, so that assigning another one to
    ``layers.scaled_dot_product_attention`` swaps the implementation everywhere (as the trainer does). For one network
    alone, give its attentions a ``core``.
    """
    return F.scaled_dot_product_attention(query, key, value)


class AttentionCore(Protocol):
    """What an attention does between its projections, for one network (`quantlab.kernels.attention`)."""

    def __call__(self, attention: Attention, qkv: Tensor, rotary: RotaryTables | None) -> Tensor:
        """From ``qkv`` [batch, tokens, 3, heads, channels] to [batch, tokens, heads, channels]."""


class LayerNorm(nn.LayerNorm):
    """``nn.LayerNorm`` that stays in float32 under autocast on every device, as CUDA's autocast does.

    CPU autocast would normalise bfloat16 activations in bfloat16; the published mixed precision does not. Without
    autocast the answer has the dtype of ``x``, and the statistics are float32 all the same.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis of ``x``."""
        if torch.is_autocast_enabled(x.device.type):
            return super().forward(x.float())
        if x.is_cuda and self.weight is not None and self.weight.dtype != x.dtype:
            return super().forward(x.to(self.weight.dtype)).to(x.dtype)  # CUDA mixes no dtypes in a norm
        return super().forward(x)


class LayerScale(nn.Module):
    """A learned gain per channel on a branch's output."""

    def __init__(self, dim: int, init: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), init))

    def forward(self, x: Tensor) -> Tensor:
        """Scale the last axis of ``x``."""
        return x * self.gamma


class MLP(nn.Module):
    """Linear, exact (erf) GELU, Linear."""

    def __init__(self, dim: int, hidden: int, out: int | None = None) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, dim if out is None else out)

    def forward(self, x: Tensor) -> Tensor:
        """Transform ``x`` [..., dim]."""
        out: Tensor = self.fc2(self.act(self.fc1(x)))
        return out


class Attention(nn.Module):
    """Multi-head self-attention, optionally with normed queries and keys and a 2-D rotary position.

    The rows of ``qkv`` are ordered [q, k, v] x [head] x [channel of the head]. With ``narrow_rotary`` queries and
    keys are rounded to the values' dtype before they are rotated, as Pi3 does: it matters in mixed precision only,
    where the norms give float32.

    Attributes:
        channels: Of each head.
        core: Stands in for `mix`; None without one.
    """

    core: AttentionCore | None = None

    def __init__(self, dim: int, heads: int, *, qk_norm: bool = False, narrow_rotary: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.channels = dim // heads
        self.narrow_rotary = narrow_rotary
        self.qkv = nn.Linear(dim, 3 * dim)
        self.q_norm: nn.Module = LayerNorm(dim // heads) if qk_norm else nn.Identity()
        self.k_norm: nn.Module = LayerNorm(dim // heads) if qk_norm else nn.Identity()
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, rotary: RotaryTables | None = None) -> Tensor:
        """Attend among the tokens of ``x`` [batch, tokens, dim]; ``rotary`` holds tables for those tokens."""
        batch, tokens, dim = x.shape
        qkv = self.qkv(x).view(batch, tokens, 3, self.heads, self.channels)
        mixed = self.mix(qkv, rotary) if self.core is None else self.core(self, qkv, rotary)
        out: Tensor = self.proj(mixed.reshape(batch, tokens, dim))
        return out

    def mix(self, qkv: Tensor, rotary: RotaryTables | None) -> Tensor:
        """From ``qkv`` [batch, tokens, 3, heads, channels] to [batch, tokens, heads, channels]."""
        return scaled_dot_product_attention(*self.parts(qkv, rotary)).transpose(1, 2)

    def parts(self, qkv: Tensor, rotary: RotaryTables | None) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value [batch, heads, tokens, channels], normed and rotated."""
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        query, key = self.q_norm(query), self.k_norm(key)
        if self.narrow_rotary:
            query, key = query.to(value.dtype), key.to(value.dtype)
        if rotary is not None:
            query, key = rotate(query, rotary), rotate(key, rotary)
        return query, key, value if torch.is_autocast_enabled(qkv.device.type) else value.to(query.dtype)


class Block(nn.Module):
    """Pre-norm transformer block: x + ls1(attn(norm1(x))), then x + ls2(mlp(norm2(x))).

    A ``layer_scale`` of None leaves the gains out (no such names in the state dict).
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        qk_norm: bool = False,
        eps: float = 1e-5,
        layer_scale: float | None = 0.01,
        narrow_rotary: bool = False,
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm(dim, eps=eps)
        self.attn = Attention(dim, heads, qk_norm=qk_norm, narrow_rotary=narrow_rotary)
        self.ls1 = _gain(dim, layer_scale)
        self.norm2 = LayerNorm(dim, eps=eps)
        self.mlp = MLP(dim, 4 * dim)
        self.ls2 = _gain(dim, layer_scale)

    def forward(self, x: Tensor, rotary: RotaryTables | None = None) -> Tensor:
        """Transform ``x`` [batch, tokens, dim]."""
        x = x + self.ls1(self.attn(self.norm1(x), rotary))
        out: Tensor = x + self.ls2(self.mlp(self.norm2(x)))
        return out


def _gain(dim: int, init: float | None) -> nn.Module:
    return nn.Identity() if init is None else LayerScale(dim, init)

"""Execution of rounded keys and values: stand-ins inside an attention, and how it learns which tokens are special.

They round what a key or value projection gives, as a cache of few bits would hand it back; no cache is kept. The
arithmetic is `quantlab.methods.kv`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from quantlab.kernels.compensated import Wrapper
from quantlab.methods.kv import KVFormat, round_heads
from quantlab.models.rotary import RotaryTables


class SpecialTokens:
    """Which tokens of the attention that runs now are special: those that stand at no place of the picture.

    Networks of this kind give their camera and register tokens position 0 and count patches from 1. An attention
    that is not told positions (an image encoder's) has none that are known.
    """

    def __init__(self) -> None:
        self.mask: Tensor | None = None

    def note(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A forward pre-hook of the attention."""
        self.mask = special_tokens((*args, *kwargs.values()))


def special_tokens(values: Iterable[Any]) -> Tensor | None:
    """Bool ``[..., tokens]`` from the first argument that holds positions; None where there is none.

    Positions are rotary tables, or whole numbers (y, x) ``[..., tokens, 2]``.
    """
    for value in values:
        if isinstance(value, RotaryTables):
            return (value.sin == 0).all(dim=-1)
        if isinstance(value, Tensor) and value.dim() > 1 and value.shape[-1] == 2 and not _real(value):
            return (value == 0).all(dim=-1)
    return None


class RoundedHeads(Wrapper):
    """What both stand-ins share."""

    def __init__(
        self, inner: nn.Module, chosen: KVFormat, heads: int, special: SpecialTokens, place: str
    ) -> None:
        super().__init__(inner)
        self.format, self.kv_heads, self.special, self.place = chosen, heads, special, place

    def _round(self, x: Tensor) -> Tensor:
        """``[..., tokens, heads, channels]``."""
        mask = self.special.mask
        fits = mask is not None and mask.shape[-1] == x.shape[-3]
        rounded = round_heads(x.detach(), self.format, special=mask if fits else None, place=self.place)
        # Straight through, as activations are: the derivative of rounding would be 0.
        return rounded + (x - x.detach()) if torch.is_grad_enabled() and x.requires_grad else rounded


class RoundedKeys(RoundedHeads):
    """The norm of the keys; rounds what comes out, before it is given its rotary position."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """``[..., heads, tokens, channels]``, or with tokens before heads, or with the heads not yet split."""
        out: Tensor = self.inner(x, *args, **kwargs)
        if out.dim() > 3 and out.shape[-3] == self.kv_heads:
            return self._round(out.transpose(-3, -2)).transpose(-3, -2)
        if out.dim() > 3 and out.shape[-2] == self.kv_heads:
            return self._round(out)
        return self._round(out.unflatten(-1, (self.kv_heads, -1))).flatten(-2)


class RoundedProjection(RoundedHeads):
    """A projection to keys, values, or all of queries, keys and values; rounds some of its equal parts.

    Args:
        parts: Which ones: of three (2,) are the values and (1, 2) keys and values.
        count: How many parts its output has.
    """

    def __init__(
        self,
        inner: nn.Module,
        chosen: KVFormat,
        heads: int,
        special: SpecialTokens,
        place: str,
        *,
        parts: Sequence[int] = (0,),
        count: int = 1,
    ) -> None:
        super().__init__(inner, chosen, heads, special, place)
        self.parts, self.count = tuple(parts), count

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """``[..., tokens, in] -> [..., tokens, count * heads * channels]``."""
        out: Tensor = self.inner(x, *args, **kwargs)
        pieces = list(out.chunk(self.count, dim=-1))
        for index in self.parts:
            split = pieces[index].unflatten(-1, (self.kv_heads, -1))
            pieces[index] = self._round(split).flatten(-2)
        return torch.cat(pieces, dim=-1)


def _real(x: Tensor) -> bool:
    return x.is_floating_point() or x.is_complex() or x.dtype == torch.bool

"""One lean pass over one tensor: counts, sums of powers and maxima. It keeps nothing and hooks nothing.

The bins are those of `quantlab.numerics.histograms`; what is special here is the cost: a profiled forward may
take half as long again as a plain one, so values are looked at while they are in the cache, in few calls.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quantlab.numerics.finite import require_finite
from quantlab.numerics.records import HIGHEST_EXPONENT, LOWEST_EXPONENT, MANTISSA_BITS
from quantlab.numerics.tails import MAX_TOKENS

SHIFT = 23 - MANTISSA_BITS
HALF = 1 << (8 + MANTISSA_BITS)
FIRST, LAST = ((127 + exponent) << MANTISSA_BITS for exponent in (LOWEST_EXPONENT, HIGHEST_EXPONENT))
"""The patterns between which values have bins of their own."""
CHUNK = 1 << 18
"""Values looked at together, so that the buffers stay near the processor."""
SAFE = (1e-8, 1e8)
"""Largest magnitudes between which float32 holds fourth powers; outside, sums are formed in float64."""


@dataclass(slots=True, eq=False)
class Batch:
    """Sums over one tensor or many, for K groups of tokens, about one pivot.

    Attributes:
        counts: int64 [K, 2, LAST - FIRST], by group, sign and upper bits; what is missing to the number of values
            is nearer to zero than the bins go.
        sums: float64 [K, 5]: the number of values, then the sums of the first four powers of x - pivot.
        peaks: float64 [K], largest |x|.
        channels: [channels], largest |x|.
        tokens: Largest |x| of each token of the first tensor, at most MAX_TOKENS.
    """

    counts: Tensor
    sums: Tensor
    peaks: Tensor
    channels: Tensor
    tokens: Tensor
    pivot: float

    def include(self, other: Batch) -> None:
        """Add what another tensor of the same layer brought."""
        if other.pivot != self.pivot:
            raise ValueError("sums about different pivots cannot be added")
        self.counts += other.counts
        self.sums += other.sums
        self.peaks = torch.maximum(self.peaks, other.peaks)
        self.channels = torch.maximum(self.channels, other.channels)


class Scratch:
    """Two buffers that every pass uses again, so that they stay in the cache and no memory is asked for."""

    def __init__(self) -> None:
        self._floats, self._integers = torch.empty(0), torch.empty(0, dtype=torch.int32)
        self._views: dict[torch.Size, tuple[Tensor, Tensor]] = {}

    def buffers(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """float32 and int32 of the shape of ``like``, contiguous; valid until the next call."""
        if len(self._floats) < like.numel() or self._floats.device != like.device:
            self._floats = torch.empty(max(CHUNK, like.numel()), device=like.device)
            self._integers = torch.empty_like(self._floats, dtype=torch.int32)
            self._views.clear()
        views = self._views.get(like.shape)
        if views is None:
            size = like.numel()
            views = self._floats[:size].view(like.shape), self._integers[:size].view(like.shape)
            self._views[like.shape] = views
        return views


class Groupings:
    """Which token belongs to which group, worked out once for all layers that see the same kinds of tokens."""

    def __init__(self) -> None:
        self.scratch = Scratch()
        self._known: dict[tuple[int, int, tuple[int, ...]], tuple[NDArray[np.uint8], Tensor, Tensor]] = {}

    def find(
        self, kinds: NDArray[np.uint8], count: int, codes: tuple[int, ...], device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Per token the offset of its group's bins, int32 [tokens, 1], and its membership, float64 [K, tokens]."""
        key = (id(kinds), count, codes)
        known = self._known.get(key)
        if known is None or known[0] is not kinds or known[1].device != device:
            if len(self._known) > 64:
                self._known.clear()
            row_of = {code: row for row, code in enumerate(codes)}
            rows = np.array([row_of[int(kind)] for kind in kinds], dtype=np.int64)
            index = torch.from_numpy(np.resize(rows, count)).to(device)
            offsets = ((2 * index + 1) * HALF).to(torch.int32)[:, None]
            members = torch.nn.functional.one_hot(index, len(codes)).T.double().contiguous()
            # the entry holds the kinds, so that their id stays theirs
            known = self._known[key] = (kinds, offsets, members)
        return known[1:]


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A part of a tensor as a table, small enough for the cache.

    Either rows are tokens and columns channels, with the grouping of the tokens where there are several groups; or
    ``images`` is not 0, rows are the channels of so many images one after the other, and columns are pixels.
    """

    table: Tensor
    offsets: Tensor | None = None
    members: Tensor | None = None
    images: int = 0

    def measure(self, groups: int, pivot: float, place: str, scratch: Scratch, *, want_tokens: bool) -> Batch:
        """Pass over the table."""
        table = self.table if self.table.dtype == torch.float32 else self.table.float()
        floats, integers = scratch.buffers(table)
        size = torch.abs(table, out=floats)
        channels = size.amax(1).view(self.images, -1).amax(0) if self.images else size.amax(0)
        peak = channels.amax()
        largest = float(peak)
        if not math.isfinite(largest):
            require_finite(self.table, place=place)
        tokens = self._tokens(size) if want_tokens or self.members is not None else channels[:0]
        peaks = peak.double().view(1) if self.members is None else (self.members * tokens).amax(1)
        return Batch(
            _bits(table, self.offsets, groups, integers, largest),
            _powers(table, pivot, self.members, None if not SAFE[0] < largest < SAFE[1] else floats),
            peaks,
            channels,
            tokens[:MAX_TOKENS],
            pivot,
        )

    def _tokens(self, size: Tensor) -> Tensor:
        maps = size.view(self.images, -1, size.shape[1]) if self.images else size
        return maps.amax(1).flatten()


def choose_pivot(x: Tensor) -> float:
    """The mean where it is far from zero, so that the sums of powers about it stay exact; else 0, which is cheaper."""
    spread, mean = (float(value) for value in torch.std_mean(x.detach().float(), correction=0))
    return mean if np.isfinite(mean) and abs(mean) > spread else 0.0


def token_pieces(
    x: Tensor, kinds: NDArray[np.uint8], codes: tuple[int, ...], groupings: Groupings
) -> Iterator[Piece]:
    """Tables of inputs [..., tokens, channels]; ``codes`` are the kinds that have a group each."""
    rows = x.detach().reshape(-1, x.shape[-1])
    length = max(1, CHUNK // rows.shape[1])
    if len(codes) == 1:
        for part in torch.split(rows, length):
            yield Piece(part, None, None)
        return
    offsets, shares = groupings.find(kinds, len(rows), codes, rows.device)
    for start in range(0, len(rows), length):
        window = slice(start, start + length)
        yield Piece(rows[window], offsets[window], shares[:, window])


def map_pieces(x: Tensor) -> Iterator[Piece]:
    """Tables of inputs [..., channels, rows, columns], in whichever memory format they come."""
    maps = x.detach()[None] if x.dim() == 3 else x.detach()
    if maps.is_contiguous(memory_format=torch.channels_last) and not maps.is_contiguous():
        rows = maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])
        for part in torch.split(rows, max(1, CHUNK // rows.shape[1])):
            yield Piece(part)
        return
    _, channels, pixels = maps.flatten(2).shape
    together = max(1, CHUNK // (channels * pixels))
    for group in torch.split(maps.flatten(2), together):
        for part in torch.split(group.flatten(0, 1), max(1, CHUNK // (len(group) * channels)), dim=1):
            yield Piece(part, images=len(group))


def _bits(table: Tensor, offsets: Tensor | None, groups: int, buffer: Tensor, largest: float) -> Tensor:
    """Counts int64 [groups, 2, LAST - FIRST]. A negative float has a negative bit pattern, hence the first half."""
    bins = torch.bitwise_right_shift(table.view(torch.int32), SHIFT, out=buffer)
    bins += HALF if offsets is None else offsets
    counts = torch.bincount(bins.view(-1), minlength=groups * 2 * HALF).view(groups, 2, HALF)
    kept = counts[:, :, FIRST:LAST]
    if largest >= 2.0**HIGHEST_EXPONENT:
        kept[:, :, -1] += counts[:, :, LAST:].sum(-1)
    return kept


def _powers(table: Tensor, pivot: float, members: Tensor | None, buffer: Tensor | None) -> Tensor:
    """float64 [K, 5]: the number of values and the sums of the first four powers of x - pivot.

    Without a ``buffer`` of the table's shape the powers are formed in float64.
    """
    x = table.double() if buffer is None else table
    x = x - pivot if pivot else x
    square = torch.mul(x, x, out=buffer) if buffer is not None else x * x
    if members is None:
        x, square = x.reshape(-1), square.view(-1)
        sums = (x.sum(), square.sum(), torch.dot(square, x), torch.dot(square, square))
        return torch.stack((torch.full_like(sums[0], len(x)), *sums)).double()[None]
    columns = (x.sum(1), square.sum(1), torch.linalg.vecdot(square, x), torch.linalg.vecdot(square, square))
    return members @ torch.stack((torch.full_like(columns[0], x.shape[1]), *columns), dim=1).double()

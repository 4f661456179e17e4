"""Statistics of one layer's inputs as they stream by: one lean pass a tensor, bounded memory. It hooks nothing.

The bins are those of `quantlab.numerics.histograms`; what is special here is the cost: a profiled forward may
take half as long again as a plain one, so values are looked at while they are in the cache, in few calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quantlab.calibration.profile import ALL, QUANTILES, TokenStats
from quantlab.models.tokens import KINDS
from quantlab.numerics.finite import require_finite
from quantlab.numerics.records import HIGHEST_EXPONENT, LOWEST_EXPONENT, MANTISSA_BITS, Histogram, Moments
from quantlab.numerics.tails import MAX_TOKENS

SHIFT = 23 - MANTISSA_BITS
HALF = 1 << (8 + MANTISSA_BITS)
FIRST, LAST = ((127 + exponent) << MANTISSA_BITS for exponent in (LOWEST_EXPONENT, HIGHEST_EXPONENT))
"""The patterns between which values have bins of their own."""
CHUNK = 1 << 18
"""Values looked at together, so that the buffers stay near the processor."""
SAFE = (1e-8, 1e8)
"""Largest magnitudes between which float32 holds fourth powers; outside, sums are formed in float64."""
SPREAD = 1e-6
"""A spread below this share of the largest value is float32 rounding, not a spread."""


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


class InputStream:
    """Running statistics of the inputs of one layer; they do not grow with what streams by.

    Args:
        codes: Kind codes that occur; later ones may be added by ``admit``.
        maps: Inputs are [..., channels, rows, columns] with a token a pixel, all of the first kind; else they
            are [..., tokens, channels].
        groupings: Shared between the layers of a network.
    """

    def __init__(self, codes: tuple[int, ...], *, maps: bool, groupings: Groupings | None = None) -> None:
        self.codes, self.maps = codes, maps
        self.token_kinds: NDArray[np.uint8] = np.zeros(0, dtype=np.uint8)
        self.pivot: float | None = None
        self._total: Batch | None = None
        self._groupings = groupings or Groupings()

    def admit(self, kinds: NDArray[np.uint8]) -> None:
        """Make room for kinds that did not occur before."""
        new = tuple(int(code) for code in np.unique(kinds) if code not in self.codes)
        if not new or self.maps:
            return
        self.codes += new
        if self._total is not None:
            total, count = self._total, len(new)
            total.counts = torch.cat((total.counts, total.counts.new_zeros(count, *total.counts.shape[1:])))
            total.sums = torch.cat((total.sums, total.sums.new_zeros(count, 5)))
            total.peaks = torch.cat((total.peaks, total.peaks.new_zeros(count)))

    def measure(self, x: Tensor, kinds: NDArray[np.uint8], *, place: str = "") -> Batch:
        """Pass over one tensor; nothing is added yet.

        Args:
            x: Floating, not empty, of the shape that the class says.
            kinds: uint8 [tokens], the same for all leading indices.
            place: Layer named in errors.

        Raises:
            NumericError: A NaN or an infinity.
        """
        if self.pivot is None:
            self.pivot = choose_pivot(x)
        batch: Batch | None = None
        for piece in _map_pieces(x) if self.maps else self._token_pieces(x, kinds):
            short = self._total is None and (batch is None or len(batch.tokens) < MAX_TOKENS)
            found = piece.measure(len(self.codes), self.pivot, place, self._groupings.scratch, want_tokens=short)
            if batch is None:
                batch = found
            else:
                if short:
                    batch.tokens = torch.cat((batch.tokens, found.tokens))[:MAX_TOKENS]
                batch.include(found)
        if batch is None:
            raise ValueError("an empty tensor has no statistics")
        return batch

    def fits(self, batch: Batch) -> bool:
        """Whether a batch that another stream measured can be added to this one."""
        return self.pivot in (None, batch.pivot) and len(batch.sums) == len(self.codes)

    def add(self, batch: Batch, kinds: NDArray[np.uint8]) -> None:
        """Take in one tensor's sums, measured by this stream or by one that it fits."""
        self.pivot = batch.pivot
        if self._total is None:
            self._total = Batch(
                batch.counts.clone(),
                batch.sums.clone(),
                batch.peaks,
                batch.channels,
                batch.tokens,
                batch.pivot,
            )
            self.token_kinds = np.resize(kinds, min(len(batch.tokens), MAX_TOKENS)).astype(np.uint8)
        else:
            self._total.include(batch)

    @property
    def channel_max(self) -> NDArray[np.float32]:
        """Largest |x| of each channel over everything seen, float32 [channels]."""
        return _floats(self._total.channels) if self._total else np.zeros(0, np.float32)

    @property
    def token_max(self) -> NDArray[np.float32]:
        """Largest |x| of each token of the first tensor, float32 [<= MAX_TOKENS]."""
        return _floats(self._total.tokens[:MAX_TOKENS]) if self._total else np.zeros(0, np.float32)

    def stats(self) -> dict[str, TokenStats]:
        """Statistics of all values together ("all") and of each token kind that occurred."""
        if self._total is None:
            return {}
        sums, peaks = self._total.sums.cpu().numpy(), self._total.peaks.cpu().numpy()
        counts, pivot = _signed_bins(self._total.counts.cpu().numpy(), sums[:, 0]), self._total.pivot
        found = {ALL: token_stats(Histogram(counts.sum(0)), _moments(sums.sum(0), peaks.max(), pivot))}
        for row, code in sorted(enumerate(self.codes), key=lambda entry: entry[1]):
            if sums[row, 0]:
                moments = _moments(sums[row], peaks[row], pivot)
                found[KINDS[code]] = token_stats(Histogram(counts[row]), moments)
        return found

    def _token_pieces(self, x: Tensor, kinds: NDArray[np.uint8]) -> Iterator[_Piece]:
        rows = x.detach().reshape(-1, x.shape[-1])
        length = max(1, CHUNK // rows.shape[1])
        if len(self.codes) == 1:
            for part in torch.split(rows, length):
                yield _Piece(part, None, None)
            return
        offsets, shares = self._groupings.find(kinds, len(rows), self.codes, rows.device)
        for start in range(0, len(rows), length):
            window = slice(start, start + length)
            yield _Piece(rows[window], offsets[window], shares[:, window])


class Scratch:
    """Two buffers that every pass uses again, so that they stay in the cache and no memory is asked for."""

    def __init__(self) -> None:
        self._floats, self._integers = torch.empty(0), torch.empty(0, dtype=torch.int32)

    def buffers(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """float32 and int32 of the shape of ``like``, contiguous; valid until the next call."""
        if len(self._floats) < like.numel() or self._floats.device != like.device:
            self._floats = torch.empty(max(CHUNK, like.numel()), device=like.device)
            self._integers = torch.empty_like(self._floats, dtype=torch.int32)
        shape = like.shape
        return self._floats[: like.numel()].view(shape), self._integers[: like.numel()].view(shape)


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
class _Piece:
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
        if not np.isfinite(largest):
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


def token_stats(histogram: Histogram, moments: Moments) -> TokenStats:
    """Join counts and moments of the same values; quantiles never exceed the largest |x|."""
    quantiles = {name: min(histogram.quantile(share), moments.max) for name, share in QUANTILES.items()}
    beyond = moments.max / quantiles["p999"] if quantiles["p999"] > 0 else 0.0
    return TokenStats(
        count=moments.count,
        mean=moments.mean,
        std=moments.std,
        kurtosis=moments.kurtosis,
        max=moments.max,
        max_p999=beyond,
        histogram=histogram,
        **quantiles,
    )


def _map_pieces(x: Tensor) -> Iterator[_Piece]:
    maps = x.detach()[None] if x.dim() == 3 else x.detach()
    if maps.is_contiguous(memory_format=torch.channels_last) and not maps.is_contiguous():
        rows = maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])
        for part in torch.split(rows, max(1, CHUNK // rows.shape[1])):
            yield _Piece(part)
        return
    _, channels, pixels = maps.flatten(2).shape
    together = max(1, CHUNK // (channels * pixels))
    for group in torch.split(maps.flatten(2), together):
        for part in torch.split(group.flatten(0, 1), max(1, CHUNK // (len(group) * channels)), dim=1):
            yield _Piece(part, images=len(group))


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


def _signed_bins(counts: NDArray[np.int64], totals: NDArray[np.float64]) -> NDArray[np.int64]:
    """Counts [K, bins] in ascending order of the bins' values, the bin at zero in the middle."""
    middle = totals.astype(np.int64) - counts.sum(axis=(1, 2))
    return np.concatenate((counts[:, 0, ::-1], middle[:, None], counts[:, 1]), axis=1)


def _moments(sums: NDArray[np.float64], peak: float, pivot: float) -> Moments:
    """Central moments from the sums of powers about the pivot."""
    count = float(sums[0])
    first, second, third, fourth = (float(value) / count for value in sums[1:])
    variance = max(second - first**2, 0.0)
    about_mean = fourth - 4 * first * third + 6 * first**2 * second - 3 * first**4
    known = variance > (SPREAD * float(peak)) ** 2 and variance**2 > 0
    kurtosis = max(about_mean / variance**2, 1.0) if known else 0.0
    return Moments(int(count), first + pivot, variance**0.5, kurtosis, float(peak))


def _floats(values: Tensor) -> NDArray[np.float32]:
    return np.asarray(values.float().cpu().numpy(), dtype=np.float32)

"""Running statistics of one layer's inputs, per token kind, in bounded memory. It hooks nothing."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quantlab.calibration.passes import Batch, Groupings, choose_pivot, map_pieces, token_pieces
from quantlab.calibration.profile import ALL, QUANTILES, TokenStats
from quantlab.models.tokens import KINDS
from quantlab.numerics.finite import require_finite
from quantlab.numerics.records import Histogram, Moments
from quantlab.numerics.tails import MAX_TOKENS

SPREAD = 1e-6
"""A spread below this share of the largest value is float32 rounding, not a spread."""
SMALL, MOST_WAITING = 1 << 13, 1 << 16
"""Inputs of at most so many values may wait, until there are so many."""


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
        self._waiting: list[Tensor] = []
        self._waiting_since = self._waiting_values = 0
        self._groupings = groupings or Groupings()

    def admit(self, kinds: NDArray[np.uint8]) -> None:
        """Make room for kinds that did not occur before."""
        new = tuple(int(code) for code in np.unique(kinds) if code not in self.codes)
        if not new or self.maps:
            return
        self.settle()
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
        pieces = map_pieces(x) if self.maps else token_pieces(x, kinds, self.codes, self._groupings)
        batch: Batch | None = None
        for piece in pieces:
            short = self._total is None and (batch is None or len(batch.tokens) < MAX_TOKENS)
            found = piece.measure(
                len(self.codes), self.pivot, place, self._groupings.scratch, want_tokens=short
            )
            if batch is None:
                batch = found
            else:
                if short:
                    batch.tokens = torch.cat((batch.tokens, found.tokens))[:MAX_TOKENS]
                batch.include(found)
        if batch is None:
            raise ValueError("an empty tensor has no statistics")
        return batch

    def take(self, x: Tensor, kinds: NDArray[np.uint8], scene: int, *, place: str = "") -> None:
        """Measure and add; small inputs (of a head that iterates) wait until a pass over them is worth its calls.

        Those of the first scene never wait for other scenes, so that ``token_max`` is of that scene alone.
        """
        if self._waiting and (scene != self._waiting_since or not self._may_wait(x)) and self._total is None:
            self.settle(place=place)
        if not self._may_wait(x):
            self.add(self.measure(x, kinds, place=place), kinds)
            return
        require_finite(x, place=place)
        self._waiting.append(x.detach().reshape(-1, x.shape[-1]).clone())
        self._waiting_since = scene
        self._waiting_values += x.numel()
        if self._waiting_values > MOST_WAITING:
            self.settle(place=place)

    def settle(self, *, place: str = "") -> None:
        """Take in what waits."""
        if self._waiting:
            rows, kinds = torch.cat(self._waiting), np.array(self.codes[:1], dtype=np.uint8)
            self._waiting.clear()
            self._waiting_values = 0
            self.add(self.measure(rows, kinds, place=place), kinds)

    def _may_wait(self, x: Tensor) -> bool:
        return len(self.codes) == 1 and not self.maps and x.numel() <= SMALL

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

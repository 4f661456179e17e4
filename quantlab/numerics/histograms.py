"""Counts values into fixed bins while they stream by, in bounded memory. It keeps no values and draws
nothing.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quantlab.numerics.finite import require_finite
from quantlab.numerics.records import BINS, HIGHEST_EXPONENT, LOWEST_EXPONENT, MANTISSA_BITS, Histogram

# A float32 is sign, 8 bits of exponent, 23 of mantissa: its upper bits number geometric bins without a
# logarithm.
_SHIFT = 23 - MANTISSA_BITS
_HALF = 1 << (8 + MANTISSA_BITS)
_FIRST = (127 + LOWEST_EXPONENT) << MANTISSA_BITS
_LAST = (127 + HIGHEST_EXPONENT) << MANTISSA_BITS


class StreamingHistogram:
    """One histogram per token kind, filled batch by batch; memory is ``kinds * BINS`` integers, whatever
    streams by.

    Args:
        kinds: Number of token kinds.
    """

    def __init__(self, kinds: int = 1) -> None:
        self._counts = np.zeros((kinds, BINS), dtype=np.int64)

    def update(self, tokens: Tensor, kinds: Tensor | None = None, *, place: str = "") -> None:
        """Count a batch.

        Args:
            tokens: Floating ``[tokens, channels]``.
            kinds: Integers ``[tokens]``, the kind of each; None: all of kind 0.
            place: Layer named in an error.

        Raises:
            NumericError: A NaN or an infinity; nothing of the batch is counted then.
        """
        counts = count_bits(tokens, kinds, len(self._counts))
        if counts[:, :, 255 << MANTISSA_BITS :].any():
            require_finite(tokens.float(), place=place)
        self._counts += _fold(counts)

    def merge(self, other: StreamingHistogram) -> None:
        """Add what another one of as many kinds has counted."""
        self._counts += other._counts

    def record(self, kind: int | None = None) -> Histogram:
        """What was counted of one kind, or of all together."""
        return Histogram(self._counts.sum(axis=0) if kind is None else self._counts[kind].copy())


def count_bits(tokens: Tensor, kinds: Tensor | None, total: int) -> NDArray[np.int64]:
    """Counts by kind, sign (negative first) and upper bits of the magnitude: int64 ``[total, 2, 4096]``."""
    index = tokens.detach().to(torch.float32).view(torch.int32) >> _SHIFT
    offset = _HALF if kinds is None else (kinds.to(tokens.device, torch.int32) * 2 + 1)[:, None] * _HALF
    index += offset
    counts = torch.bincount(index.reshape(-1), minlength=total * 2 * _HALF)
    return np.asarray(counts.cpu().numpy(), dtype=np.int64).reshape(total, 2, _HALF)


def _fold(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Keep the bins between the lowest and the highest exponent: ``[kinds, 2, 4096] -> [kinds, BINS]``."""
    inner = counts[:, :, _FIRST:_LAST].copy()
    inner[:, :, -1] += counts[:, :, _LAST:].sum(axis=2)
    zero = counts[:, :, :_FIRST].sum(axis=(1, 2))
    return np.concatenate([inner[:, 0, ::-1], zero[:, None], inner[:, 1]], axis=1)

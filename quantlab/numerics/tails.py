"""What the tails of streamed values look like, and how much of a tail rounding destroys. It draws nothing."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quantlab.errors import NumericError, RecipeError
from quantlab.numerics.finite import require_finite
from quantlab.numerics.histograms import StreamingHistogram
from quantlab.numerics.moments import StreamingMoments
from quantlab.numerics.records import Histogram, Moments

MAX_TOKENS = 4096
"""Of how many tokens the own maximum is kept."""
_BLOCK = 1 << 18  # values looked at together: buffers stay small and near the processor


class TailStream:
    """Histogram, moments, kurtosis and maxima of the inputs of one layer, per token kind; forgets the values.

    Memory does not depend on how much streams by. A weight goes through as one batch of rows.

    Args:
        kinds: Number of token kinds.

    Attributes:
        channel_max: float32 ``[channels]``, largest |x| of each channel over everything seen.
        token_max: float32 ``[<= MAX_TOKENS]``, largest |x| of each token of the first batch.
        token_kinds: uint8, the same length: the kind of each of those tokens.
    """

    def __init__(self, kinds: int = 1) -> None:
        self.channel_max: NDArray[np.float32] = np.zeros(0, dtype=np.float32)
        self.token_max: NDArray[np.float32] = np.zeros(0, dtype=np.float32)
        self.token_kinds: NDArray[np.uint8] = np.zeros(0, dtype=np.uint8)
        self._histogram = StreamingHistogram(kinds)
        self._moments = StreamingMoments(kinds)

    def update(self, x: Tensor, kinds: Tensor | None = None, *, place: str = "") -> None:
        """Add a batch.

        Args:
            x: Floating ``[..., tokens, channels]``.
            kinds: Integers ``[tokens]``, the kind of each token, the same for all leading indices; None: all
                0.
            place: Layer named in an error.

        Raises:
            NumericError: A NaN or an infinity; the statistics are then as before.
        """
        tokens = x.detach().reshape(-1, x.shape[-1])
        if tokens.numel() == 0:
            return
        codes = torch.zeros(1, dtype=torch.uint8) if kinds is None else kinds.to(torch.uint8)
        codes = codes.to(tokens.device).repeat(len(tokens) // len(codes))
        size = tokens.abs()
        token_max, channel_max = size.amax(dim=1), size.amax(dim=0)
        del size
        if not math.isfinite(float(token_max.max())):
            require_finite(tokens, place=place)
        rows = max(1, _BLOCK // tokens.shape[1])
        for start in range(0, len(tokens), rows):
            part = slice(start, start + rows)
            self._histogram.update(tokens[part], codes[part], place=place)
            self._moments.update(tokens[part], codes[part], token_max=token_max[part])
        self._keep_maxima(token_max, channel_max, codes)

    def merge(self, other: TailStream) -> None:
        """Add what another stream of the same layer has seen."""
        self._histogram.merge(other._histogram)
        self._moments.merge(other._moments)
        self.channel_max = _larger(self.channel_max, other.channel_max)
        if not len(self.token_max):
            self.token_max, self.token_kinds = other.token_max, other.token_kinds

    def histogram(self, kind: int | None = None) -> Histogram:
        """Counts of the values of one kind, or of all together."""
        return self._histogram.record(kind)

    def moments(self, kind: int | None = None) -> Moments:
        """Exact moments of the values of one kind, or of all together."""
        return self._moments.record(kind)

    def quantiles(self, shares: tuple[float, ...], kind: int | None = None) -> tuple[float, ...]:
        """Quantiles of |x|, within `records.BIN_ERROR` and never above the largest |x|."""
        histogram, peak = self.histogram(kind), self.moments(kind).max
        return tuple(min(histogram.quantile(share), peak) for share in shares)

    def _keep_maxima(self, token_max: Tensor, channel_max: Tensor, codes: Tensor) -> None:
        self.channel_max = _larger(self.channel_max, channel_max.float().cpu().numpy())
        if not len(self.token_max):
            self.token_max = token_max[:MAX_TOKENS].float().cpu().numpy()
            self.token_kinds = codes[:MAX_TOKENS].cpu().numpy()


def tail_relative_error(y: Tensor, y_hat: Tensor, rho: float = 0.01) -> float:
    """Squared error on the largest entries of ``y``, over their energy: what rounding costs in the tail
    (TRE).

    Args:
        y: Full-precision output, any shape.
        y_hat: Quantized output, same shape.
        rho: The share of entries that are the tail; at least one is.

    Returns:
        ``sum_T (y - y_hat)^2 / (sum_T y^2 + 1e-8)`` over the ``max(1, floor(rho * numel))`` entries of
        largest |y|.

    Raises:
        NumericError: ``y`` is empty, the shapes differ, or either holds a NaN or an infinity.
        RecipeError: ``rho`` is not in (0, 1].

    Source:
        TAPTQ (arXiv:2602.01741), tail relative error.
    """
    if isinstance(rho, bool) or not 0 < rho <= 1:
        raise RecipeError(f"rho cannot be {rho!r}", remedy="Use a number over 0, up to 1.")
    if y.shape != y_hat.shape or y.numel() == 0:
        shapes = f"{list(y.shape)} and {list(y_hat.shape)}"
        raise NumericError(
            f"outputs of shapes {shapes} have no common tail", remedy="Compare the same output."
        )
    require_finite(y, place="full-precision output")
    require_finite(y_hat, place="quantized output")
    exact = y.detach().reshape(-1)
    count = max(1, math.floor(rho * exact.numel()))
    tail = largest(exact, count)
    reference = exact[tail].double()
    error = reference - y_hat.detach().reshape(-1)[tail].double()
    return float(error.square().sum() / (reference.square().sum() + 1e-8))


def largest(x: Tensor, count: int) -> Tensor:
    """Indices of the ``count`` entries of largest |x| of a vector, in no order; of equal ones any."""
    size = x.detach().abs()
    if size.device.type != "cpu":
        return size.topk(count, sorted=False).indices
    # A partial sort, which is several times faster than torch's selection of a large count.
    order = np.argpartition(size.float().numpy(), len(size) - count)
    return torch.from_numpy(order[len(size) - count :])


def _larger(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    if not len(left) or not len(right):
        return left if len(left) else right
    return np.maximum(left, right)

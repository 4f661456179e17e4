"""The record of what quantization does to one layer, step by step, for figures. Free of torch; it measures nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from quantlab.engine.settings import LayerSettings
from quantlab.numerics.records import Histogram

STEPS = ("raw", "rotated", "smoothed", "quantized")
"""Names of the steps; a layer shows those its settings take, in the order they are taken."""


@dataclass(frozen=True, slots=True, eq=False)
class SearchCurve:
    """A range search: the scales tried for one channel or tensor, in order, and the loss of each."""

    scales: tuple[float, ...]
    losses: tuple[float, ...]
    what: str


@dataclass(frozen=True, slots=True, eq=False)
class LayerView:
    """The input of a layer before and after each step of its quantization, on sampled tokens.

    Attributes:
        name: State-dict prefix of the layer.
        settings: What is in force (not what was asked for: a convolution's input is never rounded).
        quantized: Whether anything is rounded.
        reason: Why, or why not, in words.
        steps: Step to the histogram of the values after it: "raw", then "rotated" and "smoothed" in the order taken,
            then "quantized".
        grid: float32, the values a rounded number can take, at the token with the largest range (dynamic scales
            differ from token to token); None where the input is not rounded.
        clip_low: The smallest value of that grid, or None.
        clip_high: The largest, or None.
        clipped_fraction: Share of the sampled values more than half a step outside of their own grid.
        wasted_levels: Levels of a grid that no value takes: for scales per token, the median over tokens.
        channel_absmax: Step to float32 [in], largest |x| of each channel after it.
        landscape: Step to float32 [<= 256 channels, <= 64 tokens].
        landscape_kinds: uint8 [tokens of the landscape], indices into `quantlab.models.tokens.KINDS`.
        landscape_channels: int64, which channel of the layer each row of a landscape is.
        landscape_tokens: int64, which of the sampled tokens each of its columns is.
        search: The range search of the weight (its worst channel), or of a static input; None where none was made.
        output_error: |y - y_hat| / |y| over the samples, in the Frobenius norm; 0 where nothing is rounded; None
            without samples.
        weight_error: The same of the weight alone, behind its transforms.
        reading: What the numbers say, in a sentence or two.
    """

    name: str
    settings: LayerSettings
    quantized: bool
    reason: str
    steps: Mapping[str, Histogram]
    grid: NDArray[np.float32] | None
    clip_low: float | None
    clip_high: float | None
    clipped_fraction: float
    wasted_levels: int
    channel_absmax: Mapping[str, NDArray[np.float32]]
    landscape: Mapping[str, NDArray[np.float32]]
    landscape_kinds: NDArray[np.uint8]
    search: SearchCurve | None
    output_error: float | None
    weight_error: float
    reading: str
    landscape_channels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    landscape_tokens: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

"""The record of what quantization does to one layer, step by step, for figures. Free of torch; it measures nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from quantlab.engine.settings import LayerSettings
from quantlab.numerics.records import Histogram


@dataclass(frozen=True, slots=True, eq=False)
class SearchCurve:
    """A range search: the scales tried for one channel or tensor, in order, and the loss of each.

    Attributes:
        scales: In the order they were visited.
        losses: Of each.
        what: Which scale it is, in words.
        every_scale: All candidates, ascending; empty where looking at all of them would take long.
        every_loss: Of each.
    """

    scales: tuple[float, ...]
    losses: tuple[float, ...]
    what: str
    every_scale: tuple[float, ...] = ()
    every_loss: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class ClipCurve:
    """What the rounding of a tensor would cost if every range were clipped to a share of what it is now.

    Attributes:
        shares: float64 [n], ascending; 1 is the range in force.
        errors: float64 [n], |x - x_hat| / |x| in the Frobenius norm, predicted from the histogram; nearest rounding.
        measured: The same, measured, at share 1.
        kept: float64 [n], the share of |x| inside the range, where one scale serves the whole tensor; else None.
        scales: How many scales there are.
    """

    shares: NDArray[np.float64]
    errors: NDArray[np.float64]
    measured: float
    kept: NDArray[np.float64] | None
    scales: int

    @property
    def best(self) -> int:
        """Index of the share with the smallest predicted error."""
        return int(np.argmin(self.errors))


@dataclass(frozen=True, slots=True, eq=False)
class WeightView:
    """A layer's weight matrix after each step of its quantization; fields as those of `LayerView`.

    Attributes:
        settings: In force.
        steps: Step to histogram: "raw", then "rotated" and "smoothed" as folded in, then "quantized".
        grid: Of the output channel (group, tensor) with the largest range; None where the weight is not rounded.
        clip_low: The smallest value of that grid, or None.
        clip_high: The largest, or None.
        clipped_fraction: Share of the weights more than half a step outside of their own grid.
        wasted_levels: Levels that no weight takes; the median over scales.
        channel_absmax: Step to float32 [in], largest |w| of each input channel.
        landscape: Step to float32 [<= 256 input channels, <= 64 output channels].
        landscape_channels: int64, which input channels those are.
        landscape_tokens: int64, which output channels those are.
        clip: What clipping would cost; None where nothing is rounded.
    """

    settings: LayerSettings
    steps: Mapping[str, Histogram]
    grid: NDArray[np.float32] | None
    clip_low: float | None
    clip_high: float | None
    clipped_fraction: float
    wasted_levels: int
    channel_absmax: Mapping[str, NDArray[np.float32]]
    landscape: Mapping[str, NDArray[np.float32]]
    landscape_channels: NDArray[np.int64]
    landscape_tokens: NDArray[np.int64]
    clip: ClipCurve | None = None


@dataclass(frozen=True, slots=True, eq=False)
class BranchOutput:
    """What a compensated branch gives on one calibration scene, before and after its correction.

    Attributes:
        branch: Its name.
        exact: Histogram of what it gives in full precision for the same input.
        quantized: Of what it gives under the recipe, before the correction.
        compensated: Of that and the correction.
        error: |y - y_hat| / |y| before the correction.
        compensated_error: And after it.
    """

    branch: str
    exact: Histogram
    quantized: Histogram
    compensated: Histogram
    error: float
    compensated_error: float


@dataclass(frozen=True, slots=True)
class Remedy:
    """A change of the layer's settings that was tried on its samples.

    Attributes:
        name: In words: "rotation", "smoothing" or "rotation and smoothing".
        crest: max / rms of the input behind it.
        output_error: |y - y_hat| / |y| with it, ranges min-max and rounding to nearest.
    """

    name: str
    crest: float
    output_error: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """The figures that say why a layer is hard to quantize, measured on its samples.

    Attributes:
        channels: The fewest input channels in which half of the squared token maxima lie, largest part first.
        channel_share: The part that lies in them.
        width: How many channels there are.
        kind: The token kind that carries most of the squared token maxima.
        kind_tokens: How many of the sampled tokens are of it.
        kind_share: What they carry of the squared token maxima.
        tokens: How many tokens were sampled.
        crest: Step to max / rms of the values after it.
        input_only: Relative output error with only the input rounded; None where it is not rounded.
        weight_only: And with only the weight rounded.
        plain_error: That of the layer as it is set, but with ranges min-max and rounding to nearest: what
            remedies are compared with. None where none was tried.
        remedies: What was tried, best first.
    """

    channels: tuple[int, ...]
    channel_share: float
    width: int
    kind: str
    kind_tokens: int
    kind_share: float
    tokens: int
    crest: Mapping[str, float]
    input_only: float | None = None
    weight_only: float | None = None
    plain_error: float | None = None
    remedies: tuple[Remedy, ...] = ()


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
        reading: What the numbers say, in a few sentences.
        clip: What clipping the input elsewhere would cost; None where it is not rounded on an even grid.
        weights: The same steps of the weight.
        output: What the branch gives before and after its correction, where this is its last layer and it has one.
        evidence: What the reading was made from.
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
    clip: ClipCurve | None = None
    weights: WeightView | None = None
    output: BranchOutput | None = None
    evidence: Evidence | None = None

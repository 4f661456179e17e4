"""What figures need of a layer's input or of its weight, which are drawn alike. It holds no data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from quantlab.engine.settings import LayerSettings
from quantlab.engine.views import ClipCurve, WeightView
from quantlab.numerics.records import Histogram


class Stepped(Protocol):
    """A tensor after each step of its quantization: a `LayerView` (its input) or a `WeightView`."""

    @property
    def settings(self) -> LayerSettings:
        """In force."""

    @property
    def steps(self) -> Mapping[str, Histogram]:
        """Step to histogram."""

    @property
    def grid(self) -> NDArray[np.float32] | None:
        """The levels of the widest scale."""

    @property
    def clip_low(self) -> float | None:
        """Where they begin."""

    @property
    def clip_high(self) -> float | None:
        """Where they end."""

    @property
    def clipped_fraction(self) -> float:
        """Share of the values beyond."""

    @property
    def wasted_levels(self) -> int:
        """Levels nobody takes."""

    @property
    def channel_absmax(self) -> Mapping[str, NDArray[np.float32]]:
        """Step to the largest magnitude of each channel."""

    @property
    def landscape(self) -> Mapping[str, NDArray[np.float32]]:
        """Step to [channels, tokens]."""

    @property
    def landscape_channels(self) -> NDArray[np.int64]:
        """Which channels."""

    @property
    def landscape_tokens(self) -> NDArray[np.int64]:
        """Which tokens; of a weight, which output channels."""

    @property
    def clip(self) -> ClipCurve | None:
        """What clipping elsewhere would cost."""


def is_weight(view: Stepped) -> bool:
    """Whether a weight is shown, and not an input."""
    return isinstance(view, WeightView)


def symbol(view: Stepped) -> str:
    """How a magnitude is written."""
    return "|w|" if is_weight(view) else "|x|"


def values_of(view: Stepped) -> str:
    """What the values are."""
    return "weight" if is_weight(view) else "input value"


def before_rounding(steps: list[str]) -> str:
    """The step whose values are rounded: grid and clip lines belong to it."""
    return steps[steps.index("quantized") - 1] if "quantized" in steps[1:] else steps[-1]

"""Rounding of a layer's input while the network runs, as float arithmetic on rounded values. It chooses no bits.

Where gradients are asked for, rounding is passed straight through: the output is the rounded value bit for bit, its
derivative that of the identity.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from quantlab.methods.twin import positive_scale, twin_quantize
from quantlab.numerics.finite import require_finite
from quantlab.numerics.formats import QuantSpec
from quantlab.numerics.ranges import Range, minmax_range
from quantlab.numerics.rounding import fake_quantize


class Activations(nn.Module, ABC):
    """What all have in common: a format, a place for errors, and the way gradients take.

    Args:
        spec: The format.
        place: Layer named when an input holds a NaN or an infinity.
    """

    def __init__(self, spec: QuantSpec, place: str) -> None:
        super().__init__()
        self.spec = spec
        self.place = place

    def forward(self, x: Tensor) -> Tensor:
        """Round ``x`` ``[..., in]``; same shape and dtype.

        Raises:
            NumericError: ``x`` holds a NaN or an infinity; names the layer.
        """
        if x.numel() == 0:
            return x
        rounded = self.rounded(x.detach())
        return rounded + (x - x.detach()) if torch.is_grad_enabled() and x.requires_grad else rounded

    @abstractmethod
    def rounded(self, x: Tensor) -> Tensor:
        """The rounded values, without gradients."""


class DynamicActivations(Activations):
    """Scales taken from each input, per token or per tensor as ``spec`` says.

    Args:
        spec: The format.
        place: Layer named when an input holds a NaN or an infinity.
        clip: Share of the range that a scale covers; what is beyond is clipped.
    """

    def __init__(self, spec: QuantSpec, place: str, clip: float = 1.0) -> None:
        super().__init__(spec, place)
        self.clip = clip

    def rounded(self, x: Tensor) -> Tensor:
        """With the scales of this input."""
        scale, zero_point = minmax_range(x, self.spec, place=self.place)
        return fake_quantize(x, scale if self.clip == 1.0 else scale * self.clip, zero_point, self.spec)


class StaticActivations(Activations):
    """One scale, fixed by calibration."""

    scale: Tensor
    zero_point: Tensor | None

    def __init__(self, spec: QuantSpec, chosen: Range, place: str) -> None:
        super().__init__(spec, place)
        self.register_buffer("scale", chosen.scale)
        self.register_buffer("zero_point", chosen.zero_point)

    def rounded(self, x: Tensor) -> Tensor:
        """With the fixed scale."""
        require_finite(x, place=self.place)
        return fake_quantize(x, self.scale, self.zero_point, self.spec)


class TwinActivations(Activations):
    """The output of a GELU: a step of its own above zero, a fixed one below (`quantlab.methods.twin`).

    Args:
        spec: The format; symmetric.
        place: Layer named when an input holds a NaN or an infinity.
        scale: The step above zero, fixed by calibration; None takes it from each input, as ``spec`` says.
    """

    scale: Tensor | None

    def __init__(self, spec: QuantSpec, place: str, scale: Tensor | None = None) -> None:
        super().__init__(spec, place)
        self.register_buffer("scale", scale)

    def rounded(self, x: Tensor) -> Tensor:
        """Each side with its own step."""
        if self.scale is None:
            return twin_quantize(x, positive_scale(x, self.spec, place=self.place), self.spec)
        require_finite(x, place=self.place)
        return twin_quantize(x, self.scale, self.spec)

"""Rounding of a layer's input while the network runs, as float arithmetic on rounded values. It chooses no bits."""

from __future__ import annotations

from torch import Tensor, nn

from quantlab.numerics.finite import require_finite
from quantlab.numerics.formats import QuantSpec
from quantlab.numerics.ranges import Range, round_to_nearest
from quantlab.numerics.rounding import fake_quantize


class DynamicActivations(nn.Module):
    """Scales taken from each input, per token or per tensor as ``spec`` says.

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
        return x if x.numel() == 0 else round_to_nearest(x, self.spec, place=self.place)


class StaticActivations(nn.Module):
    """One scale, fixed by calibration."""

    scale: Tensor
    zero_point: Tensor | None

    def __init__(self, spec: QuantSpec, chosen: Range, place: str) -> None:
        super().__init__()
        self.spec = spec
        self.place = place
        self.register_buffer("scale", chosen.scale)
        self.register_buffer("zero_point", chosen.zero_point)

    def forward(self, x: Tensor) -> Tensor:
        """Round ``x`` ``[..., in]``; same shape and dtype.

        Raises:
            NumericError: ``x`` holds a NaN or an infinity; names the layer.
        """
        require_finite(x, place=self.place)
        return fake_quantize(x, self.scale, self.zero_point, self.spec)

"""Quantized layers as simulation: float arithmetic on rounded values, the reference any integer kernel is held to.

What is rounded, and how, is decided in `quantlab.engine`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quantlab.methods.transforms import Transform
from quantlab.numerics.formats import QuantSpec
from quantlab.numerics.ranges import Range
from quantlab.numerics.rounding import quantize


class Simulated(nn.Module):
    """What quantized layers share: the rounded weight with its format and scale.

    Attributes:
        weight: The rounded values, in the dtype and shape of the layer's weight, transforms folded in.
        bias: The layer's own bias, shared with it, or None.
        spec: Format of the weight; None where it is not rounded.
        scale: float32, one step of each channel, group or tensor; None where it is not rounded.
        zero_point: int32 of the same shape for an asymmetric format.
    """

    weight: Tensor
    scale: Tensor | None
    zero_point: Tensor | None

    def __init__(
        self, weight: Tensor, bias: Tensor | None, spec: QuantSpec | None, chosen: Range | None
    ) -> None:
        super().__init__()
        self.spec = spec
        self.register_buffer("weight", weight)
        self.bias = (
            bias
            if bias is None or isinstance(bias, nn.Parameter)
            else nn.Parameter(bias, requires_grad=False)
        )
        self.register_buffer("scale", None if chosen is None else chosen.scale)
        self.register_buffer("zero_point", None if chosen is None else chosen.zero_point)

    def rows_of(self, weight: Tensor) -> Tensor:
        """A weight of this layer's shape as a matrix, one output channel a row."""
        return weight

    def weight_rows(self) -> Tensor:
        """The rounded weight as that matrix."""
        return self.rows_of(self.weight)

    def codes(self) -> Tensor | None:
        """Integer codes of `weight_rows`, int8 or uint8; None where the weight is not rounded."""
        if self.spec is None or self.scale is None:
            return None
        return quantize(self.weight_rows(), self.scale, self.zero_point, self.spec)


class SimulatedLinear(Simulated):
    """A Linear on rounded numbers: transform the input, round it, multiply with the rounded weight.

    Args:
        weight: ``[out, in]``, rounded, transforms folded in.
        bias: ``[out]`` or None.
        transforms: Applied to the input in this order.
        activations: Rounds the transformed input; None leaves it.
        spec: Format of the weight, or None.
        chosen: Scale and zero point of the weight, or None.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        *,
        transforms: Sequence[Transform] = (),
        activations: nn.Module | None = None,
        spec: QuantSpec | None = None,
        chosen: Range | None = None,
    ) -> None:
        super().__init__(weight, bias, spec, chosen)
        self.out_features, self.in_features = weight.shape
        self.transforms = nn.ModuleList(transforms)
        self.activations = activations

    def transform(self, x: Tensor) -> Tensor:
        """The input behind all transforms, before rounding: ``[..., in] -> [..., in]``."""
        for transform in self.transforms:
            x = transform(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """``[..., in] -> [..., out]``.

        Raises:
            NumericError: The input holds a NaN or an infinity and is to be rounded.
        """
        x = self.transform(x)
        if self.activations is not None:
            x = self.activations(x)
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Sizes and bits."""
        bits = "float" if self.spec is None else f"{self.spec.bits} bits"
        return f"in_features={self.in_features}, out_features={self.out_features}, weight={bits}"


class SimulatedConv2d(Simulated):
    """A convolution with a rounded weight; its input is not rounded."""

    def __init__(
        self, layer: nn.Conv2d, weight: Tensor, spec: QuantSpec | None, chosen: Range | None
    ) -> None:
        super().__init__(weight, layer.bias, spec, chosen)
        self.stride, self.padding, self.dilation = layer.stride, layer.padding, layer.dilation
        self.groups, self.padding_mode = layer.groups, layer.padding_mode
        self._border = list(layer._reversed_padding_repeated_twice)  # noqa: SLF001 - torch's own form of the border

    def forward(self, x: Tensor) -> Tensor:
        """``[n, in, h, w] -> [n, out, h', w']``."""
        padding = self.padding
        if self.padding_mode != "zeros":
            x, padding = F.pad(x, self._border, mode=self.padding_mode), (0, 0)
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def rows_of(self, weight: Tensor) -> Tensor:
        """``[out, in / groups * kernel]``."""
        return weight.flatten(1)


class SimulatedConvTranspose2d(Simulated):
    """A transposed convolution with a rounded weight; its input is not rounded."""

    def __init__(
        self, layer: nn.ConvTranspose2d, weight: Tensor, spec: QuantSpec | None, chosen: Range | None
    ) -> None:
        super().__init__(weight, layer.bias, spec, chosen)
        self.stride, self.dilation = layer.stride, layer.dilation
        self.padding = tuple(int(size) for size in layer.padding)
        self.output_padding, self.groups = layer.output_padding, layer.groups

    def forward(self, x: Tensor) -> Tensor:
        """``[n, in, h, w] -> [n, out, h', w']``."""
        return F.conv_transpose2d(
            x,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.output_padding,
            self.groups,
            self.dilation,
        )

    def rows_of(self, weight: Tensor) -> Tensor:
        """``[out, in / groups * kernel]``."""
        return transposed_rows(weight, self.groups)


def transposed_rows(weight: Tensor, groups: int) -> Tensor:
    """A transposed convolution's weight ``[in, out / groups, kh, kw]`` as one row per output channel."""
    grouped = weight.unflatten(0, (groups, -1)).transpose(1, 2)
    return grouped.reshape(grouped.shape[0] * grouped.shape[1], -1)


def transposed_weight(rows: Tensor, shape: torch.Size, groups: int) -> Tensor:
    """The inverse of `transposed_rows`."""
    grouped = rows.reshape(groups, shape[1], shape[0] // groups, *shape[2:])
    return grouped.transpose(1, 2).reshape(shape).contiguous()

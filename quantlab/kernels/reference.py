"""Quantized layers as simulation: float arithmetic on rounded values, the reference any integer kernel is held to.

What is rounded, and how, is decided in `quantlab.engine`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quantlab.methods.transforms import Transform
from quantlab.numerics.formats import QuantSpec
from quantlab.numerics.packing import pack, unpack
from quantlab.numerics.ranges import Range
from quantlab.numerics.rounding import dequantize, quantize


class Simulated(nn.Module):
    """What quantized layers share: the rounded weight with its format and scale.

    `keep_packed` stores the codes in place of the weight, which is then worked out anew whenever it is read.

    Attributes:
        weight: The rounded values, in the dtype and shape of the layer's weight, transforms folded in.
        bias: The layer's own bias, shared with it, or None.
        spec: Format of the weight; None where it is not rounded.
        scale: float32, one step of each channel, group or tensor; None where it is not rounded.
        zero_point: int32 of the same shape for an asymmetric format.
    """

    weight: Tensor
    packed: Tensor
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

    def __getattr__(self, name: str) -> Any:
        if name == "weight" and "packed" in self.__dict__.get("_buffers", {}):
            return self._unpacked()
        return super().__getattr__(name)

    def rows_of(self, weight: Tensor) -> Tensor:
        """A weight of this layer's shape as a matrix, one output channel a row."""
        return weight

    def weight_of(self, rows: Tensor, shape: torch.Size) -> Tensor:
        """The inverse of `rows_of`."""
        return rows.reshape(shape)

    def keep_packed(self) -> bool:
        """Store packed codes from now on instead of the weight, whose values stay the same bit for bit.

        Returns:
            Whether that was possible: not for a weight that is not rounded, nor for one whose codes do not give it
            back (8 asymmetric bits in bfloat16 may not).
        """
        if self.is_packed or not self.keeps_its_codes():
            return self.is_packed
        codes, rows = self.codes(), self.weight_rows()
        if codes is None or self.spec is None:
            return False
        self.hold(pack(codes, self.spec), rows.dtype, rows.shape[-1])
        return True

    def hold(self, stored: Tensor, dtype: torch.dtype, width: int) -> None:
        """Keep what is stored of the weight in its place; of the weight, which may be on the meta device, the shape.

        Args:
            stored: Packed codes ``[out, ...]``; where the weight is not rounded, its rows in a narrower format.
            dtype: Of the weight that is worked out from it.
            width: Columns of the weight as a matrix.
        """
        self._shape, self._dtype, self._width = self.weight.shape, dtype, width
        del self.weight
        self.register_buffer("packed", stored)

    def keeps_its_codes(self) -> bool:
        """Whether the codes give the weight back bit for bit."""
        codes = None if self.is_packed else self.codes()
        if codes is None or self.spec is None:
            return self.is_packed
        rows = self.weight_rows()
        return torch.equal(dequantize(codes, *self._range(), self.spec, dtype=rows.dtype), rows)

    @property
    def is_packed(self) -> bool:
        """Whether codes (or narrower numbers) are stored and the weight is not."""
        return "packed" in self._buffers

    @property
    def weight_shape(self) -> torch.Size:
        """Of the weight, without working it out."""
        return self._shape if self.is_packed else self.weight.shape

    @property
    def weight_dtype(self) -> torch.dtype:
        """Likewise."""
        return self._dtype if self.is_packed else self.weight.dtype

    def compute_in(self, dtype: torch.dtype) -> None:
        """Work the weight out in ``dtype`` from now on, with a bias of that dtype; what is stored stays if it can."""
        if self.keep_packed():
            self._dtype = dtype
        else:
            self.weight = self.weight.to(dtype)
        if self.bias is not None:
            self.bias = nn.Parameter(self.bias.detach().to(dtype), requires_grad=False)

    @property
    def stored_bytes(self) -> int:
        """Memory of the weight as it is stored."""
        stored: Tensor = self.packed if self.is_packed else self.weight
        return stored.nbytes

    def weight_rows(self) -> Tensor:
        """The rounded weight as that matrix."""
        return self.rows_of(self.weight)

    def effective_weight(self) -> Tensor:
        """The matrix that the layer's input really meets."""
        return self.weight_rows()

    def codes(self) -> Tensor | None:
        """Integer codes of `weight_rows`, int8 or uint8; None where the weight is not rounded."""
        if self.spec is None or self.scale is None:
            return None
        if self.is_packed:
            return unpack(self.packed, self.spec, self._width)
        return quantize(self.weight_rows(), self.scale, self.zero_point, self.spec)

    def _range(self) -> tuple[Tensor, Tensor | None]:
        if self.scale is None:
            raise ValueError("the weight is not rounded")
        return self.scale, self.zero_point

    def _unpacked(self) -> Tensor:
        codes = self.codes()
        if codes is None or self.spec is None:
            return self.weight_of(self.packed.to(self._dtype), self._shape)
        return self.weight_of(dequantize(codes, *self._range(), self.spec, dtype=self._dtype), self._shape)


class SimulatedLinear(Simulated):
    """A Linear on rounded numbers: transform the input, round it, multiply with the rounded weight.

    Args:
        weight: ``[out, in]``, rounded, transforms folded in.
        bias: ``[out]`` or None.
        transforms: Applied to the input in this order.
        activations: Rounds the transformed input; None leaves it.
        spec: Format of the weight, or None.
        chosen: Scale and zero point of the weight, or None.
        low_rank: ``down`` ``[in, rank]`` and ``up`` ``[rank, out]`` of a branch beside the rounded weight that sees
            the transformed input before it is rounded; None without one.
    """

    down: Tensor | None
    up: Tensor | None

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        *,
        transforms: Sequence[Transform] = (),
        activations: nn.Module | None = None,
        spec: QuantSpec | None = None,
        chosen: Range | None = None,
        low_rank: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        super().__init__(weight, bias, spec, chosen)
        self.out_features, self.in_features = weight.shape
        down, up = low_rank or (None, None)
        self.register_buffer("down", down)
        self.register_buffer("up", up)
        self.transforms = nn.ModuleList(transforms)
        self.activations = activations

    def transform(self, x: Tensor) -> Tensor:
        """The input behind all transforms, before rounding: ``[..., in] -> [..., in]``."""
        for transform in self.transforms:
            x = transform(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """``[..., in] -> [..., out]``; an input of another dtype is multiplied in the weight's and answered in its own.

        Raises:
            NumericError: The input holds a NaN or an infinity and is to be rounded.
        """
        x = self.transform(x)
        rounded = x if self.activations is None else self.activations(x)
        weight = self.weight
        output = F.linear(rounded.to(weight.dtype), weight, self.bias)
        output = output if x.dtype == weight.dtype else output.to(x.dtype)
        if self.down is None or self.up is None:
            return output
        return output + (x @ self.down.to(x.dtype)) @ self.up.to(x.dtype)

    def effective_weight(self) -> Tensor:
        """``[out, in]``: the rounded weight and the branch beside it."""
        if self.down is None or self.up is None:
            return self.weight
        return self.weight + (self.down @ self.up).T.to(self.weight.dtype)

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
        return self.convolved(x, self.weight, self.bias)

    def convolved(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """``x`` with a weight and bias of this layer's shapes."""
        padding = self.padding
        if self.padding_mode != "zeros":
            x, padding = F.pad(x, self._border, mode=self.padding_mode), (0, 0)
        return F.conv2d(x, weight, bias, self.stride, padding, self.dilation, self.groups)

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
        return self.convolved(x, self.weight, self.bias)

    def convolved(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """``x`` with a weight and bias of this layer's shapes."""
        how = (self.stride, self.padding, self.output_padding, self.groups, self.dilation)
        return F.conv_transpose2d(x, weight, bias, *how)

    def rows_of(self, weight: Tensor) -> Tensor:
        """``[out, in / groups * kernel]``."""
        return transposed_rows(weight, self.groups)

    def weight_of(self, rows: Tensor, shape: torch.Size) -> Tensor:
        """``[in, out / groups, kh, kw]``."""
        return transposed_weight(rows, shape, self.groups)


def transposed_rows(weight: Tensor, groups: int) -> Tensor:
    """A transposed convolution's weight ``[in, out / groups, kh, kw]`` as one row per output channel."""
    grouped = weight.unflatten(0, (groups, -1)).transpose(1, 2)
    return grouped.reshape(grouped.shape[0] * grouped.shape[1], -1)


def transposed_weight(rows: Tensor, shape: torch.Size, groups: int) -> Tensor:
    """The inverse of `transposed_rows`."""
    grouped = rows.reshape(groups, shape[1], shape[0] // groups, *shape[2:])
    return grouped.transpose(1, 2).reshape(shape).contiguous()

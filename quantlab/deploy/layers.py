"""Quantized layers as ONNX operators, for a trace: integer weights behind DequantizeLinear. They compute nothing here.

`torch.onnx.ops.symbolic` leaves a named operator in the exported graph; run eagerly its result is meaningless.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quantlab.kernels.activations import StaticActivations
from quantlab.kernels.reference import Simulated, SimulatedConv2d, SimulatedConvTranspose2d, SimulatedLinear
from quantlab.methods.cosine import CosineRotation
from quantlab.methods.transforms import Transform

OPSET = 21
"""The first whose DequantizeLinear knows groups and integers of 4 bits."""


def deployed(layer: Simulated) -> nn.Module:
    """The stand-in of a quantized layer; one whose weight is not rounded and whose input is not either stays itself."""
    if isinstance(layer, SimulatedLinear):
        return DeployedLinear(layer)
    if layer.spec is None or not isinstance(layer, SimulatedConv2d | SimulatedConvTranspose2d):
        return layer
    return DeployedConvolution(layer)


class StoredWeight(nn.Module):
    """A weight as it lies in the file: codes, scales, zero points, and the operator that makes numbers of them.

    Args:
        codes: int8 or uint8, in the layout that the product wants.
        scale: float32, scalar, or one per index of ``axis``, or one per ``group`` indices of it.
        zero_point: Of the same shape, or None.
        axis: Along which scales differ.
        group: Indices of ``axis`` that share a scale; 0: no groups.
    """

    codes: Tensor
    scale: Tensor
    zero_point: Tensor | None

    def __init__(
        self, codes: Tensor, scale: Tensor, zero_point: Tensor | None, axis: int, group: int = 0
    ) -> None:
        super().__init__()
        self.register_buffer("codes", codes.contiguous())
        self.register_buffer("scale", scale.contiguous())
        self.register_buffer(
            "zero_point", None if zero_point is None else zero_point.to(codes.dtype).contiguous()
        )
        self.axis, self.group = axis, group

    def forward(self) -> Tensor:
        """The rounded weight, float32, of the shape of the codes."""
        inputs = (self.codes, self.scale) + (() if self.zero_point is None else (self.zero_point,))
        attributes: dict[str, Any] = {} if self.scale.dim() == 0 else {"axis": self.axis}
        if self.group:
            attributes["block_size"] = self.group
        return _operator("DequantizeLinear", inputs, attributes, torch.float32, self.codes.shape)


class DeployedActivations(nn.Module):
    """A static rounding of 8 bits as a pair of QuantizeLinear and DequantizeLinear.

    Codes are uint8 always, those of a symmetric format moved by 128: the same values, in the type that processors
    multiply with int8 weights. onnxruntime would move them itself, and of 1.31 not always rightly.
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(self, activations: StaticActivations) -> None:
        super().__init__()
        zero = activations.zero_point
        zero = torch.tensor(-activations.spec.low) if zero is None else zero.detach().reshape(())
        self.register_buffer("scale", activations.scale.detach().reshape(()).clone())
        self.register_buffer("zero_point", zero.to(torch.uint8))

    def forward(self, x: Tensor) -> Tensor:
        """``x`` rounded and clipped, same shape and dtype."""
        how = (self.scale, self.zero_point)
        codes = _operator("QuantizeLinear", (x, *how), {}, torch.uint8, x.shape)
        return _operator("DequantizeLinear", (codes, *how), {}, x.dtype, x.shape)


class DeployedLinear(nn.Module):
    """Transforms as plain operators, the rounding as a pair, one matrix product, the low-rank branch beside it."""

    def __init__(self, layer: SimulatedLinear) -> None:
        super().__init__()
        self.transforms = nn.ModuleList(plain(transform) for transform in layer.transforms)
        activations = layer.activations
        self.activations = (
            DeployedActivations(activations) if isinstance(activations, StaticActivations) else None
        )
        self.stored = _stored_matrix(layer)
        self.weight = layer.weight if self.stored is None else None
        self.bias, self.down, self.up = layer.bias, layer.down, layer.up

    def forward(self, x: Tensor) -> Tensor:
        """``[..., in] -> [..., out]``."""
        for transform in self.transforms:
            x = transform(x)
        # A product of two matrices: onnxruntime fuses the pair with it, which it does not do in three dimensions.
        rows = x.reshape(-1, x.shape[-1])
        rounded = rows if self.activations is None else self.activations(rows)
        if self.stored is not None:
            y = rounded @ self.stored()
            y = y if self.bias is None else y + self.bias
        else:
            y = F.linear(rounded, self.weight, self.bias)  # type: ignore[arg-type]
        if self.down is not None and self.up is not None:
            y = y + (rows @ self.down) @ self.up
        return y.reshape(*x.shape[:-1], y.shape[-1])


class DeployedConvolution(nn.Module):
    """A convolution whose weight is stored as integers; its input is not rounded."""

    def __init__(self, layer: SimulatedConv2d | SimulatedConvTranspose2d) -> None:
        super().__init__()
        codes, spec, scale = layer.codes(), layer.spec, layer.scale
        if codes is None or spec is None or scale is None:
            raise ValueError("the weight is not rounded")
        transposed = isinstance(layer, SimulatedConvTranspose2d)
        shaped = layer.weight_of(codes, layer.weight.shape)
        self.stored = StoredWeight(shaped, scale, layer.zero_point, axis=1 if transposed else 0)
        self.bias, self.convolved = layer.bias, layer.convolved

    def forward(self, x: Tensor) -> Tensor:
        """As the layer's."""
        return self.convolved(x, self.stored(), self.bias)


class Matrix(nn.Module):
    """A linear map that has no operators of its own in ONNX, as one dense product."""

    matrix: Tensor

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., in] -> [..., in]``."""
        return x @ self.matrix


def plain(transform: nn.Module) -> nn.Module:
    """The transform as it is traced: itself, or for cosines (a Fourier transform) their matrix."""
    if isinstance(transform, CosineRotation) and isinstance(transform, Transform):
        width = transform.rotation.width
        return Matrix(transform(torch.eye(width, dtype=torch.float64)).float())
    return transform


def _stored_matrix(layer: SimulatedLinear) -> StoredWeight | None:
    """The codes as ``[in, out]``, so that the product needs no transposition; None where the weight is not rounded."""
    codes, spec, scale, zero_point = layer.codes(), layer.spec, layer.scale, layer.zero_point
    if codes is None or spec is None or scale is None:
        return None
    if spec.granularity != "group":
        return StoredWeight(codes.T, scale, zero_point, axis=1)
    zeros = None if zero_point is None else zero_point.T
    group = layer.in_features // scale.shape[-1]
    return StoredWeight(codes.T, scale.T, zeros, axis=0, group=group)


def _operator(
    name: str,
    inputs: tuple[Tensor, ...],
    attributes: dict[str, Any],
    dtype: torch.dtype,
    shape: torch.Size,
) -> Tensor:
    out: Tensor = torch.onnx.ops.symbolic(name, inputs, attributes, dtype=dtype, shape=shape, version=OPSET)
    return out

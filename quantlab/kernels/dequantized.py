"""Kernels "reference" and "dequantized": floating point on weights that stay packed. Neither multiplies integers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quantlab.kernels.coded import output_dtype
from quantlab.kernels.reference import SimulatedLinear
from quantlab.kernels.table import KERNELS, REFERENCE, Kernel
from quantlab.numerics.packing import unpack
from quantlab.numerics.rounding import dequantize

PANEL = 1 << 20
"""Weights that are worked out at once: they are multiplied while they lie in the cache."""


class DequantizedLinear(nn.Module):
    """A Linear with a packed weight and an input that is not rounded; the product runs in the input's dtype.

    The weight is worked out panel by panel, and never lies in memory whole.
    """

    def __init__(self, layer: SimulatedLinear) -> None:
        super().__init__()
        layer.keep_packed()
        self.layer = layer

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """``[..., in] -> [..., out]``; NaN and infinities go through as in any product."""
        layer, spec = self.layer, self.layer.spec
        if spec is None or layer.scale is None:
            raise ValueError("only a rounded weight can be unpacked")
        x = layer.transform(x)
        out = x.new_empty(*x.shape[:-1], layer.out_features, dtype=output_dtype(x))
        count = max(1, PANEL // layer.in_features)
        for start in range(0, layer.out_features, count):
            rows = slice(start, start + count)
            codes = unpack(layer.packed[rows], spec, layer.in_features)
            shared = spec.granularity == "tensor"
            zero = layer.zero_point
            scale = layer.scale if shared else layer.scale[rows]
            zero = zero if shared or zero is None else zero[rows]
            weight = dequantize(codes, scale, zero, spec, dtype=x.dtype)
            bias = None if layer.bias is None else layer.bias[rows].to(x.dtype)
            out[..., rows] = F.linear(x, weight, bias)
        if layer.down is not None and layer.up is not None:
            out += (x @ layer.down.to(x.dtype)) @ layer.up.to(x.dtype)
        return out


class Dequantized:
    """The kernel; in bfloat16 its error is that of any bfloat16 product."""

    exact = 1e-5

    def absent(self, device: torch.device) -> str:
        """Nowhere."""
        del device
        return ""

    def refuses(self, layer: SimulatedLinear) -> str:
        """Only weights are its business."""
        if layer.spec is None:
            return "its weight is not rounded"
        return "" if layer.activations is None else "it does not round inputs"

    def prepare(self, layer: SimulatedLinear) -> nn.Module:
        """As `Kernel.prepare`."""
        return DequantizedLinear(layer)


class Reference:
    """The simulated layer itself, packed: what every other kernel is held to."""

    exact = 0.0

    def absent(self, device: torch.device) -> str:
        """Nowhere."""
        del device
        return ""

    def refuses(self, layer: SimulatedLinear) -> str:
        """Nothing."""
        del layer
        return ""

    def prepare(self, layer: SimulatedLinear) -> nn.Module:
        """The layer, which keeps its codes in place of its weight from now on, where they give it back."""
        layer.keep_packed()
        return layer


DEQUANTIZED: Kernel = KERNELS.register("dequantized")(Dequantized())
_REFERENCE: Kernel = KERNELS.register(REFERENCE)(Reference())

"""The kernel "native": a whole Linear in two passes of our own C code. Which layers get it is decided elsewhere.

The first pass reads the input, smooths, rotates and rounds it; the second multiplies with the codes of the weight as
they lie, in a mapped file too. Nothing is prepared but scales, and no weight is copied.
"""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import torch
from torch import Tensor, nn

from quantlab.errors import DeviceError
from quantlab.kernels import native
from quantlab.kernels.activations import DynamicActivations, StaticActivations
from quantlab.kernels.coded import PackedLinear
from quantlab.kernels.native_rows import TILE, Codes, NativeRounding, address, knows
from quantlab.kernels.reference import SimulatedLinear
from quantlab.kernels.table import KERNELS, Kernel

PANEL = 32
"""Columns of the product that are unpacked together, as in gemm.c."""
LONGEST = 1 << 16
"""Of a sum that int32 holds whatever the codes are."""
_SMALL = 1 << 20
"""Products that are not worth a thread of their own."""


class Product(ctypes.Structure):
    """``struct product`` of native/gemm.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("tiles", "row_scale", "row_zero")),
        *((name, ctypes.c_void_p) for name in ("weight", "weight_scale", "weight_zero", "bias", "out")),
        *((name, ctypes.c_int64) for name in ("rows", "columns", "depth", "groups", "packed", "dtype")),
    )


class Grid(NamedTuple):
    """What C reads besides the codes: of each row and group of the weight.

    Attributes:
        scale: float32 ``[out, groups]``.
        zero_point: uint8 likewise; None for symmetric codes.
        bias: float32 ``[out]`` or None.
    """

    scale: Tensor
    zero_point: Tensor | None
    bias: Tensor | None


class NativeLinear(PackedLinear):
    """Both passes, and around them what C does not know: other transforms, and the low-rank branch."""

    def __init__(self, layer: SimulatedLinear) -> None:
        activations = layer.activations
        if not isinstance(activations, DynamicActivations | StaticActivations):
            raise TypeError(f"the native kernel refuses this layer: {refusal(layer)}")
        super().__init__(layer)
        split = outside(layer)
        self.transforms = layer.transforms[:split]
        self.rounding = NativeRounding(activations, list(layer.transforms[split:]), layer.in_features)

    def make(self) -> Grid:
        """Scales and zero points of every row, whoever shares them."""
        zero_point = None if self.zero_point is None else self._of_groups(self.zero_point)[..., 0]
        return Grid(
            self.group_scales().float().contiguous(),
            None if zero_point is None else zero_point.to(torch.uint8).contiguous(),
            None if self.bias is None else self.bias.detach().float().contiguous(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[..., in] -> [..., out]``, as every packed layer.

        Raises:
            DeviceError: The input or the layer is not in the memory of the CPU.
            NumericError: The input holds a NaN or an infinity.
        """
        for tensor in (x, self.packed):
            if tensor.device.type != "cpu":  # C would read an address of another memory
                raise DeviceError(
                    f"the native kernel runs on CPUs only, not on {tensor.device}",
                    remedy="Leave network and images on the CPU, or load the model again with device=...",
                )
        return super().forward(x)

    def run(self, rows: Tensor, out: Tensor) -> None:
        """Fill ``out``; computed in float32 unless ``rows`` are bfloat16."""
        dtype = torch.bfloat16 if rows.dtype == torch.bfloat16 else torch.float32
        rows = self.transform(rows.to(dtype)).contiguous()
        product = out if out.dtype == dtype else torch.empty_like(out, dtype=dtype)
        self.multiply(self.rounding(rows), product)
        self.add_branch(product, rows)
        if product is not out:
            out.copy_(product)

    def absorb_gelu(self) -> bool:
        """Take the exact GELU of the input from now on, in the pass that rounds it.

        Returns:
            Whether that was possible: not where torch reads the input before.
        """
        whole = self.rounding.fixed is None and self.rounding.spec.granularity == "tensor"
        if len(self.transforms) or self.down is not None or whole:
            return False
        self.rounding.gelu = True
        return True

    def multiply(self, codes: Codes, out: Tensor) -> None:
        """Fill ``out`` ``[rows, out]``, float32 or bfloat16, contiguous."""
        (rows, columns), packed, grid = out.shape, self.packed.contiguous(), self.made()
        task = Product(
            *map(address, (codes.tiles, codes.scale, codes.zero)),
            *map(address, (packed, *grid, out)),
            *(rows, columns, self.in_features, grid.scale.shape[1]),
            *(self.spec.bits <= 4, out.dtype == torch.bfloat16),
        )
        call, at = native.function("product"), ctypes.byref(task)
        if columns >= PANEL * torch.get_num_threads():
            step = PANEL * max(1, _SMALL // (rows * self.in_features * PANEL))
            done = native.share(lambda *ends: call(at, 0, rows, *ends), columns, step=step)
        else:
            done = native.share(lambda *ends: call(at, *ends, 0, columns), rows, step=2 * TILE)
        native.require_memory(min(done))


def outside(layer: SimulatedLinear) -> int:
    """How many transforms torch runs: all before the last that C does not know.

    All of them where something else reads the transformed input, a low-rank branch or the range of a whole tensor.
    """
    activations, transforms = layer.activations, list(layer.transforms)
    whole = isinstance(activations, DynamicActivations) and activations.spec.granularity == "tensor"
    if whole or layer.down is not None:
        return len(transforms)
    return max((index + 1 for index, part in enumerate(transforms) if not knows(part)), default=0)


def refusal(layer: SimulatedLinear) -> str:
    """Why C cannot execute this layer; empty where it can."""
    spec, activations, scale = layer.spec, layer.activations, layer.scale
    if spec is None or scale is None:
        return "its weight is not rounded"
    if activations is None:
        return "its input is not rounded"
    if not isinstance(activations, DynamicActivations | StaticActivations):
        return "its input is rounded with more than one step (twin quantizer)"
    if isinstance(activations, StaticActivations) and activations.scale.numel() != 1:
        return "its input has more than one static scale"
    if isinstance(activations, DynamicActivations) and activations.spec.granularity not in {
        "token",
        "tensor",
    }:
        return f"its input has a scale for each {activations.spec.granularity}"
    if not spec.symmetric and spec.bits == 8:
        return "an asymmetric weight of 8 bits does not fit signed bytes"
    groups = scale.shape[-1] if scale.dim() == 2 else 1
    length = layer.in_features // max(1, groups)
    if groups > 1 and length % 64:
        return f"its groups of {length} columns are no multiple of 64"
    if length > LONGEST:
        return f"sums over {length} columns may not fit 32 bits"
    return ""


class Native:
    """Own C code for AVX512-VNNI and AMX."""

    exact = 1e-5

    def absent(self, device: torch.device) -> str:
        """Why this machine has no such kernel."""
        if device.type != "cpu":
            return "it runs on CPUs only"
        return native.why_absent()

    def refuses(self, layer: SimulatedLinear) -> str:
        """Why it cannot execute this layer."""
        return refusal(layer)

    def prepare(self, layer: SimulatedLinear) -> nn.Module:
        """A module that shares the layer's codes."""
        return NativeLinear(layer).eval()


NATIVE: Kernel = KERNELS.register("native")(Native())

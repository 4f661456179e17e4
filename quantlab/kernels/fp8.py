"""Kernel "fp8": products of 8-bit floating point numbers on NVIDIA GPUs. It rounds otherwise than any recipe here says.

Therefore it runs only where it is named. Weight codes of up to 5 bits are exact in it; inputs never are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from quantlab.kernels.activations import DynamicActivations
from quantlab.kernels.coded import CodedLinear, refusal
from quantlab.kernels.reference import SimulatedLinear
from quantlab.kernels.table import KERNELS, Kernel

FORMAT = torch.float8_e4m3fn
LARGEST = torch.finfo(FORMAT).max
SMALLEST = torch.finfo(torch.float32).tiny
CAPABILITY = (8, 9)
"""The first NVIDIA GPU that multiplies it (Ada)."""
MULTIPLE = 16
"""Widths that it takes are multiples of this."""


class Fp8Linear(CodedLinear):
    """A Linear executed by ``torch._scaled_mm``, one scale a row of the input and one an output channel."""

    def run(self, rows: Tensor, out: Tensor) -> None:
        """All rows at once, in few passes; a row with a NaN or an infinity comes out as NaN."""
        rows = self.transform(rows)
        codes, scale = row_codes(rows)
        weight, steps, bias = self.made()
        half = torch.bfloat16  # the only one that row scales and a bias come with on a GPU
        product = torch._scaled_mm(  # noqa: SLF001 - its public name is torch's own plan
            codes, weight.T, scale_a=scale, scale_b=steps, bias=bias, out_dtype=half, use_fast_accum=True
        )
        out.copy_(product)
        self.add_branch(out, rows)

    def make(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """The weight's codes as floating point numbers ``[out, in]``, their scales ``[1, out]``, and the bias."""
        bias = None if self.bias is None else self.bias.detach().to(torch.bfloat16)
        return self.signed_codes().float().to(FORMAT), self.group_scales().T.contiguous(), bias


def row_codes(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows ``[n, in]`` as 8-bit floating point numbers, and float32 ``[n, 1]``, what a one of each row is worth.

    That is a normal number always: a subnormal one is so coarse that a code could be beyond the format, which is NaN.
    """
    peaks = torch.linalg.vector_norm(rows, ord=torch.inf, dim=1, keepdim=True, dtype=torch.float32)
    scale = (peaks / LARGEST).clamp_min_(SMALLEST)
    return (rows / scale).to(FORMAT), scale


class Fp8:
    """The kernel. Each factor is off by 1/16 of itself at most, and a product by about twice that."""

    exact = 0.13

    def absent(self, device: torch.device) -> str:
        """As `Kernel.absent`."""
        if device.type != "cuda" or torch.version.hip is not None:
            return "it runs on an NVIDIA GPU"
        capability = torch.cuda.get_device_capability(device)
        return "" if capability >= CAPABILITY else "this GPU has no 8-bit floating point"

    def refuses(self, layer: SimulatedLinear) -> str:
        """As `Kernel.refuses`."""
        if why := refusal(layer):
            return why
        if not isinstance(layer.activations, DynamicActivations):
            return "it takes the scale of its input from the input"
        if layer.activations.spec.bits != 8:
            return "its input is to be rounded to fewer than 8 bits"
        if layer.spec is not None and layer.spec.granularity == "group":
            return "it takes one scale an output channel, and this weight has groups"
        if layer.in_features % MULTIPLE or layer.out_features % MULTIPLE:
            return f"it wants widths that are multiples of {MULTIPLE}"
        return ""

    def prepare(self, layer: SimulatedLinear) -> nn.Module:
        """As `Kernel.prepare`."""
        return Fp8Linear(layer)


FP8: Kernel = KERNELS.register("fp8")(Fp8())

"""Kernel "int_mm": the plain integer product of torch, on CPUs and NVIDIA GPUs. Weights with groups it leaves alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from quantlab.kernels.coded import cpu_or_nvidia, device_of, refusal
from quantlab.kernels.codes import OFFSET
from quantlab.kernels.integer import EXACT, IntegerLinear, overflow_refusal
from quantlab.kernels.reference import SimulatedLinear
from quantlab.kernels.table import KERNELS, Kernel

GPU_ROWS = 32
"""A GPU multiplies more than 16 rows at once; fewer are filled up to this."""
GPU_MULTIPLE = 8
"""And takes widths that are multiples of this."""
GPU_CAPABILITY = (7, 5)
"""The first one with integer tensor cores (Turing)."""


class IntMmLinear(IntegerLinear):
    """A Linear executed by ``torch._int_mm``: signed codes of 8 bits, sums in int32.

    An 8-bit weight is multiplied as it is stored. One of fewer bits is unpacked once on a CPU; on a GPU, where memory
    is what it saves, at each call.
    """

    def make(self) -> Tensor:
        """int8 ``[out, in]``."""
        return self.signed_codes()

    def multiply(self, codes: Tensor, zero: int, step: Tensor | None, bias: Tensor | None) -> Tensor:
        """As in the base class."""
        if fits := zero != OFFSET and self.activations.spec.bits < 8:
            signed = codes.view(torch.int8) - zero
        else:
            signed = codes.bitwise_xor(OFFSET).view(torch.int8)  # less 128
        count = len(signed)
        gpu = signed.device.type != "cpu"
        if gpu and count < GPU_ROWS:
            signed = torch.nn.functional.pad(signed, (0, 0, 0, GPU_ROWS - count))
        weight = self.signed_codes() if gpu and self.spec.bits <= 4 else self.made()
        product = torch._int_mm(signed, weight.T)[:count]  # noqa: SLF001 - its public name is torch's own plan
        scales = self.group_scales()[:, 0]
        out = torch.mul(product, scales if step is None else scales * step)
        if zero != OFFSET and not fits:
            sums = (OFFSET - zero) * self.row_sums()
            out += sums if step is None else sums * step
        return out if bias is None else out.add_(bias)


class IntMm:
    """The kernel; its sums are exact integers."""

    exact = EXACT

    def absent(self, device: torch.device) -> str:
        """As `Kernel.absent`."""
        return cpu_or_nvidia(device, GPU_CAPABILITY, "integer tensor cores")

    def refuses(self, layer: SimulatedLinear) -> str:
        """As `Kernel.refuses`."""
        if why := refusal(layer) or overflow_refusal(layer):
            return why
        if layer.spec is not None and layer.spec.granularity == "group":
            return "it takes one scale an output channel, and this weight has groups"
        odd = layer.in_features % GPU_MULTIPLE or layer.out_features % GPU_MULTIPLE
        if odd and device_of(layer).type != "cpu":
            return f"a GPU wants widths that are multiples of {GPU_MULTIPLE}"
        return ""

    def prepare(self, layer: SimulatedLinear) -> nn.Module:
        """As `Kernel.prepare`."""
        return IntMmLinear(layer)


INT_MM: Kernel = KERNELS.register("int_mm")(IntMm())

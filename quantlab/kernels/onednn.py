"""Kernel "onednn": the integer product that torch brings along for CPUs. Nothing has to be installed for it.

It wants unsigned input codes (with signed ones oneDNN runs a reference kernel, thousands of times slower) and a weight
in a layout of its own, 8 bits a value: 4-bit weights stay packed besides.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from quantlab.kernels.coded import refusal
from quantlab.kernels.integer import EXACT, IntegerLinear, overflow_refusal
from quantlab.kernels.reference import SimulatedLinear
from quantlab.kernels.table import KERNELS, Kernel

_F32 = torch.float32


class OneDnnLinear(IntegerLinear):
    """A Linear executed by ``torch.ops.onednn.qlinear_pointwise``; each group of columns is a product of its own.

    The products of groups are added where they are made (oneDNN's post-op "sum"), in float32.
    """

    def make(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Of each group the weight in oneDNN's layout, its scales ``[out]`` and zero points."""
        codes, scales = self.signed_codes(), self.group_scales()
        zeros = torch.zeros(self.out_features, dtype=torch.int64)
        prepack = torch.ops.onednn.qlinear_prepack
        pieces = codes.split(self.group, dim=1)
        return [
            (prepack(piece.contiguous(), None), scales[:, index].contiguous(), zeros)
            for index, piece in enumerate(pieces)
        ]

    def multiply(self, codes: Tensor, zero: int, step: Tensor | None, bias: Tensor | None) -> Tensor:
        """As in the base class; row scale 1 stands for "none"."""
        ops, size = torch.ops.onednn, 1.0 if step is None else float(step)
        plain: list[Any] = [1.0, 0, _F32]
        total: Tensor | None = None
        for index, (weight, scales, zeros) in enumerate(self.made()):
            part = codes[:, index * self.group : (index + 1) * self.group]
            which = (part, size, zero, weight, scales, zeros)
            if total is None:
                total = ops.qlinear_pointwise(*which, bias, *plain, "none", [], "")
            else:
                total = ops.qlinear_pointwise.binary(
                    *which, total, None, *plain, 1.0, 0, "sum", 1.0, "none", [], ""
                )
        if total is None:
            raise ValueError("a weight has at least one group")
        return total


class OneDnn:
    """The kernel. Products of equal codes are exact integers; only scales and their sum are rounded."""

    exact = EXACT

    def absent(self, device: torch.device) -> str:
        """As `Kernel.absent`."""
        if device.type != "cpu":
            return "it runs on a CPU"
        if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.onednn, "qlinear_pointwise"):
            return "this torch was built without it"
        return ""

    def refuses(self, layer: SimulatedLinear) -> str:
        """As `Kernel.refuses`."""
        return refusal(layer) or overflow_refusal(layer)

    def prepare(self, layer: SimulatedLinear) -> nn.Module:
        """As `Kernel.prepare`."""
        return OneDnnLinear(layer)


ONEDNN: Kernel = KERNELS.register("onednn")(OneDnn())

"""Kernel "int4_mm": torch's product of 4-bit weights and bfloat16 inputs, on CPUs and NVIDIA GPUs. No input is rounded.

It was made for few rows, where a product waits for its weight; with many it saves memory and no time.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from quantlab.kernels.coded import PackedLinear, cpu_or_nvidia, device_of
from quantlab.kernels.reference import SimulatedLinear
from quantlab.kernels.table import KERNELS, Kernel
from quantlab.numerics.formats import QuantSpec

GROUPS = (32, 64, 128, 256)
"""Columns that may share a scale."""
MULTIPLE = {"cpu": 16, "cuda": 8}
"""Numbers of outputs are multiples of this, by device."""
CAPABILITY = (8, 0)
"""The first NVIDIA GPU whose tensor cores multiply bfloat16 (Ampere)."""
TILE, TILES = 16, (8, 4, 2)
"""Columns of a tile, and how many tiles lie side by side on a GPU: the most that fit."""
MIDDLE = 8
"""The code that stands for the offset of its group."""


class Int4Linear(PackedLinear):
    """A Linear executed by ``torch.ops.aten._weight_int4pack_mm``, or by its twin for CPUs.

    A GPU holds the weight once: what it was made from moves to the memory of the CPU.
    """

    _device = torch.device("cpu")

    def run(self, rows: Tensor, out: Tensor) -> None:
        """All rows at once, in bfloat16 whatever their dtype."""
        rows = self.transform(rows)
        ops, self._device = torch.ops.aten, rows.device
        on_cpu = rows.device.type == "cpu"
        multiply = ops._weight_int4pack_mm_for_cpu if on_cpu else ops._weight_int4pack_mm  # noqa: SLF001 - it has no public name
        weight, steps = self.made()
        product = multiply(rows.to(torch.bfloat16).contiguous(), weight, self.group, steps)
        torch.add(product, 0 if self.bias is None else self.bias.detach(), out=out)
        self.add_branch(out, rows)

    def make(self) -> tuple[Tensor, Tensor]:
        """The weight in the layout of the device that the input is on, and `group_steps`."""
        ops, device = torch.ops.aten, self._device
        codes, steps = offset_codes(self.packed.to(device), self.spec), self.group_steps().to(device)
        if device.type == "cpu":
            apart = torch.stack([codes & 0x0F, codes >> 4], dim=-1).flatten(1)
            return ops._convert_weight_to_int4pack_for_cpu(apart.int(), TILES[-1]), steps  # noqa: SLF001 - likewise
        weight = ops._convert_weight_to_int4pack(first_half_first(codes), tiles(self.in_features))  # noqa: SLF001 - likewise
        for name in ("packed", "scale", "zero_point"):
            kept = getattr(self, name)
            setattr(self, name, None if kept is None else kept.cpu())
        return weight, steps

    def group_steps(self) -> Tensor:
        """bfloat16 ``[groups, out, 2]``: what a step is worth, and what the code `MIDDLE` stands for."""
        steps = self.group_scales()
        offsets = torch.zeros_like(steps)
        if self.zero_point is not None:
            offsets = (MIDDLE - self._of_groups(self.zero_point)[..., 0]) * steps
        return torch.stack([steps.T, offsets.T], dim=-1).to(torch.bfloat16)


def offset_codes(packed: Tensor, spec: QuantSpec) -> Tensor:
    """uint8 as `quantlab.numerics.packing.pack` lays codes out, each from 0 to 15 with `MIDDLE` in the middle."""
    return packed ^ (MIDDLE << 4 | MIDDLE) if spec.symmetric else packed


def first_half_first(codes: Tensor) -> Tensor:
    """The same with the first of two codes in the upper half of its byte, as the layout for GPUs is made from."""
    return (codes & 0x0F) << 4 | codes >> 4


def tiles(columns: int) -> int:
    """How many tiles of a row lie side by side on a GPU."""
    return next(count for count in TILES if columns % (count * TILE) == 0)


class Int4Mm:
    """The kernel, for networks that compute in bfloat16: beside what that costs, scales are rounded to it too.

    In a float32 network its error is larger than its bound, and it is not taken.
    """

    exact = 2.0**-9

    def absent(self, device: torch.device) -> str:
        """As `Kernel.absent`."""
        return cpu_or_nvidia(device, CAPABILITY, "tensor cores for bfloat16")

    def refuses(self, layer: SimulatedLinear) -> str:
        """As `Kernel.refuses`."""
        if layer.spec is None:
            return "its weight is not rounded"
        if layer.activations is not None:
            return "it does not round inputs"
        if layer.spec.bits != 4 or layer.spec.granularity != "group":
            return "it takes weights of 4 bits in groups"
        if (layer.spec.group_size or layer.in_features) not in GROUPS:
            return f"it takes groups of {', '.join(map(str, GROUPS))} columns"
        multiple = MULTIPLE.get(device_of(layer).type, 1)
        if layer.out_features % multiple:
            return f"it wants numbers of outputs that are multiples of {multiple}"
        return "it is in float64" if layer.weight_dtype == torch.float64 else ""

    def prepare(self, layer: SimulatedLinear) -> nn.Module:
        """As `Kernel.prepare`."""
        return Int4Linear(layer)


INT4_MM: Kernel = KERNELS.register("int4_mm")(Int4Mm())

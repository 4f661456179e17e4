"""What kernels that multiply integers have in common: a layer around an integer product. No product is here."""

from __future__ import annotations

from abc import abstractmethod
from functools import cache
from typing import Any

import torch
from torch import Tensor

from quantlab.kernels.activations import Activations
from quantlab.kernels.coded import CodedLinear
from quantlab.kernels.codes import Codes, activation_codes, fixed_range
from quantlab.kernels.reference import SimulatedLinear

EXACT = 1e-5
"""How far an exact product of equal codes may be off, relative to the largest output: sums of float32 rounding."""
PAIR = (1 << 15) - 1
"""The largest sum of two products on such CPUs."""
VNNI = ("avx512_vnni", "avx_vnni", "amx_int8")
"""What torch calls the instructions that add in 32 bits."""
BLOCK = 1 << 21
"""Values of the input that go through a layer at once on a CPU, so that what becomes of them stays in its cache."""


class IntegerLinear(CodedLinear):
    """A Linear executed on integer codes: transforms, rounding, `multiply`, row scales, bias, low-rank branch."""

    @abstractmethod
    def multiply(self, codes: Tensor, zero: int, step: Tensor | None, bias: Tensor | None) -> Tensor:
        """The product of input codes and weight.

        Args:
            codes: uint8 ``[rows, in]``.
            zero: The code of 0.
            step: ``[]``, the value of one step of the input; None: 1.
            bias: float32 ``[out]`` to be added, or None.

        Returns:
            float32 ``[rows, out]`` that belongs to the caller.
        """

    def run(self, rows: Tensor, out: Tensor) -> None:
        """Block by block on a CPU; on a GPU all at once."""
        whole = needs_all_rows(self.activations)
        rows = self.transform(rows) if whole else rows
        fixed = fixed_range(rows, self.activations)
        size = max(32, BLOCK // self.in_features) if rows.device.type == "cpu" else len(rows)
        for start in range(0, len(rows), size):
            block = rows[start : start + size]
            block = block if whole else self.transform(block)
            part = out[start : start + size]
            self._fill(part, activation_codes(block, self.activations, fixed))
            self.add_branch(part, block)

    def row_sums(self) -> Tensor:
        """float32 ``[out]``: the sum of each row of the weight."""
        sums = self.signed_codes().reshape(self.out_features, -1, self.group).sum(dim=2, dtype=torch.int32)
        return (sums * self.group_scales()).sum(dim=1)

    def _fill(self, out: Tensor, terms: tuple[Codes, ...]) -> None:
        """Write the sum of the terms' products, and the bias, to ``out``; in another dtype than float32 at the end."""
        bias = None if self.bias is None else self.bias.detach().float()
        direct = len(terms) == 1 and out.dtype == torch.float32
        total = self._term(terms[0], bias, out if direct else None)
        for term in terms[1:]:
            total += self._term(term, None, None)
        if total is not out:
            out.copy_(total)

    def _term(self, term: Codes, bias: Tensor | None, out: Tensor | None) -> Tensor:
        codes, scale, zero = term
        if scale.dim() == 0:
            return self.multiply(codes, int(zero), scale, bias)
        if isinstance(zero, Tensor):
            # (codes - zero) W = (codes - middle) W + (middle - zero) times the sums of W's rows.
            middle = 1 << (self.activations.spec.bits - 1)
            product = self.multiply(codes, middle, None, None)
            product += (middle - zero).to(torch.float32) * self.row_sums()
        else:
            product = self.multiply(codes, zero, None, None)
        out = product if out is None else out
        if bias is None:
            return torch.mul(product, scale, out=out)
        return torch.addcmul(bias, product, scale, out=out)


def overflow_refusal(layer: SimulatedLinear) -> str:
    """Why torch's own products on this CPU are wrong for a layer, in one sentence; empty where they are right.

    x86 without VNNI adds pairs of products of a byte and a signed byte in 16 bits, which saturate. Weights of few bits
    are safe there too.
    """
    spec = layer.spec
    if (
        spec is None
        or (layer.packed if layer.is_packed else layer.weight).device.type != "cpu"
        or not _saturates()
    ):
        return ""
    largest = -spec.low if spec.symmetric else spec.high
    if 2 * 255 * largest <= PAIR:
        return ""
    return "this CPU adds products of 8 bits in 16 bits (no VNNI), and these would not fit"


@cache
def _saturates() -> bool:
    able = getattr(torch.cpu, "get_capabilities", dict[str, Any])()
    return able.get("architecture") == "x86_64" and not any(able.get(name) for name in VNNI)


def needs_all_rows(activations: Activations) -> bool:
    """Whether the scale is taken from all rows of an input at once."""
    return activations.spec.granularity == "tensor" and getattr(activations, "scale", None) is None

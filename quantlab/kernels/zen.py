"""Kernel "zentorch": AMD's plugin for CPUs, where its wheel is installed. It is imported by nobody else.

The plugin keeps weights in a cache by their address and gave wrong results for weights that took the place of others;
the cache is switched off before it is imported. It answers a NaN with 0; inputs are looked at before.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from typing import Any

import torch
from torch import Tensor, nn

from quantlab.kernels.activations import DynamicActivations
from quantlab.kernels.coded import CodedLinear, refusal
from quantlab.kernels.integer import EXACT
from quantlab.kernels.reference import SimulatedLinear
from quantlab.kernels.table import KERNELS, Kernel
from quantlab.numerics.finite import require_finite

LIBRARY = "zentorch"
SWITCH = "ZENDNNL_MATMUL_WEIGHT_CACHE"


class ZenLinear(CodedLinear):
    """A Linear executed by ``zentorch_dynamic_qlinear``, which rounds its input itself, per token to 8 bits."""

    def run(self, rows: Tensor, out: Tensor) -> None:
        """All rows at once.

        Raises:
            NumericError: The input holds a NaN or an infinity.
        """
        rows = self.transform(rows)
        require_finite(rows, place=self.activations.place)
        out.copy_(self._product(rows))
        self.add_branch(out, rows)

    def _product(self, rows: Tensor) -> Tensor:
        """Groups want bfloat16 rows; whatever the dtype of the rows, the answer is near it."""
        weight, scales = self.made()
        given = rows.to(torch.bfloat16) if self._grouped or rows.dtype == torch.float16 else rows
        bias = None if self.bias is None else self.bias.detach().to(given.dtype)
        return torch.ops.zentorch.zentorch_dynamic_qlinear(given.contiguous(), weight, scales, bias)

    @property
    def _grouped(self) -> bool:
        return self.spec.granularity == "group"

    def make(self) -> tuple[Tensor, Tensor]:
        """int8 ``[out, in]`` and scales ``[out]``; with groups two codes a byte, and ``[groups, out]``."""
        codes, scales = self.signed_codes(), self.group_scales()
        if not self._grouped:
            return codes, scales[:, 0].contiguous()
        packed = torch.ops.zentorch.zentorch_woq_repack_weight(codes.contiguous())
        return packed.view(torch.int8), scales.T.contiguous()


class Zen:
    """The kernel; it rounds inputs to the codes of the recipe."""

    exact = EXACT

    def absent(self, device: torch.device) -> str:
        """As `Kernel.absent`; imports the library where it is installed."""
        if device.type != "cpu":
            return "it runs on a CPU"
        return import_problem()

    def refuses(self, layer: SimulatedLinear) -> str:
        """As `Kernel.refuses`."""
        if why := refusal(layer):
            return why
        activations = layer.activations
        own = isinstance(activations, DynamicActivations) and activations.clip == 1.0
        spec: Any = getattr(activations, "spec", None)
        if not own or (spec.bits, spec.symmetric, spec.granularity) != (8, True, "token"):
            return "it rounds inputs in one way only: dynamic, symmetric, per token, 8 bits"
        if layer.spec is None or not layer.spec.symmetric:
            return "its weights are symmetric"
        if layer.spec.granularity == "group" and layer.spec.bits != 4:
            return "its weights with groups have 4 bits"
        return ""

    def prepare(self, layer: SimulatedLinear) -> nn.Module:
        """As `Kernel.prepare`."""
        return ZenLinear(layer)


ZENTORCH: Kernel = KERNELS.register("zentorch")(Zen())


def import_problem() -> str:
    """Import the library with its cache off; why that is not possible, in one sentence, or nothing."""
    if LIBRARY in sys.modules:
        off = os.environ.get(SWITCH) == "0"
        return (
            "" if off else f"it was imported before {SWITCH}=0 was set, with a cache that gives wrong results"
        )
    if importlib.util.find_spec(LIBRARY) is None:
        return "zentorch is not installed (pip install 'quantlab[zen]')"
    os.environ[SWITCH] = "0"
    try:
        importlib.import_module("zentorch")
    except Exception as error:  # noqa: BLE001 - a wheel for another torch fails in many ways
        why = next(iter(str(error).splitlines()), "no reason given")
        return f"zentorch cannot be imported ({type(error).__name__}: {why})"
    return ""

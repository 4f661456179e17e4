"""The table of kernels: what can execute a quantized Linear, and which does. The kernels have files of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

import torch
from torch import nn

from quantlab.errors import RecipeError
from quantlab.kernels.reference import SimulatedLinear
from quantlab.registry import Registry


class Kernel(Protocol):
    """One way to execute quantized Linears.

    Attributes:
        exact: How far its output may be from that of the simulated layer, relative to the largest output, on
            identical codes. `check.check` and the tests hold it to that.
    """

    exact: float

    def absent(self, device: torch.device) -> str:
        """Why this machine has no such kernel, in one sentence for a person; empty where it has."""

    def refuses(self, layer: SimulatedLinear) -> str:
        """Why it cannot execute this layer, likewise; empty where it can."""

    def prepare(self, layer: SimulatedLinear) -> nn.Module:
        """A module for the whole layer, transforms and low-rank branch included: ``[..., in] -> [..., out]``.

        It takes float32 and bfloat16 and answers in the dtype of its input. An input with a NaN or an infinity raises
        NumericError or gives NaN, never a number. It keeps what the layer stores packed, and shares it.
        """


AUTO, REFERENCE = "auto", "reference"
KERNELS: Registry[Kernel] = Registry("kernel", RecipeError, also=(AUTO,))
ON_REQUEST = frozenset({"fp8"})
"""Kernels that round otherwise than the recipe says, and therefore run only where they are named."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which kernel executes a layer, and why no other does.

    Attributes:
        kernel: Its name in the table.
        skipped: Kernel to why it was not taken, of those that could not be or were slower.
        milliseconds: Measured on this machine, of the kernels that were tried on this layer or on one of its like.
    """

    kernel: str
    skipped: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    milliseconds: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))

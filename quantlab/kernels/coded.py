"""A layer that computes on its codes: what it holds, and what is made of them once. How it multiplies is not here."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from quantlab.kernels.activations import Activations
from quantlab.kernels.codes import KNOWN
from quantlab.kernels.reference import SimulatedLinear
from quantlab.numerics.packing import unpack

_making = threading.Lock()


class Executed(nn.Module):
    """A module that moves with its network but keeps the dtypes of its tensors, which its product relies on."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: FBT001, FBT002 - torch's
        def kept(tensor: Tensor) -> Tensor:
            changed = fn(tensor)
            return changed if changed.dtype == tensor.dtype else tensor.to(changed.device)

        return super()._apply(kept, recurse)


class PackedLinear(Executed, ABC):
    """The tensors of a simulated layer, packed as they are, around a product of one's own. It rounds no input.

    What a product wants instead of the packed codes is worked out when the layer first runs, so that a network whose
    weights are mapped from a file is there at once.

    Args:
        layer: Of a rounded weight. It keeps its codes in place of its weight from now on.
    """

    packed: Tensor
    scale: Tensor
    zero_point: Tensor | None
    bias: Tensor | None
    down: Tensor | None
    up: Tensor | None
    _made: Any = None

    def __init__(self, layer: SimulatedLinear) -> None:
        super().__init__()
        if layer.spec is None or not layer.keep_packed():
            raise ValueError("only a layer whose weight is rounded has codes to compute on")
        self.in_features, self.out_features, self.spec = layer.in_features, layer.out_features, layer.spec
        self.transforms, self.bias = layer.transforms, layer.bias
        for name in ("packed", "scale", "zero_point", "down", "up"):
            self.register_buffer(name, getattr(layer, name))

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """``[..., in] -> [..., out]``, in the dtype of ``x``, or that of autocast where it is on.

        Raises:
            NumericError: The input holds a NaN or an infinity.
        """
        rows = x.reshape(-1, self.in_features)
        out = x.new_empty(len(rows), self.out_features, dtype=output_dtype(x))
        if len(rows):
            with torch.autocast(x.device.type, enabled=False):
                self.run(rows, out)
        return out.reshape(*x.shape[:-1], self.out_features)

    @abstractmethod
    def run(self, rows: Tensor, out: Tensor) -> None:
        """Fill ``out`` ``[rows, out]``, given ``[rows, in]`` of at least one row."""

    @abstractmethod
    def make(self) -> Any:
        """What the product wants of the weight."""

    def made(self) -> Any:
        """What `make` made, at the first call. Safe from several threads."""
        if self._made is None:
            with _making, torch.inference_mode(mode=False):
                if self._made is None:
                    self._made = self.make()
        return self._made

    def transform(self, x: Tensor) -> Tensor:
        """The input behind all transforms, before rounding."""
        for transform in self.transforms:
            x = transform(x)
        return x

    def add_branch(self, out: Tensor, x: Tensor) -> None:
        """Add the low-rank branch of ``x``, which is behind all transforms, to ``out``."""
        if self.down is not None and self.up is not None:
            out += (x @ self.down.to(x.dtype)) @ self.up.to(x.dtype)

    def signed_codes(self) -> Tensor:
        """int8 ``[out, in]``, the weight's codes less their zero points."""
        codes = unpack(self.packed, self.spec, self.in_features)
        if self.zero_point is None:
            return codes
        grouped = codes.reshape(self.out_features, -1, self.group).to(torch.int16)
        return grouped.sub_(self._of_groups(self.zero_point)).to(torch.int8).reshape(codes.shape)

    @property
    def group(self) -> int:
        """Columns of the weight that share a scale."""
        return self.in_features // self.group_scales().shape[1]

    def group_scales(self) -> Tensor:
        """float32 ``[out, groups]``."""
        return self._of_groups(self.scale)[..., 0]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: FBT001, FBT002 - torch's
        self._made = None  # it lies on the former device
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict[str, Any]:
        """Without what was made of the weight: it may be opaque, and is made again."""
        return {name: value for name, value in vars(self).items() if name != "_made"}

    def extra_repr(self) -> str:
        """Sizes and bits."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, weight={self.spec.bits} bits"
        )

    def _of_groups(self, values: Tensor) -> Tensor:
        """Scales or zero points as ``[out, groups, 1]``, whoever shares them."""
        if values.dim() < 2:
            return values.reshape(-1, 1, 1).expand(self.out_features, 1, 1)
        return values[..., None]


class CodedLinear(PackedLinear, ABC):
    """One that rounds its input as well, and computes on the codes of both.

    Args:
        layer: `refusal` has nothing against it.
    """

    activations: Activations

    def __init__(self, layer: SimulatedLinear) -> None:
        if not isinstance(layer.activations, Activations):
            raise TypeError("only a layer whose input is rounded has codes to compute on")
        super().__init__(layer)
        self.activations = layer.activations


def refusal(layer: SimulatedLinear) -> str:
    """Why nobody here can compute on a layer's codes, in one sentence; empty where one can."""
    if layer.spec is None:
        return "its weight is not rounded"
    if layer.activations is None:
        return "its input is not rounded"
    if not isinstance(layer.activations, KNOWN):
        return "its input is rounded in a way that only the simulation knows"
    if layer.spec.bits == 8 and not layer.spec.symmetric:
        return "8 asymmetric bits less their zero point do not fit into 8 bits"
    return "it is in float64" if layer.weight_dtype == torch.float64 else ""


def cpu_or_nvidia(device: torch.device, capability: tuple[int, int], lacks: str) -> str:
    """Why a product that torch has for CPUs and NVIDIA GPUs cannot run; empty where it can.

    Args:
        device: Where it would run.
        capability: Of the first GPU that has it.
        lacks: What older ones do not have.
    """
    if device.type == "cpu":
        return ""
    if device.type != "cuda" or torch.version.hip is not None:
        return "it runs on a CPU or an NVIDIA GPU"
    return "" if torch.cuda.get_device_capability(device) >= capability else f"this GPU has no {lacks}"


def device_of(layer: SimulatedLinear) -> torch.device:
    """Where the weight lies, packed or not."""
    stored: Tensor = layer.packed if layer.is_packed else layer.weight
    return stored.device


def output_dtype(x: Tensor) -> torch.dtype:
    """The dtype that a Linear answers ``x`` in: its own, or that of autocast where it is on."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype

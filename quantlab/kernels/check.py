"""The self-check: whether a kernel computes, on this machine and such a layer, what the simulated layer does."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quantlab.errors import NumericError
from quantlab.kernels.activations import Activations
from quantlab.kernels.reference import SimulatedLinear
from quantlab.kernels.table import Kernel
from quantlab.numerics.rounding import dequantize

ROWS = (1, 37)
"""Token counts that are tried: one, and an odd number beyond any vector's length."""
HALF = 2.0**-7
"""What bfloat16 adds to a bound: a rounding of the transformed input, of the output, and of a branch's."""
FLIPS = 4
"""Codes of a row that may differ where a kernel transforms inputs in an order of its own."""
CLEAN = 0.25
"""Share of rows in which none does in float32."""
_log = logging.getLogger(__name__)


class Oracle:
    """Random inputs for one layer, and what it must answer, in float32 arithmetic. It works out the weight once.

    Some channels and one token are outliers, as in the networks of this kind.
    """

    def __init__(self, layer: SimulatedLinear) -> None:
        self.layer = layer
        self.weight = _exact_weight(layer)
        self.device = self.weight.device
        generator = torch.Generator().manual_seed(20)
        x = torch.randn(sum(ROWS), layer.in_features, generator=generator)
        x[:, :: max(1, layer.in_features // 5)] *= 30
        x[-2] *= 30
        self.x = x.to(self.device)
        self._cases: dict[torch.dtype, list[tuple[Tensor, Tensor]]] = {}

    def expected(self, x: Tensor) -> Tensor:
        """What the layer answers, float32."""
        layer = self.layer
        seen = layer.transform(x).float()
        rounded = seen if layer.activations is None else layer.activations(seen)
        out = F.linear(rounded, self.weight, None if layer.bias is None else layer.bias.float())
        if layer.down is None or layer.up is None:
            return out
        return out + (seen @ layer.down.float()) @ layer.up.float()

    def cases(self, dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
        """Inputs of each of `ROWS` and what is expected of them."""
        if dtype not in self._cases:
            self._cases[dtype] = [(x, self.expected(x)) for x in self.x.to(dtype).split(ROWS)]
        return self._cases[dtype]

    def tokens(self, count: int) -> Tensor:
        """``count`` rows to measure with."""
        return self.x.repeat(-(-count // len(self.x)), 1)[:count]


def _exact_weight(layer: SimulatedLinear) -> Tensor:
    """What the codes stand for in float32, whatever dtype the layer works its weight out in."""
    codes = layer.codes()
    if codes is None or layer.scale is None or layer.spec is None:
        return layer.weight.detach().float()
    return dequantize(codes, layer.scale, layer.zero_point, layer.spec)


class Checked(NamedTuple):
    """What came of trying a kernel.

    Attributes:
        module: What the kernel prepared, and has run; None where it could not.
        wrong: What is wrong with it, in one sentence that goes on from "it"; empty where nothing is.
    """

    module: nn.Module | None
    wrong: str


@torch.no_grad()
def check(name: str, kernel: Kernel, oracle: Oracle, compute: torch.dtype = torch.float32) -> Checked:
    """Try a kernel on the oracle's layer.

    Args:
        name: Of the kernel, for the log, where one that is wrong is told.
        kernel: Present, and not refusing the layer.
        oracle: Of the layer.
        compute: What the network computes in: bfloat16 grants its error to float32 inputs too.
    """
    module: nn.Module | None = None
    try:
        module = kernel.prepare(oracle.layer)
        faults = [*_differences(module, kernel.exact, oracle, compute), *_swallowed(module, oracle)]
    except Exception as error:  # noqa: BLE001 - whatever a kernel raises, it is not taken
        lines = str(error).splitlines()
        faults = [f"it fails with {type(error).__name__}: {lines[0] if lines else 'no reason given'}"]
    if faults:
        _log.warning("kernel %s is not taken for %s: %s", name, oracle.layer, faults[0])
    return Checked(module, faults[0] if faults else "")


def _differences(module: nn.Module, exact: float, oracle: Oracle, compute: torch.dtype) -> Iterator[str]:
    for dtype in (torch.float32, torch.bfloat16):
        half = torch.bfloat16 in (dtype, compute)
        # Values close to a tie may go the other way where a kernel rounds before: in a transform, or the input itself.
        flips = bool(len(oracle.layer.transforms)) or (half and dtype == torch.float32)
        for x, expected in oracle.cases(dtype):
            out = module(x[None])
            if out.shape != (1, *expected.shape) or out.dtype != dtype:
                yield f"it answers {out.dtype} {list(out.shape)} for {dtype} {[1, *x.shape]}"
                return
            share = (out[0].float() - expected).abs().amax(dim=1) / expected.abs().max().clamp(min=1e-30)
            bound = exact + (HALF if half else 0.0)
            clean = 0.0 if half or len(x) == 1 else CLEAN
            if not _within(share, bound, oracle.layer, clean=clean if flips else 1.0):
                found = f"{float(share.max()):.1e} of the largest output"
                yield f"it is off by {found} in {dtype}, {bound:.0e} is allowed".replace("torch.", "")
                return


def _within(share: Tensor, bound: float, layer: SimulatedLinear, *, clean: float) -> bool:
    """Whether at least ``clean`` of the rows obey the bound, and the others but for a few codes."""
    obeys = share <= bound
    if bool(obeys.all()) or not isinstance(layer.activations, Activations):
        return bool(obeys.all())
    near = bool((share <= bound + FLIPS / layer.activations.spec.high).all())
    return near and float(obeys.float().mean()) >= clean


def _swallowed(module: nn.Module, oracle: Oracle) -> Iterator[str]:
    """A NaN and an infinity in one row must be refused, or be seen in all of its outputs."""
    for name, bad in (("a NaN", torch.nan), ("an infinity", torch.inf)):
        for dtype in (torch.float32, torch.bfloat16):
            x = oracle.x[:3].to(dtype, copy=True)
            x[1, -1] = bad
            try:
                out = module(x)
            except NumericError:
                continue
            if bool(out[1].isfinite().any()):
                yield f"it answers {name} with a number"
                return

"""A GELU between two executed layers becomes part of the second one. Only the native kernel can take one in."""

from __future__ import annotations

import logging
import os
from functools import cache

import torch
import torch.nn.functional as F
from torch import nn

from quantlab.kernels import native
from quantlab.kernels.activations import DynamicActivations
from quantlab.kernels.native_linear import NativeLinear
from quantlab.kernels.native_rows import NativeRounding
from quantlab.models.layers import MLP
from quantlab.numerics.formats import QuantSpec

FLIPS = 0.01
"""Share of codes that may be the neighbours of those of torch's GELU."""
_log = logging.getLogger(__name__)


def fuse_gelu(network: nn.Module) -> int:
    """Move each MLP's GELU into the pass that rounds the input of its second layer, in place: one pass less in memory.

    Returns:
        How many were moved. An MLP whose second layer cannot take it stays as it is, and all do where C's GELU fails
        its trial.
    """
    found = 0
    for module in network.modules():
        if not isinstance(module, MLP) or not isinstance(module.fc2, NativeLinear):
            continue
        exact = isinstance(module.act, nn.GELU) and module.act.approximate == "none"
        if exact and right(os.environ.get(native.SWITCH, "")) and module.fc2.absorb_gelu():
            module.act = nn.Identity()
            found += 1
    return found


@cache
def right(_switch: str) -> bool:
    """Whether C's GELU, rounded, is torch's; tried once for each setting of `native.SWITCH`."""
    rounding = NativeRounding(DynamicActivations(QuantSpec(8, granularity="token"), "a trial"), (), 256)
    x = torch.linspace(-12, 12, 16 * 256).reshape(256, 16).T.contiguous()
    expected = rounding(F.gelu(x))
    rounding.gelu = True
    given = rounding(x)
    off = (given.rows(256).int() - expected.rows(256).int()).abs()
    scales = torch.allclose(given.scale, expected.scale, rtol=1e-5, atol=0)
    good = scales and int(off.max()) <= 1 and float(off.float().mean()) <= FLIPS
    if not good:
        _log.warning("GELUs stay outside the native kernel: it answers others than torch")
    return good

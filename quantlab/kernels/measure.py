"""How long a kernel takes on a layer, and of what kind the layer is. It chooses none."""

from __future__ import annotations

import time
from collections.abc import Hashable

import torch
from torch import Tensor, nn

from quantlab.kernels.reference import SimulatedLinear

TOKENS = 256
"""Rows that kernels are compared on: enough for their own speed to show, few enough for loading to stay short."""
RUNS, MOST, ENOUGH = 3, 20, 4.0
"""At least so many runs, and of a short one more, up to so many or until they took so many milliseconds together."""
HOPELESS = 3.0
"""So many times slower than the best is not tried again."""


def signature(layer: SimulatedLinear) -> tuple[Hashable, ...]:
    """What decides about speed and correctness: layers of equal signature are tried once."""
    activations = layer.activations
    rounding = None
    if activations is not None:
        fixed = getattr(activations, "scale", None) is not None
        rounding = (type(activations), activations.spec, fixed, getattr(activations, "clip", 1.0) == 1.0)
    transforms = tuple(type(transform) for transform in layer.transforms)
    rank = 0 if layer.down is None else layer.down.shape[1]
    stored = layer.packed if layer.is_packed else layer.weight
    sizes = (layer.in_features, layer.out_features, rank, layer.bias is None)
    return (*sizes, layer.spec, rounding, transforms, layer.weight_dtype, stored.device)


def family(layer: SimulatedLinear) -> Hashable:
    """What decides which kernel is the fastest: the kind of the layer and, roughly, its size."""
    _, _, *kind = signature(layer)
    return ((layer.in_features * layer.out_features).bit_length() // 4, *kind)


@torch.no_grad()
def milliseconds(module: nn.Module, x: Tensor, *, best: float = float("inf")) -> float:
    """The shortest of a few runs on ``x``; of one run where it is hopeless beside ``best``.

    What it makes at its first call is not measured.
    """
    module(x)
    taken: list[float] = []
    while len(taken) < RUNS or (sum(taken) < ENOUGH and len(taken) < MOST):
        _wait(x)
        start = time.perf_counter()
        module(x)
        _wait(x)
        taken.append((time.perf_counter() - start) * 1e3)
        if min(taken) > HOPELESS * best:
            break
    return min(taken)


def _wait(x: Tensor) -> None:
    if x.device.type == "cuda":
        torch.cuda.synchronize(x.device)

"""Where a forward pass goes: seconds of each layer and of each kind of work, timed by module. It draws nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import nn

from quantlab.calibration.running import hooked, network_device
from quantlab.engine.subject import Subject
from quantlab.kernels.activations import Activations
from quantlab.kernels.coded import Executed
from quantlab.kernels.native_rows import NativeRounding
from quantlab.kernels.reference import SimulatedConv2d, SimulatedConvTranspose2d, SimulatedLinear
from quantlab.methods.transforms import Transform
from quantlab.models import pi3x, updateformer
from quantlab.models.layers import Attention
from quantlab.models.structure import Structure

TYPES: Mapping[str, tuple[type[nn.Module], ...]] = {
    "rounding": (Activations, NativeRounding, Transform),
    "convolutions": (nn.Conv2d, nn.ConvTranspose2d, SimulatedConv2d, SimulatedConvTranspose2d),
    "linears": (nn.Linear, SimulatedLinear, Executed),
    "norms": (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d),
    "attention": (Attention, nn.MultiheadAttention, pi3x.CrossAttention, updateformer.CrossAttention),
}
"""Kind of work to the modules that do it; what a module calls is the work of what it calls."""
KINDS = (*TYPES, "heads", "rest")


class Timed(NamedTuple):
    """Seconds of one pass, all calls together; a busy machine slows all of it alike.

    Attributes:
        layers: Layer to its seconds, the rounding of its input included.
        whole: Of the pass.
        kinds: Kind of work, of `KINDS`, to its seconds; together they are the pass.
    """

    layers: dict[str, float]
    whole: float
    kinds: dict[str, float]


def layer_seconds(subject: Subject, network: nn.Module, value: Any, passes: int = 1) -> Timed:
    """Layer to the seconds it takes in a pass, and kind of work likewise, as the median of some passes.

    What no module does by itself, as a sum or the resizing of a head's maps, is the work of the head it is in, or rest.
    """
    found = [_one_pass(subject, network, value) for _ in range(passes)]
    layers = {name: median(one.layers[name] for one in found) for name in found[0].layers}
    whole = median(one.whole for one in found)
    shares = {kind: median(one.kinds[kind] / one.whole for one in found) for kind in KINDS}
    scale = whole / sum(shares.values())  # medians of shares add up to nearly one
    return Timed(layers, whole, {kind: scale * share for kind, share in shares.items()})


def kind_of(name: str, module: nn.Module, structure: Structure) -> str:
    """What a module's own work is; "" where it belongs to the module around it."""
    layer, branch = structure.layers.get(name), structure.branches.get(name)
    block = structure.blocks.get(name)
    if layer is not None:
        return "linears" if layer.operator == "linear" else "convolutions"
    if branch is not None and branch.kind == "attn":
        return "attention"
    if block is not None and block.index < 0:
        return "heads"
    return next((kind for kind, types in TYPES.items() if isinstance(module, types)), "")


class _Watch:
    """A stack of the modules that run, and what each took without those it called."""

    def __init__(self, now: Callable[[], float], structure: Structure) -> None:
        self.now, self.structure = now, structure
        self.layers: dict[str, float] = {}
        self.kinds = dict.fromkeys(KINDS, 0.0)
        self._open: list[list[float]] = []

    def start(self, *_: object) -> None:
        self._open.append([self.now(), 0.0])

    def stop(self, name: str, kind: str) -> Callable[..., None]:
        def ended(*_: object) -> None:
            begun, inside = self._open.pop()
            taken = self.now() - begun
            self.kinds[kind] += taken - inside
            if self._open:
                self._open[-1][1] += taken
            if name in self.structure.layers:
                self.layers[name] = self.layers.get(name, 0.0) + taken

        return ended


def _one_pass(subject: Subject, network: nn.Module, value: Any) -> Timed:
    watch = _Watch(_clock(network), subject.structure)
    named = network.named_modules(remove_duplicate=False)
    kinds = {name: kind_of(name, module, subject.structure) for name, module in named if name}
    known = [(name, kind) for name, kind in kinds.items() if kind]
    before, after = ([(n, watch.start) for n, _ in known], [(n, watch.stop(n, kind)) for n, kind in known])
    with torch.no_grad(), hooked(network, before, after):
        first = watch.now()
        subject.run(network, value)
        whole = watch.now() - first
    watch.kinds["rest"] = max(0.0, whole - sum(watch.kinds.values()))
    return Timed(watch.layers, whole, watch.kinds)


def _clock(network: nn.Module) -> Callable[[], float]:
    """Seconds, after what a GPU still works on."""
    if network_device(network).type != "cuda":
        return time.perf_counter

    def now() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return now

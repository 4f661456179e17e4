"""Which kernel executes each layer: tried and measured once for each kind of layer, and exchanged in place."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from quantlab.errors import DeviceError, RecipeError
from quantlab.kernels import dequantized, fp8, int4_mm, int_mm, native_linear, onednn, zen
from quantlab.kernels.check import Checked, Oracle, check
from quantlab.kernels.compensated import Wrapper
from quantlab.kernels.measure import TOKENS, family, milliseconds, signature
from quantlab.kernels.native_fusion import fuse_gelu
from quantlab.kernels.reference import SimulatedLinear
from quantlab.kernels.table import AUTO, KERNELS, ON_REQUEST, REFERENCE, Choice, Kernel
from quantlab.models.places import Places

TABLE = (native_linear, onednn, int_mm, zen, fp8, int4_mm, dequantized)
"""Imported so that their kernels are registered."""
ORDER = ("native", "onednn", "zentorch", "int_mm", "dequantized")
"""What is tried first, and taken where nothing is measured or no other is clearly faster; the reference comes last."""
CLEARLY = 1.25
"""So many times as long as the fastest a kernel may take and still be preferred: short layers are timed in noise."""
COMPUTE: Mapping[str, torch.dtype] = MappingProxyType({"float32": torch.float32, "bfloat16": torch.bfloat16})


@dataclass(frozen=True, slots=True)
class Execution:
    """How a network is executed.

    Attributes:
        layers: The choice for each quantized Linear, by the name it had in full precision.
        attention: Name of the attention's core.
        compute: What everything else is computed in.
        threads: Of torch, when that was measured.
    """

    layers: Mapping[str, Choice]
    attention: str = "torch"
    compute: str = "float32"
    threads: int = 1

    @property
    def kernels(self) -> Mapping[str, int]:
        """How many layers each kernel executes, the most first."""
        return dict(Counter(choice.kernel for choice in self.layers.values()).most_common())

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        layers = {
            name: {
                "kernel": choice.kernel,
                "skipped": dict(choice.skipped),
                "milliseconds": dict(choice.milliseconds),
            }
            for name, choice in self.layers.items()
        }
        whole = {"attention": self.attention, "compute": self.compute, "threads": self.threads}
        return {"kernels": dict(self.kernels), **whole, "layers": layers}

    def summary(self) -> str:
        """A line for a person, and one for each kernel that was not taken and why."""
        counts = ", ".join(f"{count} {kernel}" for kernel, count in self.kernels.items()) or "no layers"
        threads = f"{self.threads} thread" + "s" * (self.threads != 1)
        first = f"{counts}; attention {self.attention}, {self.compute}, {threads}"
        reasons = Counter(
            f"{kernel}: {why}" for choice in self.layers.values() for kernel, why in choice.skipped.items()
        )
        return "\n".join([first, *(f"not {why} ({count} layers)" for why, count in reasons.most_common())])


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What was found about one kernel on one kind of layer; nobody executes one that was not checked."""

    wrong: str
    milliseconds: float | None = None
    checked: bool = True


_verdicts: dict[Hashable, _Verdict] = {}
_leaders: dict[Hashable, Choice] = {}
_trying = threading.RLock()


def execute(
    network: nn.Module, *, kernel: str = AUTO, measure: bool = True, compute: str = "float32"
) -> Execution:
    """Exchange every `SimulatedLinear` of a network, in place, by the module of the kernel chosen for it.

    A kernel is tried on one layer of each kind, with that layer's own weight, before it executes any; what is found
    holds as long as the process lives. Convolutions stay as they are. An MLP's GELU moves into the layer behind it
    where that layer's kernel takes it in.

    Args:
        network: With quantized layers; a module under several names is exchanged under all of them, and what is
            executed already stays.
        kernel: A name in the table, or "auto" for the fastest. A layer that the named one refuses is simulated; that it
            can execute none of them is an error.
        measure: Off: the first of `ORDER` that is right, whatever it takes.
        compute: "float32" or "bfloat16", what the layers' inputs will be.

    Raises:
        RecipeError: There is no kernel of that name, or no such ``compute``.
        DeviceError: The named kernel can execute no layer here; the network is as it was.
    """
    if kernel != AUTO:
        _ = KERNELS[kernel]
    if compute not in COMPUTE:
        raise RecipeError(
            f"a network cannot compute in {compute!r}", remedy=f"Use one of: {', '.join(COMPUTE)}."
        )
    layers = dict(_layers(network))
    choices = {
        name: choose(layer, kernel=kernel, measure=measure, compute=COMPUTE[compute])
        for name, layer in layers.items()
    }
    if kernel != AUTO:
        _require_used(kernel, choices)
    places, chosen = Places(network), {}
    for name, choice in choices.items():
        places.put(name, KERNELS[choice.kernel].prepare(layers[name]))
        chosen[_own_name(network, name)] = choice
    fuse_gelu(network)
    return Execution(MappingProxyType(chosen), compute=compute, threads=torch.get_num_threads())


def _layers(network: nn.Module) -> Iterator[tuple[str, SimulatedLinear]]:
    """Every quantized Linear that no kernel executes yet, under one of its names."""
    for name, layer in network.named_modules():
        held = isinstance(network.get_submodule(name.rpartition(".")[0]), dequantized.DequantizedLinear)
        if name and isinstance(layer, SimulatedLinear) and not held:
            yield name, layer


def _require_used(kernel: str, choices: Mapping[str, Choice]) -> None:
    """Whoever names a kernel is not answered with the time, or the result, of another."""
    if choices and all(choice.kernel != kernel for choice in choices.values()):
        (why, _), *_ = Counter(choice.skipped[kernel] for choice in choices.values()).most_common()
        raise DeviceError(
            f"the kernel {kernel!r} can execute none of the {len(choices)} layers: {why}",
            remedy='Use kernel="auto" for the fastest that can, or kernel="reference" for the simulation.',
        )


def choose(
    layer: SimulatedLinear,
    *,
    kernel: str = AUTO,
    measure: bool = True,
    compute: torch.dtype = torch.float32,
) -> Choice:
    """Which kernel executes a layer; arguments as in `execute`. Safe from several threads.

    The layer keeps its codes in place of its weight from now on.
    """
    layer.keep_packed()
    names = candidates() if kernel == AUTO else [kernel]
    skipped = {name: why for name in names if (why := _unfit(KERNELS[name], layer))}
    measure = measure and kernel == AUTO
    with _trying:
        trial = _Trial(layer, compute, measure=measure)
        leader = _leaders.get(trial.family) if measure else None
        if leader is not None and leader.kernel not in skipped and trial.right(leader.kernel):
            return _like(leader, skipped)
        found = {name: trial.verdict(name) for name in names if name not in skipped}
    skipped |= {name: verdict.wrong for name, verdict in found.items() if verdict.wrong}
    right = {name: verdict.milliseconds for name, verdict in found.items() if not verdict.wrong}
    times = {name: taken for name, taken in right.items() if taken is not None}
    enough = CLEARLY * min(times.values(), default=0.0)
    quick = (name for name, taken in times.items() if taken <= enough and found[name].checked)
    best = next(quick, next(iter(right), REFERENCE))
    slower = {
        name: f"slower than {best}" if taken > times[best] else f"not clearly faster than {best}"
        for name, taken in times.items()
        if name != best
    }
    choice = Choice(best, MappingProxyType(skipped | slower), MappingProxyType(times))
    if measure:
        _leaders.setdefault(trial.family, choice)
    return choice


def _like(leader: Choice, skipped: Mapping[str, str]) -> Choice:
    """What was found for a layer's like, with what the layer itself does not allow."""
    times = {name: taken for name, taken in leader.milliseconds.items() if name not in skipped}
    slower = {name: leader.skipped[name] for name in times if name != leader.kernel}
    return Choice(leader.kernel, MappingProxyType({**skipped, **slower}), MappingProxyType(times))


def _own_name(network: nn.Module, name: str) -> str:
    """What the layer was called before stand-ins were hung around it or around what holds it."""
    parts, module = [], network
    for part in name.split("."):
        if part != "inner" or not isinstance(module, Wrapper):
            parts.append(part)
        module = module.get_submodule(part)
    return ".".join(parts)


def candidates() -> list[str]:
    """The kernels that nobody has to name, the likely ones first: what is hopeless beside them is seen at once."""
    known = [name for name in ORDER if name in KERNELS]
    others = [name for name in KERNELS if name not in {*ORDER, *ON_REQUEST, REFERENCE}]
    return [*known, *others, REFERENCE]


def _unfit(kernel: Kernel, layer: SimulatedLinear) -> str:
    stored = layer.packed if layer.is_packed else layer.weight
    return kernel.absent(stored.device) or kernel.refuses(layer)


class _Trial:
    """Tries kernels on a layer, unless they were tried on one of its kind; the oracle is asked only if need be."""

    def __init__(self, layer: SimulatedLinear, compute: torch.dtype, *, measure: bool) -> None:
        self.layer, self.compute, self.measure = layer, compute, measure
        self.kind = (signature(layer), compute, torch.get_num_threads() if measure else 0)
        table = tuple(id(kernel) for kernel in KERNELS.values())
        self.family = (family(layer), self.kind[1:], table)
        self._oracle: Oracle | None = None

    def right(self, name: str) -> bool:
        """Whether a kernel may execute the layer; what is fastest for its like need not be timed again."""
        timed = _verdicts.get((name, id(KERNELS[name]), self.kind))
        if timed is None or not timed.checked:
            timed = _Trial(self.layer, self.compute, measure=False).verdict(name)
        return not timed.wrong

    def verdict(self, name: str) -> _Verdict:
        """Of a kernel that is here and refuses nothing about the layer."""
        key = (name, id(KERNELS[name]), self.kind)
        if key not in _verdicts:
            _verdicts[key] = self._tried(name, KERNELS[name])
        return _verdicts[key]

    def _tried(self, name: str, kernel: Kernel) -> _Verdict:
        self._oracle = self._oracle or Oracle(self.layer)
        best = min(self._times(), default=float("inf"))
        taken = self._taken(kernel, best) if best < float("inf") else None
        if taken is not None and CLEARLY * taken >= best:
            return _Verdict("", taken, checked=False)  # one that is right takes no longer, or not clearly so
        own = (
            Checked(self.layer, "") if name == REFERENCE else check(name, kernel, self._oracle, self.compute)
        )
        if own.wrong or own.module is None or not self.measure:
            return _Verdict(own.wrong)
        return _Verdict("", milliseconds(own.module, self._tokens(), best=best))

    def _taken(self, kernel: Kernel, best: float) -> float | None:
        """How long a kernel takes that nobody has checked; None where it fails, which the check will tell."""
        try:
            module = kernel.prepare(self.layer)
            return milliseconds(module, self._tokens(), best=best)
        except Exception:  # noqa: BLE001 - whatever a kernel raises
            return None

    def _tokens(self) -> Tensor:
        self._oracle = self._oracle or Oracle(self.layer)
        return self._oracle.tokens(TOKENS).to(self.compute)

    def _times(self) -> Iterator[float]:
        """Of the kernels that are right."""
        for name in KERNELS:
            verdict = _verdicts.get((name, id(KERNELS[name]), self.kind))
            if verdict is not None and verdict.checked and verdict.milliseconds is not None:
                yield verdict.milliseconds

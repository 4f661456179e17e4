"""Where the time of a whole forward goes: linears, rounding, attention, heads and the rest. It compares nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch import nn

from quantlab.bench.speed.clock import Clock, Run, Timing
from quantlab.bench.speed.machine import made
from quantlab.bench.speed.ours import Garage
from quantlab.bench.speed.records import Line, Record
from quantlab.errors import QuantLabError
from quantlab.models.layers import Attention, Block, LayerNorm, LayerScale
from quantlab.models.structure import describe

if TYPE_CHECKING:
    from quantlab.bench.speed.child import Order

HEADS, REST = "heads", "rest"
PARTS = ("linears", "rounding", "attention", "norms", "element-wise", HEADS, REST)
"""Attention without its linears and norms, but with its rotary position; linears with whatever rounding is fused."""


def profiled(order: Order, garage: Garage) -> Record:
    """The shares of every way to run a whole network, each run once."""
    layers = [
        name for name, info in describe(garage.subject.module).layers.items() if info.operator == "linear"
    ]
    lines = []
    for contender in order.contenders:
        try:
            run, facts = garage.make(contender)
            network = garage.networks[contender.name]
            seconds = shares(network, run, map(network.get_submodule, layers))
            lines.append(Line(contender.name, Timing((sum(seconds.values()),)), {**facts, "shares": seconds}))
        except (QuantLabError, ImportError) as error:
            lines.append(Line(contender.name, Timing(reason=str(error))))
    return Record(
        order.group, order.digest, tuple(lines), made(order.command, order.group.threads, order.group.device)
    )


def shares(
    network: nn.Module, run: Run, layers: Iterable[nn.Module], clock: Clock | None = None
) -> dict[str, float]:
    """Seconds of processor time by part, of one run.

    Args:
        network: What ``run`` calls.
        run: A forward.
        layers: What now stands for its linears.
        clock: Another than the system's.
    """
    stack = _Stack((clock or Clock()).cpu)
    own = {id(module) for module in layers}
    with _hooked(network, own, stack):
        stack.enter(REST)
        run()
        stack.leave()
    return stack.seconds


class _Stack:
    """The time between two events belongs to the part that was entered last; nothing inside a head is told apart."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._clock, self._parts, self._since = clock, list[str](), 0.0

    def enter(self, part: str) -> None:
        self._mark()
        self._parts.append(HEADS if HEADS in self._parts else part)

    def leave(self) -> None:
        self._mark()
        self._parts.pop()

    def _mark(self) -> None:
        now = self._clock()
        if self._parts:
            self.seconds[self._parts[-1]] += now - self._since
        self._since = now


@contextmanager
def _hooked(network: nn.Module, layers: set[int], stack: _Stack) -> Iterator[None]:
    handles = []
    try:
        for name, module in network.named_modules():
            part = _part(name, module, layers)
            if part:
                handles.append(module.register_forward_pre_hook(lambda *_, part=part: stack.enter(part)))
                handles.append(module.register_forward_hook(lambda *_: stack.leave()))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _part(name: str, module: nn.Module, layers: set[int]) -> str:
    """Empty for a module whose time belongs to the one around it."""
    if id(module) in layers:
        return "linears"
    if name.endswith("_head") and "." not in name:
        return HEADS
    if "Rounding" in type(module).__name__ or "Activations" in type(module).__name__:
        return "rounding"
    parts = {Attention: "attention", LayerNorm: "norms", Block: "element-wise", LayerScale: "element-wise"}
    return next((part for kind, part in parts.items() if isinstance(module, kind)), "")

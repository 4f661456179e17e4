"""Goes through a network stage by stage with all calibration scenes at once. What is made of a stage is elsewhere.

A stage is an outermost block; a head is one stage with all the blocks in it, so that blocks which a head calls several
times are seen in all calls. Memory holds the running activations of the scenes and whatever the visitor of one stage
needs, however deep the network is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quantlab.calibration.layer_data import LayerData
from quantlab.calibration.observe import observe
from quantlab.calibration.running import memory_errors
from quantlab.calibration.samples import ROWS, SampleCollector
from quantlab.engine.compensate import LAYERS
from quantlab.engine.lockstep import Meet, run_in_lockstep
from quantlab.jobs import Job, check, step
from quantlab.models.structure import LayerInfo, Structure, TokenLayout
from quantlab.models.tokens import PATCH

Predict = Callable[[nn.Module, Any], Any]
GRAM_ROWS = 1024
"""Tokens whose products are summed in float32 before they enter the float64 sum."""


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """The arguments of one call of a stage; they belong to the running network and must not be changed."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def on(self, block: nn.Module) -> Any:
        """What ``block`` makes of them."""
        return block(*self.args, **self.kwargs)


@dataclass(frozen=True, slots=True, eq=False)
class StageCalls:
    """What reaches one stage.

    Attributes:
        stage: Name of the stage.
        full: Of each scene the calls in the full-precision run; empty for a scene that does not reach the stage.
        quantized: The same in the run of the quantized network; None where only full precision runs.
    """

    stage: str
    full: list[list[Call]]
    quantized: list[list[Call]] | None


Visit = Callable[[StageCalls], None]


def stages_of(structure: Structure) -> dict[str, tuple[str, ...]]:
    """Every stage with the layers in it, its nested blocks included; both in execution order as far as it is known."""
    outer = [
        name
        for name in structure.blocks
        if not any(name.startswith(f"{other}.") for other in structure.blocks)
    ]
    return {
        stage: tuple(name for name in structure.layers if name.startswith(f"{stage}.")) for stage in outer
    }


def walk(
    reference: nn.Module,
    network: nn.Module,
    stages: Collection[str],
    inputs: Sequence[Any],
    run: Predict,
    visit: Visit,
    *,
    quantized_inputs: bool,
    job: Job | None = None,
) -> tuple[str, ...]:
    """Run all scenes in lockstep and stop before each stage, where ``visit`` sees what reaches it.

    A visit may exchange modules of that stage in ``network``; the scenes then go on through what hangs there. No hook
    of the walk fires in a visit. The runs end before the last stage. A stage that a network calls several times is
    visited before its first call, with that call only.

    Args:
        reference: In full precision; always runs.
        network: Its quantized twin; runs only for ``quantized_inputs``.
        stages: Names of the stages to visit, in any order.
        inputs: Calibration scenes.
        run: ``run(network, input)``.
        visit: Called once a stage, in the caller's thread, in execution order.
        quantized_inputs: Whether the visitor also sees what the quantized network brings to the stage.
        job: Checked before every layer, told of every stage.

    Returns:
        The stages visited; those that no scene reached are missing.

    Raises:
        JobCancelledError: The job was cancelled.
        DeviceError: Memory ran out.
    """
    if not stages:
        return ()
    networks = [reference, network] if quantized_inputs else [reference]
    walker = _Walker(networks, stages, len(inputs), visit, job)

    def task(which: int, scene: int) -> Callable[[Meet], None]:
        return lambda meet: walker.run(which, scene, meet, lambda: run(networks[which], inputs[scene]))

    tasks = [task(which, scene) for scene in range(len(inputs)) for which in range(len(networks))]
    with walker.hooked(), memory_errors("calibration", list(inputs)):
        run_in_lockstep(tasks, walker.decide)
    return tuple(walker.visited)


def collect(
    network: nn.Module,
    structure: Structure,
    calls: StageCalls,
    layers: Collection[str],
    layouts: Sequence[TokenLayout | None] = (),
    *,
    quantized_inputs: bool = False,
    grams: bool = True,
    patches_only: Collection[str] = (),
    rows: int = ROWS,
    job: Job | None = None,
) -> dict[str, LayerData]:
    """Run one stage of the full-precision network on recorded calls, and keep what its Linears receive.

    Args:
        network: In full precision; hooked while this runs.
        structure: Of the network.
        calls: What `walk` recorded.
        layers: Names of the Linears to look at; others are left out.
        layouts: Token layout of each scene.
        quantized_inputs: Feed it what the quantized network brought to the stage.
        grams: Also sum x xᵀ over all tokens, ``8 * in * in`` bytes a layer.
        patches_only: Of these layers nothing but patch tokens is seen.
        rows: Rows kept a layer.
        job: Checked before every layer.

    Returns:
        Data by layer; a layer that did not run has no rows.

    Raises:
        NumericError: A layer received a NaN or an infinity; it is named.
    """
    wanted = [name for name in layers if structure.layers[name].operator == "linear"]
    scenes = calls.quantized if quantized_inputs and calls.quantized is not None else calls.full
    block = network.get_submodule(calls.stage)
    samples, sums = SampleCollector(rows, layers=frozenset(wanted)), _Grams()
    watch = _Sieve([samples, sums] if grams else [samples], frozenset(patches_only))
    observe(
        network,
        structure,
        lambda given: [call.on(block) for call in given],
        scenes,
        layouts,
        observers=[watch],
        layers=wanted,
        job=job,
    )
    kept, device = samples.samples(), next(network.parameters()).device
    found: dict[str, LayerData] = {}
    for name in wanted:
        if name not in kept:
            found[name] = unseen(structure.layers[name], device)
            continue
        gram, tokens = sums.of(name)
        found[name] = LayerData(kept.rows(name), kept.absmax(name), kept.kinds(name), gram, tokens)
    return found


def unseen(info: LayerInfo, device: torch.device) -> LayerData:
    """What is known of a layer that never ran."""
    nothing = torch.zeros(0, info.in_features, device=device)
    return LayerData(nothing, torch.zeros(info.in_features, device=device), np.zeros(0, dtype=np.uint8))


class _Enough(Exception):  # noqa: N818 - not an error: the last stage was visited
    """Leaves a forward pass."""


class _Walker:
    """The hooks and their common state; a hook knows its scene by the thread it is called in."""

    def __init__(
        self,
        networks: Sequence[nn.Module],
        stages: Collection[str],
        scenes: int,
        visit: Visit,
        job: Job | None,
    ) -> None:
        self._networks, self._stages, self._scenes = networks, frozenset(stages), scenes
        self._visit, self._job = visit, job
        self._running: dict[int, tuple[int, int, Meet]] = {}
        self.visited: list[str] = []

    def run(self, which: int, scene: int, meet: Meet, forward: Callable[[], object]) -> None:
        """One scene through one network, from its own thread."""
        self._running[threading.get_ident()] = (which, scene, meet)
        try:
            with torch.no_grad():
                forward()
        except _Enough:
            pass
        finally:
            del self._running[threading.get_ident()]

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """Watch the stages of all networks while the context lasts."""
        with ExitStack() as stack:
            for network in self._networks:
                for module in network.modules() if self._job else ():
                    if isinstance(module, LAYERS):
                        stack.callback(module.register_forward_pre_hook(self._check).remove)
                for name in self._stages:
                    hook = network.get_submodule(name).register_forward_pre_hook(
                        self._arrive(name), with_kwargs=True
                    )
                    stack.callback(hook.remove)
            yield

    def decide(self, point: Any, arrived: list[tuple[int, int, Call]]) -> None:
        """Visit one stage with what all scenes brought there."""
        if point in self.visited:
            return
        calls: list[list[list[Call]]] = [[[] for _ in range(self._scenes)] for _ in self._networks]
        for which, scene, call in arrived:
            calls[which][scene].append(call)
        step(self._job, len(self.visited), len(self._stages), f"calibrate {point}")
        self._visit(StageCalls(point, calls[0], calls[1] if len(calls) > 1 else None))
        self.visited.append(point)

    def _check(self, *_: object) -> None:
        check(self._job)

    def _arrive(self, name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            running = self._running.get(threading.get_ident())
            if running is None or name in self.visited:
                return
            which, scene, meet = running
            meet(name, (which, scene, Call(args, kwargs)))
            if len(self.visited) == len(self._stages):
                raise _Enough

        return hook


class _Sieve:
    """Shows layers to observers, of some layers the patch tokens only."""

    def __init__(self, observers: Sequence[Any], patches_only: Collection[str]) -> None:
        self._observers, self._patches_only = observers, patches_only

    def see(self, info: LayerInfo, x: Tensor, kinds: NDArray[np.uint8], scene: int) -> None:
        table = x.detach().reshape(-1, x.shape[-1])
        kinds = np.resize(kinds, len(table))
        if info.name in self._patches_only and (kinds == PATCH).any():
            # Where a layer sees no patch at all, as in a camera head, there is nothing to leave out.
            kept = np.flatnonzero(kinds == PATCH)
            table, kinds = table[torch.from_numpy(kept).to(table.device)], kinds[kept]
        for observer in self._observers:
            observer.see(info, table, kinds, scene)


class _Grams:
    """Sums x xᵀ of each layer, in float64 over float32 products."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._tokens: dict[str, int] = {}

    def see(self, info: LayerInfo, x: Tensor, kinds: NDArray[np.uint8], scene: int) -> None:
        del kinds, scene
        width = x.shape[-1]
        total = self._sums.setdefault(
            info.name, torch.zeros(width, width, dtype=torch.float64, device=x.device)
        )
        for chunk in x.split(GRAM_ROWS):
            rows = chunk if chunk.dtype == torch.float64 else chunk.float()
            products = rows.T @ rows
            if not bool(products.diagonal().isfinite().all()):  # squares of 1e20 and more
                products = rows.double().T @ rows.double()
            total += products
        self._tokens[info.name] = self._tokens.get(info.name, 0) + len(x)

    def of(self, name: str) -> tuple[Tensor | None, int]:
        return self._sums.get(name), self._tokens.get(name, 0)

"""Measures the tail-relative error of each layer and branch, quantized alone. It decides nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Container, Hashable, Iterable, MutableMapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from quantlab.calibration.running import hooked, memory_errors, present, scene_name, watched
from quantlab.engine.diagnosis import Diagnosis
from quantlab.engine.quantize import Quantizer
from quantlab.engine.replay import BlockCache
from quantlab.engine.subject import Subject
from quantlab.errors import SceneError
from quantlab.jobs import Job, check, part
from quantlab.models.structure import BranchInfo, Structure
from quantlab.numerics.finite import require_finite
from quantlab.numerics.tails import largest

JOINED = 1 << 16
"""Outputs of at most so many values are joined over the calls of a scene."""
Hook = Callable[..., Any]
Known = MutableMapping[tuple[str, Hashable, float], float]


def diagnose(
    subject: Subject,
    quantizer: Quantizer,
    inputs: Sequence[Any],
    *,
    fraction: float = 0.01,
    trajectory: bool = False,
    scenes: Sequence[str] = (),
    known: Known | None = None,
    cache: BlockCache | None = None,
    job: Job | None = None,
) -> Diagnosis:
    """Run the full-precision network once a scene, and each quantized layer and branch on what its twin sees there.

    A branch is its gain (where it has one) after attention or MLP after norm, with the correction that the recipe put
    in place. Errors are of all outputs of a scene together, then the mean over scenes.

    Args:
        subject: How the network is run.
        quantizer: With the recipe to judge applied.
        inputs: What ``subject.prepare`` gave, one a scene.
        fraction: Share of output entries that are the tail (rho).
        trajectory: Also run the quantized network, and compare each branch on the inputs it really gets there.
        scenes: Names of the inputs.
        known: Errors by name, state and fraction from earlier calls on these inputs; what is there is not measured
            again, and what is measured is added.
        cache: Answers the full-precision blocks it knows in which nothing is measured.
        job: Checked before every layer and comparison, told of every block.

    Raises:
        SceneError: There is no input.
        NumericError: A quantized layer or branch gives a NaN or an infinity; it is named.
    """
    if not len(inputs):
        raise SceneError("there is no scene to diagnose", place="diagnosis", remedy="Give at least one.")
    start = time.perf_counter()
    known = {} if known is None else known
    names = (*quantizer.structure.layers, *quantizer.structure.branches)
    keys = {
        name: (name, quantizer.state(name), fraction) for name in names if quantizer.state(name) is not None
    }
    missing = frozenset(name for name, key in keys.items() if key not in known)
    named = [(scene_name(scenes, index), value) for index, value in enumerate(inputs)]
    halves = 2 if trajectory else 1
    if missing:
        meter = _Meter(quantizer, fraction, job, only=missing)
        idle = _idle(quantizer.structure, missing)
        answered = (
            partial(cache.installed, quantizer.reference, idle, stores=False)
            if cache is not None
            else nullcontext
        )
        _watch(subject, quantizer.reference, meter, named, part(job, 0, halves), answered)
        known.update({keys[name]: error for name, error in meter.means(missing).items()})
    errors = {name: known[keys[name]] if name in keys else 0.0 for name in names}
    along: dict[str, float] | None = None
    if trajectory:
        other = _Meter(quantizer, fraction, job, along=True)
        _watch(subject, quantizer.network, other, named, part(job, 1, halves))
        along = other.means(quantizer.structure.branches)
    return Diagnosis(
        layers={name: errors[name] for name in quantizer.structure.layers},
        branches={name: errors[name] for name in quantizer.structure.branches},
        trajectory_branches=along,
        fraction=fraction,
        scenes=tuple(name for name, _ in named),
        seconds=time.perf_counter() - start,
    )


def _idle(structure: Structure, measured: Iterable[str]) -> dict[str, Hashable]:
    """The blocks that need not run for the sake of what is in them, with the state of full precision."""
    layers, branches = structure.layers, structure.branches
    busy = {layers[name].block if name in layers else branches[name].block for name in measured}
    return {
        block: ()
        for block in structure.blocks
        if not any(name == block or name.startswith(f"{block}.") for name in busy)
    }


def _watch(
    subject: Subject,
    network: nn.Module,
    meter: _Meter,
    named: Sequence[tuple[str, Any]],
    job: Job | None,
    answered: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> None:
    """Run the named inputs under the meter's hooks; ``answered`` is entered around each of them."""
    for index, (name, value) in enumerate(named):
        section = part(job, index, len(named))
        layers = [
            (layer, partial(_heard, section)) for layer in present(meter.other, subject.structure.layers)
        ]
        with (
            torch.no_grad(),
            answered(),
            hooked(network, meter.before, meter.after),
            hooked(meter.other, layers),
            watched(network, subject.structure, section, name),
            memory_errors("the diagnosis", value),
        ):
            subject.run(network, value)
        meter.end_scene()


def _heard(job: Job | None, *_: object) -> None:
    check(job)


class _Meter:
    """The hooks on one network and the errors they found.

    Args:
        quantizer: Holds both networks.
        fraction: Share of entries that are the tail.
        job: Checked before each comparison.
        along: Hook the quantized network and compare branches only, instead of the full-precision one.
        only: Names to measure; None measures all.
    """

    def __init__(
        self,
        quantizer: Quantizer,
        fraction: float,
        job: Job | None,
        *,
        along: bool = False,
        only: Container[str] | None = None,
    ) -> None:
        self._fraction, self._job, self._along = fraction, job, along
        self.other = quantizer.reference if along else quantizer.network
        self._tails: dict[str, _Tail] = {}
        self._ratios: dict[str, list[float]] = {}
        self._calls: dict[str, _Call] = {}
        self.before: list[tuple[str, Hook]] = []
        self.after: list[tuple[str, Hook]] = []
        for info in _touched(quantizer):
            if only is None or info.name in only:
                self._attach(info)
        if not along:
            for name in quantizer.structure.layers:
                layer = quantizer.layer(name)
                if layer is not None and (only is None or name in only):
                    self.after.append((name, self._layer_hook(name, layer)))

    def means(self, names: Iterable[str]) -> dict[str, float]:
        """Mean over the scenes in which it ran; 0 for what the recipe leaves alone."""
        return {name: sum(found) / len(found) if (found := self._ratios.get(name)) else 0.0 for name in names}

    def end_scene(self) -> None:
        """Turn what was gathered of one scene into errors."""
        for name, tail in self._tails.items():
            self._ratios.setdefault(name, []).append(tail.error())
        self._tails.clear()
        self._calls.clear()

    def _attach(self, info: BranchInfo) -> None:
        """Note the branch's input where its norm begins, its arguments where it is called, and compare at its end."""

        def note_input(_module: nn.Module, args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
            self._calls[info.name] = _Call(args[0] if args else None)

        def note_arguments(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            call = self._calls.setdefault(info.name, _Call())
            call.args, call.kwargs = args, kwargs
            if call.x is None and args:
                call.x = args[0]

        def compare(_module: nn.Module, _args: object, _kwargs: object, output: object) -> None:
            check(self._job)
            call, ours = self._calls.pop(info.name, None), _tensor(output)
            if call is None or not isinstance(call.x, Tensor) or ours is None:
                return
            theirs = _tensor(_branch_output(self.other, info, call))
            if theirs is not None and theirs.shape == ours.shape:
                self._take(info.name, *((theirs, ours) if self._along else (ours, theirs)))

        if info.norm:
            self.before.append((info.norm, note_input))
        self.before.append((info.name, note_arguments))
        self.after.append((info.gamma or info.name, compare))

    def _layer_hook(self, name: str, quantized: nn.Module) -> Hook:
        def compare(
            _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor
        ) -> None:
            check(self._job)
            self._take(name, output, quantized(*args, **kwargs))

        return compare

    def _take(self, name: str, y: Tensor, y_hat: Tensor) -> None:
        if not y.numel():
            return  # no token came here, and so no error
        if not (bool(y.sum().isfinite()) and bool(y_hat.sum().isfinite())):
            require_finite(y, place=f"full-precision output of {name}")
            require_finite(y_hat, place=f"quantized output of {name}")
        self._tails.setdefault(name, _Tail(self._fraction)).add(y, y_hat)


@dataclass(slots=True)
class _Call:
    """How a branch was called."""

    x: Any = None
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class _Tail:
    """Errors on the largest outputs of one scene, over all calls of one layer or branch.

    Small outputs (of a head that is iterated) are joined before the largest are chosen; large ones (of a head that
    takes its frames in chunks) are judged chunk by chunk, so that no scene's activations are held.
    """

    fraction: float
    error_energy: float = 0.0
    energy: float = 0.0
    held: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def add(self, y: Tensor, y_hat: Tensor) -> None:
        """Take the outputs of one call in."""
        if y.numel() <= JOINED:
            self.held.append((y.detach().flatten(), y_hat.detach().flatten()))
        else:
            self._sum(y.detach().flatten(), y_hat.detach().flatten())

    def error(self) -> float:
        """The ratio."""
        if self.held:
            self._sum(*(torch.cat(side) for side in zip(*self.held, strict=True)))
            self.held.clear()
        return self.error_energy / (self.energy + 1e-8)

    def _sum(self, y: Tensor, y_hat: Tensor) -> None:
        count = max(1, math.floor(self.fraction * y.numel()))
        tail = largest(y, count)
        exact = y[tail].double()
        self.energy += float(exact.square().sum())
        self.error_energy += float((exact - y_hat[tail].double()).square().sum())


def _touched(quantizer: Quantizer) -> list[BranchInfo]:
    """Branches that compute something else under the recipe."""
    return [info for info in quantizer.structure.branches.values() if quantizer.state(info.name) is not None]


def _branch_output(network: nn.Module, info: BranchInfo, call: _Call) -> object:
    """The branch of ``network`` on the residual-stream input of the other network's."""
    entry = network.get_submodule(info.norm)(call.x) if info.norm else call.x
    output = network.get_submodule(info.name)(entry, *call.args[1:], **call.kwargs)
    return network.get_submodule(info.gamma)(output) if info.gamma else output


def _tensor(output: object) -> Tensor | None:
    first = output[0] if isinstance(output, tuple) and output else output
    return first if isinstance(first, Tensor) else None

"""Measures a recipe as this machine executes it: time, memory, kernels. It quantizes nothing and draws nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from quantlab.calibration.running import network_device
from quantlab.engine.evaluate import relative_errors
from quantlab.engine.executable import simulated_layers
from quantlab.engine.execution import execute
from quantlab.engine.machine import processor
from quantlab.engine.measurement import Measurement
from quantlab.engine.quantize import Quantizer
from quantlab.engine.spent import layer_seconds
from quantlab.engine.subject import Subject
from quantlab.engine.twin import twin
from quantlab.engine.watch import watched
from quantlab.jobs import Job, between, step
from quantlab.kernels import choose
from quantlab.kernels.attention import use_attention
from quantlab.kernels.compute import lower
from quantlab.kernels.table import Choice

RUNS = 7
"""Passes a median is of, at most."""
SECONDS = 5.0
"""So long the passes after the first may take."""
LONG = 5.0
"""A pass that takes longer is run once, and followed layer by layer, so that it can be stopped."""
FULL, EXECUTED, MIXED = "full precision", "as executed", "bfloat16"


def measure(
    subject: Subject,
    quantizer: Quantizer,
    scene: Any,
    name: str,
    *,
    compute: str = "float32",
    job: Job | None = None,
) -> Measurement:
    """Execute the quantized twin with real kernels, and time it against full precision in turns.

    Neither twin is changed: copies of the module trees are run, which share the weights that stay.

    Args:
        subject: How networks are run.
        quantizer: Brought to the recipe in question.
        scene: What ``subject.prepare`` takes.
        name: What the scene is called.
        compute: "float32", or "bfloat16" for everything between the quantized layers, its attention included.
        job: Follows and stops it.

    Raises:
        RecipeError: There is no such ``compute``, or the network cannot be lowered to it.
        NumericError: A network gives no finite numbers.
        DeviceError: Memory ran out.
        JobCancelledError: The job was cancelled.
    """
    step(job, 0, 10, "choosing kernels")
    value, reference, executed = subject.prepare(scene), quantizer.reference, twin(quantizer.network)
    chosen = choose.execute(executed, compute=compute)
    lower(executed, compute)
    attention = use_attention(executed, compute=compute)
    rivals = [_Rival(FULL, reference), _Rival(EXECUTED, executed)]
    if not _is_mixed(reference):
        rivals.append(_Rival(MIXED, _mixed(reference)))
    runs = _race(subject, value, rivals, between(job, 0.1, 0.8))
    step(job, 8, 10, "timing layers")
    timed, full_timed = (layer_seconds(subject, network, value, runs) for network in (executed, reference))
    full, own, *mixed = rivals
    return Measurement(
        seconds=median(own.seconds),
        ratios=_ratios(full, own),
        full_seconds=median(full.seconds),
        mixed_seconds=median(mixed[0].seconds) if mixed else None,
        runs=runs,
        fastest=min(own.seconds),
        slowest=max(own.seconds),
        bytes=held_bytes(executed),
        full_bytes=held_bytes(reference),
        peak_bytes=own.peak,
        full_peak_bytes=full.peak,
        kernels=chosen.kernels,
        chosen={layer: one.kernel for layer, one in chosen.layers.items()},
        skipped=_skipped(chosen.layers.values()),
        layers=timed.layers,
        full_layers=full_timed.layers,
        timed_seconds=timed.whole,
        kinds=timed.kinds,
        full_kinds=full_timed.kinds,
        blocks=own.blocks,
        simulated=simulated_layers(quantizer.plan, subject.structure),
        errors=relative_errors(full.outputs, own.outputs),
        attention=attention,
        compute=compute,
        threads=torch.get_num_threads(),
        machine=_machine(executed),
        date=datetime.now(UTC).replace(microsecond=0).isoformat(),
        scene=name,
    )


def held_bytes(network: nn.Module) -> int:
    """Memory of everything a network holds, what kernels made of its weights included; what is shared counts once."""
    seen: dict[int, int] = {}
    for module in network.modules():
        made = vars(module).get("_made")
        for tensor in (
            *module.parameters(recurse=False),
            *module.buffers(recurse=False),
            *_tensors(made),
        ):
            size = tensor.numel() * tensor.element_size()
            key = id(tensor) if tensor.is_mkldnn else tensor.untyped_storage().data_ptr()
            seen[key] = max(seen.get(key, 0), size)
    return sum(seen.values())


@dataclass(slots=True)
class _Rival:
    """One network in the race."""

    name: str
    network: nn.Module
    seconds: list[float] = field(default_factory=list)
    worked: list[float | None] = field(default_factory=list)
    blocks: Mapping[str, float] = field(default_factory=dict)
    peak: int | None = None
    outputs: Mapping[str, Tensor] = field(default_factory=dict)

    def run(self, subject: Subject, value: Any, job: Job | None = None) -> None:
        """One pass more; a job looks in at every layer, which takes time too."""
        run = execute(subject, self.network, value, job=job, text=self.name)
        self.seconds.append(run.seconds)
        self.worked.append(run.worked)
        self.blocks, self.outputs = run.durations(), run.outputs


def _race(subject: Subject, value: Any, rivals: list[_Rival], job: Job | None) -> int:
    """Run networks in turns, so that what else the machine does slows all of them alike; the passes of each median.

    A first pass is left out, because it makes what later ones find; of a long one only what is executed runs again.
    Each round begins with another network: what telling of a round sets off would slow the same one every time.
    """
    for place, rival in enumerate(rivals):
        with watched() as watch:
            rival.run(subject, value, between(job, place / 6, (place + 1) / 6))
        rival.peak = watch.added if network_device(rival.network).type == "cpu" else None
    first = sum(rival.seconds[0] for rival in rivals)
    is_long = max(rival.seconds[0] for rival in rivals) > LONG
    again = [rival for rival in rivals if rival.name == EXECUTED] if is_long else rivals
    runs = 1 if is_long else max(1, min(RUNS, int(SECONDS / max(first, 1e-9))))
    for turn in range(runs):
        section = between(job, 0.5 + turn / (2 * runs), 0.5 + (turn + 1) / (2 * runs))
        step(section, 0, 1, f"pass {turn + 1} of {runs}")
        begins = turn % len(again)
        for rival in again[begins:] + again[:begins]:
            rival.run(subject, value, section if is_long else None)
    for rival in again:
        del rival.seconds[0], rival.worked[0]
    return runs


def _ratios(full: _Rival, own: _Rival) -> tuple[float, ...]:
    """Round by round, how many times as fast; with more threads than one the time of this one is not all of it."""
    worked = [(a, b) for a, b in zip(full.worked, own.worked, strict=True) if a and b]
    if torch.get_num_threads() > 1 or len(worked) < len(own.seconds):
        worked = list(zip(full.seconds, own.seconds, strict=True))
    return tuple(whole / part for whole, part in worked)


def _is_mixed(network: nn.Module) -> bool:
    return getattr(network, "compute_dtype", torch.float32) != torch.float32


def _mixed(network: nn.Module) -> nn.Module:
    """A copy that computes in bfloat16 as published; of a bare module everything that autocast reaches."""
    copied = twin(network)
    if hasattr(copied, "compute_dtype"):
        copied.compute_dtype = torch.bfloat16  # type: ignore[assignment]
        return copied
    forward, kind = copied.forward, network_device(copied).type

    def lowered(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast(kind, torch.bfloat16):
            return forward(*args, **kwargs)

    copied.__dict__["forward"] = lowered
    return copied


def _skipped(choices: Iterable[Choice]) -> dict[str, str]:
    """Kernel to the first reason that is no matter of speed."""
    reasons: dict[str, str] = {}
    for choice in choices:
        for kernel, why in choice.skipped.items():
            if kernel not in choice.milliseconds:
                reasons.setdefault(kernel, why)
    return reasons


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def _machine(network: nn.Module) -> str:
    device = network_device(network)
    return str(torch.cuda.get_device_name(device)) if device.type == "cuda" else processor()

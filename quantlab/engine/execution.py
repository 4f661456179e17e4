"""One scene through one network: outputs, prediction, time, watched by a job, helped by the block cache. No scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from quantlab.calibration.running import (
    all_finite,
    hooked,
    memory_errors,
    present,
    require_finite_run,
    watched,
)
from quantlab.engine.replay import BlockCache
from quantlab.engine.subject import Subject
from quantlab.errors import NumericError
from quantlab.jobs import Job, check
from quantlab.models.prediction import Prediction
from quantlab.models.structure import Structure


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """What one network made of one scene.

    Attributes:
        value: The network's input.
        outputs: Output tensors by name.
        prediction: Read from the outputs; None where the network is no reconstruction.
        seconds: Time of the forward pass.
        begun: Seconds from its start to the first call of each block that ran.
        replayed: Blocks that were answered from memory; where there are any, ``seconds`` is no latency.
        worked: Of ``seconds``, those in which this thread had a processor: on a machine that is busy otherwise far
            fewer. None where the time was another's: a GPU's, or of several scenes at once.
    """

    value: Any
    outputs: Mapping[str, Tensor]
    prediction: Prediction | None
    seconds: float
    begun: Mapping[str, float] = field(default_factory=dict)
    replayed: int = 0
    worked: float | None = None

    def durations(self) -> dict[str, float]:
        """Seconds from each block to the next (of the last: to the end), what lies between them included."""
        order = sorted(self.begun, key=self.begun.__getitem__)
        begun = [self.begun[name] for name in order]
        ends = [*begun, self.seconds][1:]
        return {name: end - start for name, start, end in zip(order, begun, ends, strict=True)}


def execute(
    subject: Subject,
    network: nn.Module,
    value: Any,
    *,
    cache: BlockCache | None = None,
    states: Mapping[str, Hashable] | None = None,
    answers: bool = True,
    stores: bool = True,
    job: Job | None = None,
    text: str = "",
) -> Run:
    """Run a network on one input.

    Args:
        subject: How it is run and read.
        network: The subject's own, or a quantized twin of it.
        value: What ``subject.prepare`` gave.
        cache: Answers blocks whose state and inputs it knows.
        states: As in `BlockCache.installed`, like ``answers`` and ``stores``.
        answers: Whether blocks may be skipped.
        stores: Whether what runs is remembered.
        job: Checked before every layer, told of every block.
        text: Begins the job's reports.

    Raises:
        NumericError: An output is not finite; the first layer that made or received it is named.
        DeviceError: Memory ran out.
        JobCancelledError: The job was cancelled; the network is as before.
    """
    check(job)
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(memory_errors("the network", value))
        stack.enter_context(watched(network, subject.structure, job, text))
        if cache is not None and states is not None:
            stack.enter_context(cache.installed(network, states, answers=answers, stores=stores))
        clock = stack.enter_context(clocked(network, subject.structure))
        outputs = subject.run(network, value)
        wait(outputs)
        seconds, worked = clock.seconds(), clock.worked()
        replayed = len(cache.skipped) if cache is not None else 0
    if not all_finite(outputs):
        with watched(network, subject.structure, job, "looking for the first layer that is not finite"):
            require_finite_run(network, subject.structure, lambda: subject.run(network, value))
        raise NumericError(
            "the network's output holds a NaN or an infinity",
            place=subject.name,
            remedy="Keep the layers before it in full precision.",
        )
    here = all(output.device.type == "cpu" for output in outputs.values())
    run = finished(subject, value, outputs, seconds, clock.begun, replayed)
    return replace(run, worked=worked) if here else run


def finished(
    subject: Subject,
    value: Any,
    outputs: Mapping[str, Tensor],
    seconds: float,
    begun: Mapping[str, float],
    replayed: int = 0,
) -> Run:
    """The record of a forward pass whose outputs are finite."""
    prediction = subject.decode(outputs, value)
    return Run(value, outputs, prediction, seconds, begun, replayed)


class Clock:
    """Time since its start, and when blocks began."""

    def __init__(self) -> None:
        self._start, self._worked = time.perf_counter(), time.thread_time()
        self.begun: dict[str, float] = {}

    def seconds(self) -> float:
        """Since the start, what was left out apart."""
        return time.perf_counter() - self._start

    def worked(self) -> float:
        """Since the start, what the machine did for others apart."""
        return time.thread_time() - self._worked

    def leave_out(self, seconds: float) -> None:
        """Time that went into looking, not into the network."""
        self._start += seconds

    def mark(self, name: str) -> None:
        """A block begins; later calls of it do not count."""
        self.begun.setdefault(name, self.seconds())


@contextmanager
def clocked(network: nn.Module, structure: Structure) -> Iterator[Clock]:
    """Note when the blocks of a network begin, from now on."""

    def mark(name: str) -> Callable[..., None]:
        return lambda *_: clock.mark(name)

    clock = Clock()
    with hooked(network, [(name, mark(name)) for name in present(network, structure.blocks)]):
        yield clock


def wait(outputs: Mapping[str, Tensor]) -> None:
    """A GPU works on after the call returned; time counts until it is done."""
    if any(output.is_cuda for output in outputs.values()):
        torch.cuda.synchronize()

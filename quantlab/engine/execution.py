"""One scene through one network: outputs, prediction, time, watched by a job, helped by the block cache. No scores."""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from quantlab.calibration.running import all_finite, memory_errors, require_finite_run, watched
from quantlab.engine.replay import BlockCache
from quantlab.engine.subject import Subject
from quantlab.errors import NumericError
from quantlab.jobs import Job, check
from quantlab.models.prediction import Prediction


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """What one network made of one scene.

    Attributes:
        value: The network's input.
        outputs: Output tensors by name.
        prediction: Read from the outputs; None where the network is no reconstruction.
        seconds: Time of the forward pass.
        replayed: Blocks that were answered from memory; where there are any, ``seconds`` is no latency.
    """

    value: Any
    outputs: Mapping[str, Tensor]
    prediction: Prediction | None
    seconds: float
    replayed: int = 0


def execute(
    subject: Subject,
    network: nn.Module,
    value: Any,
    *,
    cache: BlockCache | None = None,
    states: Mapping[str, Hashable] | None = None,
    job: Job | None = None,
    text: str = "",
) -> Run:
    """Run a network on one input.

    Args:
        subject: How it is run and read.
        network: The subject's own, or a quantized twin of it.
        value: What ``subject.prepare`` gave.
        cache: Answers blocks whose state and inputs it knows.
        states: As in `BlockCache.installed`.
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
            stack.enter_context(cache.installed(network, states))
        start = time.perf_counter()
        outputs = subject.run(network, value)
        _wait(outputs)
        seconds = time.perf_counter() - start
        replayed = len(cache.skipped) if cache is not None else 0
    if not all_finite(outputs):
        require_finite_run(network, subject.structure, lambda: subject.run(network, value))
        raise NumericError(
            "the network's output holds a NaN or an infinity",
            place=subject.name,
            remedy="Keep the layers before it in full precision.",
        )
    prediction = subject.decode(outputs, value) if subject.decode is not None else None
    return Run(value, outputs, prediction, seconds, replayed)


def _wait(outputs: Mapping[str, Tensor]) -> None:
    """A GPU works on after the call returned; time counts until it is done."""
    if any(output.is_cuda for output in outputs.values()):
        torch.cuda.synchronize()

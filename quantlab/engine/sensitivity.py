"""What the quantization of one block alone does to a network's result. It chooses nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from quantlab.calibration.running import hooked, memory_errors, watched
from quantlab.engine.calibrate import Calibration
from quantlab.engine.replay import BlockCache
from quantlab.engine.subject import named_outputs
from quantlab.engine.task_loss import Result, TaskLoss, mean_loss, task_loss
from quantlab.engine.twin import Places, twin
from quantlab.errors import NumericError
from quantlab.jobs import Job, part
from quantlab.models.prediction import Prediction
from quantlab.models.structure import Structure

SCENES = 4
"""Calibration scenes that are run for each measurement."""


class BlockProbe:
    """Exchanges the layers of one block at a time in a twin of its own, and compares results with full precision.

    Blocks before the changed one are answered from memory; those behind it run.

    Args:
        reference: In full precision; never changed.
        structure: Of the network.
        scenes: The first few are run.
        job: Follows the full-precision pass.

    Raises:
        RecipeError: There is no calibration.
        JobCancelledError: The job was cancelled.
    """

    def __init__(
        self, reference: nn.Module, structure: Structure, scenes: Calibration, job: Job | None = None
    ) -> None:
        self._reference, self._structure, self._scenes = reference, structure, scenes
        self._network = twin(reference)
        self._places = Places(self._network)
        self._cache = BlockCache()
        self._states = dict.fromkeys(structure.blocks, ())
        self._inputs = scenes.require_inputs("measuring blocks")[:SCENES]
        self._exact = [
            self._run(value, self._states, part(job, index, len(self._inputs)), stores=True)
            for index, value in enumerate(self._inputs)
        ]

    def loss(self, block: str, layers: Mapping[str, nn.Module], job: Job | None = None) -> TaskLoss:
        """The mean loss over the scenes with ``layers`` in place, all of ``block``; the rest is in full precision.

        Raises:
            JobCancelledError: The job was cancelled.
        """
        states = {**self._states, block: object()}
        losses = []
        with self._placed(layers):
            for index, (value, exact) in enumerate(zip(self._inputs, self._exact, strict=True)):
                errors: list[tuple[float, float]] = []
                with hooked(self._network, after=[(block, self._compare(block, errors))]):
                    section = part(job, index, len(self._inputs))
                    rounded = self._run(value, states, section, stores=False, text=block)
                losses.append(task_loss(exact, rounded, reconstruction=_relative(errors)))
        return mean_loss(losses)

    def _run(
        self, value: Any, states: Mapping[str, Any], job: Job | None, *, stores: bool, text: str = ""
    ) -> Result:
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            stack.enter_context(memory_errors("measuring a block", value))
            stack.enter_context(watched(self._network, self._structure, job, f"measure {text}"))
            stack.enter_context(self._cache.installed(self._network, states, stores=stores))
            outputs = named_outputs(self._scenes.run(self._network, value))
        return Result(outputs, self._decoded(outputs, value))

    def _decoded(self, outputs: Mapping[str, Tensor], value: Any) -> Prediction | None:
        try:
            return None if self._scenes.decode is None else self._scenes.decode(outputs, value)
        except NumericError:
            return None  # what is not finite is compared as outputs, whose loss is infinite then

    @contextmanager
    def _placed(self, layers: Mapping[str, nn.Module]) -> Iterator[None]:
        try:
            for name, layer in layers.items():
                self._places.put(name, layer)
            yield
        finally:
            for name in layers:
                self._places.put(name, None)

    def _compare(self, block: str, errors: list[tuple[float, float]]) -> Callable[..., None]:
        """A hook that sets the block's output against what full precision makes of the same input."""

        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            exact, rounded = _first(self._reference.get_submodule(block)(*args, **kwargs)), _first(output)
            if exact is not None and rounded is not None:
                error = (rounded - exact).double().square().sum()
                errors.append((float(error), float(exact.double().square().sum())))

        return hook


def _relative(errors: list[tuple[float, float]]) -> float:
    error, energy = (sum(part) for part in zip(*errors, strict=True)) if errors else (0.0, 0.0)
    return float((error / (energy + 1e-12)) ** 0.5)


def _first(output: Any) -> Tensor | None:
    return next((leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)), None)

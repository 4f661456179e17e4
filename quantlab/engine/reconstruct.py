"""Learns smoothing, mixing and clipping of the layers of one stage from what the stage should give. It walks nothing.

What is the papers' and what is ours: learnable divisors and shares of ranges, AdamW with a cosine over 15 epochs and
the block's squared error are QuantVGGT's (and FGQ's); no weight decay, the true layout of every call, batches of two
scenes, rates that fit few scenes (`Schedule`), and keeping the best state seen, the unlearned one included, are our
reading.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quantlab.calibration.layer_data import LayerData
from quantlab.engine.batches import Batch, batches_of
from quantlab.engine.build import build_layer, prepare
from quantlab.engine.rounding import activation_spec, static_range, weight_spec
from quantlab.engine.settings import LayerSettings
from quantlab.engine.twin import Places, twin
from quantlab.engine.walk import StageCalls
from quantlab.jobs import Job, step
from quantlab.methods.learned import Learned
from quantlab.methods.reconstruction import LearnableLinear

Learning = tuple[nn.Linear, LayerSettings, LayerData]
"""A full-precision layer, its settings, and what calibration saw at its input."""
OBJECTIVES = ("block", "fisher")
CHECKED_EVERY = 3
"""Epochs after which the whole calibration set is looked at; a look costs a third of an epoch."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast is learned.

    Attributes:
        epochs: Passes over the calls.
        divisor_rate: Step of divisors, in their logarithm.
        mixing_rate: Step of the entries of mixing factors.
        lone_mixing_rate: The same where no divisor learns beside them: the factors have all the scaling to do.
        clip_rate: Step of clipping, before the sigmoid.
        batch: Scenes of equal shape taken together in one step, where the stage treats them independently.

    Source:
        QuantVGGT (arXiv:2509.21302), section 4, and FGQ (arXiv:2605.15828): 15 epochs, 5e-3, and 5e-2 for clipping, on
        40 to 64 sequences. With 8 scenes there are a tenth of the steps, which reach as far with four times the rate
        of divisors and twice that of clipping: our reading. Mixing factors learn best at the papers' rate here too,
        unless they are alone.
    """

    epochs: int = 15
    divisor_rate: float = 2e-2
    mixing_rate: float = 5e-3
    lone_mixing_rate: float = 2e-2
    clip_rate: float = 1e-1
    batch: int = 2


def reconstruct(
    reference_block: nn.Module,
    network_block: nn.Module,
    stage_calls: StageCalls,
    layers: Mapping[str, Learning],
    *,
    seed: int,
    objective: str = "block",
    importance: Tensor | None = None,
    kinds: Callable[[int, int], NDArray[np.uint8]] | None = None,
    schedule: Schedule | None = None,
    job: Job | None = None,
) -> dict[str, Learned]:
    """Learn the parameters of some layers of a stage together. Neither block is changed.

    The loss on the calibration calls is never above that of the same layers without learning: the best of the states
    looked at, every third epoch and the last, is returned, and `Learned()` where none was better. Equal arguments give
    equal results on a CPU.

    Args:
        reference_block: The stage in full precision.
        network_block: The stage as it stands in the quantized network; layers that do not learn run as they hang there.
        stage_calls: What reaches it. Layers whose settings say inputs "quantized" learn on the quantized network's
            inputs; the output they aim at is always that of full precision.
        layers: The layers that learn, by their full names.
        seed: Of rotations and of the order of the calls.
        objective: "block": squared error of the output. "fisher": weighted by ``importance``.
        importance: Of the stage's output, ``[channels]`` or ``[kinds, channels]`` (`quantlab.calibration.fisher`).
        kinds: ``kinds(scene, tokens)``: what each token of a sequence is, where importance tells kinds apart.
        schedule: None: the papers' rates, and the epochs that the layers' settings ask for (the most of them).
        job: Checked at every step, and told of it.

    Returns:
        By the same names, for `build_layer`. A layer that cannot learn (twin scales, low rank) gets `Learned()`.

    Raises:
        JobCancelledError: The job was cancelled.
    """
    learner = _Learner(network_block, stage_calls.stage, layers, seed)
    if not learner.learnable:
        return dict.fromkeys(layers, Learned())
    quantized = any(settings.inputs == "quantized" for _, settings, _ in layers.values())
    given = stage_calls.quantized if quantized and stage_calls.quantized is not None else stage_calls.full
    rule = schedule or Schedule(epochs=max(settings.epochs for _, settings, _ in layers.values()))
    weigh = None if objective != "fisher" or importance is None else _Weights(importance, kinds)
    batches = batches_of(reference_block, stage_calls.full, given, size=rule.batch, seed=seed, weigh=weigh)
    if not batches:
        return dict.fromkeys(layers, Learned())
    return learner.best(batches, _Loss(batches), rule, seed, job)


class _Learner:
    """A copy of the stage with learnable layers in it."""

    def __init__(self, block: nn.Module, stage: str, layers: Mapping[str, Learning], seed: int) -> None:
        self._stage, self._layers, self._seed = stage, layers, seed
        self._block = twin(block, hooks=False)
        self._places = Places(self._block)
        self.learnable: dict[str, LearnableLinear] = {}
        for name, learning in layers.items():
            made = _learnable(name, learning, seed)
            if made is not None:
                self.learnable[name] = made

    def best(
        self, batches: Sequence[Batch], loss: _Loss, schedule: Schedule, seed: int, job: Job | None
    ) -> dict[str, Learned]:
        """Optimise, and return the state of smallest loss."""
        self._put_unlearned()
        best, lowest = dict.fromkeys(self._layers, Learned()), self._total(batches, loss)
        self._put(self.learnable)
        for epoch in self._epochs(batches, loss, schedule, seed, job):
            if epoch % CHECKED_EVERY and epoch < schedule.epochs:
                continue
            total = self._total(batches, loss)
            if total < lowest:
                best, lowest = self._learned(), total
            if not isfinite(total):
                break
        return best

    def _epochs(
        self, batches: Sequence[Batch], loss: _Loss, schedule: Schedule, seed: int, job: Job | None
    ) -> Iterator[int]:
        """Train; a pause before the first and after every epoch, with their number so far."""
        layers = self.learnable.values()
        groups: list[dict[str, Any]] = [
            {"params": [p for layer in layers for p in layer.divisors()], "lr": schedule.divisor_rate},
            {
                "params": [p for layer in layers if list(layer.divisors()) for p in layer.mixing()],
                "lr": schedule.mixing_rate,
            },
            {
                "params": [p for layer in layers if not list(layer.divisors()) for p in layer.mixing()],
                "lr": schedule.lone_mixing_rate,
            },
            {"params": [p for layer in layers for p in layer.clipping()], "lr": schedule.clip_rate},
        ]
        parameters = [p for group in groups for p in group["params"]]
        optimiser = torch.optim.AdamW([group for group in groups if group["params"]], weight_decay=0.0)
        steps = schedule.epochs * len(batches)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, steps))
        order = torch.Generator().manual_seed(seed)
        yield 0
        for epoch in range(schedule.epochs):
            for done, index in enumerate(torch.randperm(len(batches), generator=order).tolist()):
                text = f"learn {self._stage}, epoch {epoch + 1} of {schedule.epochs}"
                step(job, epoch * len(batches) + done, steps, text)
                self._step(parameters, batches[index], loss)
                optimiser.step()
                cosine.step()
            yield epoch + 1

    def _step(self, parameters: Sequence[nn.Parameter], batch: Batch, loss: _Loss) -> None:
        """Gradients of one batch; of the parameters that learn and no others."""
        with torch.enable_grad():
            value = loss(batch.call.on(self._block), batch)
            # FGQ divides by the value itself; AdamW does not see the common factor, but its epsilon does.
            gradients = torch.autograd.grad(value / value.detach(), parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient

    def _total(self, batches: Sequence[Batch], loss: _Loss) -> float:
        with torch.no_grad():
            return sum(float(loss(batch.call.on(self._block), batch)) * batch.scenes for batch in batches)

    def _learned(self) -> dict[str, Learned]:
        known = {name: layer.learned() for name, layer in self.learnable.items()}
        return {name: known.get(name, Learned()) for name in self._layers}

    def _put_unlearned(self) -> None:
        self._put(
            {
                name: build_layer(name, layer, settings, seed=self._seed, data=data)
                for name, (layer, settings, data) in self._layers.items()
            }
        )

    def _put(self, made: Mapping[str, nn.Module]) -> None:
        for name, module in made.items():
            self._places.put(name.removeprefix(f"{self._stage}."), module)


class _Weights:
    """Weights of a stage's output; for equal token kinds they are one object."""

    def __init__(self, importance: Tensor, kinds: Callable[[int, int], NDArray[np.uint8]] | None) -> None:
        self._table = importance.reshape(-1, importance.shape[-1])
        self._kinds = kinds
        self._known: dict[bytes, Tensor] = {}

    def __call__(self, scene: int, target: Tensor) -> Tensor | None:
        """``[tokens, channels]`` or ``[1, channels]``; None for an output of another width."""
        if target.shape[-1] != self._table.shape[1]:
            return None
        if self._kinds is None or target.dim() < 2 or len(self._table) == 1:
            codes = np.zeros(1, dtype=np.uint8)
        else:
            codes = self._kinds(scene, target.shape[-2])
        key = codes.tobytes()
        if key not in self._known:
            rows = torch.from_numpy(codes.astype(np.int64)).to(self._table.device)
            self._known[key] = self._table[rows].to(target.device)
        return self._known[key]


class _Loss:
    """Mean squared error of every output of a stage, each relative to its size, weighted as the batch says."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        count = len(batches[0].targets)
        sizes = [
            sum(float(batch.targets[index].float().square().mean()) for batch in batches) / len(batches)
            for index in range(count)
        ]
        self._units = [size or 1.0 for size in sizes]

    def __call__(self, output: Any, batch: Batch) -> Tensor:
        total = torch.zeros((), device=batch.targets[0].device)
        weights = [batch.weights, *[None] * len(self._units)]
        for given, target, weight, unit in zip(
            batch.read(output), batch.targets, weights, self._units, strict=False
        ):
            error = (given.float() - target.float()).square()
            total = total + (error if weight is None else error * weight).mean() / unit
        return total


def _learnable(name: str, learning: Learning, seed: int) -> LearnableLinear | None:
    """The layer with what can be learned of it, as it stands before learning; None where nothing can."""
    layer, settings, data = learning
    if settings.twin or settings.low_rank or not settings.quantized:
        return None
    prepared = prepare(name, layer, settings, seed=seed, data=data)
    weights, activations = weight_spec(settings), activation_spec(settings)
    static = None
    if settings.static and activations is not None:
        static, _ = static_range(name, prepared, prepared.weight, settings, activations, data)
    return LearnableLinear(layer, prepared.transforms, weights, activations, static)

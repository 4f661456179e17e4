"""First-order estimates of what restoring each layer would repair in a region, from gradients. It verifies nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from quantlab.calibration.gradients import Receive, memory_limit, take_gradients
from quantlab.calibration.running import hooked
from quantlab.engine.quantize import Quantizer
from quantlab.engine.subject import Subject
from quantlab.errors import NumericError
from quantlab.jobs import Job

SHARES = (1.0, 0.9, 0.8, 0.7)
"""How much of every layer's error is left in, of the passes whose gradients are averaged."""
DISTINCT = 1e-6
"""Singular values nearer than this, relative to the largest, have no derivative that can be trusted."""


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """What the damage of a region is measured against.

    Attributes:
        points: float64 [S, H, W, 3], the full-precision cloud.
        paired: bool [S, H, W], pixels where both clouds have a point: what is aligned.
        region: bool [S, H, W], inside ``paired``.
        scale: Of the scene, in the units of ``points``.
    """

    points: Tensor
    paired: Tensor
    region: Tensor
    scale: float

    def damage(self, cloud: Tensor) -> Tensor:
        """Mean distance over the region, in scales, of ``cloud`` [S, H, W, 3] aligned to the target; differentiable."""
        target = self.points.to(cloud.device)
        moved = aligned(cloud, target, self.paired.to(cloud.device))
        squares = (moved - target)[self.region.to(cloud.device)].square().sum(-1)
        # The root has no derivative at 0: what lies nearer than this counts as there.
        return (squares + (1e-9 * self.scale) ** 2).sqrt().mean() / self.scale


def estimates(
    subject: Subject,
    quantizer: Quantizer,
    value: Any,
    target: Target,
    *,
    job: Job | None = None,
    limit: int | None = None,
) -> dict[str, float]:
    """How much lower the damage of a region should get when one layer is restored, for every quantized layer.

    At each layer it is g . (y - y_full): g the gradient of the damage, y what the layer makes of its input, y_full
    what full precision would make of it. The damage is the mean distance itself, not its square, and the alignment
    moves with the cloud. The gradients are a mean over passes in which 100, 90, 80 and 70 % of every layer's error
    is left in, for one pass is poor evidence: which way values are rounded behind a layer changes with the
    slightest change before it, and the gradient with them. On ``mini`` at 4 bits the rank correlation with the
    repair that is to be expected (the mean over 24 nudges of the pictures) is 0.24 for one pass, 0.34 for four
    passes on nudged pictures, 0.45 for these four, 0.40 with squared distances; two halves of those nudges agree with
    each other by 0.65. The repair of a single draw is mostly luck there (docs/decisions/020-blame.md): verify.

    Args:
        subject: How the network is run and read.
        quantizer: With the recipe applied; nothing of it is changed when this returns.
        value: The network's input.
        target: The region.
        job: Checked before every layer.
        limit: Bytes that a backward pass may keep; None: most of the free memory.

    Raises:
        DeviceError: The backward pass does not fit into memory.
        RecipeError: Gradients cannot follow this network.
        NumericError: A gradient is not finite.
    """
    watched = _watched(quantizer)
    limit = (
        memory_limit(quantizer.network) // 2 if limit is None else limit
    )  # as much is held beside the graph
    passes = _Passes(subject, quantizer, watched, value)
    with hooked(quantizer.network, after=passes.hooks):
        take_gradients(
            quantizer.network,
            passes.run,
            SHARES,
            list(watched),
            lambda outputs, _index: _loss(subject, outputs, value, target),
            passes.take,
            job=job,
            limit=limit,
        )
    found = {name: total / len(SHARES) for name, total in passes.repairs.items()}
    if not all(map(math.isfinite, found.values())):
        raise NumericError(
            "a gradient holds a NaN or an infinity", place="blame", remedy="Verify the layers instead."
        )
    return found


def aligned(cloud: Tensor, target: Tensor, paired: Tensor) -> Tensor:
    """``cloud`` [S, H, W, 3] moved by the Sim(3) that brings its ``paired`` pixels onto those of ``target``.

    Gradients follow the alignment too, except where the cloud leaves its rotation open.

    Source:
        `quantlab.geometry.alignment.umeyama`, in torch.
    """
    source, goal = cloud[paired], target[paired]
    centre, goal_centre = source.mean(0), goal.mean(0)
    offsets, goal_offsets = source - centre, goal - goal_centre
    left, stretch, right = torch.linalg.svd(goal_offsets.T @ offsets / len(source))
    gaps = (stretch[:-1] - stretch[1:]).detach() / stretch[0].detach()
    if float(gaps.min()) < DISTINCT:
        left, stretch, right = left.detach(), stretch.detach(), right.detach()
    signs = torch.ones_like(stretch.detach())
    signs[2] = torch.sign(torch.linalg.det(left.detach()) * torch.linalg.det(right.detach()))
    rotation = (left * signs) @ right
    scale = (stretch * signs).sum() / offsets.square().sum(1).mean()
    return scale * (cloud - centre) @ rotation.T + goal_centre


class _Passes:
    """The hooks of all passes, and the sum of what they found.

    Args:
        subject: How the network is run.
        quantizer: With the recipe applied.
        watched: Path of a quantized layer in its network to the layer's name.
        value: The network's input.
    """

    def __init__(
        self, subject: Subject, quantizer: Quantizer, watched: Mapping[str, str], value: Any
    ) -> None:
        self.repairs = dict.fromkeys(watched.values(), 0.0)
        self._subject, self._watched, self._value = subject, watched, value
        self._share = 1.0
        self._errors: dict[str, Tensor] = {}
        exact = quantizer.reference.get_submodule
        self.hooks = [(path, self._blend(path, exact(name))) for path, name in watched.items()]

    def run(self, network: nn.Module, share: float) -> Mapping[str, Tensor]:
        """One forward pass with this share of every layer's error left in."""
        self._share = share
        return self._subject.run(network, self._value)

    def _blend(self, path: str, exact: nn.Module) -> Callable[..., Tensor | None]:
        """A hook that notes the layer's error on the input it gets, and takes a part of it away."""

        def after(
            _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor
        ) -> Tensor | None:
            with torch.set_grad_enabled(torch.is_grad_enabled() and self._share < 1):
                full = exact(*args, **kwargs)
            self._errors[path] = output.detach() - full.detach()
            return None if self._share == 1 else torch.lerp(full, output, self._share)

        return after

    def take(self, path: str, _x: Tensor, _output: Tensor, _scene: int) -> Receive:
        """Who receives the gradient of this call of a layer."""
        error, name = self._errors.pop(path), self._watched[path]

        def receive(_task: str, gradient: Tensor) -> None:
            self.repairs[name] += float((gradient * error).sum(dtype=torch.float64))

        return receive


def _loss(subject: Subject, outputs: Mapping[str, Tensor], value: Any, target: Target) -> dict[str, Tensor]:
    cloud = subject.cloud(outputs, value)
    return {} if cloud is None else {"output": target.damage(cloud)}


def _watched(quantizer: Quantizer) -> dict[str, str]:
    """Where each quantized layer hangs in the network, past the stand-ins around it."""
    names = {id(quantizer.layer(name)): name for name in quantizer.structure.layers if quantizer.layer(name)}
    return {
        path: names[id(module)] for path, module in quantizer.network.named_modules() if id(module) in names
    }

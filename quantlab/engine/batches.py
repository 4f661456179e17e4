"""Calls of a stage put together into fewer, where the stage treats scenes independently. It learns nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from quantlab.engine.walk import Call

MOST_VALUES = 1 << 20
"""Of the first argument of a batch: larger calls gain nothing from company."""
Weigh = Callable[[int, Tensor], Tensor | None]
"""``weigh(scene, target)``: weights that can be broadcast over the target, or None."""
AGREEMENT = 1e-4
"""Relative difference up to which a batch counts as the same arithmetic as its calls one by one."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """One call, or several scenes' calls in one.

    Attributes:
        call: What the stage is given.
        targets: What full precision makes of it: every floating tensor in the output.
        scenes: How many calls it stands for.
        weights: Of the squared error of the first target, to be broadcast over it; None weighs all alike.
    """

    call: Call
    targets: tuple[Tensor, ...]
    scenes: int = 1
    weights: Tensor | None = None

    @staticmethod
    def read(output: Any) -> tuple[Tensor, ...]:
        """Every floating tensor in an output, in a fixed order."""
        if isinstance(output, Tensor):
            return (output,) if output.is_floating_point() else ()
        if isinstance(output, Mapping):
            return tuple(tensor for part in output.values() for tensor in Batch.read(part))
        if isinstance(output, list | tuple):
            return tuple(tensor for part in output for tensor in Batch.read(part))
        return ()


def batches_of(
    block: nn.Module,
    full: Sequence[Sequence[Call]],
    given: Sequence[Sequence[Call]],
    *,
    size: int,
    seed: int,
    weigh: Weigh | None = None,
) -> list[Batch]:
    """The calls of all scenes with what ``block`` makes of their full-precision version, up to ``size`` together.

    Whether a stage treats scenes independently is not asked but tried: calls are joined along the first dimension of
    the arguments in which they differ, and stay apart where the block then gives something else.

    Args:
        block: In full precision.
        full: Of each scene, the calls in the full-precision run.
        given: The calls to learn on, in the same order.
        size: Most calls in a batch.
        seed: Of who is put together with whom.
        weigh: Gives the weights of a scene's output; equal weights should be one object.
    """
    singles: list[Batch] = []
    with torch.no_grad():
        for scene, (calls, exact) in enumerate(zip(given, full, strict=True)):
            for call, aim in zip(calls, exact, strict=False):
                targets = Batch.read(aim.on(block))
                if targets and all(target.numel() for target in targets):  # what is empty teaches nothing
                    weights = None if weigh is None else weigh(scene, targets[0])
                    singles.append(Batch(call, targets, weights=weights))
        found: list[Batch] = []
        for group in _alike(singles):
            order = torch.randperm(len(group), generator=torch.Generator().manual_seed(seed)).tolist()
            most = min(size, max(1, MOST_VALUES // max(1, _first(group[0].call))))
            for start in range(0, len(group), most):
                found += _joined(block, [group[index] for index in order[start : start + most]])
    return found


def _joined(block: nn.Module, parts: Sequence[Batch]) -> list[Batch]:
    """One batch of several calls, or the calls as they were."""
    if len(parts) == 1 or any(len(part.targets) != 1 for part in parts):
        return list(parts)
    try:
        call = Call(
            _join([part.call.args for part in parts]), _join([dict(part.call.kwargs) for part in parts])
        )
        together = Batch.read(call.on(block))[0]
        apart = torch.cat([Batch.read(part.call.on(block))[0] for part in parts])
        target = torch.cat([part.targets[0] for part in parts])
    except (_UnlikeError, RuntimeError, ValueError, TypeError, KeyError):
        return list(parts)
    same = together.shape == apart.shape and (together - apart).norm() <= AGREEMENT * apart.norm()
    return [Batch(call, (target,), len(parts), _weights(parts))] if same else list(parts)


def _weights(parts: Sequence[Batch]) -> Tensor | None:
    """The weights they share; one after the other where the first dimension that is joined is that of the tokens."""
    weights, target = parts[0].weights, parts[0].targets[0]
    per_token = weights is not None and weights.dim() == target.dim() and len(weights) == len(target) > 1
    return weights if weights is None or not per_token else torch.cat([weights] * len(parts))


class _UnlikeError(Exception):
    """Arguments that cannot be joined."""


def _join(values: Sequence[Any]) -> Any:
    first = values[0]
    if isinstance(first, Tensor):
        if any(not isinstance(value, Tensor) or value.shape != first.shape for value in values):
            raise _UnlikeError
        return first if all(torch.equal(first, value) for value in values[1:]) else torch.cat(list(values))
    if isinstance(first, Mapping):
        return {key: _join([value[key] for value in values]) for key in first}
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return type(first)(*(_join(parts) for parts in zip(*values, strict=True)))
    if isinstance(first, list | tuple):
        return type(first)(_join(parts) for parts in zip(*values, strict=True))
    if any(value is not first and value != first for value in values[1:]):
        raise _UnlikeError
    return first


def _alike(singles: Sequence[Batch]) -> list[list[Batch]]:
    """Calls of equal shapes and weights together."""
    groups: dict[Any, list[Batch]] = {}
    for single in singles:
        shapes = tuple(tensor.shape for tensor in Batch.read([single.call.args, single.call.kwargs]))
        key = (shapes, tuple(target.shape for target in single.targets), id(single.weights))
        groups.setdefault(key, []).append(single)
    return list(groups.values())


def _first(call: Call) -> int:
    """Values in the first tensor of a call."""
    tensors = Batch.read([call.args, call.kwargs])
    return tensors[0].numel() if tensors else 0

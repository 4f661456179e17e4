"""Rows of layer inputs with the gradients that the network's result has at their outputs. It searches no scale.

One forward and one backward pass a calibration scene over the network rounded to nearest with the recipe's bits; the
rows are those of full precision at the same tokens.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quantlab.calibration.gradients import Receive, Run, distances, take_gradients
from quantlab.calibration.layer_data import LayerData
from quantlab.calibration.running import hooked, memory_errors, present
from quantlab.engine.build import build_layer
from quantlab.engine.settings import LayerSettings
from quantlab.engine.twin import Places, twin
from quantlab.jobs import Job, between, step
from quantlab.models.structure import Structure, TokenLayout
from quantlab.models.tokens import PATCH

ROWS = 256
"""Tokens a layer that gradients are kept of."""
SPECIALS = 0.25
"""Share of them that special tokens may take."""


@dataclass(frozen=True, slots=True, eq=False)
class GradientRows:
    """Of one layer, sampled tokens and what the result's distance to full precision asks of them.

    Attributes:
        rows: float32 ``[n, in]``, inputs in full precision.
        kinds: uint8 ``[n]``.
        gradients: float32 ``[n, out]``, of unit mean square. Rows that stand for more tokens (of a kind that is common)
            have a gradient larger by the root of that, so that a mean over the rows is one over the tokens.
    """

    rows: Tensor
    kinds: NDArray[np.uint8]
    gradients: Tensor

    def into(self, data: LayerData | None) -> LayerData:
        """A layer's data with these rows in place of its own; extremes and second moments stay."""
        peaks = self.rows.abs().amax(dim=0) if len(self.rows) else self.rows.new_zeros(self.rows.shape[1])
        base = data or LayerData(self.rows, peaks, self.kinds)
        return replace(base, rows=self.rows, kinds=self.kinds, gradients=self.gradients)


def collect_gradients(
    reference: nn.Module,
    structure: Structure,
    settings: Mapping[str, LayerSettings],
    run: Run,
    inputs: Sequence[Any],
    layouts: Sequence[TokenLayout | None] = (),
    *,
    rows: int = ROWS,
    job: Job | None = None,
) -> dict[str, GradientRows]:
    """Run the scenes forward and backward over the network rounded to nearest.

    Args:
        reference: The full-precision network; not changed.
        structure: Of it.
        settings: Of all layers that the recipe rounds; rows are kept of those that ask (``settings.fisher``).
        run: ``run(network, input)`` gives outputs by name and leaves gradients enabled.
        inputs: One a scene.
        layouts: Token layout of each input.
        rows: Kept a layer, over all scenes.
        job: Progress and cancellation.

    Returns:
        By layer; a layer that never ran, or whose output the result does not depend on, is absent.

    Raises:
        DeviceError: The backward pass does not fit into memory.
        RecipeError: The outputs carry no gradients.
    """
    rounded = round_to_nearest(reference, settings, between(job, 0.0, 0.2))
    asked = [name for name, chosen in settings.items() if chosen.fisher]
    collector = _Collector(structure, layouts, max(1, rows // max(1, len(inputs))))
    losses = distances(reference, run, inputs)
    before = [(name, collector.hook(name)) for name in present(reference, asked)]
    with hooked(reference, before):
        take_gradients(rounded, run, inputs, asked, losses, collector.take, job=between(job, 0.2, 1.0))
    return {name: found for name in asked if (found := collector.result(name, rows)) is not None}


def round_to_nearest(
    reference: nn.Module, settings: Mapping[str, LayerSettings], job: Job | None = None
) -> nn.Module:
    """A twin of the network with its layers rounded to nearest in the formats of ``settings``."""
    rounded = twin(reference)
    places = Places(rounded)
    for done, (name, chosen) in enumerate(settings.items()):
        step(job, done, len(settings), f"round {name}")
        original = places.original(name)
        with memory_errors(f"quantizing {name}", original.weight):
            places.put(name, build_layer(name, original, nearest(chosen), seed=0).eval())
    return rounded


def nearest(settings: LayerSettings) -> LayerSettings:
    """The same formats, min-max ranges and nothing that needs calibration: what the gradients depend on."""
    return LayerSettings(
        weights=settings.weights,
        activations=settings.activations,
        weight_granularity=settings.weight_granularity,
        group_size=settings.group_size,
        weight_symmetric=settings.weight_symmetric,
        activation_granularity=settings.activation_granularity,
        activation_symmetric=settings.activation_symmetric,
        keep=settings.keep,
    )


@dataclass(slots=True)
class _Kept:
    """What was kept of one call of a layer."""

    picked: Tensor
    kinds: NDArray[np.uint8]
    weights: Tensor
    rows: Tensor | None = None
    gradients: Tensor | None = None


@dataclass(slots=True)
class _Collector:
    """Picks tokens in the rounded network's forward pass; their rows come from full precision, which runs after it."""

    structure: Structure
    layouts: Sequence[TokenLayout | None]
    quota: int
    kept: dict[str, list[_Kept]] = field(default_factory=dict)
    met: dict[str, int] = field(default_factory=dict)

    def take(self, name: str, x: Tensor, output: Tensor, scene: int) -> Receive:
        """Pick tokens of one call."""
        info = self.structure.layers[name]
        layout = self.layouts[scene] if scene < len(self.layouts) else None
        tokens = x.shape[-2] if x.dim() > 1 else 1
        table = output.flatten(0, -2) if output.dim() > 1 else output[None]
        kinds = np.resize(self.structure.token_kinds(info.stream, tokens, layout), len(table))
        calls = self.kept.setdefault(name, [])
        rng = np.random.default_rng([zlib.crc32(name.encode()), len(calls)])
        picked, weights = stratified(kinds != PATCH, self.quota, rng)
        entry = _Kept(
            torch.from_numpy(picked).to(x.device), kinds[picked], torch.from_numpy(weights).to(x.device)
        )
        calls.append(entry)

        def receive(_task: str, gradient: Tensor) -> None:
            flat = gradient.reshape(-1, gradient.shape[-1])
            entry.gradients = flat[entry.picked].float() * entry.weights[:, None].float()

        return receive

    def hook(self, name: str) -> Callable[..., None]:
        """Keeps the rows of the picked tokens as full precision has them."""

        def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            x = args[0] if args else next(iter(kwargs.values()))
            index = self.met.get(name, 0)
            self.met[name] = index + 1
            entry = self.kept[name][index]
            entry.rows = x.detach().reshape(-1, x.shape[-1])[entry.picked].float()

        return before

    def result(self, name: str, limit: int) -> GradientRows | None:
        """All calls together, at most ``limit`` rows."""
        calls = [(call.rows, call.kinds, call.gradients) for call in self.kept.get(name, ())]
        used = [(rows, kinds, g) for rows, kinds, g in calls if rows is not None and g is not None]
        if not used:
            return None
        rows = torch.cat([rows for rows, _, _ in used])
        kinds = np.concatenate([kinds for _, kinds, _ in used])
        gradients = torch.cat([g for _, _, g in used])
        if len(rows) > limit:
            chosen = np.random.default_rng(zlib.crc32(name.encode())).permutation(len(rows))[:limit]
            order = torch.from_numpy(chosen).to(rows.device)
            rows, kinds, gradients = rows[order], kinds[chosen], gradients[order]
        size = float(gradients.double().square().mean().sqrt()) if gradients.numel() else 0.0
        return GradientRows(rows, kinds, (gradients / size).float()) if size > 0 else None


def stratified(
    special: NDArray[np.bool_], quota: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Which tokens to keep, and the root of how many times its fair share each stands for.

    Special tokens take at most `SPECIALS` of the quota where the others need it, at least one place where there are
    any.
    """
    groups = [np.flatnonzero(special), np.flatnonzero(~special)]
    room = max(int(SPECIALS * quota), quota - len(groups[1]), 1)
    first = min(len(groups[0]), room)
    counts = (first, min(len(groups[1]), max(quota - first, 0)))
    total = sum(counts)
    picked, weights = [], []
    for members, count in zip(groups, counts, strict=True):
        if count:
            picked.append(rng.permutation(members)[:count])
            share = len(members) / len(special) * total / count
            weights.append(np.full(count, share**0.5))
    if not picked:
        return np.zeros(0, dtype=np.int64), np.zeros(0)
    return np.concatenate(picked), np.concatenate(weights)

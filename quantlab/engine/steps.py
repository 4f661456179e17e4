"""What quantization does to one layer's sampled input, step by step, for a `LayerView`. It changes no layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from quantlab.engine.build import InputSamples, Prepared, static_range, weight_range
from quantlab.engine.plan import LayerPlan, plan
from quantlab.engine.reading import read_layer
from quantlab.engine.recipe import Recipe
from quantlab.engine.views import LayerView, SearchCurve
from quantlab.errors import RecipeError
from quantlab.kernels.activations import DynamicActivations, StaticActivations
from quantlab.kernels.reference import Simulated, SimulatedLinear
from quantlab.methods.rotation import HadamardRotation
from quantlab.models.tokens import PATCH
from quantlab.numerics.histograms import StreamingHistogram
from quantlab.numerics.moments import StreamingMoments
from quantlab.numerics.ranges import Range, minmax_range
from quantlab.numerics.records import Histogram, SearchTrace
from quantlab.numerics.rounding import quantize, to_rows

if TYPE_CHECKING:
    from quantlab.calibration.samples import LayerSamples
    from quantlab.engine.quantize import Quantizer

CHANNELS, TOKENS, SPECIALS = 256, 64, 24
"""Of a landscape: at most so many channels and tokens, of which special tokens."""


def layer_view(name: str, quantizer: Quantizer, samples: LayerSamples | None = None) -> LayerView:
    """Measure one layer under the recipe in force.

    Args:
        name: Of the layer.
        quantizer: Holds the network, and the recipe it last applied (before that: nothing is quantized).
        samples: Of the layer inputs; by default those the quantizer calibrates with.

    Raises:
        RecipeError: There is no such layer; the nearest names are given.
    """
    decision = _decision(name, quantizer)
    seen = _seen(name, quantizer, samples)
    layer, simulated = quantizer.reference.get_submodule(name), quantizer.layer(name)
    with torch.no_grad():
        return _measure(decision, seen, layer, simulated)


def _decision(name: str, quantizer: Quantizer) -> LayerPlan:
    known = (quantizer.plan or plan(quantizer.structure, Recipe())).layers
    if name not in known:
        from difflib import get_close_matches

        near = ", ".join(get_close_matches(str(name), known, n=3))
        remedy = f"Did you mean {near}?" if near else "The names are in lab.structure.layers."
        raise RecipeError(f"there is no layer {str(name)[:80]!r}", remedy=remedy)
    return known[name]


def _seen(name: str, quantizer: Quantizer, samples: LayerSamples | None) -> InputSamples | None:
    if samples is None:
        return quantizer.samples(name)
    return quantizer.calibration.of(samples, name, quantizer.reference, quantizer.structure)


def _measure(
    decision: LayerPlan, seen: InputSamples | None, layer: nn.Module, simulated: Simulated | None
) -> LayerView:
    rows = seen.rows.float() if seen is not None and len(seen.rows) else None
    stages = {} if rows is None else _stages(rows, simulated)
    quantized = stages.get("quantized")
    rounding = None if rows is None or quantized is None else _rounding(list(stages.values())[-2], simulated)
    facts: dict[str, Any] = {
        "name": decision.name,
        "settings": decision.settings,
        "quantized": decision.quantized,
        "reason": decision.reason,
        "steps": {step: _histogram(x) for step, x in stages.items()},
        **(_grid_facts(list(stages.values())[-2], *rounding) if rounding else _no_grid()),
        "channel_absmax": {step: x.abs().amax(dim=0).cpu().numpy() for step, x in stages.items()},
        **_landscapes(stages, seen),
        "search": _search(decision, seen, layer, simulated),
        "output_error": None if rows is None else _output_error(rows, layer, simulated),
        "weight_error": _weight_error(layer, simulated),
    }
    kurtosis = {step: _kurtosis(x) for step, x in stages.items()}
    return LayerView(**facts, reading=read_layer(facts, kurtosis))


def _stages(rows: Tensor, simulated: Simulated | None) -> dict[str, Tensor]:
    """The input after each step that is taken, in order."""
    stages = {"raw": rows}
    if isinstance(simulated, SimulatedLinear):
        x = rows
        for transform in simulated.transforms:
            x = transform(x)
            stages["rotated" if isinstance(transform, HadamardRotation) else "smoothed"] = x
        if simulated.activations is not None:
            stages["quantized"] = simulated.activations(x)
    return stages


def _rounding(x: Tensor, simulated: Simulated | None) -> tuple[Any, Range] | None:
    """Format and scales the rows are rounded with."""
    activations = simulated.activations if isinstance(simulated, SimulatedLinear) else None
    if isinstance(activations, DynamicActivations):
        return activations.spec, minmax_range(x, activations.spec)
    if isinstance(activations, StaticActivations):
        return activations.spec, Range(activations.scale, activations.zero_point)
    return None


def _grid_facts(x: Tensor, spec: Any, chosen: Range) -> dict[str, Any]:
    """The grid of the token with the largest range, and what all tokens together clip and waste."""
    scale = chosen.scale.reshape(-1, 1)
    zero = torch.zeros_like(scale) if chosen.zero_point is None else chosen.zero_point.reshape(-1, 1).float()
    values = to_rows(x, spec)
    low, high = (spec.low - zero) * scale, (spec.high - zero) * scale
    clipped = (values < low - scale / 2) | (values > high + scale / 2)
    used = torch.zeros(len(values), spec.high - spec.low + 1, dtype=torch.bool, device=x.device)
    codes = to_rows(quantize(x, *chosen, spec), spec).long() - spec.low
    used.scatter_(1, codes, torch.ones_like(codes, dtype=torch.bool))
    widest = int(scale.argmax())
    levels = (torch.arange(spec.low, spec.high + 1, device=x.device) - zero[widest]) * scale[widest]
    return {
        "grid": levels.float().cpu().numpy(),
        "clip_low": float(levels[0]),
        "clip_high": float(levels[-1]),
        "clipped_fraction": float(clipped.float().mean()),
        "wasted_levels": int((~used).sum(dim=1).median()),
    }


def _no_grid() -> dict[str, Any]:
    return {"grid": None, "clip_low": None, "clip_high": None, "clipped_fraction": 0.0, "wasted_levels": 0}


def _landscapes(stages: dict[str, Tensor], seen: InputSamples | None) -> dict[str, Any]:
    if not stages or seen is None:
        return {"landscape": {}, "landscape_kinds": np.zeros(0, dtype=np.uint8)}
    raw = stages["raw"]
    channels = _spread(raw.abs().amax(dim=0), CHANNELS)
    tokens = _tokens(seen.kinds)
    pictures = {step: x[tokens][:, channels].T.cpu().numpy() for step, x in stages.items()}
    return {
        "landscape": pictures,
        "landscape_kinds": seen.kinds[tokens.numpy()],
        "landscape_channels": channels.numpy(),
        "landscape_tokens": tokens.numpy(),
    }


def _spread(size: Tensor, most: int) -> Tensor:
    """Up to ``most`` indices in order: the largest eighth of them, the rest evenly."""
    if len(size) <= most:
        return torch.arange(len(size))
    largest = size.topk(most // 8).indices.cpu()
    even = torch.linspace(0, len(size) - 1, most - most // 8).round().long()
    return torch.unique(torch.cat((largest, even)))


def _tokens(kinds: NDArray[np.uint8]) -> Tensor:
    """Indices of the first special tokens, kind by kind, then of patches, evenly."""
    special = np.flatnonzero(kinds != PATCH)[:SPECIALS]
    special = special[np.argsort(kinds[special], kind="stable")]
    patches = np.flatnonzero(kinds == PATCH)
    room = min(len(patches), TOKENS - len(special))
    even = patches[np.linspace(0, len(patches) - 1, room).round().astype(int)] if room else patches[:0]
    return torch.from_numpy(np.concatenate((special, even)))


def _search(
    decision: LayerPlan, seen: InputSamples | None, layer: nn.Module, simulated: Simulated | None
) -> SearchCurve | None:
    """The search is made again for the picture: it is deterministic, and keeping its trace would cost memory."""
    settings = decision.settings
    if simulated is None or settings.range_search not in ("grid", "ternary"):
        return None
    if simulated.spec is not None:
        weight = _folded(layer, simulated).float()
        return _curve(weight_range(decision.name, weight, settings, simulated.spec)[1], "weight")
    activations = simulated.activations if isinstance(simulated, SimulatedLinear) else None
    if isinstance(activations, StaticActivations) and isinstance(simulated, SimulatedLinear):
        steps = tuple((str(i), transform) for i, transform in enumerate(simulated.transforms))
        prepared = Prepared(steps, simulated.weight)  # type: ignore[arg-type]
        return _curve(static_range(decision.name, prepared, settings, activations.spec, seen)[1], "input")
    return None


def _curve(trace: SearchTrace | None, what: str) -> SearchCurve | None:
    """Of all scales searched for, the one that is left with the largest loss."""
    if trace is None:
        return None
    worst = int(trace.loss.argmax())
    visited = trace.visited(worst)
    place = f"{what}, scale {worst + 1} of {len(trace.base)}" if len(trace.base) > 1 else what
    return SearchCurve(tuple(s for s, _ in visited), tuple(loss for _, loss in visited), place)


def _folded(layer: nn.Module, simulated: Simulated) -> Tensor:
    """The layer's weight as rows, behind its transforms, before rounding."""
    weight = layer.get_parameter("weight").detach()
    if isinstance(simulated, SimulatedLinear):
        folded = weight.double()
        for transform in simulated.transforms:
            folded = transform.fold(folded)  # type: ignore[operator]
        return folded
    return simulated.rows_of(weight)


def _output_error(rows: Tensor, layer: nn.Module, simulated: Simulated | None) -> float | None:
    if simulated is None:
        return 0.0
    if not isinstance(simulated, SimulatedLinear) or not isinstance(layer, nn.Linear):
        return None
    exact = F.linear(rows.to(layer.weight.dtype), layer.weight, layer.bias).double()
    return _relative(exact, simulated(rows.to(layer.weight.dtype)).double())


def _weight_error(layer: nn.Module, simulated: Simulated | None) -> float:
    if simulated is None:
        return 0.0
    return _relative(_folded(layer, simulated).double(), simulated.weight_rows().double())


def _relative(exact: Tensor, other: Tensor) -> float:
    size = float(exact.norm())
    return float((exact - other).norm()) / size if size else 0.0


def _histogram(x: Tensor) -> Histogram:
    stream = StreamingHistogram()
    stream.update(x)
    return stream.record()


def _kurtosis(x: Tensor) -> float:
    stream = StreamingMoments(1)
    stream.update(x, torch.zeros(len(x), dtype=torch.uint8, device=x.device))
    return stream.record().kurtosis

"""What quantization does to one layer's sampled input, step by step, for a `LayerView`. It changes no layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from quantlab.calibration.layer_data import LayerData
from quantlab.engine.branch_output import branch_output
from quantlab.engine.evidence import gather_evidence, relative
from quantlab.engine.grids import grid_facts, no_grid
from quantlab.engine.plan import LayerPlan, plan
from quantlab.engine.reading import read_layer
from quantlab.engine.recipe import Recipe
from quantlab.engine.search_steps import search_curve
from quantlab.engine.views import BranchOutput, LayerView
from quantlab.engine.weight_steps import folded_weight, histogram_of, spread, weight_view
from quantlab.errors import RecipeError
from quantlab.jobs import Job
from quantlab.kernels.activations import DynamicActivations, StaticActivations
from quantlab.kernels.reference import Simulated, SimulatedLinear
from quantlab.models.tokens import PATCH
from quantlab.numerics.ranges import Range, clipped, minmax_range

if TYPE_CHECKING:
    from quantlab.calibration.samples import LayerSamples
    from quantlab.engine.quantize import Quantizer

CHANNELS, TOKENS, SPECIALS = 256, 64, 24
"""Of a landscape: at most so many channels and tokens, of which special tokens."""


def layer_view(
    name: str, quantizer: Quantizer, samples: LayerSamples | None = None, *, job: Job | None = None
) -> LayerView:
    """Measure one layer under the recipe in force.

    Args:
        name: Of the layer.
        quantizer: Holds the network, and the recipe it last applied (before that: nothing is quantized).
        samples: Of the layer inputs; by default those the quantizer calibrates with.
        job: Followed where a picture of a search needs gradients that are no longer at hand.

    Raises:
        RecipeError: There is no such layer; the nearest names are given.
    """
    decision = _decision(name, quantizer)
    seen = _seen(name, quantizer, samples)
    layer, simulated = quantizer.reference.get_submodule(name), quantizer.layer(name)
    searched = quantizer.searched(name, job) if samples is None else seen
    with torch.no_grad():
        output = branch_output(name, quantizer, job) if samples is None else None
        return _measure(decision, seen, searched, layer, simulated, output, seed=quantizer.seed)


def _decision(name: str, quantizer: Quantizer) -> LayerPlan:
    known = (quantizer.plan or plan(quantizer.structure, Recipe())).layers
    if name not in known:
        from difflib import get_close_matches

        near = ", ".join(get_close_matches(str(name), known, n=3))
        remedy = f"Did you mean {near}?" if near else "The names are in lab.structure.layers."
        raise RecipeError(f"there is no layer {str(name)[:80]!r}", remedy=remedy)
    return known[name]


def _seen(name: str, quantizer: Quantizer, samples: LayerSamples | None) -> LayerData | None:
    if samples is None:
        return quantizer.samples(name)
    return quantizer.calibration.of(samples, name, quantizer.reference, quantizer.structure)


def _measure(
    decision: LayerPlan,
    seen: LayerData | None,
    searched: LayerData | None,
    layer: nn.Module,
    simulated: Simulated | None,
    output: BranchOutput | None,
    *,
    seed: int,
) -> LayerView:
    rows = seen.rows.float() if seen is not None and len(seen.rows) else None
    stages = {} if rows is None else _stages(rows, simulated)
    before = list(stages.values())[-2] if "quantized" in stages else None
    rounding = None if before is None else _rounding(before, simulated)
    facts: dict[str, Any] = {
        "name": decision.name,
        "settings": decision.settings,
        "quantized": decision.quantized,
        "reason": decision.reason,
        "steps": {step: histogram_of(x) for step, x in stages.items()},
        **(no_grid() if before is None or rounding is None else grid_facts(before, *rounding)),
        "channel_absmax": {step: x.abs().amax(dim=0).cpu().numpy() for step, x in stages.items()},
        **_landscapes(stages, seen),
        "search": search_curve(decision, searched, layer, simulated),
        "output_error": None if rows is None else _output_error(rows, layer, simulated),
        "weight_error": _weight_error(layer, simulated),
        "weights": weight_view(layer, simulated, decision.settings),
        "output": output,
    }
    evidence = None
    if seen is not None and rows is not None:
        evidence = gather_evidence(decision, seen, stages, layer, simulated, seed=seed)
    return LayerView(**facts, evidence=evidence, reading=read_layer(facts, evidence, output))


def _stages(rows: Tensor, simulated: Simulated | None) -> dict[str, Tensor]:
    """The input after each step that is taken, in order."""
    stages = {"raw": rows}
    if isinstance(simulated, SimulatedLinear):
        x = rows
        for transform in simulated.transforms:
            x = transform(x)
            stages[str(transform.step)] = x
        if simulated.activations is not None:
            stages["quantized"] = simulated.activations(x)
    return stages


def _rounding(x: Tensor, simulated: Simulated | None) -> tuple[Any, Range] | None:
    """Format and scales the rows are rounded with."""
    activations = simulated.activations if isinstance(simulated, SimulatedLinear) else None
    if isinstance(activations, DynamicActivations):
        return activations.spec, clipped(minmax_range(x, activations.spec), activations.clip)
    if isinstance(activations, StaticActivations):
        return activations.spec, Range(activations.scale, activations.zero_point)
    return None


def _landscapes(stages: dict[str, Tensor], seen: LayerData | None) -> dict[str, Any]:
    if not stages or seen is None:
        return {"landscape": {}, "landscape_kinds": np.zeros(0, dtype=np.uint8)}
    raw = stages["raw"]
    channels = spread(raw.abs().amax(dim=0), CHANNELS)
    tokens = _tokens(seen.kinds)
    pictures = {step: x[tokens][:, channels].T.cpu().numpy() for step, x in stages.items()}
    return {
        "landscape": pictures,
        "landscape_kinds": seen.kinds[tokens.numpy()],
        "landscape_channels": channels.numpy(),
        "landscape_tokens": tokens.numpy(),
    }


def _tokens(kinds: NDArray[np.uint8]) -> Tensor:
    """Indices of the first special tokens, kind by kind, then of patches, evenly."""
    special = np.flatnonzero(kinds != PATCH)[:SPECIALS]
    special = special[np.argsort(kinds[special], kind="stable")]
    patches = np.flatnonzero(kinds == PATCH)
    room = min(len(patches), TOKENS - len(special))
    even = patches[np.linspace(0, len(patches) - 1, room).round().astype(int)] if room else patches[:0]
    return torch.from_numpy(np.concatenate((special, even)))


def _output_error(rows: Tensor, layer: nn.Module, simulated: Simulated | None) -> float | None:
    if simulated is None:
        return 0.0
    if not isinstance(simulated, SimulatedLinear) or not isinstance(layer, nn.Linear):
        return None
    exact = F.linear(rows.to(layer.weight.dtype), layer.weight, layer.bias)
    return relative(exact, simulated(rows.to(layer.weight.dtype)))


def _weight_error(layer: nn.Module, simulated: Simulated | None) -> float:
    if simulated is None:
        return 0.0
    return relative(folded_weight(layer, simulated), simulated.effective_weight())

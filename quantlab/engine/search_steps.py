"""The range search of one layer, made again for its picture. It chooses nothing that is kept."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from quantlab.calibration.layer_data import LayerData
from quantlab.engine.plan import LayerPlan
from quantlab.engine.rounding import Prepared, static_range, weight_range
from quantlab.engine.settings import LayerSettings
from quantlab.engine.stages import weighable
from quantlab.engine.views import SearchCurve
from quantlab.engine.weight_steps import folded_weight
from quantlab.kernels.activations import StaticActivations
from quantlab.kernels.reference import Simulated, SimulatedLinear
from quantlab.numerics.records import SearchTrace

CHEAP = 1 << 20
"""Numbers of a tensor up to which all candidates are looked at beside those the search visited."""


def search_curve(
    decision: LayerPlan, seen: LayerData | None, layer: nn.Module, simulated: Simulated | None
) -> SearchCurve | None:
    """The search of the weight's scales, or of a static input's; None where none was made.

    It is made again: it is deterministic, and keeping its trace would cost memory.
    """
    if not isinstance(layer, nn.Linear):
        seen = None  # the samples of a convolution are pixels, which its weight does not multiply one by one
    settings = weighable(decision.settings, seen)
    if simulated is None or settings.range_search not in ("grid", "ternary"):
        return None

    def searched(asked: LayerSettings) -> tuple[SearchTrace | None, str]:
        return _trace(decision.name, asked, seen, layer, simulated)

    trace, what = searched(settings)
    if trace is None:
        return None
    count = (
        simulated.weight_rows().numel() if what == "weight" else (0 if seen is None else seen.rows.numel())
    )
    whole = searched(replace(settings, range_search="grid"))[0] if count <= CHEAP else None
    return _curve(trace, whole, what)


def _trace(
    name: str, settings: LayerSettings, seen: LayerData | None, layer: nn.Module, simulated: Simulated
) -> tuple[SearchTrace | None, str]:
    behind, weight = seen, folded_weight(layer, simulated)
    transforms = simulated.transforms if isinstance(simulated, SimulatedLinear) else ()
    for transform in transforms:
        behind = None if behind is None else behind.through(transform)
    if simulated.spec is not None:
        return weight_range(name, weight.float(), settings, simulated.spec, behind)[1], "weight"
    activations = simulated.activations if isinstance(simulated, SimulatedLinear) else None
    if isinstance(activations, StaticActivations):
        prepared = Prepared(tuple(transforms), weight, behind)  # type: ignore[arg-type]
        trace = static_range(name, prepared, simulated.weight, settings, activations.spec, seen)[1]
        return trace, "input"
    return None, ""


def _curve(trace: SearchTrace, whole: SearchTrace | None, what: str) -> SearchCurve:
    """Of all scales searched for, the one that is left with the largest loss."""
    worst = int(trace.loss.argmax())
    visited = trace.visited(worst)
    place = f"{what}, scale {worst + 1} of {len(trace.base)}" if len(trace.base) > 1 else what
    every = () if whole is None else sorted(whole.visited(worst))
    return SearchCurve(
        tuple(scale for scale, _ in visited),
        tuple(loss for _, loss in visited),
        place,
        tuple(scale for scale, _ in every),
        tuple(loss for _, loss in every),
    )

"""Measures why a layer is hard to quantize, and what would help, on its samples. Words are made elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from quantlab.calibration.layer_data import LayerData
from quantlab.engine.build import build_layer
from quantlab.engine.plan import LayerPlan
from quantlab.engine.settings import FULL_PRECISION, LayerSettings
from quantlab.engine.views import Evidence, Remedy
from quantlab.engine.weight_steps import folded_weight
from quantlab.errors import QuantLabError
from quantlab.kernels.reference import Simulated, SimulatedLinear
from quantlab.models.tokens import KINDS

HALF = 0.5
MOST_PRODUCTS = 1 << 31
"""Of a product of samples and weight; beyond it fewer samples are looked at."""
ROTATION, ALPHA = "hadamard", 0.5
"""What remedies try."""


def gather_evidence(
    decision: LayerPlan,
    seen: LayerData,
    stages: Mapping[str, Tensor],
    layer: nn.Module,
    simulated: Simulated | None,
    *,
    seed: int,
) -> Evidence:
    """Find the channels and token kinds that make the range, where the error comes from, and what would lower it.

    Args:
        decision: Of the plan.
        seen: Samples of the layer's input.
        stages: Those samples after each step.
        layer: In full precision.
        simulated: Its quantized stand-in, or None.
        seed: Of the recipe's rotations.
    """
    rows = stages["raw"]
    channels, channel_share = dominant(range_makers(rows))
    kind, count, kind_share = outstanding_kind(rows.abs().amax(dim=1), seen.kinds)
    evidence = Evidence(
        channels=channels,
        channel_share=channel_share,
        width=rows.shape[1],
        kind=kind,
        kind_tokens=count,
        kind_share=kind_share,
        tokens=len(rows),
        crest={step: crest(x) for step, x in stages.items()},
    )
    if not isinstance(simulated, SimulatedLinear) or not isinstance(layer, nn.Linear):
        return evidence
    few = rows[:: max(1, -(-rows.numel() * layer.out_features // MOST_PRODUCTS))]
    input_only, weight_only = _apart(few, layer, simulated)
    plain, remedies = try_remedies(decision, seen, few, layer, seed=seed)
    return replace(
        evidence, input_only=input_only, weight_only=weight_only, plain_error=plain, remedies=remedies
    )


def range_makers(rows: Tensor) -> Tensor:
    """Each token's squared maximum, given to the channel it lies in and summed there: float64 ``[channels]``."""
    peaks, places = rows.abs().max(dim=1)
    made = torch.zeros(rows.shape[1], dtype=torch.float64, device=rows.device)
    return made.index_add_(0, places, peaks.double().square())


def dominant(parts: Tensor) -> tuple[tuple[int, ...], float]:
    """The fewest indices that carry half of a sum, largest first, and the share they carry."""
    total = float(parts.sum())
    if not total > 0:
        return (), 0.0
    order = parts.argsort(descending=True, stable=True)
    running = parts[order].cumsum(0) / total
    count = int(torch.searchsorted(running, HALF - 1e-12)) + 1
    return tuple(order[:count].tolist()), float(running[count - 1])


def outstanding_kind(peaks: Tensor, kinds: NDArray[np.uint8]) -> tuple[str, int, float]:
    """The token kind whose share of the squared peaks exceeds its share of the tokens most; how many; that share."""
    squared = peaks.double().square().cpu().numpy()
    total = float(squared.sum())
    if not total > 0:
        return "", 0, 0.0
    shares = {int(code): float(squared[kinds == code].sum()) / total for code in np.unique(kinds)}
    counts = {code: int((kinds == code).sum()) for code in shares}
    most = max(shares, key=lambda code: shares[code] - counts[code] / len(kinds))
    return KINDS[most], counts[most], shares[most]


def crest(x: Tensor) -> float:
    """The largest magnitude over the root mean square: how far the largest value sticks out of a tensor; 0 of zeros."""
    rms = float(x.double().square().mean().sqrt())
    return float(x.abs().max()) / rms if rms else 0.0


def _apart(rows: Tensor, layer: nn.Linear, simulated: SimulatedLinear) -> tuple[float | None, float | None]:
    """Relative output error with only the input rounded, and with only the weight."""
    exact = _output(rows, layer)
    behind = simulated.transform(rows)
    folded = folded_weight(layer, simulated).to(rows.dtype)
    bias = None if layer.bias is None else layer.bias.to(rows.dtype)
    input_only = weight_only = None
    if simulated.activations is not None:
        input_only = relative(exact, F.linear(simulated.activations(behind), folded, bias))
    if simulated.spec is not None:
        weight_only = relative(exact, F.linear(behind, simulated.effective_weight().to(rows.dtype), bias))
    return input_only, weight_only


def try_remedies(
    decision: LayerPlan, seen: LayerData, rows: Tensor, layer: nn.Linear, *, seed: int
) -> tuple[float | None, tuple[Remedy, ...]]:
    """Build the layer with rotation, smoothing and both, where it has them not, and measure each on its samples.

    Searches, GPTQ and learning are left out on both sides, so that only the transforms differ.

    Returns:
        The output error without them, None where nothing was tried; what was tried, best first.
    """
    plain = _plain(decision.settings)
    changes = _changes(plain)
    if not decision.quantized or not changes or plain.twin:
        return None, ()
    exact, tried = _output(rows, layer), []
    name, dtype = decision.name, layer.weight.dtype
    try:
        before = relative(exact, build_layer(name, layer, plain, seed=seed, data=seen)(rows.to(dtype)))
        for called, settings in changes.items():
            other = build_layer(name, layer, settings, seed=seed, data=seen)
            if isinstance(other, SimulatedLinear):
                error = relative(exact, other(rows.to(dtype)))
                tried.append(Remedy(called, crest(other.transform(rows.to(dtype))), error))
    except QuantLabError:  # as a width that has no Hadamard matrix: then nothing can be said of it
        return None, ()
    return before, tuple(sorted(tried, key=lambda remedy: remedy.output_error))


def _plain(settings: LayerSettings) -> LayerSettings:
    """The same format and transforms, without anything that searches or learns."""
    smoothing = {} if settings.smoothing is None else {"smoothing_rule": "balance"}
    return replace(
        settings,
        range_search="minmax",
        rounding="nearest",
        low_rank=0,
        reconstruction="none",
        inputs="full_precision",
        fragile=0.0,
        **smoothing,  # type: ignore[arg-type]
    )


def _changes(plain: LayerSettings) -> dict[str, LayerSettings]:
    """What to try, by name."""
    can_rotate = plain.rotation == "none"
    can_smooth = plain.smoothing is None and plain.activations < FULL_PRECISION
    tried: dict[str, LayerSettings] = {}
    if can_rotate:
        tried["rotation"] = replace(plain, rotation=ROTATION)
    if can_smooth:
        tried["smoothing"] = replace(plain, smoothing=ALPHA)
    if can_rotate and can_smooth:
        tried["rotation and smoothing"] = replace(plain, rotation=ROTATION, smoothing=ALPHA)
    return tried


def _output(rows: Tensor, layer: nn.Linear) -> Tensor:
    return F.linear(rows.to(layer.weight.dtype), layer.weight, layer.bias)


def relative(exact: Tensor, other: Tensor) -> float:
    """|y - y_hat| / |y| in the Frobenius norm; 0 of zeros."""
    size = float(exact.double().norm())
    return float((exact.double() - other.double()).norm()) / size if size else 0.0

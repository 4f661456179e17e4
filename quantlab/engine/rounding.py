"""Formats, ranges and rounding of one layer as its settings ask. It chooses no transform and builds no layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from quantlab.calibration.layer_data import LayerData
from quantlab.engine.settings import FULL_PRECISION, LayerSettings
from quantlab.errors import RecipeError
from quantlab.kernels.activations import DynamicActivations, StaticActivations, TwinActivations
from quantlab.methods import gptq
from quantlab.methods.clipping import RANGES
from quantlab.methods.learned import Learned
from quantlab.methods.objectives import activation_loss, activation_rows, weight_loss
from quantlab.methods.rounding import ROUNDINGS
from quantlab.methods.transforms import Transform
from quantlab.methods.twin import twin_range
from quantlab.numerics.formats import QuantSpec
from quantlab.numerics.ranges import Range, clipped, minmax_range
from quantlab.numerics.records import SearchTrace

METHODS = (gptq,)
"""Imported so that their way of rounding is registered."""


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A linear layer behind its transforms, before rounding.

    Attributes:
        transforms: In order.
        weight: float64 ``[out, in]``, transforms folded in.
        data: What calibration saw, behind the transforms; None without calibration.
    """

    transforms: tuple[Transform, ...]
    weight: Tensor
    data: LayerData | None = None


@dataclass(frozen=True, slots=True, eq=False)
class RoundedWeight:
    """A weight matrix on its grid, in the layer's dtype; spec and chosen are None where nothing was rounded."""

    weight: Tensor
    spec: QuantSpec | None = None
    chosen: Range | None = None


def weight_spec(settings: LayerSettings) -> QuantSpec | None:
    """The format of the weight, or None where it is not rounded."""
    if settings.weights == FULL_PRECISION:
        return None
    size = settings.group_size if settings.weight_granularity == "group" else 0
    return QuantSpec(settings.weights, settings.weight_symmetric, settings.weight_granularity, size)


def activation_spec(settings: LayerSettings) -> QuantSpec | None:
    """The format of the input, or None where it is not rounded."""
    if settings.activations == FULL_PRECISION:
        return None
    return QuantSpec(settings.activations, settings.activation_symmetric, settings.activation_granularity)


def weight_range(
    name: str, weight: Tensor, settings: LayerSettings, spec: QuantSpec, data: LayerData | None = None
) -> tuple[Range, SearchTrace | None]:
    """Scales of a weight ``[out, in]``, and the search for them where there was one; ``data`` in the weight's basis."""
    loss = weight_loss(settings.search_loss, weight, spec, data, place=name) if _searches(settings) else None
    search = RANGES[settings.range_search]
    return search(weight, spec, percentile=settings.percentile, place=name, loss=loss)


def static_range(
    name: str,
    prepared: Prepared,
    rounded: Tensor,
    settings: LayerSettings,
    spec: QuantSpec,
    data: LayerData | None,
) -> tuple[Range, SearchTrace | None]:
    """The fixed scale of a layer's input (of a twin quantizer the one above zero).

    Args:
        name: Of the layer.
        prepared: The layer before rounding.
        rounded: Its weight after rounding: what the input's error passes through.
        settings: In force.
        spec: Format of the input.
        data: What calibration saw, in the network's own basis.

    Raises:
        RecipeError: There are no samples.
    """
    if data is None or prepared.data is None or not len(data.rows):
        raise RecipeError(
            "a static activation scale needs calibration that runs this layer",
            place=name,
            remedy="Pass calibration inputs, or use activation_mode 'dynamic'.",
        )
    place, loss, rows = f"input of {name}", None, prepared.data.rows
    if _searches(settings) and settings.search_loss != "self":
        loss = activation_loss(settings.search_loss, prepared.weight, rounded, prepared.data, place=name)
        rows = activation_rows(prepared.data)
    if settings.twin:
        scale, trace = twin_range(rows, spec, search=settings.range_search, loss=loss, place=place)
        return Range(scale, None), trace
    if settings.range_search == "minmax" and not prepared.transforms:
        rows = _with_extremes(rows, data)
    return RANGES[settings.range_search](rows, spec, percentile=settings.percentile, place=place, loss=loss)


def round_weight(
    name: str,
    weight: Tensor,
    settings: LayerSettings,
    dtype: torch.dtype,
    data: LayerData | None = None,
    clip: Tensor | None = None,
) -> RoundedWeight:
    """Round a weight matrix in float32 (float64 stays); its dtype afterwards is that of the layer.

    Args:
        name: Of the layer.
        weight: ``[out, in]``, behind the layer's transforms.
        settings: In force.
        dtype: Of the layer.
        data: What calibration saw, in the weight's basis.
        clip: Learned share of each output channel's range; it takes the place of a range search.
    """
    spec = weight_spec(settings)
    if spec is None:
        return RoundedWeight(weight.to(dtype))
    working = weight.to(torch.float64 if dtype == torch.float64 else torch.float32)
    if clip is None:
        chosen, _ = weight_range(name, working, settings, spec, data)
    else:
        chosen = clipped(minmax_range(working, spec, place=name), clip)
    rounding = ROUNDINGS[settings.rounding]
    rounded = rounding(working, chosen, spec, data=data, order=settings.column_order, place=name)
    return RoundedWeight(rounded.to(dtype), spec, chosen)


def activations_of(
    name: str,
    prepared: Prepared,
    rounded: Tensor,
    settings: LayerSettings,
    data: LayerData | None,
    learned: Learned | None,
) -> nn.Module | None:
    """What rounds the layer's input, or None; arguments as in `static_range`."""
    spec = activation_spec(settings)
    if spec is None:
        return None
    if settings.twin and prepared.transforms:
        raise RecipeError(
            "a twin quantizer wants a GELU's output as it is, and this input is rotated or smoothed",
            place=name,
            remedy="Turn twin off, or rotation and smoothing.",
        )
    share = 1.0 if learned is None or learned.activation_clip is None else learned.activation_clip
    if settings.activation_mode == "dynamic":
        return TwinActivations(spec, name) if settings.twin else DynamicActivations(spec, name, clip=share)
    chosen, _ = static_range(name, prepared, rounded, settings, spec, data)
    if settings.twin:
        return TwinActivations(spec, name, chosen.scale)
    return StaticActivations(spec, clipped(chosen, share), name)


def _searches(settings: LayerSettings) -> bool:
    return settings.range_search in ("grid", "ternary")


def _with_extremes(rows: Tensor, data: LayerData) -> Tensor:
    """The channels' own extremes are known over all tokens, sampled or not; their sign is not."""
    low, high = float(rows.min()), float(rows.max())
    peak = data.absmax.max().expand(1, rows.shape[1])
    both = [row for row, there in ((peak, high > 0), (-peak, low < 0)) if there]
    return torch.cat((rows, *both))

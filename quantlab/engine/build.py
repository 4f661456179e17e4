"""Building one quantized layer from its settings. It knows no network, no recipe and no cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quantlab.engine.settings import FULL_PRECISION, LayerSettings
from quantlab.errors import CheckpointError, NumericError, RecipeError
from quantlab.kernels.activations import DynamicActivations, StaticActivations
from quantlab.kernels.reference import (
    Simulated,
    SimulatedConv2d,
    SimulatedConvTranspose2d,
    SimulatedLinear,
    transposed_rows,
    transposed_weight,
)
from quantlab.methods import rotation, smoothing
from quantlab.methods.clipping import RANGES
from quantlab.methods.transforms import TRANSFORMS, Transform, TransformContext
from quantlab.numerics.finite import require_finite
from quantlab.numerics.formats import QuantSpec
from quantlab.numerics.ranges import Range
from quantlab.numerics.records import SearchTrace
from quantlab.numerics.rounding import fake_quantize

METHODS = (rotation, smoothing)
"""Imported so that their transforms are registered."""


@dataclass(frozen=True, slots=True, eq=False)
class InputSamples:
    """What calibration saw at one layer's input.

    Attributes:
        rows: ``[n, in]``, sampled tokens.
        absmax: ``[in]``, largest |x| of each channel over all tokens.
        kinds: uint8 ``[n]``, the kind of each sampled token, an index into `quantlab.models.tokens.KINDS`.
    """

    rows: Tensor
    absmax: Tensor
    kinds: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A linear layer behind its transforms, before rounding.

    Attributes:
        transforms: Their names and modules, in order.
        weight: float64 ``[out, in]``, transforms folded in.
    """

    transforms: tuple[tuple[str, Transform], ...]
    weight: Tensor

    def rows(self, x: Tensor) -> Tensor:
        """Inputs ``[n, in]`` behind the transforms."""
        for _, transform in self.transforms:
            x = transform(x)
        return x


def build_layer(
    name: str, layer: nn.Module, settings: LayerSettings, *, seed: int, samples: InputSamples | None
) -> Simulated:
    """The quantized stand-in of ``layer``, which is not changed.

    Args:
        name: Named in errors.
        layer: A Linear, Conv2d or ConvTranspose2d.
        settings: In force, that is of the plan: those of a convolution ask for its weight only.
        seed: Of the rotation.
        samples: Of the layer's input; needed where ``settings.calibrated``.

    Raises:
        NumericError: The weight, or what it becomes, holds a NaN or an infinity; names the layer.
        RecipeError: Calibration is needed and absent, or a group size does not divide.
        CheckpointError: The weight does not hold floating point numbers.
    """
    require_full_precision(name, layer)
    if isinstance(layer, nn.Linear):
        return _linear(
            name, layer, settings, prepare(name, layer, settings, seed=seed, samples=samples), samples
        )
    if isinstance(layer, nn.Conv2d):
        weight, spec, chosen = _round(name, layer.weight.detach().flatten(1), settings, layer.weight.dtype)
        return SimulatedConv2d(layer, weight.reshape(layer.weight.shape), spec, chosen)
    if isinstance(layer, nn.ConvTranspose2d):
        rows = transposed_rows(layer.weight.detach(), layer.groups)
        weight, spec, chosen = _round(name, rows, settings, layer.weight.dtype)
        restored = transposed_weight(weight, layer.weight.shape, layer.groups)
        return SimulatedConvTranspose2d(layer, restored, spec, chosen)
    raise TypeError(f"{type(layer).__name__} is no quantizable layer")


def prepare(
    name: str, layer: nn.Linear, settings: LayerSettings, *, seed: int, samples: InputSamples | None
) -> Prepared:
    """Choose the transforms of a linear layer, in the order of its settings, and fold them into its weight.

    A layer that calibration never ran is left unsmoothed: there is nothing to smooth by.
    """
    weight = layer.weight.detach().double()
    rows = None if samples is None else samples.rows
    chosen: list[tuple[str, Transform]] = []
    for transform in _order(settings):
        peaks = None
        if transform == "smoothing" and samples is not None:
            peaks = _peaks(rows, samples, fresh=not chosen)
        context = TransformContext(weight, peaks, settings.smoothing or 0.0, seed, name)
        made = TRANSFORMS[transform](context).to(layer.weight.device)
        weight = made.fold(weight)
        rows = None if rows is None or transform == _order(settings)[-1] else made(rows)
        chosen.append((transform, made))
    return Prepared(tuple(chosen), weight)


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
    name: str, weight: Tensor, settings: LayerSettings, spec: QuantSpec
) -> tuple[Range, SearchTrace | None]:
    """Scales of a weight ``[out, in]``, and the search for them where there was one."""
    return RANGES[settings.range_search](weight, spec, percentile=settings.percentile, place=name)


def static_range(
    name: str, prepared: Prepared, settings: LayerSettings, spec: QuantSpec, samples: InputSamples | None
) -> tuple[Range, SearchTrace | None]:
    """The fixed scale of a layer's input.

    Raises:
        RecipeError: There are no samples.
    """
    if samples is None or not len(samples.rows):
        raise RecipeError(
            "a static activation scale needs calibration that runs this layer",
            place=name,
            remedy="Pass calibration inputs, or use activation_mode 'dynamic'.",
        )
    rows = prepared.rows(samples.rows)
    if settings.range_search == "minmax" and not prepared.transforms:
        # The channels' own extremes are known over all tokens, sampled or not; their sign is not.
        low, high = float(rows.min()), float(rows.max())
        peak = samples.absmax.max().expand(1, rows.shape[1])
        both = [row for row, there in ((peak, high > 0), (-peak, low < 0)) if there]
        rows = torch.cat((rows, *both))
    return RANGES[settings.range_search](rows, spec, percentile=settings.percentile, place=f"input of {name}")


def require_full_precision(name: str, layer: nn.Module) -> None:
    """Refuse weights that are codes already, or not finite.

    Raises:
        CheckpointError: The weight does not hold floating point numbers.
        NumericError: It holds a NaN or an infinity, or is empty.
    """
    weight = layer.weight
    if not isinstance(weight, Tensor) or not weight.is_floating_point() or weight.element_size() < 2:
        raise CheckpointError(
            "the weight is already quantized", place=name, remedy="Load the full-precision checkpoint."
        )
    if weight.numel() == 0:
        raise NumericError(
            "the weight holds no values", place=name, remedy="Keep this layer in full precision."
        )
    require_finite(weight.detach(), place=name)


def _linear(
    name: str, layer: nn.Linear, settings: LayerSettings, prepared: Prepared, samples: InputSamples | None
) -> SimulatedLinear:
    weight, spec, chosen = _round(name, prepared.weight, settings, layer.weight.dtype)
    return SimulatedLinear(
        weight,
        layer.bias,
        transforms=[transform for _, transform in prepared.transforms],
        activations=_activations(name, prepared, settings, samples),
        spec=spec,
        chosen=chosen,
    )


def _round(
    name: str, weight: Tensor, settings: LayerSettings, dtype: torch.dtype
) -> tuple[Tensor, QuantSpec | None, Range | None]:
    """Round a weight matrix in float32 (float64 stays); its dtype afterwards is that of the layer."""
    spec = weight_spec(settings)
    if spec is None:
        return weight.to(dtype), None, None
    working = weight.to(torch.float64 if dtype == torch.float64 else torch.float32)
    chosen, _ = weight_range(name, working, settings, spec)
    return fake_quantize(working, *chosen, spec).to(dtype), spec, chosen


def _activations(
    name: str, prepared: Prepared, settings: LayerSettings, samples: InputSamples | None
) -> nn.Module | None:
    spec = activation_spec(settings)
    if spec is None:
        return None
    if settings.activation_mode == "dynamic":
        return DynamicActivations(spec, name)
    chosen, _ = static_range(name, prepared, settings, spec, samples)
    return StaticActivations(spec, chosen, name)


def _order(settings: LayerSettings) -> Sequence[str]:
    names = [settings.rotation] if settings.rotation != "none" else []
    if settings.smoothing is None:
        return names
    return [*names, "smoothing"] if settings.smoothing_order == "after" else ["smoothing", *names]


def _peaks(rows: Tensor | None, samples: InputSamples, *, fresh: bool) -> Tensor:
    """Largest |x| of each channel: known exactly before any transform, from the samples after one."""
    if fresh or rows is None or not len(rows):
        return samples.absmax
    return rows.abs().amax(dim=0)

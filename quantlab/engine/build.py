"""Building one quantized layer from its settings. It knows no network, no recipe and no cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn

from quantlab.calibration.layer_data import LayerData
from quantlab.engine.rounding import Prepared, activation_spec, activations_of, round_weight, weight_spec
from quantlab.engine.settings import FULL_PRECISION, LayerSettings
from quantlab.errors import CheckpointError, NumericError
from quantlab.kernels.reference import (
    Simulated,
    SimulatedConv2d,
    SimulatedConvTranspose2d,
    SimulatedLinear,
    transposed_rows,
    transposed_weight,
)
from quantlab.methods import (
    awq,
    block_hadamard,
    cosine,
    kronecker,
    regular_hadamard,
    rotation,
    smoothing,
    smoothing_search,
    task_scales,
)
from quantlab.methods.learned import Learned
from quantlab.methods.low_rank import split
from quantlab.methods.transforms import TRANSFORMS, Transform, TransformContext
from quantlab.numerics.finite import require_finite

METHODS = (
    awq,
    block_hadamard,
    cosine,
    kronecker,
    regular_hadamard,
    rotation,
    smoothing,
    smoothing_search,
    task_scales,
)
"""Imported so that their transforms are registered."""


def build_layer(
    name: str,
    layer: nn.Module,
    settings: LayerSettings,
    *,
    seed: int,
    data: LayerData | None = None,
    learned: Learned | None = None,
) -> Simulated:
    """The quantized stand-in of ``layer``, which is not changed.

    Args:
        name: Named in errors.
        layer: A Linear, Conv2d or ConvTranspose2d.
        settings: In force, that is of the plan: those of a convolution ask for its weight only.
        seed: Of the rotation.
        data: What calibration saw at the layer's input; needed where ``settings.calibrated``.
        learned: What reconstruction found, in place of what the formulas of the settings give.

    Raises:
        NumericError: The weight, or what it becomes, holds a NaN or an infinity; names the layer.
        RecipeError: Calibration is needed and absent, or a group size does not divide.
        CheckpointError: The weight does not hold floating point numbers.
    """
    require_full_precision(name, layer)
    if isinstance(layer, nn.Linear):
        prepared = prepare(name, layer, settings, seed=seed, data=data, learned=learned)
        return _linear(name, layer, settings, prepared, data, learned)
    if isinstance(layer, nn.Conv2d):
        rounded = round_weight(name, layer.weight.detach().flatten(1), settings, layer.weight.dtype)
        return SimulatedConv2d(
            layer, rounded.weight.reshape(layer.weight.shape), rounded.spec, rounded.chosen
        )
    if isinstance(layer, nn.ConvTranspose2d):
        rows = transposed_rows(layer.weight.detach(), layer.groups)
        rounded = round_weight(name, rows, settings, layer.weight.dtype)
        restored = transposed_weight(rounded.weight, layer.weight.shape, layer.groups)
        return SimulatedConvTranspose2d(layer, restored, rounded.spec, rounded.chosen)
    raise TypeError(f"{type(layer).__name__} is no quantizable layer")


def prepare(
    name: str,
    layer: nn.Linear,
    settings: LayerSettings,
    *,
    seed: int,
    data: LayerData | None = None,
    learned: Learned | None = None,
) -> Prepared:
    """Choose the transforms of a linear layer, in the order of its settings, and fold them into its weight.

    A layer that calibration never ran is left unsmoothed: there is nothing to smooth by.
    """
    weight = layer.weight.detach().double()
    if data is not None and settings.calibration_tokens == "patch":
        data = data.only("patch")
    chosen: list[Transform] = []
    for transform in _order(settings, learned):
        context = TransformContext(
            weight,
            None if data is None else data.absmax,
            settings.smoothing or 0.0,
            seed,
            name,
            data,
            weight_spec(settings),
            activation_spec(settings),
            settings.rotation_group,
            learned,
        )
        made = TRANSFORMS[transform](context).to(layer.weight.device)
        weight = made.fold(weight)
        data = None if data is None else data.through(made)
        chosen.append(made)
    return Prepared(tuple(chosen), weight, data)


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
    name: str,
    layer: nn.Linear,
    settings: LayerSettings,
    prepared: Prepared,
    data: LayerData | None,
    learned: Learned | None,
) -> SimulatedLinear:
    branch = None
    if settings.low_rank and settings.weights < FULL_PRECISION:
        down, up, rest = split(prepared.weight, settings.low_rank)
        branch = (down.to(layer.weight.dtype), up.to(layer.weight.dtype))
        prepared = replace(prepared, weight=rest)
    clip = None if learned is None else learned.weight_clip
    rounded = round_weight(name, prepared.weight, settings, layer.weight.dtype, prepared.data, clip)
    return SimulatedLinear(
        rounded.weight,
        layer.bias,
        transforms=prepared.transforms,
        activations=activations_of(name, prepared, rounded.weight, settings, data, learned),
        spec=rounded.spec,
        chosen=rounded.chosen,
        low_rank=branch,
    )


def _order(settings: LayerSettings, learned: Learned | None) -> Sequence[str]:
    """The transforms by their registered names."""
    names = [settings.rotation] if settings.rotation != "none" else []
    if learned is not None and learned.divisor is not None:
        smoothing = "smoothing_learned"
    elif settings.smoothing is None:
        return names
    else:
        smoothing = (
            "smoothing" if settings.smoothing_rule == "balance" else f"smoothing_{settings.smoothing_rule}"
        )
    return [*names, smoothing] if settings.smoothing_order == "after" else [smoothing, *names]

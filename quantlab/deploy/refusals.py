"""What a graph of QuantizeLinear and DequantizeLinear cannot hold, found in a plan or a network. It writes nothing."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from quantlab.engine.plan import Plan
from quantlab.engine.settings import FULL_PRECISION, LayerSettings
from quantlab.errors import RecipeError
from quantlab.kernels.activations import Activations, StaticActivations
from quantlab.kernels.kv import RoundedHeads
from quantlab.kernels.reference import SimulatedConvTranspose2d, SimulatedLinear
from quantlab.models.structure import Structure

BITS = 8
NAMED = 3
STATIC = (
    "activations 8, activation_mode 'static' and activation_granularity 'tensor' (quantlab export --static)"
)
REASONS = {
    "dynamic": (
        "activation scales that are taken from each input",
        f"Use {STATIC}, or activations 16 for rounded weights alone.",
    ),
    "bits": (f"activations of other than {BITS} bits", f"Use {STATIC}, or activations 16."),
    "twin": ("activations with two scales", "Set twin to False (quantlab export --static)."),
    "kv": ("rounded keys and values", "Set kv_bits to 16 (quantlab export --static)."),
    "own": ("a rounding of activations that is not QuantLab's own", f"Use {STATIC}."),
    "grouped": ("a rounded transposed convolution in groups", "Set keep to True for it."),
}
"""Why, and what to do instead."""


def require_plan(plan: Plan, structure: Structure, target: str) -> None:
    """Refuse a recipe by its plan, before anything is calibrated.

    Raises:
        RecipeError: What the target cannot hold, the first layers that ask for it, and the nearest that it can.
    """
    _refuse(_asked(plan, structure), target)


def require_network(network: nn.Module, target: str) -> None:
    """Refuse a quantized network by its modules, before it is traced.

    Raises:
        RecipeError: As `require_plan`; or it computes in bfloat16.
    """
    if getattr(network, "compute_dtype", torch.float32) != torch.float32:
        raise RecipeError(
            f"{target} is written from a network that computes in float32",
            place=type(network).__name__,
            remedy="Load the model with dtype='float32'.",
        )
    _refuse(_found(network), target)


def _asked(plan: Plan, structure: Structure) -> Iterator[tuple[str, str]]:
    for name, layer in plan.layers.items():
        if layer.quantized and (reason := _reason(layer.settings)):
            yield reason, name
    for name, branch in plan.branches.items():
        if branch.rounds_kv and structure.branches[name].layers:
            yield "kv", name


def _reason(settings: LayerSettings) -> str:
    if settings.activations == FULL_PRECISION:
        return ""
    if settings.twin:
        return "twin"
    if settings.activation_mode != "static":
        return "dynamic"
    return "" if settings.activations == BITS else "bits"


def _found(network: nn.Module) -> Iterator[tuple[str, str]]:
    for name, module in network.named_modules():
        if isinstance(module, RoundedHeads):
            yield "kv", name
        elif isinstance(module, SimulatedConvTranspose2d) and module.groups > 1 and module.spec is not None:
            yield "grouped", name
        elif isinstance(module, SimulatedLinear) and module.activations is not None:
            reason = _rounding(module.activations)
            if reason:
                yield reason, name


def _rounding(activations: nn.Module) -> str:
    if not isinstance(activations, Activations):
        return "own"
    if type(activations) is StaticActivations:
        return "" if activations.spec.bits == BITS and activations.scale.numel() == 1 else "bits"
    return "twin" if "Twin" in type(activations).__name__ else "dynamic"


def _refuse(found: Iterator[tuple[str, str]], target: str) -> None:
    names: dict[str, list[str]] = {}
    for reason, name in found:
        names.setdefault(reason, []).append(name)
    for reason, where in names.items():
        problem, remedy = REASONS[reason]
        more = f" and {len(where) - NAMED} more" if len(where) > NAMED else ""
        raise RecipeError(
            f"{target} cannot hold {problem}", place=", ".join(where[:NAMED]) + more, remedy=remedy
        )

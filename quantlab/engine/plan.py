"""What a recipe would do to every layer and branch of a network, and what it would weigh, before any work is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from math import gcd
from typing import TYPE_CHECKING

from quantlab.engine.recipe import Recipe, Rule
from quantlab.engine.settings import (
    BRANCH_FIELDS,
    FULL_PRECISION,
    LAYER_FIELDS,
    BranchSettings,
    LayerSettings,
)
from quantlab.errors import RecipeError

if TYPE_CHECKING:
    from quantlab.models.structure import BranchInfo, LayerInfo, Structure

FULL_BYTES = 2
"""Of a number that is not quantized: bfloat16."""
SCALE_BYTES = 4
NAMED = 3


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """The decision about one layer.

    Attributes:
        settings: What will be in force; differs from the recipe where the layer cannot do what was asked.
        quantized: Whether it is touched at all.
        reason: Why, in words.
        bytes: Packed weight, scales, smoothing factors and bias.
        full_bytes: The same layer in bfloat16.
    """

    name: str
    settings: LayerSettings
    quantized: bool
    reason: str
    bytes: int
    full_bytes: int


@dataclass(frozen=True, slots=True)
class BranchPlan:
    """The decision about one branch.

    Attributes:
        compensated: "off", "on" or "auto" (decided by the data); "off" where nothing in the branch is quantized.
        rank: Of the correction.
        bytes: Of the correction, 0 where it is off; where it is auto, what it would be.
    """

    name: str
    settings: BranchSettings
    compensated: str
    rank: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Decisions by name, in execution order.

    Attributes:
        bytes: All layers, and the corrections that are on (those on auto are known after fitting).
        full_bytes: All layers in bfloat16.
        warnings: What a person should know: rules that reach nothing, settings that have no effect.
    """

    layers: Mapping[str, LayerPlan]
    branches: Mapping[str, BranchPlan]
    bytes: int
    full_bytes: int
    warnings: tuple[str, ...]

    @property
    def quantized(self) -> tuple[str, ...]:
        """Names of the layers that are quantized."""
        return tuple(name for name, layer in self.layers.items() if layer.quantized)

    @property
    def calibrated(self) -> bool:
        """Whether samples of layer inputs, or runs of the network, are needed."""
        needs = any(layer.settings.calibrated for layer in self.layers.values() if layer.quantized)
        return needs or self.compensates

    @property
    def compensates(self) -> bool:
        """Whether a branch is, or may be, compensated."""
        return any(branch.compensated != "off" for branch in self.branches.values())


def plan(structure: Structure, recipe: Recipe) -> Plan:
    """Decide about every layer and branch.

    Raises:
        RecipeError: A group size that does not divide the input of a layer (the layers are named), or settings that
            contradict each other.
    """
    asked = recipe.layers(structure)
    layers = {name: _layer(info, asked[name]) for name, info in structure.layers.items()}
    _require_groups(structure, layers)
    branches = {name: _branch(info, recipe, layers, structure) for name, info in structure.branches.items()}
    corrections = sum(branch.bytes for branch in branches.values() if branch.compensated == "on")
    return Plan(
        layers=layers,
        branches=branches,
        bytes=sum(layer.bytes for layer in layers.values()) + corrections,
        full_bytes=sum(layer.full_bytes for layer in layers.values()),
        warnings=(*_warnings(structure, recipe), *_idle(layers, recipe)),
    )


def _layer(info: LayerInfo, asked: LayerSettings) -> LayerPlan:
    settings = asked if info.operator == "linear" else _weights_only(asked)
    full = info.parameters * FULL_BYTES
    size = _packed(info, settings) if settings.quantized else full
    reason = _reason(info, asked, settings)
    return LayerPlan(info.name, settings, settings.quantized, reason, size, full)


def _weights_only(asked: LayerSettings) -> LayerSettings:
    """What is left of the settings for a convolution."""
    granularity = "channel" if asked.weight_granularity == "group" else asked.weight_granularity
    return replace(
        asked,
        activations=FULL_PRECISION,
        activation_mode="dynamic",
        rotation="none",
        smoothing=None,
        weight_granularity=granularity,
    )


def _reason(info: LayerInfo, asked: LayerSettings, settings: LayerSettings) -> str:
    if asked.keep:
        return "kept in full precision"
    if not settings.quantized:
        return "16 bits everywhere: nothing is rounded"
    text = f"W{settings.weights}A{settings.activations}"
    return (
        text if info.operator == "linear" else f"{text}, weights only: a convolution's input is not rounded"
    )


def _packed(info: LayerInfo, settings: LayerSettings) -> int:
    """Bytes of a quantized layer: codes packed without gaps, float32 scales, a byte a zero point, bias in bfloat16."""
    matrix = info.in_features * info.out_features
    bias = info.parameters % matrix if matrix else 0
    weights = info.parameters - bias
    total = bias * FULL_BYTES + (info.in_features * SCALE_BYTES if settings.smoothing is not None else 0)
    if settings.weights == FULL_PRECISION:
        return total + weights * FULL_BYTES
    scales = {
        "tensor": 1,
        "channel": info.out_features,
        "group": info.out_features * max(1, info.in_features // settings.group_size),
    }[settings.weight_granularity]
    scale = SCALE_BYTES if settings.weight_symmetric else SCALE_BYTES + 1
    static = SCALE_BYTES + 1 if settings.static else 0
    return total + -(-weights * settings.weights // 8) + scales * scale + static


def _branch(
    info: BranchInfo, recipe: Recipe, layers: Mapping[str, LayerPlan], structure: Structure
) -> BranchPlan:
    settings = recipe.branch(info.name)
    first, last = structure.layers[info.layers[0]], structure.layers[info.layers[-1]]
    # numpy and torch are not needed for round(width * 128 / 1024); methods.compensation does the same.
    rank = min(
        settings.rank or max(1, round(first.in_features * 128 / 1024)), first.in_features, last.out_features
    )
    quantized = any(layers[name].quantized for name in info.layers)
    compensated = settings.compensation if quantized else "off"
    size = FULL_BYTES * (rank * (first.in_features + last.out_features) + last.out_features)
    return BranchPlan(info.name, settings, compensated, rank, size if compensated != "off" else 0)


def _require_groups(structure: Structure, layers: Mapping[str, LayerPlan]) -> None:
    """Refuse group sizes that divide no width, naming the layers and a size that would do for all of them."""
    grouped: dict[int, list[str]] = {}
    for name, layer in layers.items():
        settings = layer.settings
        if layer.quantized and settings.weight_granularity == "group" and settings.weights < FULL_PRECISION:
            grouped.setdefault(settings.group_size, []).append(name)
    for size, names in grouped.items():
        widths = {name: structure.layers[name].in_features for name in names}
        bad = [f"{name} ({width} wide)" for name, width in widths.items() if width % size]
        if not bad:
            continue
        more = f" and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
        common = gcd(*widths.values())
        fits = max(divisor for divisor in range(1, min(size, common) + 1) if common % divisor == 0)
        raise RecipeError(
            f"group_size {size} does not divide the input of {len(bad)} layer{'s' if len(bad) > 1 else ''}",
            place=", ".join(bad[:NAMED]) + more,
            remedy=f"Use group_size {fits}, or weight_granularity 'channel'.",
        )


def unmatched(structure: Structure, rule: Rule) -> str:
    """What is wrong with a rule that matches nothing it could change, with the name it may have meant; else ""."""
    names = [
        *(structure.layers if set(rule.settings) & set(LAYER_FIELDS) else ()),
        *(structure.branches if set(rule.settings) & set(BRANCH_FIELDS) else ()),
    ]
    if any(rule.matches(name) for name in names):
        return ""
    near = get_close_matches(rule.pattern, names, n=1)
    meant = f", was {near[0]!r} meant?" if near else ""
    return f"the rule for {rule.pattern!r} matches nothing{meant}"


def _warnings(structure: Structure, recipe: Recipe) -> list[str]:
    """Rules that match nothing."""
    warnings = [problem for rule in recipe.rules if (problem := unmatched(structure, rule))]
    if recipe.rules and len(warnings) == len(recipe.rules):
        warnings.append("no rule matches: the recipe was probably made for another model")
    return warnings


def _idle(layers: Mapping[str, LayerPlan], recipe: Recipe) -> list[str]:
    asks = [recipe.defaults, *(rule.settings for rule in recipe.rules)]
    rounds = any(min(ask.get("weights", 16), ask.get("activations", 16)) < FULL_PRECISION for ask in asks)
    if rounds and not any(layer.quantized for layer in layers.values()):
        return ["nothing is quantized: every layer is kept in full precision or out of scope"]
    return []

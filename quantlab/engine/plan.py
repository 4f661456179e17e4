"""What a recipe would do to every layer and branch of a network, and what it would weigh, before any work is done."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from math import gcd
from typing import TYPE_CHECKING

from quantlab.engine.attention import kv_layers, kv_scope
from quantlab.engine.recipe import Recipe, Rule
from quantlab.engine.settings import (
    BRANCH_FIELDS,
    FULL_PRECISION,
    LAYER_FIELDS,
    BranchSettings,
    LayerSettings,
)
from quantlab.errors import RecipeError
from quantlab.methods.mixed_precision import stays_quantized

if TYPE_CHECKING:
    from quantlab.models.structure import BranchInfo, LayerInfo, Structure

FULL_BYTES = 2
"""Of a number that is not quantized: bfloat16."""
SCALE_BYTES = 4
LARGEST_GROUP = 128
"""Columns that share a scale where the recipe leaves the group size open."""
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
        kv_bits: Of keys and values, which weigh nothing here; 16 where they are not rounded.
    """

    name: str
    settings: BranchSettings
    compensated: str
    rank: int
    bytes: int
    kv_bits: int = FULL_PRECISION

    @property
    def rounds_kv(self) -> bool:
        """Whether keys and values are rounded."""
        return self.kv_bits < FULL_PRECISION


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
        return needs or self.compensates or self.undecided

    @property
    def undecided(self) -> bool:
        """Whether something about a layer is left to the data, and decided when the recipe is applied."""
        return any(layer.settings.undecided for layer in self.layers.values() if layer.quantized)

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
    kv = _kv_reached(structure, recipe)
    branches = {
        name: _branch(info, recipe, layers, structure, kv) for name, info in structure.branches.items()
    }
    corrections = sum(branch.bytes for branch in branches.values() if branch.compensated == "on")
    return Plan(
        layers=layers,
        branches=branches,
        bytes=sum(layer.bytes for layer in layers.values()) + corrections,
        full_bytes=sum(layer.full_bytes for layer in layers.values()),
        warnings=(*_warnings(structure, recipe), *_idle(structure, layers, branches, recipe)),
    )


def _layer(info: LayerInfo, asked: LayerSettings) -> LayerPlan:
    settings = _fitted(asked, info) if info.operator == "linear" else _weights_only(asked)
    full = info.parameters * FULL_BYTES
    size = _packed(info, settings) if settings.quantized else full
    reason = _reason(info, asked, settings)
    return LayerPlan(info.name, settings, settings.quantized, reason, size, full)


def _fitted(asked: LayerSettings, info: LayerInfo) -> LayerSettings:
    """The settings with what depends on the layer put in: the group size, and a twin only behind a GELU."""
    if asked.weight_granularity == "group" and asked.group_size == 0:
        asked = replace(asked, group_size=_group_size(info.in_features))
    asked = replace(asked, low_rank=min(asked.low_rank, info.in_features, info.out_features))
    return replace(asked, twin=False) if asked.twin and info.kind != "fc2" else asked


def _group_size(width: int) -> int:
    """The largest divisor up to 128."""
    return max(size for size in range(1, min(width, LARGEST_GROUP) + 1) if width % size == 0)


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
        search_loss="self",
        rounding="nearest",
        low_rank=0,
        reconstruction="none",
        inputs="full_precision",
        twin=False,
    )


def _reason(info: LayerInfo, asked: LayerSettings, settings: LayerSettings) -> str:
    if asked.keep:
        return "kept in full precision"
    if not settings.quantized:
        return "16 bits everywhere: nothing is rounded"
    text = f"W{settings.weights}A{settings.activations}"
    if settings.fragile > 0 and info.block and not stays_quantized(info.kind):
        text += f", or 16 bits if its block is among the most sensitive {settings.fragile:.0%}"
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
        "group": info.out_features * max(1, info.in_features // max(1, settings.group_size)),
    }[settings.weight_granularity]
    scale = SCALE_BYTES if settings.weight_symmetric else SCALE_BYTES + 1
    static = SCALE_BYTES + 1 if settings.static else 0
    total += FULL_BYTES * settings.low_rank * (info.in_features + info.out_features)
    return total + -(-weights * settings.weights // 8) + scales * scale + static


def published_rank(width: int, bits: int) -> int:
    """Rank of a branch's correction: of 1024 channels 128 under weights of 4 bits, 16 above; in proportion otherwise.

    Source:
        TAPTQ (arXiv:2602.01741): W4A8, and W6A6 or W8A8; fewer bits than 4 are taken as 4.
    """
    return max(1, round(width * (128 if bits <= 4 else 16) / 1024))


def _branch(
    info: BranchInfo,
    recipe: Recipe,
    layers: Mapping[str, LayerPlan],
    structure: Structure,
    kv: Container[str],
) -> BranchPlan:
    settings = recipe.branch(info.name)
    first, last = structure.layers[info.layers[0]], structure.layers[info.layers[-1]]
    bits = min((layers[name].settings.weights for name in info.layers if layers[name].quantized), default=16)
    rank = settings.rank or published_rank(first.in_features, bits)
    rank = min(rank, first.in_features, last.out_features)
    kv_bits = settings.kv_bits if info.name in kv else FULL_PRECISION
    quantized = kv_bits < FULL_PRECISION or any(layers[name].quantized for name in info.layers)
    compensated = settings.compensation if quantized else "off"
    size = FULL_BYTES * (rank * (first.in_features + last.out_features) + last.out_features)
    return BranchPlan(info.name, settings, compensated, rank, size if compensated != "off" else 0, kv_bits)


def _kv_reached(structure: Structure, recipe: Recipe) -> frozenset[str]:
    """The attentions whose keys and values may be rounded: those in scope, and those that a rule is made for.

    As with layers, a rule reaches outside of the scope only where it matches nothing inside.
    """
    inside = kv_scope(structure)
    asked = [rule for rule in recipe.rules if "kv_bits" in rule.settings]
    outside = [rule for rule in asked if not any(rule.matches(name) for name in inside)]
    reachable = (name for name, info in structure.branches.items() if kv_layers(info, normed=False))
    return inside | {name for name in reachable if any(rule.matches(name) for rule in outside)}


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


def _idle(
    structure: Structure,
    layers: Mapping[str, LayerPlan],
    branches: Mapping[str, BranchPlan],
    recipe: Recipe,
) -> list[str]:
    """What the recipe asks for and no part of the network gets."""
    asks = [recipe.defaults, *(rule.settings for rule in recipe.rules)]
    rounds = any(min(ask.get("weights", 16), ask.get("activations", 16)) < FULL_PRECISION for ask in asks)
    found = []
    if rounds and not any(layer.quantized for layer in layers.values()):
        found.append("nothing is quantized: every layer is kept in full precision or out of scope")
    kv = any(ask.get("kv_bits", FULL_PRECISION) < FULL_PRECISION for ask in asks)
    if kv and not any(branch.rounds_kv for branch in branches.values()):
        found.append("no keys and values are rounded: no attention in reach has projections known by name")
    if not structure.branches and any(ask.get("compensation", "off") != "off" for ask in asks):
        found.append("nothing is compensated: the network has no attention or MLP branches")
    if not structure.blocks and any(ask.get("reconstruction", "none") != "none" for ask in asks):
        found.append("nothing is learned: the network has no blocks")
    return found

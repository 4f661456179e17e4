"""The settings of a layer and of a branch, with bounds and help that check, controls and tests share.

No patterns and no files here: those belong to `quantlab.engine.recipe`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, fields
from typing import Any

from quantlab.engine.fields import OpenChoices, check_fields, check_value, choice, number, switch
from quantlab.errors import RecipeError

BITS = (2, 3, 4, 5, 6, 7, 8, 16)
FULL_PRECISION = 16
ROTATIONS = OpenChoices("rotation", ("none", "hadamard", "regular", "block_hadamard", "dct", "kronecker"))
ROUNDINGS = OpenChoices("rounding", ("nearest", "gptq"))
RANGE_SEARCHES = OpenChoices("range_search", ("minmax", "percentile", "grid", "ternary"))
SMOOTHING_RULES = ("balance", "awq", "search", "task")
MOST = 4096


@dataclass(frozen=True, slots=True)
class LayerSettings:
    """How one layer (a Linear or a convolution) is quantized. Convolutions take the weight fields only.

    Raises:
        RecipeError: A value of the wrong type or out of its bounds, or settings that contradict each other.
    """

    weights: int = choice(16, BITS, "Bits per weight; 16: not rounded.")
    activations: int = choice(16, BITS, "Bits per value of the layer's input; 16: not rounded.")
    weight_granularity: str = choice(
        "channel",
        ("channel", "tensor", "group"),
        "Which weights share a scale: an output channel, all, or a group of neighbouring columns.",
    )
    group_size: int = number(
        128, 0, MOST, "Columns per group; must divide the input's width. 0: the largest divisor up to 128."
    )
    weight_symmetric: bool = choice(True, (True, False), "On: zero point 0. Off: a zero point per scale.")
    activation_granularity: str = choice(
        "token", ("token", "tensor"), "Which activations share a scale: a token, or all."
    )
    activation_symmetric: bool = choice(True, (True, False), "On: zero point 0. Off: a zero point per scale.")
    activation_mode: str = choice(
        "dynamic",
        ("dynamic", "static"),
        "Dynamic: the scale is taken from each input. Static: fixed by calibration.",
    )
    twin: bool = switch(
        "Two scales for a GELU's output: one for its positive side, a small fixed one for the negative."
    )
    rotation: str = choice(
        "none",
        ROTATIONS,
        "Mix the input channels by an orthogonal (kronecker: learned) matrix; the weight takes the inverse.",
    )
    rotation_group: int = number(
        0, 0, MOST, "Channels mixed together by 'regular' and 'block_hadamard'. 0: the largest that fits."
    )
    smoothing: float | None = number(
        None,
        0.0,
        1.0,
        "Divide input channels by max|x|^a / max|w|^(1-a); higher moves more into the weight. None: off.",
        optional=True,
    )
    smoothing_order: str = choice(
        "after",
        ("after", "before"),
        "Smooth after the rotation, with the rotated weight (QuantVGGT), or before it (SmoothRot).",
    )
    smoothing_rule: str = choice(
        "balance",
        SMOOTHING_RULES,
        "Balance: the formula above. Awq: mean|x|^a, a searched on the output's error. Search: the formula, a"
        " searched. Task: mean|x|^a, a searched on the network's result.",
    )
    range_search: str = choice(
        "minmax",
        RANGE_SEARCHES,
        "How the range of weights and of static activations is chosen; dynamic ones take min-max.",
    )
    percentile: float = number(99.9, 50.0, 100.0, "Share of magnitudes kept by range search 'percentile'.")
    search_loss: str = choice(
        "self",
        ("self", "output", "fisher"),
        "What a range search minimises: the rounding error itself, the layer's output error, or that error"
        " weighted by the gradient of the network's result.",
    )
    rounding: str = choice(
        "nearest",
        ROUNDINGS,
        "Nearest, or GPTQ: column by column, each column's error made good by those that follow.",
    )
    column_order: str = choice(
        "natural",
        ("natural", "activation"),
        "Order of GPTQ's columns: as they are, or the strongest inputs first.",
    )
    low_rank: int = number(
        0,
        0,
        MOST,
        "Rank of a branch in 16 bits that takes the weight's largest directions (SVDQuant); 0: none.",
    )
    reconstruction: str = choice(
        "none",
        ("none", "block", "fisher"),
        "Learn smoothing and clipping block by block on the block's output error, plain or Fisher-weighted.",
    )
    epochs: int = number(15, 1, 1000, "Passes over the calibration scenes while a block learns.")
    inputs: str = choice(
        "full_precision",
        ("full_precision", "quantized"),
        "What the layer is calibrated on: inputs of the full-precision network, or those that the quantized"
        " layers before it make.",
    )
    calibration_tokens: str = choice(
        "all", ("all", "patch"), "Which tokens searches look at: all, or image patches only (QVGGT)."
    )
    fragile: float = number(
        0.0,
        0.0,
        1.0,
        "Share of blocks, those that hurt the result most when quantized alone, of which only the attention's"
        " projection is quantized (QVGGT).",
    )
    keep: bool = switch("Keep the layer in full precision.")

    def __post_init__(self) -> None:
        check_fields(self)
        if self.static and self.activation_granularity == "token":
            raise RecipeError(
                "static activations per token do not exist: the number of tokens varies from input to input",
                place="activation_mode",
                remedy="Use activation_granularity 'tensor', or activation_mode 'dynamic'.",
            )

    @property
    def quantized(self) -> bool:
        """Whether anything is rounded."""
        return not self.keep and min(self.weights, self.activations) < FULL_PRECISION

    @property
    def static(self) -> bool:
        """Whether activations are rounded with a scale fixed by calibration."""
        return self.activation_mode == "static" and self.activations < FULL_PRECISION

    @property
    def staged(self) -> bool:
        """Whether the layer is calibrated in a walk from block to block: it needs more than samples."""
        asks = self.rounding == "gptq" and self.weights < FULL_PRECISION
        return self.quantized and (asks or self.reconstruction != "none" or self.inputs == "quantized")

    @property
    def searched_by_task(self) -> bool:
        """Whether the network's result chooses the exponent of the smoothing."""
        return self.quantized and self.smoothing is not None and self.smoothing_rule == "task"

    @property
    def undecided(self) -> bool:
        """Whether the data decide about the layer, together with the others of its block, before it is built."""
        return self.quantized and (self.fragile > 0 or self.searched_by_task)

    @property
    def fisher(self) -> bool:
        """Whether gradients at the layer's output are needed."""
        searched = self.range_search in ("grid", "ternary")
        return self.quantized and searched and self.search_loss == "fisher"

    @property
    def calibrated(self) -> bool:
        """Whether the settings ask for samples of the layer's input."""
        searched = self.range_search in ("grid", "ternary") and self.search_loss != "self"
        looks = self.smoothing is not None or self.static or searched or self.rotation == "block_hadamard"
        looks |= ROTATIONS.own(self.rotation) or ROUNDINGS.own(self.rounding)  # it may want to
        return self.quantized and (looks or self.staged)


@dataclass(frozen=True, slots=True)
class BranchSettings:
    """How the attention or MLP path of a block is compensated, and the keys and values of an attention rounded.

    Raises:
        RecipeError: A value of the wrong type or out of its bounds.
    """

    compensation: str = choice(
        "off",
        ("off", "on", "auto"),
        "Add a low-rank correction to the branch; auto: where the TRE is high and the fit holds.",
    )
    tre_threshold: float = number(0.007, 0.0, 1.0, "Compensate from this top-error ratio on.")
    tre_fraction: float = number(
        0.01, 0.0001, 1.0, "Share of largest outputs that the top-error ratio looks at."
    )
    rank: int = number(
        0, 0, MOST, "Rank of the correction; 0: an eighth of the width, from 5 bits on a 64th."
    )
    kv_bits: int = choice(
        16,
        BITS,
        "Bits per value of an attention's keys and values; without a rule, only over all frames. 16: exact.",
    )
    kv_rotation: str = choice(
        "none",
        ("none", "hadamard"),
        "Rotate keys and values, up to four heads together, before they are rounded.",
    )
    kv_protect: bool = switch("Keep the keys and values of camera and register tokens exact.")

    def __post_init__(self) -> None:
        check_fields(self)


LAYER_FIELDS: Mapping[str, Field[Any]] = {entry.name: entry for entry in fields(LayerSettings)}
BRANCH_FIELDS: Mapping[str, Field[Any]] = {entry.name: entry for entry in fields(BranchSettings)}
FIELDS: Mapping[str, Field[Any]] = {**LAYER_FIELDS, **BRANCH_FIELDS}


class Settings(Mapping[str, Any]):
    """Some fields and their checked values, in the order of the fields; immutable, equal and hashable by content.

    ``compensation`` also takes True ("on") and False ("off"); whole numbers become floats where the field is one.

    Raises:
        RecipeError: An unknown field (the nearest known one is named), or a value out of its bounds.
    """

    __slots__ = ("_items",)

    def __init__(self, values: Mapping[str, Any], *, place: str = "") -> None:
        for name in values:
            if name not in FIELDS:
                raise unknown_setting(name, place)
        normal = {name: _normal(name, values[name]) for name in FIELDS if name in values}
        for name, value in normal.items():
            check_value(FIELDS[name], value, place=place)
        self._items = {name: _float_where_due(name, value) for name, value in normal.items()}

    def __getitem__(self, name: str) -> Any:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(tuple(self._items.items()))

    def __repr__(self) -> str:
        return repr(self._items)


def unknown_setting(name: object, place: str = "") -> RecipeError:
    """The refusal of a setting that does not exist, with the one it was probably meant to be."""
    from difflib import get_close_matches

    near = get_close_matches(str(name), FIELDS, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return RecipeError(
        f"unknown setting {str(name)[:60]!r}", place=place, remedy=f"{hint}Known are: {', '.join(FIELDS)}."
    )


def _normal(name: str, value: object) -> object:
    if name == "compensation" and isinstance(value, bool):
        return "on" if value else "off"
    return value


def _float_where_due(name: str, value: Any) -> Any:
    return float(value) if type(value) is int and type(FIELDS[name].metadata.get("low")) is float else value

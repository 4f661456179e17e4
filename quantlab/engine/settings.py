"""The settings of a layer and of a branch, with bounds and help that check, controls and tests share.

No patterns and no files here: those belong to `quantlab.engine.recipe`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any

from quantlab.errors import RecipeError

BITS = (2, 3, 4, 5, 6, 7, 8, 16)
FULL_PRECISION = 16


@dataclass(frozen=True, slots=True)
class LayerSettings:
    """How one layer (a Linear or a convolution) is quantized. Convolutions take the weight fields only.

    Raises:
        RecipeError: A value of the wrong type or out of its bounds, or static activations per token.
    """

    weights: int = field(default=16, metadata={"choices": BITS, "help": "Bits per weight; 16: not rounded."})
    activations: int = field(
        default=16,
        metadata={"choices": BITS, "help": "Bits per value of the layer's input; 16: not rounded."},
    )
    weight_granularity: str = field(
        default="channel",
        metadata={
            "choices": ("channel", "tensor", "group"),
            "help": "Which weights share a scale: an output channel, all, or a group of neighbouring columns.",
        },
    )
    group_size: int = field(
        default=128,
        metadata={
            "low": 1,
            "high": 4096,
            "help": "Columns per group; must divide the width of the layer's input.",
        },
    )
    weight_symmetric: bool = field(
        default=True,
        metadata={"choices": (True, False), "help": "On: zero point 0. Off: a zero point per scale."},
    )
    activation_granularity: str = field(
        default="token",
        metadata={
            "choices": ("token", "tensor"),
            "help": "Which activations share a scale: a token, or all.",
        },
    )
    activation_symmetric: bool = field(
        default=True,
        metadata={"choices": (True, False), "help": "On: zero point 0. Off: a zero point per scale."},
    )
    activation_mode: str = field(
        default="dynamic",
        metadata={
            "choices": ("dynamic", "static"),
            "help": "Dynamic: the scale is taken from each input. Static: fixed by calibration.",
        },
    )
    rotation: str = field(
        default="none",
        metadata={
            "choices": ("none", "hadamard"),
            "help": "Mix the input channels by a randomised Hadamard matrix; the weight takes the inverse.",
        },
    )
    smoothing: float | None = field(
        default=None,
        metadata={
            "low": 0.0,
            "high": 1.0,
            "optional": True,
            "help": "Divide input channels by max|x|^a / max|w|^(1-a); higher moves more into the weight. None: off.",
        },
    )
    smoothing_order: str = field(
        default="after",
        metadata={
            "choices": ("after", "before"),
            "help": "Smooth after the rotation, with the rotated weight (QuantVGGT), or before it (SmoothRot).",
        },
    )
    range_search: str = field(
        default="minmax",
        metadata={
            "choices": ("minmax", "percentile", "grid", "ternary"),
            "help": "How the range of weights and of static activations is chosen; dynamic ones take min-max.",
        },
    )
    percentile: float = field(
        default=99.9,
        metadata={
            "low": 50.0,
            "high": 100.0,
            "help": "Share of magnitudes kept by range search 'percentile'.",
        },
    )
    keep: bool = field(
        default=False, metadata={"choices": (True, False), "help": "Keep the layer in full precision."}
    )

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
    def calibrated(self) -> bool:
        """Whether the settings ask for samples of the layer's input."""
        return self.quantized and (self.smoothing is not None or self.static)


@dataclass(frozen=True, slots=True)
class BranchSettings:
    """How the attention or MLP path of a block is compensated.

    Raises:
        RecipeError: A value of the wrong type or out of its bounds.
    """

    compensation: str = field(
        default="off",
        metadata={
            "choices": ("off", "on", "auto"),
            "help": "Add a low-rank correction to the branch; auto: where the TRE is high and the fit holds.",
        },
    )
    tre_threshold: float = field(
        default=0.007, metadata={"low": 0.0, "high": 1.0, "help": "Compensate from this top-error ratio on."}
    )
    tre_fraction: float = field(
        default=0.01,
        metadata={
            "low": 0.0001,
            "high": 1.0,
            "help": "Share of largest outputs that the top-error ratio looks at.",
        },
    )
    rank: int = field(
        default=0,
        metadata={"low": 0, "high": 4096, "help": "Rank of the correction; 0: an eighth of the width."},
    )

    def __post_init__(self) -> None:
        check_fields(self)


def check_fields(settings: Any) -> None:
    """Check every field of a settings dataclass against its metadata.

    Raises:
        RecipeError: Names the field, the value and what is allowed.
    """
    for entry in fields(settings):
        check_value(entry, getattr(settings, entry.name))


def check_value(entry: Field[Any], value: object, *, place: str = "") -> None:
    """Check one value. ``True`` and ``8.0`` are no whole numbers, and NaN is outside of all bounds."""
    if not _allowed(value, entry):
        text = repr(value)
        shown = text if len(text) <= 60 else text[:57] + "..."
        raise RecipeError(
            f"{entry.name} cannot be {shown}",
            place=place or entry.name,
            remedy=f"Use {allowed_words(entry)}.",
        )


def _allowed(value: object, entry: Field[Any]) -> bool:
    bounds = entry.metadata
    if value is None:
        return bool(bounds.get("optional"))
    if "choices" in bounds:
        return any(type(value) is type(choice) and value == choice for choice in bounds["choices"])
    number = type(value) is int or (type(value) is float and type(bounds["low"]) is float)
    return number and bool(bounds["low"] <= value <= bounds["high"])


def allowed_words(entry: Field[Any]) -> str:
    """What a field takes, in words: "a number from 0.0 to 1.0, or null"."""
    bounds: Mapping[str, Any] = entry.metadata
    if "choices" in bounds:
        return "one of " + ", ".join(str(choice) for choice in bounds["choices"])
    kind = "a number" if type(bounds["low"]) is float else "a whole number"
    return f"{kind} from {bounds['low']} to {bounds['high']}" + (
        ", or null" if bounds.get("optional") else ""
    )


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

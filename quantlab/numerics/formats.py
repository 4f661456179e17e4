"""What a number format is: bits, symmetry and who shares a scale, as checked data. No arithmetic here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from typing import Any

from quantlab.errors import RecipeError

GRANULARITIES = ("tensor", "channel", "token", "group")


@dataclass(frozen=True, slots=True)
class QuantSpec:
    """How one tensor is rounded; 16 bits (not rounded at all) is the caller's business.

    Codes of a symmetric format are signed, from ``-2**(bits-1)`` to ``2**(bits-1) - 1`` with zero point 0;
    codes of an asymmetric one are unsigned, from 0 to ``2**bits - 1``. Who shares a scale:

    =========  ==========================================================  ===================
    tensor     everything                                                  scale shape ``()``
    channel    one index of the first dimension (weights ``[out, ...]``)   ``[out]``
    token      one vector of the last dimension (activations ``[..., n]``) ``[...]``
    group      ``group_size`` neighbours in the last dimension             ``[..., n / group_size]``
    =========  ==========================================================  ===================

    Raises:
        RecipeError: A value has the wrong type or lies outside its bounds; names field, value and what is
            allowed.
    """

    bits: int = field(default=8, metadata={"low": 2, "high": 8, "help": "Bits per value."})
    symmetric: bool = field(
        default=True,
        metadata={
            "choices": (True, False),
            "help": "Zero point 0, signed codes; off: a zero point per scale.",
        },
    )
    granularity: str = field(
        default="channel",
        metadata={"choices": GRANULARITIES, "help": "Which values share one scale."},
    )
    group_size: int = field(
        default=0,
        metadata={
            "low": 0,
            "high": 4096,
            "help": "Values per group, for granularity 'group'; 0: a whole row.",
        },
    )

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def low(self) -> int:
        """The smallest code."""
        return -(1 << (self.bits - 1)) if self.symmetric else 0

    @property
    def high(self) -> int:
        """The largest code."""
        return (1 << (self.bits - 1)) - 1 if self.symmetric else (1 << self.bits) - 1


def check_fields(settings: Any, *, place: str = "") -> None:
    """Check every field of a dataclass whose metadata states ``low`` and ``high``, or ``choices``.

    A number must be of the very type of the field's default (``True`` and ``8.0`` are no ``int``); a float
    field also takes an int. NaN is outside all bounds.

    Raises:
        RecipeError: The first field that breaks its bounds.
    """
    for entry in fields(settings):
        value = getattr(settings, entry.name)
        if not _allowed(value, entry):
            raise RecipeError(
                f"{entry.name} cannot be {_shown(value)}",
                place=place or type(settings).__name__,
                remedy=f"Use {_bounds_in_words(entry)}.",
            )


def _allowed(value: object, entry: Field[Any]) -> bool:
    bounds = entry.metadata
    if "choices" in bounds:
        return any(type(value) is type(choice) and value == choice for choice in bounds["choices"])
    if "low" not in bounds:
        return True
    if type(value) is int or (type(value) is float and isinstance(entry.default, float)):
        return bool(bounds["low"] <= value <= bounds["high"])
    return False


def _bounds_in_words(entry: Field[Any]) -> str:
    bounds: Mapping[str, Any] = entry.metadata
    if "choices" in bounds:
        return "one of " + ", ".join(repr(choice) for choice in bounds["choices"])
    kind = "a number" if isinstance(entry.default, float) else "a whole number"
    return f"{kind} from {bounds['low']} to {bounds['high']}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def group_length(shape: Sequence[int], spec: QuantSpec, *, place: str = "") -> int:
    """Length of one group along the last dimension of ``shape``.

    Raises:
        RecipeError: ``group_size`` does not divide the last dimension.
    """
    width = shape[-1]
    size = spec.group_size or width
    if size and width % size:
        near = [divisor for divisor in range(min(size, width), 0, -1) if width % divisor == 0]
        raise RecipeError(
            f"group_size {size} does not divide a width of {width}",
            place=place,
            remedy=f"Use {near[0]}, or 0.",
        )
    return size


def scale_shape(shape: Sequence[int], spec: QuantSpec, *, place: str = "") -> tuple[int, ...]:
    """Shape of the scales (and zero points) of a tensor of ``shape``; the table in `QuantSpec`.

    Raises:
        RecipeError: ``group_size`` does not divide the last dimension, or a number without dimensions is to
            be split into channels, tokens or groups.
    """
    if spec.granularity == "tensor":
        return ()
    if not shape:
        raise RecipeError(
            f"a single number has no {spec.granularity}", place=place, remedy="Use granularity 'tensor'."
        )
    if spec.granularity == "channel":
        return (shape[0],)
    if spec.granularity == "token":
        return tuple(shape[:-1])
    size = group_length(shape, spec, place=place)
    return (*shape[:-1], shape[-1] // size if size else 0)

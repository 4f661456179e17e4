"""Which number colours the map: TRE, kurtosis, tail, error, blame or time of each layer. It draws nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quantlab.calibration.profile import Profile
    from quantlab.engine.diagnosis import Diagnosis


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number every layer has.

    Attributes:
        label: In full, for the scale and the hover text.
        short: For a list.
        low: Values at and below it count as harmless.
        help: What it says, in one sentence.
        percent: Shown as per cent.
        apart: The ends of the scale are at least this factor apart.
    """

    label: str
    short: str
    low: float
    help: str
    percent: bool = False
    apart: float = 10.0


QUANTITIES: Mapping[str, Quantity] = {
    "tre": Quantity(
        "tail-relative error (TRE)",
        "TRE",
        1e-4,
        "Error of the largest outputs under this recipe, layer by layer.",
    ),
    "kurtosis": Quantity(
        "kurtosis of the input", "kurtosis", 3.0, "How heavy the tails are; a normal distribution has 3."
    ),
    "max_p999": Quantity(
        "max / p99.9 of the input", "max/p99.9", 1.0, "How far the largest value sticks out."
    ),
    "error": Quantity(
        "relative output error", "error", 1e-4, "Error of the whole output, for the layers looked at so far."
    ),
    "blame": Quantity(
        "share of the region's error that restoring the layer repairs",
        "blame",
        0.01,
        "How much of a marked region's error goes when the layer alone is restored to full precision.",
        percent=True,
    ),
    "time": Quantity(
        "share of the measured forward pass",
        "time",
        1e-4,
        "Which part of a forward pass the layer takes, as this machine executes it.",
        percent=True,
        apart=1.5,
    ),
}


def severities(
    color_by: str,
    profile: Profile | None,
    diagnosis: Diagnosis | None,
    errors: Mapping[str, float] | None = None,
    repairs: Mapping[str, float] | None = None,
    shares: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Layer name to the number asked for; layers without one are absent, and so are numbers that are not finite.

    Errors of 0 are absent too: only a layer that the recipe leaves alone has them, and nothing was measured there.

    Args:
        color_by: A key of ``QUANTITIES``.
        profile: Gives kurtosis and max/p99.9.
        diagnosis: Gives TRE.
        errors: Gives the relative output error, layer by layer.
        repairs: Gives the share of a region's error, layer by layer; below 0 where restoring makes it worse.
        shares: Gives the part of a measured forward pass, layer by layer.
    """
    if color_by not in QUANTITIES:
        raise ValueError(f"unknown quantity {color_by!r}; choose one of {', '.join(QUANTITIES)}")
    values: Mapping[str, float] = {}
    if color_by == "tre" and diagnosis is not None:
        values = diagnosis.layers
    elif color_by == "error" and errors is not None:
        values = errors
    elif color_by == "blame" and repairs is not None:
        values = repairs
    elif color_by == "time" and shares is not None:
        values = shares
    elif color_by in ("kurtosis", "max_p999") and profile is not None:
        values = {name: float(getattr(layer.all, color_by)) for name, layer in profile.layers.items()}
    is_error = color_by in ("tre", "error")
    return {
        name: float(value)
        for name, value in values.items()
        if math.isfinite(value) and (value > 0 or not is_error)
    }


def worst(values: Mapping[str, float], count: int = 8) -> list[tuple[str, float]]:
    """The largest values, largest first; names decide between equals; what is zero is not listed."""
    ranked = sorted(values.items(), key=lambda item: (-item[1], item[0]))
    return [(name, value) for name, value in ranked[:count] if value > 0]

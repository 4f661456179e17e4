"""What a preset is: settings, and what to tell the person who chooses it. The presets themselves are in presets.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from quantlab.engine.settings import FULL_PRECISION
from quantlab.errors import RecipeError
from quantlab.registry import Registry


@dataclass(frozen=True, slots=True)
class Preset:
    """A preset's settings besides the bits, and what to tell the person who chooses it.

    Attributes:
        settings: Of every layer and branch in scope.
        help: What it does, in a sentence or two.
        formula: In one line; x inputs, W weight, Q rounding.
        paper: Title or name of the source.
        arxiv: Its number, or "".
        cost: What calibration takes.
        reading: Where the paper leaves something open, or this version differs: our reading. "" where it does not.
        file: Where the technique is, under quantlab/methods.
        calibration: Which scenes of the pool it is calibrated on, as the recipe's entry; {} is all of them.
        label: What people call it; the paper's name where it is left out.
        usual: Bits of weights and activations the method was made for.
        only: "both": weights and activations take the recipe's bits; "none": nothing is rounded; "kv": only the keys
            and values are, with the bits of activations.
    """

    settings: Mapping[str, Any]
    help: str
    formula: str
    paper: str
    arxiv: str
    cost: str
    reading: str = ""
    file: str = ""
    calibration: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""
    usual: tuple[int, int] = (4, 4)
    only: str = "both"

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", self.label or self.paper)

    def defaults(self, weights: int, activations: int) -> dict[str, Any]:
        """The defaults of a recipe with these bits."""
        if self.only == "both":
            return {"weights": weights, "activations": activations, **self.settings}
        kv = {"kv_bits": activations} if self.only == "kv" else {}
        return {"weights": FULL_PRECISION, "activations": FULL_PRECISION, **kv, **self.settings}


PRESETS: Registry[Preset] = Registry("preset", RecipeError)

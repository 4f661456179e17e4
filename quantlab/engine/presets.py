"""The named starting points of a recipe: the settings each published method stands for. Data only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from quantlab.engine.settings import FULL_PRECISION
from quantlab.errors import RecipeError
from quantlab.registry import Registry


@dataclass(frozen=True, slots=True)
class Preset:
    """A preset's settings besides the bits, and what to tell the person who chooses it."""

    settings: Mapping[str, Any]
    help: str
    rounds: bool = True

    def defaults(self, weights: int, activations: int) -> dict[str, Any]:
        """The defaults of a recipe with these bits."""
        bits = (weights, activations) if self.rounds else (FULL_PRECISION, FULL_PRECISION)
        return {"weights": bits[0], "activations": bits[1], **self.settings}


PRESETS: Registry[Preset] = Registry("preset", RecipeError)


def _add(name: str, settings: Mapping[str, Any], text: str, *, rounds: bool = True) -> None:
    enter: Callable[[Preset], Preset] = PRESETS.register(name)
    enter(Preset(settings, text, rounds))


_add("full_precision", {}, "Nothing is rounded: the network as it was loaded.", rounds=False)
_add(
    "rtn", {}, "Round to nearest: weights per output channel, activations per token with a scale of its own."
)
_add(
    "smoothquant",
    {"smoothing": 0.5},
    "SmoothQuant (arXiv:2211.10438): large input channels are divided down and the weight takes the factor.",
)
_add(
    "quarot",
    {"rotation": "hadamard"},
    "QuaRot (arXiv:2404.00456): a random Hadamard rotation spreads outliers over all channels; applied to each"
    " layer's input here, not folded into its neighbours.",
)
_add(
    "quantvggt",
    {"rotation": "hadamard", "smoothing": 0.5, "smoothing_order": "after"},
    "QuantVGGT (arXiv:2509.21302): rotate, then smooth with the rotated weight. Without that paper's learned"
    " block reconstruction of scales and clipping.",
)
_add(
    "taptq",
    {"range_search": "ternary", "compensation": "auto"},
    "TAPTQ (arXiv:2602.01741): ternary search of the weight ranges, and a low-rank correction of branches whose"
    " top-error ratio is high. The search minimises the rounding error of the weight itself, not the task loss.",
)

"""Which plot shows a layer: what is looked at and of which side, to a figure. App and notebook share it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quantlab import figures
from quantlab.models.tokens import KINDS

if TYPE_CHECKING:
    from quantlab.calibration.profile import LayerProfile
    from quantlab.engine.views import LayerView, WeightView
    from quantlab.figures.theme import Figure

SIDES = {"inputs": "inputs", "weights": "weights"}
NO_WEIGHT = "The weight of this layer was not looked at."
NO_SEARCH = "No range search ran here. Choose range search: grid or ternary."


def side_of(view: LayerView | None, side: str) -> LayerView | WeightView | None:
    """The layer's input, or its weight where ``side`` is "weights"; None: it was not looked at."""
    if view is None:
        return None
    return view.weights if side == "weights" else view


def side_plot(
    kind: str,
    shown: LayerView | WeightView,
    former: LayerView | WeightView | None,
    profile: LayerProfile | None,
    name: str,
) -> Figure:
    """A plot of an input or a weight: "waterfall", "channels", "landscape", "surface", else the histogram.

    Args:
        kind: Of plot; one that needs a landscape falls back to the histogram where none was sampled.
        shown: What is drawn.
        former: The same before the last change, drawn as a ghost; None: nothing.
        profile: What calibration saw of the input; None for a weight.
        name: The zoom stays as long as it is the same.
    """
    common: dict[str, Any] = {"name": name, "theme": figures.PAGE}
    if kind == "waterfall":
        return figures.waterfall(shown, former=former, **common)
    if kind == "channels":
        return figures.channel_maxima(shown, profile=profile, former=former, **common)
    if kind in ("landscape", "surface") and shown.landscape:
        steps = [step for step in shown.landscape if step != "quantized"] or [*shown.landscape]
        ends = [*dict.fromkeys([steps[0], steps[-1]])]
        common["kinds"] = [KINDS[code] for code in getattr(shown, "landscape_kinds", ())]
        if kind == "surface":
            return figures.surface(shown, ends, **common)
        return figures.landscape(shown, ends, former=former, **common)
    ghost = None if former is None else former.steps.get("quantized")
    return figures.layer_histogram(shown, former=ghost, profile=profile, **common)


def search_plot(view: LayerView, former: LayerView | None, name: str) -> Figure | None:
    """The range search of a layer, with that of the same scale before the last change; None where none was made."""
    curve, before = view.search, None if former is None else former.search
    if curve is None:
        return None
    ghost = (before.scales, before.losses) if before and before.what == curve.what else ((), ())
    every = (curve.every_scale, curve.every_loss)
    return figures.search_curve(
        curve.scales, curve.losses, every=every, former=ghost, name=name, theme=figures.PAGE
    )

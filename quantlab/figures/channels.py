"""A layer's largest values by channel, before and after each step. It measures nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quantlab.figures import symlog
from quantlab.figures.readable import short
from quantlab.figures.stepped import Stepped, symbol
from quantlab.figures.theme import DASHES, LIGHT, Figure, Theme, axis, empty, layout, titled

if TYPE_CHECKING:
    from quantlab.calibration.profile import LayerProfile

MOST_POINTS = 512


def channel_maxima(
    view: Stepped,
    *,
    profile: LayerProfile | None = None,
    former: Stepped | None = None,
    name: str = "",
    theme: Theme = LIGHT,
) -> Figure:
    """Draw the largest magnitude of every input channel after each step, channels sorted by size.

    A flat curve is what a quantizer wants: one scale then serves all channels.

    Args:
        view: Holds the maxima.
        profile: Of the same layer; its maxima are drawn where the view has no samples.
        former: The same before the last change; what was rounded then is a ghost.
        name: Of the layer; the zoom stays as long as it is the same.
        theme: The colours.
    """
    known = view.channel_absmax or ({"raw": profile.channel_max} if profile is not None else {})
    if not known:
        return empty("The input of this layer was not measured.", theme, uirevision=f"channels {name}")
    steps = {step: np.asarray(values, np.float64) for step, values in known.items()}
    traces = [
        _sorted(step, values, {"color": theme.step(step), "width": 1.5, "dash": DASHES.get(step, "solid")})
        for step, values in steps.items()
    ]
    ghost = former.channel_absmax.get(_rounded_step(former)) if former is not None else None
    if ghost is not None:
        line = {"color": theme.ghost, "width": 1.5, "dash": "3px,2px"}
        traces.insert(0, _sorted("before", np.asarray(ghost, np.float64), line))
    figure_layout = layout(theme, uirevision=f"channels {name}", margin=(22, 46, 10, 34))
    figure_layout["xaxis"] = axis(theme, title=titled("channels, largest first", theme), showgrid=False)
    everything = np.concatenate([*steps.values()])
    positive = everything[everything > 0]
    ticks = symlog.log_ticks(positive.min(), positive.max()) if len(positive) else {}
    figure_layout["yaxis"] = axis(theme, title=titled(f"largest {symbol(view)}", theme), **ticks)
    return {"data": traces, "layout": figure_layout}


def _rounded_step(view: Stepped) -> str:
    return [*view.channel_absmax][-1] if view.channel_absmax else ""


def _sorted(step: str, values: NDArray[np.float64], line: dict[str, Any]) -> dict[str, Any]:
    ordered = np.sort(values)[::-1]  # a rotation mixes channels, so each curve has an order of its own
    picks = np.unique(np.linspace(0, len(ordered) - 1, min(MOST_POINTS, len(ordered))).astype(int))
    return {
        "type": "scatter",
        "mode": "lines",
        "name": f"{step} · max {short(float(ordered[0]))}",
        "x": picks.tolist(),
        "y": [float(f"{value:.4g}") if value > 0 else None for value in ordered[picks]],
        "line": line,
        "hovertemplate": step + "<br>rank %{x}: %{y:.3g}<extra></extra>",
    }

"""A layer's largest values by channel and by token, before and after each step. It measures nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quantlab.figures import symlog
from quantlab.figures.readable import short
from quantlab.figures.theme import DASHES, LIGHT, Figure, Theme, axis, empty, layout, titled

if TYPE_CHECKING:
    from quantlab.calibration.profile import LayerProfile
    from quantlab.engine.views import LayerView

MOST_POINTS = 512


def channel_maxima(
    view: LayerView, *, profile: LayerProfile | None = None, name: str = "", theme: Theme = LIGHT
) -> Figure:
    """Draw the largest |x| of every channel after each step, channels sorted by size.

    A flat curve is what a quantizer wants: one scale then serves all channels.

    Args:
        view: Holds the maxima.
        profile: Of the same layer; its maxima are drawn where the view has no samples, as of a convolution.
        name: Of the layer; the zoom stays as long as it is the same.
        theme: The colours.
    """
    known = view.channel_absmax or ({"raw": profile.channel_max} if profile is not None else {})
    if not known:
        return empty("The input of this layer was not measured.", theme, uirevision=f"channels {name}")
    steps = {step: np.asarray(values, np.float64) for step, values in known.items()}
    traces = []
    for step, values in steps.items():
        ordered = np.sort(values)[::-1]  # a rotation mixes channels, so each curve has an order of its own
        picks = np.unique(np.linspace(0, len(ordered) - 1, min(MOST_POINTS, len(ordered))).astype(int))
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": f"{step} · max {short(float(ordered[0]))}",
                "x": picks.tolist(),
                "y": [float(f"{value:.4g}") if value > 0 else None for value in ordered[picks]],
                "line": {"color": theme.step(step), "width": 1.5, "dash": DASHES.get(step, "solid")},
                "hovertemplate": step + "<br>rank %{x}: %{y:.3g}<extra></extra>",
            }
        )
    figure_layout = layout(theme, uirevision=f"channels {name}", margin=(22, 46, 10, 34))
    figure_layout["xaxis"] = axis(theme, title=titled("channels, largest first", theme), showgrid=False)
    everything = np.concatenate([*steps.values()])
    positive = everything[everything > 0]
    ticks = symlog.log_ticks(positive.min(), positive.max()) if len(positive) else {}
    figure_layout["yaxis"] = axis(theme, title=titled("largest |x|", theme), **ticks)
    return {"data": traces, "layout": figure_layout}


def landscape(
    view: LayerView,
    step: str | Sequence[str] = "raw",
    *,
    kinds: Sequence[str] = (),
    name: str = "",
    theme: Theme = LIGHT,
) -> Figure:
    """Draw |x| of up to 64 tokens by up to 256 channels as heat maps on one logarithmic scale, side by side.

    Args:
        view: Holds one landscape a step.
        step: Which one, or several.
        kinds: The kind of each token; tokens of a kind follow each other and are banded in its colour.
        name: Of the layer; the zoom stays as long as it is the same.
        theme: The colours.
    """
    steps = [item for item in ([step] if isinstance(step, str) else step) if item in view.landscape]
    if not steps:
        return empty("No samples of this layer's input were kept.", theme, uirevision=f"landscape {name}")
    maps = [
        np.abs(np.asarray(view.landscape[item], np.float64)).T for item in steps
    ]  # tokens down, channels across
    everything = np.concatenate([values.ravel() for values in maps])
    positive = everything[everything > 0]
    low = float(np.percentile(positive, 5)) if len(positive) else 1.0
    high = max(float(everything.max(initial=0.0)), 2 * low)
    bands = _bands(kinds)
    figure_layout = layout(theme, uirevision=f"landscape {name}", margin=(20, 72 if bands else 46, 58, 34))
    figure_layout["yaxis"] = _token_axis(bands, theme)
    figure_layout["shapes"] = [_band(*band, theme) for band in bands]
    width = 1 / len(steps)
    traces = []
    for index, (item, values) in enumerate(zip(steps, maps, strict=True)):
        suffix = str(index + 1) if index else ""
        span = [index * width, (index + 1) * width - (0.06 if index + 1 < len(steps) else 0)]
        figure_layout[f"xaxis{suffix}"] = _channel_axis(view, item, values.shape[1], len(steps), span, theme)
        heat = _heat(view, values, (low, high), kinds, theme)
        traces.append({**heat, "xaxis": f"x{suffix}", "showscale": index == 0})
    return {"data": traces, "layout": figure_layout}


def _bands(kinds: Sequence[str]) -> list[tuple[str, int, int]]:
    """Runs of one kind: the kind, its first token and the one behind its last."""
    if not kinds:
        return []
    starts = [index for index, kind in enumerate(kinds) if index == 0 or kinds[index - 1] != kind]
    return [(kinds[start], start, end) for start, end in zip(starts, [*starts[1:], len(kinds)], strict=True)]


def _band(kind: str, start: int, end: int, theme: Theme) -> dict[str, Any]:
    sides = {"xref": "paper", "x0": -0.014, "x1": -0.004, "y0": start - 0.5, "y1": end - 0.5}
    return {"type": "rect", **sides, "line": {"width": 0}, "fillcolor": theme.token(kind)}


def _token_axis(bands: list[tuple[str, int, int]], theme: Theme) -> dict[str, Any]:
    """The token kinds in the middle of their bands."""
    shared = {"type": "category", "autorange": "reversed", "showgrid": False}
    if not bands:
        return axis(theme, title=titled("sampled tokens", theme), showticklabels=False, **shared)
    middles = [(start + end - 1) / 2 for _, start, end in bands]
    return axis(
        theme,
        tickmode="array",
        tickvals=middles,
        ticktext=[kind.replace("_", " ") for kind, _, _ in bands],
        ticklabelstandoff=8,
        **shared,
    )


def _channel_axis(
    view: LayerView, step: str, count: int, pictures: int, span: list[float], theme: Theme
) -> dict[str, Any]:
    """Columns are even, and their ticks say which channels of the layer they are."""
    places = np.unique(np.linspace(0, count - 1, max(2, 6 // pictures)).round().astype(int))
    return axis(
        theme,
        title=titled(f"channels, {step}", theme),
        showgrid=False,
        domain=span,
        anchor="y",
        tickmode="array",
        type="category",
        tickvals=[str(channel) for channel in _ids(view.landscape_channels, count)[places]],
    )


def _ids(known: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """What rows or columns are called in the layer; older records do not say, and count from 0."""
    return known if len(known) == count else np.arange(count)


def _heat(
    view: LayerView,
    values: NDArray[np.float64],
    span: tuple[float, float],
    kinds: Sequence[str],
    theme: Theme,
) -> dict[str, Any]:
    low, high = (float(np.log10(end)) for end in span)
    tokens, channels = values.shape
    labels = [f" ({kind})" if kind else "" for kind in [*kinds, *[""] * tokens][:tokens]]
    rows = zip(_ids(view.landscape_tokens, tokens), labels, strict=True)
    return {
        "type": "heatmap",
        "x": [str(channel) for channel in _ids(view.landscape_channels, channels)],
        "y": [f"{token}{label}" for token, label in rows],
        "z": np.round(np.log10(np.clip(values, *span)), 2).tolist(),
        "zmin": low,
        "zmax": high,
        "customdata": [[float(f"{value:.3g}") for value in line] for line in values],
        "hovertemplate": "channel %{x}, sampled token %{y}<br>|x| %{customdata:.3g}<extra></extra>",
        "colorscale": theme.severity,
        "colorbar": {
            "thickness": 8,
            "x": 1.01,
            "y": 0,
            "yanchor": "bottom",
            "len": 0.94,
            "xpad": 0,
            "ypad": 0,
            "outlinewidth": 0,
            "title": {"text": "|x|", "side": "top", "font": {"size": 11, "color": theme.quiet}},
            "tickmode": "array",
            "tickvals": [low, high],
            "ticktext": [short(end, 2) for end in span],
            "tickfont": {"size": 10, "color": theme.quiet},
        },
    }

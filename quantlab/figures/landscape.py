"""A layer's values by channel and token, as flat heat maps. It measures nothing; the relief is in surface.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantlab.figures.readable import short
from quantlab.figures.stepped import Stepped, is_weight, symbol
from quantlab.figures.theme import LIGHT, Figure, Theme, axis, empty, layout, titled


def landscape(
    view: Stepped,
    step: str | Sequence[str] = "raw",
    *,
    kinds: Sequence[str] = (),
    former: Stepped | None = None,
    name: str = "",
    theme: Theme = LIGHT,
) -> Figure:
    """Draw up to 64 tokens by up to 256 channels as heat maps of magnitudes on one logarithmic scale, side by side.

    Args:
        view: Holds one landscape a step.
        step: Which one, or several.
        kinds: The kind of each token; tokens of a kind follow each other and are banded in its colour.
        former: The same before the last change: the hover text says what a value was.
        name: Of the layer; the zoom stays as long as it is the same.
        theme: The colours.
    """
    steps, pictures, span = maps(view, step)
    if not steps:
        return empty(nothing(view), theme, uirevision=f"landscape {name}")
    runs = bands(kinds)
    figure_layout = layout(theme, uirevision=f"landscape {name}", margin=(20, 72 if runs else 46, 58, 34))
    figure_layout["yaxis"] = _token_axis(runs, rows_of(view), theme)
    figure_layout["shapes"] = [_band(*band, theme) for band in runs]
    width = 1 / len(steps)
    traces = []
    for index, (item, values) in enumerate(zip(steps, pictures, strict=True)):
        suffix = str(index + 1) if index else ""
        room = [index * width, (index + 1) * width - (0.06 if index + 1 < len(steps) else 0)]
        figure_layout[f"xaxis{suffix}"] = _channel_axis(view, item, values.shape[1], len(steps), room, theme)
        heat = _heat(view, values, span, kinds, _before(view, former, item), theme)
        traces.append({**heat, "name": item, "xaxis": f"x{suffix}", "showscale": index == 0})
    return {"data": traces, "layout": figure_layout}


def rows_of(view: Stepped) -> str:
    """What the second axis counts."""
    return "output channel" if is_weight(view) else "sampled token"


def nothing(view: Stepped) -> str:
    """What is said where there is no picture."""
    what = "weight" if is_weight(view) else "input"
    return f"No samples of this layer's {what} were kept."


def maps(
    view: Stepped, step: str | Sequence[str]
) -> tuple[list[str], list[NDArray[np.float64]], tuple[float, float]]:
    """The steps that are there, their magnitudes (tokens down, channels across), and the ends of one scale."""
    steps = [item for item in ([step] if isinstance(step, str) else step) if item in view.landscape]
    pictures = [np.abs(np.asarray(view.landscape[item], np.float64)).T for item in steps]
    everything = np.concatenate([values.ravel() for values in pictures]) if pictures else np.empty(0)
    positive = everything[everything > 0]
    low = float(np.percentile(positive, 5)) if len(positive) else 1.0
    return steps, pictures, (low, max(float(everything.max(initial=0.0)), 2 * low))


def _before(view: Stepped, former: Stepped | None, step: str) -> NDArray[np.float64] | None:
    """The same step before the last change, where it showed the same tokens and channels and was another."""
    values = former.landscape.get(step) if former is not None else None
    if former is None or values is None or values.shape != view.landscape[step].shape:
        return None
    alike = np.array_equal(former.landscape_tokens, view.landscape_tokens)
    if not alike or np.array_equal(values, view.landscape[step]):
        return None
    return np.abs(np.asarray(values, np.float64)).T


def bands(kinds: Sequence[str]) -> list[tuple[str, int, int]]:
    """Runs of one kind: the kind, its first token and the one behind its last."""
    if not kinds:
        return []
    starts = [index for index, kind in enumerate(kinds) if index == 0 or kinds[index - 1] != kind]
    return [(kinds[start], start, end) for start, end in zip(starts, [*starts[1:], len(kinds)], strict=True)]


def _band(kind: str, start: int, end: int, theme: Theme) -> dict[str, Any]:
    sides = {"xref": "paper", "x0": -0.014, "x1": -0.004, "y0": start - 0.5, "y1": end - 0.5}
    return {"type": "rect", **sides, "line": {"width": 0}, "fillcolor": theme.token(kind)}


def _token_axis(runs: list[tuple[str, int, int]], what: str, theme: Theme) -> dict[str, Any]:
    """The token kinds in the middle of their bands."""
    shared = {"type": "category", "autorange": "reversed", "showgrid": False}
    if not runs:
        return axis(theme, title=titled(f"{what}s", theme), showticklabels=False, **shared)
    middles = [(start + end - 1) / 2 for _, start, end in runs]
    return axis(
        theme,
        tickmode="array",
        tickvals=middles,
        ticktext=[kind.replace("_", " ") for kind, _, _ in runs],
        ticklabelstandoff=8,
        **shared,
    )


def _channel_axis(
    view: Stepped, step: str, count: int, pictures: int, span: list[float], theme: Theme
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
        tickvals=[str(channel) for channel in ids(view.landscape_channels, count)[places]],
    )


def ids(known: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """What rows or columns are called in the layer; older records do not say, and count from 0."""
    return known if len(known) == count else np.arange(count)


def _heat(
    view: Stepped,
    values: NDArray[np.float64],
    span: tuple[float, float],
    kinds: Sequence[str],
    former: NDArray[np.float64] | None,
    theme: Theme,
) -> dict[str, Any]:
    low, high = (float(np.log10(end)) for end in span)
    tokens, channels = values.shape
    labels = [f" ({kind})" if kind else "" for kind in [*kinds, *[""] * tokens][:tokens]]
    rows = zip(ids(view.landscape_tokens, tokens), labels, strict=True)
    return {
        "type": "heatmap",
        "x": [str(channel) for channel in ids(view.landscape_channels, channels)],
        "y": [f"{token}{label}" for token, label in rows],
        "z": np.round(np.log10(np.clip(values, *span)), 2).tolist(),
        "zmin": low,
        "zmax": high,
        "customdata": [[float(f"{value:.3g}") for value in line] for line in values],
        "text": [[f" (was {short(value)})" for value in line] for line in former]
        if former is not None
        else None,
        "hovertemplate": f"channel %{{x}}, {rows_of(view)} %{{y}}<br>{symbol(view)} %{{customdata:.3g}}"
        + ("%{text}<extra></extra>" if former is not None else "<extra></extra>"),
        "colorscale": theme.severity,
        "colorbar": colour_bar(symbol(view), span, theme),
        "meta": {"value": symbol(view)},
    }


def colour_bar(label: str, span: tuple[float, float], theme: Theme) -> dict[str, Any]:
    """The scale beside it, from the smaller end of ``span`` to the larger."""
    return {
        "thickness": 8,
        "x": 1.01,
        "y": 0,
        "yanchor": "bottom",
        "len": 0.94,
        "xpad": 0,
        "ypad": 0,
        "outlinewidth": 0,
        "title": {"text": label, "side": "top", "font": {"size": 11, "color": theme.quiet}},
        "tickmode": "array",
        "tickvals": [float(np.log10(end)) for end in span],
        "ticktext": [short(end, 2) for end in span],
        "tickfont": {"size": 10, "color": theme.quiet},
    }

"""The map of a pool of calibration scenes: groups, picks, and what was left out and why. It picks nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from textwrap import wrap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantlab.calibration.picked import Picked
from quantlab.figures.readable import short
from quantlab.figures.theme import LIGHT, Figure, Theme, axis, layout, titled

SHAPES = (
    "circle",
    "square",
    "diamond",
    "triangle-up",
    "pentagon",
    "triangle-down",
    "hexagram",
    "star",
    "triangle-left",
)
"""Nine of them and eight colours: the first 72 groups all look different."""
PLAIN = -1
LINE = 44
BODY = (10.0, 90.0)
"""Percentiles of the kept scenes that the frame is measured by."""
REACH = 1.0
"""How far it goes beyond them, as a share of their distance."""
STEP = 0.04
"""Between scenes at the edge, as a share of the half frame."""


@dataclass(frozen=True, slots=True, eq=False)
class _Frame:
    """What the map shows: ``low`` and ``high`` [2] of both axes, where scenes stand [N, 2], which [N] lie beyond."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    places: NDArray[np.float64]
    beyond: NDArray[np.bool_]


def pool_map(picked: Picked, *, theme: Theme = LIGHT) -> Figure:
    """Draw every scene of a pool as a point; scenes that the method holds for alike are near each other.

    Colour and shape tell the group, a ring what was picked, a cross what was left out; the reason is in the hover text.
    The frame fits most of the kept scenes: what lies far outside stands at its edge, and says so. Each point carries
    the scene's index as ``customdata``.

    Args:
        picked: From ``lab.pool_map()``.
        theme: The colours.
    """
    kept = [index for index in range(len(picked)) if index not in picked.dropped]
    frame, chosen = _frame(picked, kept), picked.picked.tolist()
    groups = sorted({int(picked.cluster[index]) for index in kept})
    members = {group: [index for index in kept if picked.cluster[index] == group] for group in groups}
    rings = _points(picked, frame, chosen, "circle-open", theme.ink, 19)
    rings |= {"hoverinfo": "skip", "name": f"{len(chosen)} picked", "showlegend": True}
    del rings["hovertemplate"]
    left_out = _points(picked, frame, list(picked.dropped), "x-thin-open", theme.quiet, 9)
    left_out |= {"name": f"{len(picked.dropped)} left out", "showlegend": bool(picked.dropped)}
    drawn = [_group(picked, frame, members[group], group, theme) for group in groups]
    figure_layout = _layout(picked, frame, theme)
    return {
        "data": [_key(len(kept), sum(group != PLAIN for group in groups), theme), rings, left_out, *drawn],
        "layout": figure_layout,
    }


def _frame(picked: Picked, kept: Sequence[int]) -> _Frame:
    inside = picked.positions[kept]
    low, high = np.percentile(inside, BODY, axis=0)
    reach = REACH * np.maximum(high - low, 0.05 * float((high - low).max()))
    low, high = np.maximum(low - reach, inside.min(axis=0)), np.minimum(high + reach, inside.max(axis=0))
    margin = 0.06 * np.where(high > low, high - low, float((high - low).max()) or 1.0)
    low, high = low - margin, high + margin
    # How many times as far from the middle as the edge in the same direction.
    middle, half = (low + high) / 2, (high - low) / 2
    far = (np.abs(picked.positions - middle) / half).max(axis=1)
    beyond, places = far > 1, picked.positions.copy()
    for rank, index in enumerate(sorted(np.flatnonzero(beyond), key=lambda i: -far[i])):
        pulled = (1 - STEP * rank) / far[index]  # one behind the other, where they lie in one direction
        places[index] = middle + pulled * (picked.positions[index] - middle)
    return _Frame(low, high, places, np.asarray(beyond, dtype=bool))


def _layout(picked: Picked, frame: _Frame, theme: Theme) -> dict[str, Any]:
    beyond = int(frame.beyond.sum())
    words = [f"near is alike in {picked.space}", f"the plane shows {100 * picked.explained:.0f} % of it"]
    words += [f"{beyond} beyond the edge"] if beyond else []
    sides = np.stack([frame.low, frame.high], axis=1).round(6).tolist()
    figure_layout = layout(theme, uirevision=f"pool {picked.method} {len(picked)}", margin=(28, 16, 16, 28))
    figure_layout["xaxis"] = _axis(theme, sides[0], " · ".join(words))
    figure_layout["yaxis"] = _axis(theme, sides[1], "")
    figure_layout["legend"] |= {"itemclick": False, "itemdoubleclick": False}
    figure_layout["hovermode"] = "closest"
    figure_layout["dragmode"] = "pan"
    return figure_layout


def _group(picked: Picked, frame: _Frame, members: Sequence[int], group: int, theme: Theme) -> dict[str, Any]:
    """The scenes of one group; those without one are all drawn alike."""
    shape = "circle" if group == PLAIN else SHAPES[group % len(SHAPES)]
    colour = theme.full if group == PLAIN else theme.cluster(group)
    trace = _points(picked, frame, members, shape, colour, 9)
    trace["marker"]["line"] = {"color": theme.panel, "width": 1}
    return trace


def _points(
    picked: Picked, frame: _Frame, indices: Sequence[int], shape: str, colour: str, size: int
) -> dict[str, Any]:
    places = frame.places[list(indices)].round(6)
    return {
        "type": "scatter",
        "mode": "markers",
        "x": places[:, 0].tolist(),
        "y": places[:, 1].tolist(),
        "customdata": [int(index) for index in indices],
        "text": [_hover(picked, frame, int(index)) for index in indices],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"symbol": shape, "color": colour, "size": size, "line": {"color": colour, "width": 1.6}},
        "showlegend": False,
        "cliponaxis": False,
    }


def _key(count: int, groups: int, theme: Theme) -> dict[str, Any]:
    """The legend's entry for scenes that could be picked, and what their colours and shapes tell."""
    told = f" in {groups} group{'' if groups == 1 else 's'}, by colour and shape" if groups else ""
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [None],
        "y": [None],
        "hoverinfo": "skip",
        "name": f"{count} to pick from{told}",
        "marker": {"symbol": "circle", "color": theme.full, "size": 9},
        "showlegend": True,
    }


def _hover(picked: Picked, frame: _Frame, index: int) -> str:
    lines = [f"<b>{escape(picked.names[index])}</b>"]
    state = "picked" if index in picked.picked else "not picked"
    if index in picked.dropped:
        lines += ["left out:", *(escape(line) for line in wrap(picked.dropped[index], LINE))]
    elif picked.cluster[index] >= 0:
        lines.append(f"group {picked.cluster[index] + 1} of {int(picked.cluster.max()) + 1}, {state}")
    else:
        lines.append(state)
    frames = picked.frames[index]
    lines.append(f"{frames} frame{'' if frames == 1 else 's'}, {picked.tokens[index]} tokens")
    if picked.score and np.isfinite(picked.scores[index]):
        lines.append(f"{picked.score}: {short(float(picked.scores[index]))}")
    if frame.beyond[index]:
        lines.append("lies beyond the edge of the map")
    return "<br>".join(lines)


def _axis(theme: Theme, sides: Sequence[float], title: str) -> dict[str, Any]:
    return axis(theme, range=list(sides), showticklabels=False, title=titled(title, theme), showline=False)

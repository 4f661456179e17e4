"""View model of the map and the list beside it: session in, plain data out. It measures nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from quantlab import figures
from quantlab.app.blame import DRAW, blame_view, repairs
from quantlab.app.panels import summary, to_json
from quantlab.figures.outlier_map import TRUNK, Placed
from quantlab.views.names import short_name
from quantlab.views.numbers import digits
from quantlab.views.spent import spent
from quantlab.views.timing import time_parts

if TYPE_CHECKING:
    from quantlab.app.state import Session

STREAMS = {"trunk": "trunk", "vit": "ViT", "heads": "heads", "all": "all"}
STREAM_HELP = {
    "trunk": "Frame and global blocks, which recipes quantize by default",
    "vit": "The image encoder before the trunk",
    "heads": "What turns tokens into cameras, depth and points",
    "all": "Every layer of the network",
}
HEADS = (
    *("camera_head", "depth_head", "point_head", "track_head", "conf_head"),
    *("point_decoder", "conf_decoder", "camera_decoder"),
)
WORST = 8


def map_panel(session: Session) -> str:
    """The map, its scale and the worst layers."""
    view, lab = session.view, session.open_lab()
    layers = lab.structure.layers
    streams = _streams(view.streams, {layer.stream for layer in layers.values()})
    known = _severities(session)
    shown = {name: value for name, value in known.items() if layers[name].stream in streams}
    settings, told = lab.recipe.layers(lab.structure), _told(view.color_by)
    notes = {name: summary(chosen) for name, chosen in settings.items()}
    untouched = {name for name, chosen in settings.items() if not chosen.quantized}
    figure = figures.outlier_map(
        layers.values(),
        shown,
        color_by=view.color_by,
        streams=streams,
        notes=notes,
        untouched=untouched,
        selected=view.layer,
        theme=figures.PAGE,
    )
    return to_json(
        {
            "figure": figure,
            "worst": _worst(known if view.color_by == "time" else shown, layers, told),
            "layers": [
                [name, short_name(item), shown.get(name), told(shown[name]) if name in shown else ""]
                for name, item in layers.items()
                if item.stream in streams
            ],
            "color_by": view.color_by,
            "quantities": [_choice(key, item.short, item.help) for key, item in figures.QUANTITIES.items()],
            "streams": [_choice(key, label, STREAM_HELP[key]) for key, label in STREAMS.items()],
            "stream": view.streams,
            "selected": view.layer,
            "blame": blame_view(session),
            "parts": time_parts(session.results.measurement, _parts(layers))
            if view.color_by == "time"
            else "",
            "spent": spent(session.results.measurement) if view.color_by == "time" else {},
            "message": _map_message(
                session,
                shown,
                {layer.name for layer in layers.values() if layer.stream in streams} - untouched,
            ),
        }
    )


def _choice(key: str, label: str, about: str) -> dict[str, str]:
    return {"id": key, "label": label, "help": about}


def _severities(session: Session) -> dict[str, float]:
    """What colours the map; until the new recipe is measured, that of the former one."""
    results, by = session.results, session.view.color_by
    waiting = {"tre": not results.diagnosis, "error": not results.errors}.get(by, False)
    measured = results.former if waiting and results.former is not None else results
    shares = None if results.measurement is None else results.measurement.shares
    known = (measured.diagnosis, measured.errors, repairs(session), shares)
    return figures.severities(by, results.profile, *known)


def _told(color_by: str) -> Callable[[float], str]:
    """How a number of the map is written beside it."""
    percent = figures.QUANTITIES[color_by].percent
    return lambda value: f"{digits(100 * value)} %" if percent else digits(value)


def _worst(
    shown: Mapping[str, float], layers: Mapping[str, Placed], told: Callable[[float], str]
) -> list[dict[str, Any]]:
    """The list beside the map; by time of the whole network, because a pass is as slow as all its parts together."""
    top = max(shown.values(), default=1.0)
    return [
        {
            "name": name,
            "short": short_name(layers[name]),
            "value": told(value),
            "share": round(value / top, 3),
        }
        for name, value in figures.worst(shown, WORST)
    ]


def _parts(layers: Mapping[str, Placed]) -> dict[str, str]:
    """Layer to what the button above the map calls its part of the network."""
    known = dict.fromkeys(TRUNK, STREAMS["trunk"]) | {"vit": STREAMS["vit"]}
    known |= dict.fromkeys(HEADS, STREAMS["heads"])
    return {name: known.get(layer.stream, "other") for name, layer in layers.items()}


def _streams(choice: str, present: set[str]) -> set[str]:
    wanted = {"trunk": set(TRUNK), "vit": {"vit"}, "heads": set(HEADS)}.get(choice, present)
    return (wanted & present) or present


def _map_message(session: Session, shown: Mapping[str, float], quantized: Collection[str]) -> str:
    """What to say where the map has nothing to show; ``quantized`` are those of its layers that are."""
    if any(shown.values()):
        return ""
    if session.view.color_by == "time":
        return "Not measured yet. Press Measure below “forward”."
    if session.view.color_by == "blame":
        return "" if session.view.region is not None else DRAW
    if not quantized and session.view.color_by in ("tre", "error"):
        return "No layer shown here is quantized under this recipe."
    if session.view.color_by == "error":
        return "Open a layer: its error is measured then and coloured here."
    return "Measuring…" if session.job is not None else "Not measured yet. Press Run to measure every layer."

"""View model of the opened layer: its plots, its clip line and what they say in words. It measures nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quantlab import figures
from quantlab.app.panels import to_json
from quantlab.figures.readable import short
from quantlab.views.layer_plots import NO_SEARCH, NO_WEIGHT, SIDES, search_plot, side_of, side_plot
from quantlab.views.names import short_name
from quantlab.views.timing import layer_time

if TYPE_CHECKING:
    from quantlab.app.state import Session
    from quantlab.engine.views import LayerView
    from quantlab.figures.theme import Figure

PANELS = {
    "histogram": "Histogram",
    "waterfall": "Waterfall",
    "tokens": "Tokens",
    "channels": "Channels",
    "landscape": "Landscape",
    "search": "Search",
}
RELIEFS = {"flat": "flat", "relief": "3D"}
HELP = {
    "histogram": "The values before and after rounding, the quantizer's grid, and the clip line to drag",
    "waterfall": "Every step from raw to quantized, below each other on one axis",
    "tokens": "Camera, register and patch tokens apart, each as shares of its own kind",
    "channels": "The largest value of every channel, largest first",
    "landscape": "Channels by tokens: where the large values sit",
    "search": "The loss of every range the search tried",
    "inputs": "What comes into the layer",
    "weights": "The layer's weight",
    "flat": "As a picture, colours on a logarithmic scale",
    "relief": "As a relief to turn, heights linear",
}
WITH_SIDES = ("histogram", "waterfall", "channels", "landscape")
"""Panels that show inputs or weights; the others show one thing only."""
WITH_READING = ("histogram", "waterfall", "channels")


def layer_panel(session: Session) -> str:
    """The selected layer: what it is, its plot and what the plot says in words."""
    shown = session.view
    name, panel = shown.layer, shown.panel
    info = session.open_lab().structure.layers.get(name)
    if info is None:
        return to_json({"name": "", "message": "Choose a layer on the map or in the list beside it."})
    view = session.results.layers.get(name)
    figure, message = _figure(session, name, view)
    clip = _clip(session, view, figure) if panel == "histogram" else None
    return to_json(
        {
            "name": name,
            "short": short_name(info),
            "facts": _facts(session, name),
            "panel": panel,
            "panels": _options(PANELS),
            "sides": _options(SIDES) if panel in WITH_SIDES else [],
            "side": shown.side,
            "reliefs": _options(RELIEFS) if panel == "landscape" else [],
            "relief": shown.relief,
            "figure": figure,
            "clip": clip,
            "message": message,
            "reading": view.reading if view is not None and (figure is None or panel in WITH_READING) else "",
        }
    )


def _options(labels: dict[str, str]) -> list[dict[str, str]]:
    return [{"id": key, "label": label, "help": HELP.get(key, "")} for key, label in labels.items()]


def _figure(session: Session, name: str, view: LayerView | None) -> tuple[Figure | None, str]:
    """The plot, or what to say in its place."""
    panel, side, profile = session.view.panel, session.view.side, session.results.profile
    layer = profile.layers.get(name) if profile is not None else None
    if panel == "tokens":
        if layer is None:
            return None, "The profile has not been measured yet."
        return figures.token_histogram(layer, theme=figures.PAGE), ""
    if view is None:
        return None, "Measuring this layer…" if session.job is not None else "Not measured yet. Press Run."
    former = session.results.former.layers.get(name) if session.results.former is not None else None
    if panel == "search":
        drawn = search_plot(view, former, name)
        return drawn, "" if drawn is not None else NO_SEARCH
    shown = side_of(view, side)
    if shown is None:
        return None, NO_WEIGHT
    if panel == "landscape" and not shown.landscape:
        return None, "No inputs of this layer were sampled, so there are none to draw."
    kind = "surface" if panel == "landscape" and session.view.relief == "relief" else panel
    profiled = layer if side == "inputs" else None
    return side_plot(kind, shown, side_of(former, side), profiled, f"{name} {side}"), ""


def _clip(session: Session, view: LayerView | None, figure: Figure | None) -> dict[str, Any] | None:
    """What the clip line answers while it is dragged, where there is a range to clip."""
    shown = side_of(view, session.view.side)
    if shown is None or figure is None or "meta" not in figure["layout"]:
        return None
    return figures.clip_slider(shown, figure["layout"]["meta"]["x"]["symlog"])


def _facts(session: Session, name: str) -> str:
    lab = session.open_lab()
    info = lab.structure.layers[name]
    facts = [f"{info.in_features} → {info.out_features}"]
    results = session.results
    if results.profile is not None and name in results.profile.layers:
        stats = results.profile.layers[name].all
        facts += [f"kurtosis {short(stats.kurtosis)}", f"max/p99.9 {short(stats.max_p999)}"]
    tre = results.diagnosis.layers.get(name, 0.0) if results.diagnosis is not None else 0.0
    if tre > 0:  # a layer that is left alone has none
        facts.append(f"TRE {short(tre)}")
    taken = layer_time(results.measurement, name)
    if taken:
        facts.append(taken)
    return "   ".join(facts)

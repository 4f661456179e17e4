"""View models of the map, the layer and the settings row: session in, plain data out. They measure nothing."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from quantlab import figures
from quantlab.engine.settings import FIELDS, FULL_PRECISION
from quantlab.figures.outlier_map import STREAM_NAMES, TRUNK, Placed
from quantlab.figures.readable import short
from quantlab.models.tokens import KINDS
from quantlab.views.edits import APPLY_TO, branch_of, is_in_scope
from quantlab.views.names import short_name

if TYPE_CHECKING:
    from quantlab.app.state import Session
    from quantlab.engine.settings import LayerSettings
    from quantlab.engine.views import LayerView
    from quantlab.models.structure import LayerInfo

STREAMS = {"trunk": "trunk", "vit": "ViT", "heads": "heads", "all": "all"}
PANELS = {
    "histogram": "Histogram",
    "tokens": "Tokens",
    "channels": "Channels",
    "landscape": "Landscape",
    "search": "Search",
}
HEADS = ("camera_head", "depth_head", "point_head", "track_head")
WORST = 8


def to_json(value: Any) -> str:
    """Compact JSON; numbers that are not finite become null."""
    return json.dumps(_plain(value), allow_nan=False, separators=(",", ":"))


def map_panel(session: Session) -> str:
    """The map, its scale and the worst layers."""
    view, lab = session.view, session.open_lab()
    layers = lab.structure.layers
    streams = _streams(view.streams, {layer.stream for layer in layers.values()})
    shown = {name: value for name, value in _severities(session).items() if layers[name].stream in streams}
    settings = lab.recipe.layers(lab.structure)
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
    quantities = [
        {"id": key, "label": item.short, "help": item.help} for key, item in figures.QUANTITIES.items()
    ]
    return to_json(
        {
            "figure": figure,
            "worst": _worst(shown, layers),
            "color_by": view.color_by,
            "quantities": quantities,
            "streams": [{"id": key, "label": label} for key, label in STREAMS.items()],
            "stream": view.streams,
            "selected": view.layer,
            "message": _map_message(
                session,
                shown,
                {layer.name for layer in layers.values() if layer.stream in streams} - untouched,
            ),
        }
    )


def _severities(session: Session) -> dict[str, float]:
    """What colours the map; until the new recipe is measured, that of the former one."""
    results, by = session.results, session.view.color_by
    waiting = {"tre": not results.diagnosis, "error": not results.errors}.get(by, False)
    measured = results.former if waiting and results.former is not None else results
    return figures.severities(by, results.profile, measured.diagnosis, measured.errors)


def _worst(shown: Mapping[str, float], layers: Mapping[str, Placed]) -> list[dict[str, Any]]:
    """The list beside the map."""
    top = max(shown.values(), default=1.0)
    return [
        {
            "name": name,
            "short": short_name(layers[name]),
            "value": short(value),
            "share": round(value / top, 3),
        }
        for name, value in figures.worst(shown, WORST)
    ]


def _streams(choice: str, present: set[str]) -> set[str]:
    wanted = {"trunk": set(TRUNK), "vit": {"vit"}, "heads": set(HEADS)}.get(choice, present)
    return (wanted & present) or present


def _map_message(session: Session, shown: Mapping[str, float], quantized: Collection[str]) -> str:
    """What to say where the map has nothing to show; ``quantized`` are those of its layers that are."""
    if any(shown.values()):
        return ""
    if not quantized and session.view.color_by in ("tre", "error"):
        return "No layer shown here is quantized under this recipe."
    if session.view.color_by == "error":
        return "Open a layer: its error is measured then and coloured here."
    return "Measuring…" if session.job is not None else "Not measured yet. Press Run to measure every layer."


def layer_panel(session: Session) -> str:
    """The selected layer: what it is, its plot and what the plot says in words."""
    name, panel = session.view.layer, session.view.panel
    lab = session.open_lab()
    info = lab.structure.layers.get(name)
    if info is None:
        return to_json({"name": "", "message": "Choose a layer on the map or in the list beside it."})
    view = session.results.layers.get(name)
    figure, message = _figure(session, name, view, panel)
    return to_json(
        {
            "name": name,
            "short": short_name(info),
            "facts": _facts(session, name),
            "panel": panel,
            "panels": [{"id": key, "label": label} for key, label in PANELS.items()],
            "figure": figure,
            "message": message,
            "reading": view.reading
            if view is not None and (figure is None or panel in ("histogram", "channels"))
            else "",
        }
    )


def _figure(
    session: Session, name: str, view: LayerView | None, panel: str
) -> tuple[figures.theme.Figure | None, str]:
    if panel == "tokens":
        profile = session.results.profile
        if profile is None or name not in profile.layers:
            return None, "The profile has not been measured yet."
        return figures.token_histogram(profile.layers[name], theme=figures.PAGE), ""
    if view is None:
        return None, "Measuring this layer…" if session.job is not None else "Not measured yet. Press Run."
    if panel == "search":
        return _search_figure(view, name)
    measured = session.results.profile
    layer = measured.layers.get(name) if measured is not None else None
    if panel == "channels":
        return figures.channel_maxima(view, profile=layer, name=name, theme=figures.PAGE), ""
    if panel == "landscape":
        if not view.landscape:
            return None, "No inputs of this layer were sampled, so there are none to draw."
        steps = [step for step in view.landscape if step != "quantized"] or [*view.landscape]
        kinds = [KINDS[code] for code in view.landscape_kinds]
        return figures.landscape(
            view, [*dict.fromkeys([steps[0], steps[-1]])], kinds=kinds, name=name, theme=figures.PAGE
        ), ""
    former = session.results.former
    ghost = former.layers.get(name) if former is not None else None
    before = ghost.steps.get("quantized") if ghost is not None else None
    return figures.layer_histogram(view, former=before, profile=layer, name=name, theme=figures.PAGE), ""


def _search_figure(view: LayerView, name: str) -> tuple[figures.theme.Figure | None, str]:
    if view.search is None:
        return None, "No range search ran here. Choose range search: grid or ternary."
    return figures.search_curve(view.search.scales, view.search.losses, name=name, theme=figures.PAGE), ""


def _facts(session: Session, name: str) -> str:
    lab = session.open_lab()
    info = lab.structure.layers[name]
    facts = [f"{info.in_features} → {info.out_features}"]
    results = session.results
    if results.profile is not None and name in results.profile.layers:
        stats = results.profile.layers[name].all
        facts += [f"kurtosis {short(stats.kurtosis)}", f"max/p99.9 {short(stats.max_p999)}"]
    if results.diagnosis is not None and name in results.diagnosis.layers:
        facts.append(f"TRE {short(results.diagnosis.layers[name])}")
    return "   ".join(facts)


def settings_panel(session: Session) -> dict[str, Any]:
    """The settings row of the selected layer, with the choices and the help of every control."""
    lab, view = session.open_lab(), session.view
    if view.layer not in lab.structure.layers:
        return {"layer": ""}
    info = lab.structure.layers[view.layer]
    settings = lab.recipe.layer(view.layer, lab.structure)
    in_scope = is_in_scope(lab.recipe, lab.structure, view.layer)
    branch = branch_of(lab.structure, view.layer)
    help_texts = {name: str(item.metadata.get("help", "")) for name, item in FIELDS.items()}
    choices = {
        name: list(item.metadata["choices"]) for name, item in FIELDS.items() if "choices" in item.metadata
    }
    targets = _targets(info, len(view.picked))
    return {
        "layer": view.layer,
        "short": short_name(info),
        "weights": settings.weights if in_scope else FULL_PRECISION,
        "activations": settings.activations if in_scope else FULL_PRECISION,
        "rotation": settings.rotation != "none",
        "smoothing": settings.smoothing,
        "range_search": settings.range_search,
        "compensation": lab.recipe.branch(branch).compensation if branch else None,
        "keep": settings.keep and in_scope,
        "in_scope": in_scope,
        "summary": summary(settings) if in_scope else "out of scope: choose bits",
        "only_weights": info.operator != "linear",
        "apply_to": view.apply_to,
        "targets": [
            {"id": key, "label": targets[key]}
            for key in APPLY_TO
            if key != "picked" or view.picked or view.apply_to == "picked"
        ],
        "choices": choices,
        "help": help_texts,
    }


def _targets(info: LayerInfo, picked: int) -> dict[str, str]:
    """How far a change may reach, in words."""
    stream = STREAM_NAMES.get(info.stream, info.stream)
    in_block = info.index >= 0
    return {
        "layer": "this layer",
        "kind": f"every {info.kind} of {stream or 'its kind'}" if in_block else "this layer's kind",
        "block": f"this block ({stream} {info.index})" if in_block else "this block",
        "all": "all in scope",
        "picked": f"{picked} picked row{'' if picked == 1 else 's'}",
    }


def summary(settings: LayerSettings) -> str:
    """A layer's settings in a few words: "W4 A4, Hadamard, smoothing 0.5"."""
    if not settings.quantized:
        return "full precision"
    parts = [f"W{settings.weights} A{settings.activations}"]
    if settings.rotation != "none":
        parts.append("Hadamard")
    if settings.smoothing is not None:
        parts.append(f"smoothing {settings.smoothing:g}")
    if settings.range_search != "minmax":
        parts.append(f"{settings.range_search} search")
    return ", ".join(parts)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value

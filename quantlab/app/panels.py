"""View model of the settings row, and how every panel is made plain data. It measures nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from quantlab.engine.executable import nearest, simulated
from quantlab.engine.settings import FIELDS, FULL_PRECISION
from quantlab.figures.outlier_map import STREAM_NAMES
from quantlab.views.edits import APPLY_TO, branch_of, is_in_scope
from quantlab.views.names import short_name
from quantlab.views.sheet import setting_word, sheet, sheet_values, usable

if TYPE_CHECKING:
    from quantlab.app.state import Session
    from quantlab.engine.settings import LayerSettings
    from quantlab.models.structure import LayerInfo


NEAREST = {"weights": "W{}", "activations": "A{}", "weight_symmetric": "symmetric"}
"""How the settings that make a layer executable are called where there is little room."""


def to_json(value: Any) -> str:
    """Compact JSON; numbers that are not finite become null."""
    return json.dumps(_plain(value), allow_nan=False, separators=(",", ":"))


def settings_panel(session: Session) -> dict[str, Any]:
    """The settings row of the selected layer, with the choices and the help of every control."""
    lab, view = session.open_lab(), session.view
    if view.layer not in lab.structure.layers:
        return {"layer": ""}
    info = lab.structure.layers[view.layer]
    settings = lab.recipe.layer(view.layer, lab.structure)
    in_scope = is_in_scope(lab.recipe, lab.structure, view.layer)
    branch = branch_of(lab.structure, view.layer)
    of_branch = lab.recipe.branch(branch) if branch else None
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
        "compensation": of_branch.compensation if of_branch is not None else None,
        "keep": settings.keep and in_scope,
        "in_scope": in_scope,
        "summary": summary(settings) if in_scope else "out of scope: choose bits",
        "simulated": _simulation(settings) if in_scope and info.operator == "linear" else None,
        "only_weights": info.operator != "linear",
        "apply_to": view.apply_to,
        "targets": [
            {"id": key, "label": targets[key]}
            for key in APPLY_TO
            if key != "picked" or view.picked or view.apply_to == "picked"
        ],
        "choices": choices,
        "groups": sheet(),
        "values": sheet_values(settings, of_branch, in_scope=in_scope),
        "usable": usable(
            kept=settings.keep,
            in_scope=in_scope,
            linear=info.operator == "linear",
            branch=lab.structure.branches[branch].kind if branch else "",
        ),
        "help": help_texts,
    }


def _simulation(settings: LayerSettings) -> dict[str, Any] | None:
    """Why the layer is only simulated, and what to change so that integers are multiplied; None where they are."""
    reason, changes = simulated(settings), nearest(settings)
    if not reason:
        return None
    words = ", ".join(NEAREST[name].format(value) for name, value in changes.items())
    return {"reason": reason, "changes": changes, "words": words}


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
    """A layer's settings in a few words: "W4 A4, hadamard, smoothing 0.5"."""
    if not settings.quantized:
        return "full precision"
    parts = [f"W{settings.weights} A{settings.activations}"]
    if settings.rotation != "none":
        parts.append(setting_word("rotation", settings.rotation))
    if settings.smoothing is not None:
        parts.append(f"smoothing {settings.smoothing:g}")
    if settings.range_search != "minmax":
        parts.append(f"{settings.range_search} search")
    if settings.rounding != "nearest":
        parts.append(settings.rounding.upper())
    if settings.low_rank:
        parts.append(f"rank {settings.low_rank}")
    if settings.reconstruction != "none":
        parts.append("learned")
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

"""The methods tab: what each preset does, from whom, at what cost, and what a recipe takes from it. It sets nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quantlab.calibration.selection import METHODS
from quantlab.engine.presets import PRESETS, Preset
from quantlab.engine.settings import FIELDS
from quantlab.views.sheet import setting_word

if TYPE_CHECKING:
    from quantlab.app.state import Session


def methods_panel(session: Session) -> dict[str, Any]:
    """Every preset explained, and which one is in force."""
    recipe = session.open_lab().recipe
    return {
        "methods": [_card(name, preset) for name, preset in PRESETS.items()],
        "current": recipe.name,
        "changed": len(recipe.rules),
    }


def _card(name: str, preset: Preset) -> dict[str, Any]:
    chosen = dict(preset.calibration)
    return {
        "id": name,
        "label": preset.label,
        "help": preset.help,
        "formula": preset.formula,
        "paper": preset.paper if preset.paper != preset.label else "",
        "arxiv": preset.arxiv,
        "cost": preset.cost,
        "usual": _usual(preset),
        "reading": preset.reading,
        "file": f"quantlab/methods/{preset.file}" if preset.file else "",
        "settings": [
            [setting, setting_word(setting, value), FIELDS[setting].metadata["help"]]
            for setting, value in preset.settings.items()
        ],
        "scenes": f"{chosen['scenes']} scenes of the pool, {METHODS[chosen['method']].label}"
        if chosen
        else "",
    }


def _usual(preset: Preset) -> str:
    """The bits the method was made for."""
    weights, activations = preset.usual
    words = {"both": f"W{weights} A{activations}", "kv": f"keys and values of {activations} bits", "none": ""}
    return words[preset.only]

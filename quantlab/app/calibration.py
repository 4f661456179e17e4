"""View model of the calibration tab: how scenes are picked, the map of the pool, the names. It picks none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from quantlab import figures
from quantlab.calibration.selection import METHODS
from quantlab.engine.selection_settings import SELECTION_FIELDS, Selection, selection_from
from quantlab.views.names import short_text

if TYPE_CHECKING:
    from quantlab.app.state import Session
    from quantlab.calibration.picked import Picked
    from quantlab.models.structure import Structure

LABELS = {"scenes": "scenes", "drop": "leave out", "clusters": "groups", "deep_blocks": "deep blocks"}
AUTOMATIC = {"scenes": "8", "clusters": "auto"}
"""What 0 stands for, shown in its place."""


def draft(session: Session) -> Selection:
    """The selection the person looks at: the recipe's, until another one is tried."""
    return session.view.selection or session.open_lab().recipe.calibration


def changed(current: Selection, changes: Mapping[str, Any]) -> Selection:
    """A selection with some entries changed, as the tab's controls do it.

    Raises:
        RecipeError: A value out of its bounds.
    """
    entries = {name: getattr(current, name) for name in SELECTION_FIELDS} | dict(changes)
    if changes.get("method") == "all":
        entries["scenes"] = 0
    return selection_from(entries)


def known(session: Session) -> Picked | None:
    """The map of the draft, if it was made already."""
    return session.results.pool.get((draft(session), session.open_lab().recipe.seed))


def calibration_panel(session: Session) -> dict[str, Any]:
    """Controls with their bounds and help, the figure, and the names."""
    lab, chosen, picked = session.open_lab(), draft(session), known(session)
    method = chosen.how
    return {
        "method": chosen.method,
        "methods": [{"id": name, "label": item.label, "help": item.help} for name, item in METHODS.items()],
        "help": method.help,
        "source": method.source,
        "controls": [_control(chosen, name) for name in method.reads],
        "figure": figures.pool_map(picked, theme=figures.PAGE) if picked is not None else None,
        "picked": list(picked.picked_names) if picked is not None else [],
        "dropped": _dropped(picked, lab.structure) if picked is not None else [],
        "message": "" if picked is not None else _message(session),
        "look": picked is None and session.job is None,
        "apply": chosen != lab.recipe.calibration,
        "note": _note(session, chosen),
    }


def _dropped(picked: Picked, structure: Structure) -> list[list[str]]:
    """Name and reason of each scene left out; blocks are called as everywhere on the page."""
    return [[picked.names[index], short_text(reason, structure)] for index, reason in picked.dropped.items()]


def _control(chosen: Selection, name: str) -> dict[str, Any]:
    entry = SELECTION_FIELDS[name]
    fraction = type(entry.default) is float
    return {
        "id": name,
        "label": LABELS.get(name, name),
        "help": entry.metadata["help"],
        "value": getattr(chosen, name),
        "low": entry.metadata["low"],
        "high": entry.metadata["high"],
        "step": 0.05 if fraction else 1,
        "automatic": AUTOMATIC.get(name, ""),
    }


def _message(session: Session) -> str:
    if session.job is not None and session.job is session.pooling:
        return "Looking at every scene of the pool once…"
    if session.job is not None:
        return "The map follows when the work that runs is done."
    return "The pool has not been looked at yet: every scene runs once, at full precision."


def _note(session: Session, chosen: Selection) -> str:
    """What a person should know before applying it."""
    lab = session.open_lab()
    if not lab.plan().calibrated:
        return "This recipe learns nothing from scenes, so the choice changes no number yet."
    if chosen != lab.recipe.calibration:
        return f"In force: {lab.recipe.calibration.how.label}. Apply to calibrate on these scenes."
    return "In force. Held-out rooms are never in the pool."

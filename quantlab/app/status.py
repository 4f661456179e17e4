"""View models of the top bar: what is open, what runs, what can be undone. They decide nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quantlab.app.work import stamped
from quantlab.engine.presets import PRESETS
from quantlab.figures.readable import duration
from quantlab.views.names import short_text

if TYPE_CHECKING:
    from quantlab.app.state import Session


def head(session: Session, models: list[dict[str, str]], scenes: list[dict[str, str]]) -> dict[str, Any]:
    """What is open and what else can be, stamped."""
    return stamped(lambda: _head(session, models, scenes))


def _head(session: Session, models: list[dict[str, str]], scenes: list[dict[str, str]]) -> dict[str, Any]:
    return {
        "handle": session.handle,
        "models": models,
        "scenes": scenes,
        "model": session.model,
        "scene": session.scene,
    }


def scene_notes(session: Session) -> list[str]:
    """What a person should know of this model on this scene."""
    lab, notes = session.lab, []
    if lab is None or not lab.evaluation:
        return []
    if getattr(lab.model, "planted", False):
        notes.append("outliers planted artificially")
    scene = lab.evaluation[0]
    if session.model.startswith("mini") and scene.truth is None:
        notes.append("mini knows only its rooms; photographs want vggt-1b")
    return [*notes, *scene.notes]


def status(session: Session) -> dict[str, Any]:
    """What runs, how far it is, and what the person can do about it, stamped."""
    return stamped(lambda: _status(session))


def refusal(message: dict[str, str]) -> dict[str, Any]:
    """What went wrong, for a page that has no session, stamped."""
    return stamped(lambda: {"message": message})


def _status(session: Session) -> dict[str, Any]:
    lab, job = session.lab, session.job
    value: dict[str, Any] = {
        "busy": job is not None,
        "text": _text(session),
        "fraction": round(job.fraction, 3) if job is not None else 0,
        "stopping": bool(job is not None and job.cancelled),
        "run": (lab is None or session.stale) and job is None,
        "aging": session.results.evaluation is None and session.results.former is not None,
        "message": session.message,
        "undo": bool(lab is not None and lab.can_undo),
        "redo": bool(lab is not None and lab.can_redo),
        "presets": [
            {"id": name, "label": preset.label, "help": preset.help} for name, preset in PRESETS.items()
        ],
    }
    if lab is not None:
        defaults = lab.recipe.defaults
        value["preset"] = lab.recipe.name
        value["weights"] = defaults.get("weights", 16)
        value["activations"] = defaults.get("activations", 16)
        value["changed"] = len(lab.recipe.rules)
        value["warnings"] = list(lab.plan().warnings)
    return value


def _text(session: Session) -> str:
    lab, job = session.lab, session.job
    if job is not None:
        if job.cancelled:
            return "stopping"
        done, total, text = job.progress
        count = f"{done} of {total} · " if total > 1 else ""  # first: of a narrow line the end is cut off
        text = short_text(text, lab.structure) if lab is not None else text
        return f"{count}{text}" if text else ("working" if lab is not None else "opening the lab")
    if lab is None:
        return "not open"
    if session.stale:
        cost = lab.estimate()
        number, unit = duration(cost.seconds + cost.diagnosis)
        if not cost.measured:
            return "waits for Run · cost not known yet"
        # Nobody has timed what the recipe learns, and learning can take a thousand times a forward.
        more = "calibration and " if lab.plan().calibrated else ""
        return f"changes wait · {more}about {number} {unit}"
    return "up to date"

"""The two clouds the viewer shows: which prediction stands left and right. It aligns and packs nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quantlab.app.status import scene_notes
from quantlab.views.clouds import SIDES, pair_of_clouds

if TYPE_CHECKING:
    from quantlab.app.state import Session

NOTHING_QUANTIZED = "nothing quantized"
MOST_POINTS = 600_000
"""Per cloud; beyond it an even sample is shown, and the viewer says how many."""


def compare_panel(session: Session) -> dict[str, Any]:
    """What the viewer needs: the address of the clouds, and the choices for both sides."""
    results, view = session.results, session.view
    former = results.former.comparison if results.former is not None else None
    comparison = results.comparison or former
    value: dict[str, Any] = {
        "payload": "",
        "left": view.left,
        "right": view.right,
        "sides": [],
        "notes": scene_notes(session),
        "stale": results.comparison is None,
    }
    if comparison is None:
        return {**value, "message": _waiting(session)}
    available = {
        "full": True,
        "now": True,
        "former": former is not None,
        "truth": comparison.truth is not None,
    }
    is_rounded = results.comparison is None or session.open_lab().plan().quantized
    labels = SIDES if is_rounded else {**SIDES, "now": NOTHING_QUANTIZED}
    value["sides"] = [{"id": key, "label": labels[key]} for key, is_there in available.items() if is_there]
    left = view.left if available.get(view.left) else "full"
    right = view.right if available.get(view.right) else "now"
    clouds = {
        "full": comparison.left,
        "now": comparison.right,
        "former": former.right if former is not None else None,
    }
    data = pair_of_clouds(
        comparison,
        clouds.get(left),
        clouds.get(right),
        scene=f"{session.model} {session.scene}",
        limit=MOST_POINTS,
        labels=(labels[left], labels[right]),
    )
    name = session.keep_cloud(data)
    return {**value, "left": left, "right": right, "payload": f"/quantlab/clouds/{session.handle}/{name}"}


def _waiting(session: Session) -> str:
    """Why there is no cloud."""
    if session.job is not None:
        return "Reconstructing the scene…"
    if session.results.evaluation is not None:
        return "The quantized cloud cannot be laid over the full-precision one."
    return "Press Run to reconstruct the scene."

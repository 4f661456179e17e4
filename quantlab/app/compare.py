"""The view model of the comparison: the two clouds, what can be chosen for them, and the error between them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from quantlab.app.sides import base, choices, chosen, label, prediction
from quantlab.app.status import scene_notes
from quantlab.errors import QuantLabError
from quantlab.figures.readable import short
from quantlab.geometry.cleaning import Cleaning, why_not
from quantlab.views.clouds import ERRORS, ShownPair, pack_pair, shown_pair

if TYPE_CHECKING:
    from quantlab.app.state import Session
    from quantlab.jobs import Job

MOST_POINTS = 600_000
"""Per cloud; beyond it an even sample is shown, and the viewer says how many."""
MOST_SHOWN = 3
"""Pairs that a session keeps: cleaning is taken back and made again without a wait."""
ERROR_HELP = {
    "paired": "The distance of the two points of a pixel",
    "nearest": "The distance of each point on the right to the nearest point on the left: it forgives a shift along "
    "a surface",
}
CLEAN_LABELS = {"neighbours": "neighbours", "std_ratio": "deviations", "voxel": "voxel, % of scene"}


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """A pair that was prepared, under which names it is shown, and where its bytes are kept."""

    pair: ShownPair
    labels: tuple[str, str]
    cloud: str


def compare_panel(session: Session) -> dict[str, Any]:
    """What the viewer needs: the address of the clouds, the choices for both sides, and what the error is."""
    view = session.view
    value: dict[str, Any] = {
        "payload": "",
        "left": view.left,
        "right": view.right,
        "sides": [],
        "notes": scene_notes(session),
        "stale": session.results.comparison is None,
        "told": "",
        "region": "" if view.region is None else view.region["mask"],
    }
    if base(session) is None:
        return {**value, "message": _waiting(session)}
    problem = ""
    try:
        shown = prepared(session)
    except QuantLabError as error:
        if not view.clean:
            raise
        problem = str(error)
        session.show(clean=False)
        shown = prepared(session)
    left, right = chosen(session)
    return {
        **value,
        "left": left,
        "right": right,
        "sides": choices(session),
        "payload": f"/quantlab/clouds/{session.handle}/{shown.cloud}",
        "error": {
            "value": view.error,
            "choices": [{"id": key, "label": text, "help": ERROR_HELP[key]} for key, text in ERRORS.items()],
        },
        "told": _told(shown.pair),
        "explained": _explained(shown),
        "clean": _cleaning(session, shown.pair, problem),
    }


def prepared(session: Session, job: Job | None = None) -> Shown:
    """The pair that is chosen, as it is shown; made only where it is another one than of late.

    Raises:
        NumericError: Cleaning finds no pixel, or the clouds do not pair.
        MissingLibraryError: Cleaning needs open3d.
        JobCancelledError: The job was cancelled.
    """
    sides, view, known = chosen(session), session.view, base(session)
    left, right = (prediction(session, side) for side in sides)
    if known is None or left is None or right is None:
        raise QuantLabError("there is no cloud yet", remedy="Press Run first.")
    labels = (label(session, sides[0]), label(session, sides[1]))
    cleaning = view.cleaning if view.clean else None
    alike = [
        old
        for old in session.shown
        if old.pair.left is left and old.pair.right is right
        if (old.pair.error, old.pair.cleaning) == (view.error, cleaning)
    ]
    for old in alike:
        if old.labels == labels and session.cloud(old.cloud) is not None:
            session.shown = (old, *(other for other in session.shown if other is not old))
            return old
    pair = (
        alike[0].pair
        if alike
        else shown_pair(left, right, size=known.scale, error=view.error, cleaning=cleaning, job=job)
    )
    name = f"{session.model} {session.scene}"
    cloud = session.keep_cloud(pack_pair(pair, scene=name, limit=MOST_POINTS, labels=labels))
    shown = Shown(pair, labels, cloud)
    session.shown = (shown, *session.shown)[:MOST_SHOWN]
    return shown


def _told(pair: ShownPair) -> str:
    """The error in a few words."""
    kind = "point error" if pair.error == "paired" else "mean to nearest"
    cleaned = ", cleaned" if pair.cleaned is not None else ""
    return "no pixel has an error" if pair.mean is None else f"{kind} {short(100 * pair.mean)} %{cleaned}"


def _explained(shown: Shown) -> str:
    """The error in a sentence."""
    pair, (left, right) = shown.pair, shown.labels
    if pair.mean is None:
        return f"No pixel has a finite point in both {left} and {right}."
    kind = "paired pixel by pixel" if pair.error == "paired" else "to the nearest neighbour"
    cleaned = ", after cleaning" if pair.cleaned is not None else ""
    return (
        f"{right} to {left}, {kind}{cleaned}: on average {short(pair.mean * pair.size)} scene units, "
        f"{short(100 * pair.mean)} % of the scene's size ({short(pair.size)})."
    )


def _cleaning(session: Session, pair: ShownPair, problem: str) -> dict[str, Any]:
    """The cleaning: whether it is on, its settings with their help, and what it removed."""
    return {
        "on": session.view.clean,
        "fields": [
            {
                "name": item.name,
                "label": CLEAN_LABELS[item.name],
                "low": item.metadata["low"],
                "high": item.metadata["high"],
                "step": 1 if item.name == "neighbours" else "any",
                "help": f"{item.metadata['help']}. Default: {item.default:g}.",
                "value": getattr(session.view.cleaning, item.name),
            }
            for item in fields(Cleaning)
        ],
        "why_not": why_not(),
        "said": problem or (str(pair.cleaned) if pair.cleaned is not None else ""),
    }


def _waiting(session: Session) -> str:
    """Why there is no cloud."""
    if session.job is not None:
        return "Reconstructing the scene…"
    if session.results.evaluation is not None:
        return "The quantized cloud cannot be laid over the full-precision one."
    return "Press Run to reconstruct the scene."

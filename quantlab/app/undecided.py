"""What stands on the tab "Decide" before a search: what one does, needs and gives. It runs nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quantlab.engine.bit_rules import searchable, with_bits
from quantlab.engine.plan import plan
from quantlab.engine.scan import OPTIONS, SCENES
from quantlab.engine.search import TRIES, VERIFIED, VERIFY
from quantlab.figures.readable import duration

if TYPE_CHECKING:
    from quantlab.app.state import Session
    from quantlab.engine.recipe import Recipe
    from quantlab.models.structure import Structure

RECIPES = TRIES + VERIFIED + len(OPTIONS) + 3
"""Whole recipes that a search runs: its tries, points of the front, equal bits, and three it begins from."""
LEAD = "Which layers need their bits?"
THEN = (
    "A front of size against drift. Load a point and it is the recipe in force, until Undo; before that nothing"
    " changes. Layers shows which of them are sensitive, Differences what two recipes do otherwise."
)
ALWAYS = "Set it on the slider first: megabytes of the whole network. Equal bits everywhere take"
UNMEASURED = "For milliseconds press Measure below “forward” first."
MEASURED = "Or milliseconds of a forward pass: choose ms."


def undecided(session: Session, *, timed: bool) -> dict[str, Any]:
    """Its texts by their places on the page, and what the network weighs at equal bits.

    Args:
        session: Whose recipe would be searched.
        timed: Whether a budget in milliseconds can be asked for.

    Raises:
        RecipeError: The recipe cannot be carried out at one of these bits.
    """
    lab = session.open_lab()
    count = len(searchable(lab.recipe, lab.structure))
    bits = f"{', '.join(map(str, OPTIONS[:-1]))} and {OPTIONS[-1]}"
    does = (
        f"A search runs each of {count} layers alone at {bits} bits on {SCENES} calibration scenes, finds for every"
        " size the bits that harm the reconstruction least, and runs what it finds."
    )
    return {
        "lead": LEAD,
        "does": does,
        "budget": ALWAYS,
        "sizes": _sizes(lab.recipe, lab.structure),
        "unit": MEASURED if timed else UNMEASURED,
        "takes": _takes(session, count),
        "then": THEN,
    }


def _takes(session: Session, count: int) -> str:
    evaluation, single = session.results.evaluation, len(OPTIONS) * SCENES * count
    told = f"{single} passes for single layers, {RECIPES * VERIFY} for whole recipes"
    kept = "Stop ends it at any time and keeps what was measured."
    if evaluation is None or evaluation.seconds <= 0:
        return f"{told}. {kept}"
    each = evaluation.seconds
    whole = duration((single + RECIPES * VERIFY) * each)
    return f"About {' '.join(whole)}: {told}, {' '.join(duration(each))} each. {kept}"


def _sizes(recipe: Recipe, structure: Structure) -> list[dict[str, int]]:
    names = searchable(recipe, structure)
    equal = {
        bits: with_bits(recipe, structure, dict.fromkeys(names, bits), vary="weights") for bits in OPTIONS
    }
    return [{"bits": bits, "bytes": plan(structure, made).bytes} for bits, made in equal.items()]

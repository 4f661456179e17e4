"""View model of the tab "Decide": the front, the ranked layers, two recipes side by side. It searches nothing."""

from __future__ import annotations

from collections import Counter
from math import isfinite
from typing import TYPE_CHECKING, Any

from quantlab import figures
from quantlab.app.undecided import undecided
from quantlab.engine.bit_rules import searchable, weight_bits, with_bits
from quantlab.engine.plan import plan
from quantlab.engine.recipe import Recipe
from quantlab.engine.scan import OPTIONS
from quantlab.engine.search_record import Candidate, Search
from quantlab.errors import QuantLabError
from quantlab.figures import sensitivity as bars
from quantlab.figures.pareto import drift, pareto
from quantlab.figures.readable import duration, short
from quantlab.views.allotted import allotted, places
from quantlab.views.differences import differences
from quantlab.views.names import distinct_names
from quantlab.views.states import recipe_words, state_labels
from quantlab.views.timing import search_times

if TYPE_CHECKING:
    from quantlab.app.state import Session
    from quantlab.engine.measurement import Measurement
    from quantlab.models.structure import Structure

FEWEST, MOST = min(OPTIONS), max(OPTIONS)
"""Bits at both ends of the slider."""
HALF = 0.5
REACHED = 1.05
"""Of the slowest pass of the recipe in force: a time that its bits reach when they are timed anew."""
LATENCY = "The budget is a time. Press Measure below “forward” first: then it is known what a forward pass takes here."
TIME = "The budget is a time, as this machine executes a forward pass."
WORDS = {
    "front": "on the front",
    "refined": "chosen",
    "uniform": "equal bits",
    "current": "where the search began",
}


def decide_panel(session: Session) -> dict[str, Any]:
    """Slider, figure and words; what is not open is not drawn."""
    lab, view, search = session.open_lab(), session.view.decide, session.results.search
    by_time = _by_time(session)
    value: dict[str, Any] = {
        "shows": view.shows,
        "clock": clock(session),
        "by_time": by_time,
        "unit": view.unit,
    }
    value["latency"] = LATENCY if value["clock"] is None else TIME
    try:
        value["slider"] = slider(lab.recipe, lab.structure, search)
    except QuantLabError as error:
        value |= {"slider": None, "message": str(error)}
    value["message"] = value.get("message") or _message(session)
    fresh = search is None and not value["message"] and view.shows != "differences"
    value["undecided"] = undecided(session, measured(session), by_time=by_time) if fresh else None
    value["note"] = _note(session, search) if search is not None else ""
    value["points"] = [] if search is None else [_point(one) for one in search.distinct]
    now = None if search is None else _place(search, lab.recipe)
    value["now"] = now
    if view.shows == "differences":
        return value | _differences(session)
    if search is None:
        return value
    if view.shows == "layers":
        names = distinct_names(lab.structure.layers[name] for name in search.sensitivity.bytes)
        options = bars.options(search.sensitivity)
        known = [item["id"] for item in options]
        bits = view.bits if view.bits in known else known[-1]
        drawn = bars.sensitivity(search.sensitivity, bits, names=names, theme=figures.PAGE)
        options = [{"id": str(item["id"]), "label": item["label"]} for item in options]
        return value | {"bars": drawn, "bits": str(bits), "options": options}
    budget = search.budget_seconds if by_time else search.budget
    drawn = pareto(search, now=now, budget=budget, by_time=by_time, theme=figures.PAGE)
    return value | {"front": drawn, "allotted": _allotted(session, search)}


def _allotted(session: Session, search: Search) -> dict[str, Any]:
    """The map of bits: of every point, and of the recipe in force."""
    lab = session.open_lab()
    where = places(search.sensitivity.bytes, lab.structure)
    force = weight_bits(lab.recipe, lab.structure)
    return where | {
        "points": [allotted(one.bits, where["ids"]) for one in search.distinct],
        "force": allotted(force, where["ids"]),
    }


def _by_time(session: Session) -> bool:
    """Whether budget and front are in milliseconds: a person says so, and only a search by time knows of any."""
    search, asked = session.results.search, session.view.decide.unit == "ms"
    return asked and clock(session) is not None and (search is None or search.budget_seconds is not None)


def clock(session: Session) -> dict[str, float] | None:
    """Milliseconds of a forward pass: both ends of the slider, and what it begins with; None: nothing was measured."""
    search, taken = session.results.search, measured(session)
    if search is not None and search.budget_seconds is not None:
        known = [one.seconds for one in search.everything if one.seconds is not None]
        value = search.budget_seconds if search.asked_seconds is None else search.asked_seconds
        return {"low": 1e3 * min([*known, value]), "high": 1e3 * max([*known, value]), "value": 1e3 * value}
    if taken is None:
        return None
    low, high = sorted((taken.seconds, taken.full_seconds))
    value = REACHED * max(taken.seconds, taken.slowest)
    return {"low": 800 * low, "high": 1100 * max(high, value), "value": 1e3 * value}


def measured(session: Session) -> Measurement | None:
    """What a forward pass takes, of the recipe in force or of the one before it; None: nobody measured it."""
    results = session.results
    return results.measurement or (None if results.former is None else results.former.measurement)


def slider(recipe: Recipe, structure: Structure, search: Search | None) -> dict[str, int]:
    """Sizes in bytes of the whole network: both ends, half the 8-bit size of what varies, and now.

    Raises:
        RecipeError: The recipe keeps every layer.
    """
    if search is not None:
        scan = search.sensitivity
        low, high = (scan.size(scan.uniform(bits)) for bits in _ends(scan.bits))
        return {"low": low, "high": high, "value": search.budget, "fixed": scan.fixed_bytes, "eight": high}
    names = searchable(recipe, structure)
    plans = [
        plan(structure, with_bits(recipe, structure, dict.fromkeys(names, bits), vary="weights"))
        for bits in (FEWEST, MOST)
    ]
    low, high = (own.bytes for own in plans)
    fixed = sum(layer.bytes for name, layer in plans[0].layers.items() if name not in names)
    return {
        "low": low,
        "high": high,
        "value": fixed + int(HALF * (high - fixed)),
        "fixed": fixed,
        "eight": high,
    }


def _ends(bits: tuple[int, ...]) -> tuple[int, int]:
    below = [value for value in bits if value < 16] or list(bits)
    return min(below), max(below)


def _point(one: Candidate) -> dict[str, Any]:
    counts = ", ".join(
        f"{count}\u00a0×\u00a0{bits}" for bits, count in sorted(Counter(one.bits.values()).items())
    )
    return {
        "bytes": one.bytes,
        "ms": None if one.seconds is None else 1e3 * one.seconds,
        "timed": "" if one.timed is None else "\u00a0".join(duration(one.timed)),
        "kind": one.kind,
        "drift": drift(one) if isfinite(drift(one)) else None,
        "words": WORDS[one.kind] if one.kind != "uniform" else f"{one.label} everywhere",
        "predicted": f"{short(100 * one.predicted)}\u00a0%",
        "measured": "" if one.verified is None else f"{short(100 * one.verified.drift)}\u00a0%",
        "layers": counts,
    }


def _place(search: Search, recipe: Recipe) -> int | None:
    return next((place for place, one in enumerate(search.distinct) if one.recipe == recipe), None)


def _message(session: Session) -> str:
    """What stands there while a search runs for the first time."""
    if session.results.search is not None:
        return ""
    if session.job is not None and session.job is session.searching:
        return (
            "The front appears here when the work is done. The bar above says how far it is and stops it;"
            " what was measured by then is kept."
        )
    return ""


def _note(session: Session, search: Search) -> str:
    """How far the figure may be trusted, and whether it still belongs to the recipe in force."""
    lab, scan = session.open_lab(), search.sensitivity
    if not _same_method(lab.recipe, scan.recipe, lab.structure):
        return f"Searched for {recipe_words(scan.recipe)}; another method is in force. Search again to follow it."
    check = scan.check
    scenes = len(search.chosen.verified.scenes) if search.chosen.verified is not None else 0
    parts = [f"Single layers on {len(scan.scenes)} calibration scenes, {search.tried} recipes on {scenes}"]
    if check is not None and check.spearman is not None and check.ratio is not None:
        parts.append(
            f"single layers add up: rank correlation {check.spearman:.2f}, measured / predicted {check.ratio:.2f}"
        )
    parts += [f"in single trials {note}" for note in scan.simplified]
    return " ".join((*search_times(search), "; ".join(parts) + "."))


def _same_method(one: Recipe, other: Recipe, structure: Structure) -> bool:
    """Whether two recipes differ in bits only."""

    def plain(recipe: Recipe) -> Any:
        names = searchable(recipe, structure)
        return with_bits(recipe, structure, dict.fromkeys(names, MOST), vary="weights").layers(structure)

    return bool(plain(one) == plain(other))


def _differences(session: Session) -> dict[str, Any]:
    """Two recipes of the history or of the search, and how they differ."""
    lab, view = session.open_lab(), session.view.decide
    known = dict(zip(state_labels(lab.history, lab.structure), lab.history, strict=True))
    choices = [(f"state:{number}", label, recipe) for number, (label, recipe) in enumerate(known.items())]
    choices.append(("now", "in force", lab.recipe))
    search = session.results.search
    for place, one in enumerate(search.distinct if search is not None else ()):
        choices.append((f"point:{place}", f"{one.bytes / 1e6:.2f} MB, {_point(one)['words']}", one.recipe))
    recipes = {identity: recipe for identity, _, recipe in choices}
    left = view.left if view.left in recipes else "state:0"
    right = view.right if view.right in recipes else "now"
    return {
        "choices": [{"id": identity, "label": label} for identity, label, _ in choices],
        "left": left,
        "right": right,
        "differences": differences(recipes[left], recipes[right], lab.structure),
    }

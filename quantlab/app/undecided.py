"""What stands on the tab "Decide" before a search: what one does, needs and gives. It runs nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quantlab.engine.bit_rules import searchable, weight_bits, with_bits
from quantlab.engine.plan import plan
from quantlab.engine.scan import OPTIONS, SCENES, Ask, simplified
from quantlab.engine.search import TRIES, VERIFY
from quantlab.engine.search_passes import search_passes
from quantlab.figures.readable import duration, short
from quantlab.views.names import distinct_names
from quantlab.views.numbers import digits

if TYPE_CHECKING:
    from quantlab.app.state import Session
    from quantlab.engine.measurement import Measurement
    from quantlab.engine.recipe import Recipe
    from quantlab.lab import Lab
    from quantlab.models.structure import Structure

LEAD = "Which layers need their bits?"
THEN = (
    "A front of {} against drift. Load a point and it is the recipe in force, until Undo; before that nothing"
    " changes. Layers shows which of them are sensitive, Differences what two recipes do differently."
)
SIZE = "Set it on the slider first: megabytes of the whole network. Equal bits everywhere take"
TIME = "Set it on the slider first: milliseconds of a forward pass on this machine. Measured were"
RANKING = (
    "Known already is what rounding does to each layer's own output, the relative error of its largest values (TRE)."
    " What that does to the reconstruction is what a search measures."
)
UNMEASURED = "For milliseconds press Measure below “forward” first."
OR_TIME = "Or milliseconds of a forward pass: choose ms."
OR_SIZE = "What is too short gives the fastest choice of bits. Or megabytes of the whole network: choose MB."


def undecided(session: Session, measured: Measurement | None, *, by_time: bool) -> dict[str, Any]:
    """Its texts by their places on the page, and budgets to press: sizes at equal bits, or times that were measured.

    Args:
        session: Whose recipe would be searched.
        measured: Times of a forward pass; None: no budget in milliseconds can be asked for.
        by_time: Whether the budget is in milliseconds.

    Raises:
        RecipeError: The recipe cannot be carried out at one of these bits.
    """
    lab = session.open_lab()
    count, scenes = len(searchable(lab.recipe, lab.structure)), _scenes(lab, SCENES)
    bits = f"{', '.join(map(str, OPTIONS[:-1]))} and {OPTIONS[-1]}"
    does = (
        f"A search runs each of {count} layers alone at {bits} bits on {scenes} calibration"
        f" scene{'s' if scenes > 1 else ''}, finds for every {'time' if by_time else 'size'} the bits that"
        f" harm the reconstruction least, and runs what it finds."
    )
    return {
        "lead": LEAD,
        "does": does,
        "budget": TIME if by_time else SIZE,
        "counted": "ms" if by_time else "MB",
        "offers": _sizes(lab.recipe, lab.structure) if measured is None or not by_time else _times(measured),
        "unit": OR_SIZE if by_time else UNMEASURED if measured is None else OR_TIME,
        "takes": _takes(lab, scenes),
        "then": THEN.format("time" if by_time else "size"),
        "known": _known(session),
        "ranking": RANKING,
    }


def _known(session: Session) -> list[dict[str, Any]]:
    """Layers by what rounding each alone does to its own output, the worst first; empty before that is measured."""
    lab, diagnosis = session.open_lab(), session.results.diagnosis
    varied = searchable(lab.recipe, lab.structure)
    errors = {} if diagnosis is None else {name: diagnosis.layers.get(name, 0.0) for name in varied}
    top = max(errors.values(), default=0.0)
    names = distinct_names(lab.structure.layers[name] for name in errors)
    return [
        {
            "name": name,
            "short": names[name],
            "value": digits(errors[name]),
            "share": round(errors[name] / top, 4),
        }
        for name in sorted(errors, key=lambda name: -errors[name])
        if errors[name] > 0
    ]


def _takes(lab: Lab, scenes: int) -> str:
    """How long a search takes, from what passes took so far and how many there will be."""
    learns = bool(simplified(lab.recipe)[1])
    passes = search_passes(
        weight_bits(lab.recipe, lab.structure),
        Ask(scenes=scenes),
        tries=TRIES,
        verify=_scenes(lab, VERIFY),
        costly=learns,
    )
    told = f"{passes.single} passes for single layers, {passes.whole} for whole recipes"
    kept = "Stop ends it at any time and keeps what was measured."
    if lab.pace is None:
        return f"{told}. {kept}"
    each, whole = "\u00a0".join(duration(lab.pace)), " ".join(duration(passes.seconds(lab.pace)))
    return f"About {whole}{', learning apart' if learns else ''}: {told}, {each} each. {kept}"


def _scenes(lab: Lab, count: int) -> int:
    """So many calibration scenes, or as many as there are: a person's are not added to."""
    return min(count, len(lab.calibration)) if lab.calibration_given else count


def _times(measured: Measurement) -> list[dict[str, Any]]:
    known = {"this recipe": measured.seconds, "full precision": measured.full_seconds}
    return [
        {"label": label, "value": 1e3 * seconds, "text": f"{short(1e3 * seconds)} ms"}
        for label, seconds in known.items()
    ]


def _sizes(recipe: Recipe, structure: Structure) -> list[dict[str, Any]]:
    names = searchable(recipe, structure)
    equal = {
        bits: with_bits(recipe, structure, dict.fromkeys(names, bits), vary="weights") for bits in OPTIONS
    }
    weighs = {bits: plan(structure, made).bytes for bits, made in equal.items()}
    return [
        {"label": f"{bits} bits", "value": size, "text": f"{size / 1e6:.2f} MB"}
        for bits, size in weighs.items()
    ]

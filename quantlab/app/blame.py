"""View model of the suspects of a region: session in, plain data out. It finds no suspect itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from quantlab.figures.readable import counted, short
from quantlab.views.names import distinct_names
from quantlab.views.region import region_from

if TYPE_CHECKING:
    from collections.abc import Mapping

    from quantlab.app.state import Session
    from quantlab.engine.blame_record import Blame, Suspect
    from quantlab.engine.settings import LayerSettings

LADDER = (2, 3, 4, 6, 8, 16)
"""Bits that a click raises a layer to, one after the other."""
LISTED = 12
"""Suspects beside the map; the map shows all."""
DRAW = "Draw a region in the comparison with its lasso: the layers that damage it are found."
FIND = {"label": "Find the layers", "help": "Estimate, then measure, how much of its error each layer makes"}
AGAIN = {
    "label": "Blame again",
    "help": "Find the layers that damage the region under the recipe as it is now",
}


def blamed(session: Session) -> tuple[Blame | None, bool]:
    """The last blame of the region, and whether it is of an earlier recipe."""
    results = session.results
    if results.blame is not None:
        return results.blame, False
    return (None if results.former is None else results.former.blame), True


def repairs(session: Session) -> dict[str, float]:
    """Layer to the share of the region's error that goes when it alone is restored, for the map."""
    blame, _ = blamed(session)
    if session.view.region is None or blame is None or not blame.damage:
        return {}
    return {suspect.name: suspect.repair / blame.damage for suspect in blame.suspects}


def blame_view(session: Session) -> dict[str, Any] | None:
    """The region in words and its suspects; None where no region is drawn."""
    if session.view.region is None:
        return None
    blame, former = blamed(session)
    running = session.blaming is not None and session.blaming is session.job
    lab = session.open_lab()
    rows = []
    if blame is not None:
        labels = distinct_names(lab.structure.layers.values())
        settings = lab.recipe.layers(lab.structure)
        rows = [_row(s, blame, labels[s.name], settings[s.name]) for s in blame.worst(LISTED)]
    return {
        "told": _told(session, blame, former=former),
        "note": "" if blame is None else _note(blame, former=former),
        "rows": rows,
        "former": former and blame is not None,
        "running": running,
        "action": None if running or (blame is not None and not former) else FIND if blame is None else AGAIN,
    }


def raised(settings: LayerSettings) -> dict[str, int]:
    """The next higher bits of a layer's weights and inputs; empty where there are none."""
    now = {"weights": settings.weights, "activations": settings.activations}
    higher = {name: min((b for b in LADDER if b > bits), default=bits) for name, bits in now.items()}
    return {} if settings.keep or higher == now else higher


def _told(session: Session, blame: Blame | None, *, former: bool) -> str:
    """One sentence: how large, how wrong, and what the first suspects would mend."""
    measured = _damage(session)
    if measured is None:
        return "The region is drawn; the clouds are not compared yet."
    pixels, damage = measured
    text = f"{counted(pixels)} pixels of the region, mean error {_percent(damage)} of the scene"
    if blame is None:
        return f"{text}."
    if former:
        return f"{text}, {_percent(blame.damage)} when it was blamed."
    if blame.together is None or not blame.together[0]:
        return f"{text}."
    count, repair = blame.together
    which = "first" if count == 1 else f"first {count}"
    return f"{text}; restoring the {which} repairs {_percent(repair / blame.damage)}."


def _damage(session: Session) -> tuple[int, float] | None:
    """Pixels of the region and its damage under the recipe that was compared last."""
    comparison = session.results.comparison
    if comparison is None:
        return None
    inside = comparison.errors[region_from(session.view.region, comparison.errors.shape)]
    inside = inside[np.isfinite(inside)]
    return (len(inside), float(inside.mean(dtype=np.float64)) / comparison.scale) if len(inside) else None


def _note(blame: Blame, *, former: bool) -> str:
    if former:
        return "The suspects are those of the recipe then."
    if not blame.suspects:
        return "The recipe rounds no layer."
    parts = (
        ["~ estimated, not measured yet."] if len(blame.verified) < min(LISTED, len(blame.suspects)) else []
    )
    if not blame.estimated:
        parts = ["No memory for gradients: ordered by tail-relative error, measured from the top."]
    if blame.luck is not None and blame.damage:
        parts.append(f"Below {_percent(blame.luck / blame.damage)} it may be luck of rounding.")
    return " ".join(parts)


def _row(suspect: Suspect, blame: Blame, label: str, settings: LayerSettings) -> dict[str, Any]:
    share = suspect.repair / blame.damage if blame.damage else 0.0
    known = suspect.verified is not None
    value = (
        "not tried" if not known and suspect.estimate is None else f"{'' if known else '~ '}{_percent(share)}"
    )
    higher = raised(settings)
    return {
        "name": suspect.name,
        "short": label,
        "value": value,
        "verified": known,
        "share": round(min(max(share, 0.0), 1.0), 3),
        "help": _help(suspect, blame),
        "restored": settings.keep,
        "raise": f"W{higher['weights']} A{higher['activations']}" if higher else "",
        "bits": _bits(higher),
    }


def _bits(higher: Mapping[str, int]) -> str:
    if not higher:
        return "It has as many bits as there are"
    return f"{higher['weights']} bits for its weights, {higher['activations']} for its input"


def _help(suspect: Suspect, blame: Blame) -> str:
    """What stands behind a row's value."""
    estimate = "" if suspect.estimate is None else f"estimated {_share(suspect.estimate, blame)}"
    if suspect.verified is None:
        return f"{suspect.name}: {estimate or 'neither estimated nor measured'}"
    parts = [f"measured {_share(suspect.verified, blame)}", *([estimate] if estimate else [])]
    if suspect.verified < 0:
        parts.append("restoring it alone makes the region worse")
    elif blame.luck is not None and not blame.certain(suspect):
        parts.append("luck of rounding could make as much")
    return f"{suspect.name}: {', '.join(parts)}"


def _share(repair: float, blame: Blame) -> str:
    return f"{_percent(repair / blame.damage)} of the region's error" if blame.damage else "nothing"


def _percent(share: float) -> str:
    return f"{short(100 * share, 2)} %"

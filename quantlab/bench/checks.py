"""The goals of the table, computed from it: what was asked for, what was measured, whether it holds. No prose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from quantlab.bench.protocol import Bits
from quantlab.bench.rows import UNCOMPENSATED, smooths_first
from quantlab.bench.summary import METRICS, Summary, value
from quantlab.engine.recipe import Recipe

W4A4, W4A8, W8A8 = Bits(4, 4), Bits(4, 8), Bits(8, 8)
AUC30_KEPT, AUC5_KEPT = 0.98, 0.85
W8A8_KEPT, HALF_A_POINT = 0.995, 0.005
DRIFT_SHARE, PLANTED_DRIFT_SHARE = 0.5, 0.3
RIVALS = ("rtn", "smoothquant", "quarot")
FAST_SECONDS = {"rtn": 10.0, "smoothquant": 10.0, "quarot": 10.0, "taptq": 10.0, "quantvggt": 180.0}


@dataclass(frozen=True, slots=True)
class Check:
    """A goal in words, what was measured, and whether it holds; None where it cannot be told."""

    goal: str
    measured: str
    held: bool | None


def checks(table: Summary) -> list[Check]:
    """Every goal that can be asked of a model's table."""
    found = [_kept(table), _eight_bits(table), _drift(table)]
    found += [
        _beats(table, "quantvggt", rival, W4A4, metric) for rival in RIVALS for metric in ("drift", "auc5")
    ]
    found += [_beats(table, "taptq_static", UNCOMPENSATED, W4A8, metric) for metric in ("drift", "auc5")]
    return found + [_fast(table, method, limit) for method, limit in FAST_SECONDS.items()]


def _best(table: Summary) -> str | None:
    """The method that keeps most at W4A4: of the two shares, each against its goal, the smaller counts."""
    scores: dict[str, float] = {}
    for method in table.rivals(W4A4):
        kept30, kept5 = (table.share(method, W4A4, metric) for metric in ("auc30", "auc5"))
        if kept30 is not None and kept5 is not None:
            scores[method] = min(kept30 / AUC30_KEPT, kept5 / AUC5_KEPT)
    return max(scores, key=scores.__getitem__) if scores else None


def _kept(table: Summary) -> Check:
    goal = f"W4A4: the best method keeps ≥ {AUC30_KEPT:.0%} of AUC@30 and ≥ {AUC5_KEPT:.0%} of AUC@5"
    best = _best(table)
    if best is None:
        return _unknown(goal)
    kept30, kept5 = (table.share(best, W4A4, metric) or 0.0 for metric in ("auc30", "auc5"))
    return Check(
        goal,
        f"{best}: {kept30:.1%} and {kept5:.1%}",
        kept30 >= AUC30_KEPT and kept5 >= AUC5_KEPT,
    )


def _eight_bits(table: Summary) -> Check:
    goal = f"W8A8: that method keeps ≥ {W8A8_KEPT:.1%} of both, or is at most half a point below"
    best = _best(table)
    if best is None:
        return _unknown(goal)
    said, held = [], True
    for metric in ("auc30", "auc5"):
        found, whole = table.statistic(best, W8A8, metric), table.full(metric, table.rooms(W8A8))
        if found is None or not whole:
            return _unknown(goal)
        said.append(
            f"{METRICS[metric].label} {found.mean / whole:.1%} ({100 * (found.mean - whole):+.2f} points)"
        )
        held &= found.mean >= W8A8_KEPT * whole or found.mean >= whole - HALF_A_POINT
    return Check(goal, f"{best}: {', '.join(said)}", held)


def _drift(table: Summary) -> Check:
    """On a model with planted outliers methods that smooth first do not count: they are the planting's inverse."""
    planted = table.model.endswith("-outliers")
    limit = PLANTED_DRIFT_SHARE if planted else DRIFT_SHARE
    goal = f"W4A4: drift of the best method ≤ {limit} × rtn's"
    if planted:
        goal += f", by one that does not smooth first, with ≥ {AUC30_KEPT:.0%} of AUC@30 kept"
    plain = table.statistic("rtn", W4A4, "drift")
    drifts = {
        method: found.mean
        for method in table.rivals(W4A4)
        if method != "rtn"
        and (found := table.statistic(method, W4A4, "drift")) is not None
        and not (planted and _smooths_first(table, method))
    }
    if plain is None or not plain.mean or not drifts:
        return _unknown(goal)
    best = min(drifts, key=drifts.__getitem__)
    share, kept = drifts[best] / plain.mean, table.share(best, W4A4, "auc30")
    said = f"{best}: {share:.2f} × rtn's" + ("" if kept is None else f", {kept:.1%} of AUC@30")
    return Check(goal, said, share <= limit and (not planted or (kept or 0.0) >= AUC30_KEPT))


def _smooths_first(table: Summary, method: str) -> bool:
    recipes = [cell.recipe for cell in table.cells(method, W4A4) if cell.recipe]
    return any(smooths_first(Recipe.from_dict(dict(recipe))) for recipe in recipes)


def _beats(table: Summary, method: str, rival: str, bits: Bits, metric: str) -> Check:
    """Beyond the spread: the bands of one standard deviation around the means do not touch."""
    shown = METRICS[metric]
    goal = f"{bits}: {method} beats {rival} by {shown.label.split()[0]}, beyond the spread"
    ours, theirs = (table.statistic(name, bits, metric) for name in (method, rival))
    if ours is None or theirs is None:
        return _unknown(goal)
    told = ours.spread is not None and theirs.spread is not None
    held = ours.low > theirs.high if shown.higher else ours.high < theirs.low
    said = " against ".join(
        f"{shown.scale * found.mean:.{shown.digits}f}"
        + ("" if found.spread is None else f" ± {shown.scale * found.spread:.{shown.digits}f}")
        for found in (ours, theirs)
    )
    rooms = _better_rooms(table, method, rival, bits, metric)
    return Check(
        goal, f"{said}{rooms}" + ("" if told else "; one seed tells no spread"), held if told else None
    )


def _better_rooms(table: Summary, method: str, rival: str, bits: Bits, metric: str) -> str:
    """In how many rooms the method is better, of the first seed of both."""
    pair = [cells[0] for name in (method, rival) if (cells := table.cells(name, bits))]
    listed = [cell.measured.rooms.get(metric, ()) for cell in pair if cell.measured is not None]
    if len(listed) < 2:
        return ""
    better: Callable[[float, float], bool] = (
        (lambda a, b: a > b) if METRICS[metric].higher else (lambda a, b: a < b)
    )
    both = [(a, b) for a, b in zip(*listed, strict=False) if a is not None and b is not None]
    return f"; better in {sum(better(a, b) for a, b in both)} of {len(both)} rooms"


def _fast(table: Summary, method: str, limit: float) -> Check:
    goal = f"{method} calibrates in under {duration(limit)}"
    cells = [cell for bits in table.columns for cell in table.cells(method, bits)]
    seconds = [found for cell in cells if (found := value(cell, "calibration_seconds")) is not None]
    if not seconds:
        return _unknown(goal)
    worked = [found for cell in cells if (found := value(cell, "calibration_cpu_seconds")) is not None]
    busy = f", {max(worked):.1f} s of it at work" if worked else ""
    return Check(goal, f"at most {max(seconds):.1f} s{busy}", max(seconds) < limit)


def duration(seconds: float) -> str:
    """10 s, 3 min."""
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:.0f} min"


def _unknown(goal: str) -> Check:
    return Check(goal, "not measured", None)

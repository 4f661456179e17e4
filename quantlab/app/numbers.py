"""The strip of numbers: what the recipe costs, each with its unit and its change. A view model; it measures nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from quantlab.figures.readable import duration, short, size

if TYPE_CHECKING:
    from quantlab.engine.evaluation import Evaluation

NOT_MEASURED = "not measured"


def numbers(
    now: Evaluation | None, before: Evaluation | None, *, sizes: tuple[int, int], stale: bool
) -> dict[str, Any]:
    """The tiles of the strip, left to right.

    Args:
        now: The evaluation under the recipe; None: not measured.
        before: The one before the last change.
        sizes: Bytes of the weights under the recipe and in 16 bits, known before anything ran.
        stale: Whether the recipe changed since ``now`` was measured.
    """
    has_truth = now is not None and now.ground_truth is not None
    against = "against the true cameras" if has_truth else "against full precision; this scene has no truth"
    distance = "mean distance of paired points, as a share of the scene's size"
    items = [
        _tile("point error", distance, _point_error, now, before, up=False),
        _tile("AUC@30", f"camera accuracy within 30 degrees, {against}", _auc30, now, before, up=True),
        _tile("AUC@5", f"camera accuracy within 5 degrees, {against}", _auc5, now, before, up=True),
        _tile("AbsRel", f"mean relative depth error, {against}", _abs_rel, now, before, up=False),
        _size(before, sizes),
        _latency(now),
    ]
    return {"items": items, "stale": stale, "problems": list(now.problems) if now is not None else []}


def _tile(
    label: str,
    help_text: str,
    read: Callable[[Evaluation], float | None],
    now: Evaluation | None,
    before: Evaluation | None,
    *,
    up: bool,
) -> dict[str, Any]:
    value = read(now) if now is not None else None
    former = read(before) if before is not None else None
    if value is None:
        reason = "no number" if now is not None else NOT_MEASURED
        return {"label": label, "value": "", "unit": "", "note": reason, "trend": "", "help": help_text}
    trend, note = "", ""
    if former is not None:
        note = f"was {short(former)}"
        trend = _trend(value, former, up=up)
    return {
        "label": label,
        "value": short(value),
        "unit": "",
        "note": note,
        "trend": trend,
        "help": help_text,
    }


def _trend(value: float, former: float, *, up: bool) -> str:
    """Say "better", "worse" or "same"; what rounds to the same three digits is the same."""
    if short(value) == short(former):
        return "same"
    return "better" if (value > former) == up else "worse"


def _point_error(evaluation: Evaluation) -> float | None:
    return evaluation.full_precision.point_error


def _auc30(evaluation: Evaluation) -> float | None:
    return _score(evaluation, "auc30")


def _auc5(evaluation: Evaluation) -> float | None:
    return _score(evaluation, "auc5")


def _abs_rel(evaluation: Evaluation) -> float | None:
    return _score(evaluation, "abs_rel")


def _score(evaluation: Evaluation, name: str) -> float | None:
    """The score against the truth where there is one, else against full precision."""
    source = evaluation.ground_truth or evaluation.full_precision
    value = getattr(source, name)
    return None if value is None else float(value)


def _size(before: Evaluation | None, sizes: tuple[int, int]) -> dict[str, Any]:
    count, full = sizes
    value, unit = size(count)
    note, trend = f"of {' '.join(size(full))}", ""
    if before is not None and before.packed_bytes != count:
        note = f"was {' '.join(size(before.packed_bytes))}"
        trend = _trend(count, before.packed_bytes, up=False)
    help_text = "the weights under this recipe, of their size in 16 bits"
    return {"label": "size", "value": value, "unit": unit, "note": note, "trend": trend, "help": help_text}


def _latency(now: Evaluation | None) -> dict[str, Any]:
    value, unit = duration(now.seconds if now is not None else None)
    help_text = (
        "time of one scene through simulated quantization, which is slower than integer execution will be"
    )
    if now is None:
        return {
            "label": "forward",
            "value": "",
            "unit": "",
            "note": NOT_MEASURED,
            "trend": "",
            "help": help_text,
        }
    return {
        "label": "forward",
        "value": value,
        "unit": unit,
        "note": "simulated",
        "trend": "",
        "help": help_text,
    }

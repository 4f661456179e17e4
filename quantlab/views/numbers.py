"""The strip of numbers: what the recipe costs, each with its unit and its change. A view model; it measures nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from quantlab.figures.readable import short, size
from quantlab.views.timing import forward_tile

if TYPE_CHECKING:
    from quantlab.engine.evaluation import Evaluation
    from quantlab.engine.measurement import Measurement

NOT_MEASURED = "not measured"
NOTHING = 1e-6
"""Smaller numbers are rounding of the arithmetic itself and are shown as 0."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """A number of an evaluation: where it is read and which way is better."""

    label: str
    field: str
    what: str
    truth: str = ""
    factor: float = 1.0
    unit: str = ""
    base: str = ""
    up: bool = False


KINDS = (
    _Kind(
        "point error",
        "point_error",
        "mean distance of paired points from full precision, in per cent of the scene's size",
        factor=100,
        unit="%",
        base="of scene size",
    ),
    _Kind("AUC@30", "auc30", "camera accuracy within 30 degrees", truth="cameras", up=True),
    _Kind("AUC@5", "auc5", "camera accuracy within 5 degrees", truth="cameras", up=True),
    _Kind("AbsRel", "abs_rel", "mean relative depth error", truth="depth"),
)


def numbers(
    now: Evaluation | None,
    before: Evaluation | None,
    *,
    sizes: tuple[int, int],
    stale: bool,
    measured: tuple[Measurement | None, Measurement | None] = (None, None),
    measuring: bool = False,
) -> dict[str, Any]:
    """The tiles of the strip, left to right.

    Args:
        now: The evaluation under the recipe; None: not measured.
        before: The one before the last change.
        sizes: Bytes of the weights under the recipe and in 16 bits, known before anything ran.
        stale: Whether the recipe changed since ``now`` was measured.
        measured: The execution under the recipe, and under the one before the last change.
        measuring: Whether it is being measured now.
    """
    forward = forward_tile(*measured, None if stale else now, measuring=measuring)
    items = [*(_tile(kind, now, before) for kind in KINDS), _size(before, sizes), forward]
    return {"items": items, "stale": stale, "problems": list(now.problems) if now is not None else []}


def _tile(kind: _Kind, now: Evaluation | None, before: Evaluation | None) -> dict[str, Any]:
    value, former = _read(kind, now), _read(kind, before)
    has_truth = now is not None and now.ground_truth is not None
    against = f"the true {kind.truth}" if has_truth else "full precision; this scene has no truth"
    told = {
        **_blank(kind.label, f"{kind.what}, against {against}" if kind.truth else kind.what),
        "base": kind.base or _baseline(kind, now),
    }
    if now is None or value is None:
        return {**told, "note": "no number" if now is not None else NOT_MEASURED}
    told |= {"value": digits(value), "unit": kind.unit}
    if former is None:
        return told
    note = f"was {digits(former)}"
    return {
        **told,
        "note": note,
        "trend": _trend(digits(value), digits(former), better=(value > former) == kind.up),
    }


def _blank(label: str, help_text: str) -> dict[str, Any]:
    return {"label": label, "value": "", "unit": "", "note": "", "base": "", "trend": "", "help": help_text}


def digits(value: float) -> str:
    """Three digits, also where they are zeros: 0.026 as "0.0260", so that a change can be seen."""
    if abs(value) < NOTHING:
        return "0"
    return f"{value:#.3g}" if 1e-3 <= abs(value) < 100 else short(value)


def _trend(now: str, before: str, *, better: bool) -> str:
    """Say "better", "worse" or "same"; what rounds to the same digits is the same."""
    return "same" if now == before else "better" if better else "worse"


def _read(kind: _Kind, evaluation: Evaluation | None) -> float | None:
    """The number against the truth where it has one and the scene too, else against full precision."""
    if evaluation is None:
        return None
    truth = evaluation.ground_truth if kind.truth else None
    value = getattr(truth or evaluation.full_precision, kind.field)
    return None if value is None else kind.factor * float(value)


def _baseline(kind: _Kind, evaluation: Evaluation | None) -> str:
    """What the full-precision network itself reaches against the truth."""
    baseline = evaluation.baseline if evaluation is not None and kind.truth else None
    value = getattr(baseline, kind.field) if baseline is not None else None
    return "" if value is None else f"full {digits(value)}"


def _size(before: Evaluation | None, sizes: tuple[int, int]) -> dict[str, Any]:
    count, full = sizes
    value, unit = size(count)
    told = {
        **_blank("size", "the weights under this recipe, of their size in 16 bits"),
        "value": value,
        "unit": unit,
        "base": f"of {' '.join(size(full))}",
    }
    if before is None or size(before.packed_bytes) == (value, unit):
        return told
    former, former_unit = size(before.packed_bytes)
    note = f"was {former}" if former_unit == unit else f"was {former} {former_unit}"
    return {
        **told,
        "note": note,
        "trend": _trend(str(count), str(before.packed_bytes), better=count < before.packed_bytes),
    }

"""Puts the numbers of a layer view into a sentence or two. It measures nothing and knows no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quantlab.engine.settings import FULL_PRECISION, LayerSettings
from quantlab.numerics.records import Histogram

HEAVY = 12.0
"""Kurtosis from which a tail is called heavy; a normal distribution has 3."""


def read_layer(facts: Mapping[str, Any], kurtosis: Mapping[str, float]) -> str:
    """What the numbers say.

    Args:
        facts: The fields of a `LayerView` but its reading.
        kurtosis: Step to Pearson's kurtosis of the values after it.
    """
    settings: LayerSettings = facts["settings"]
    sentences = [_tail(facts["steps"], kurtosis)] if kurtosis else []
    if not facts["quantized"]:
        reason = str(facts["reason"]).removesuffix(": nothing is rounded")
        sentences.append(f"Nothing is rounded here: {reason}.")
    else:
        sentences += [_rounding(facts, settings), _errors(facts, settings)]
    return " ".join(sentence for sentence in sentences if sentence)


def _tail(steps: Mapping[str, Histogram], kurtosis: Mapping[str, float]) -> str:
    """How far the largest value sticks out. It gives no kurtosis: that of the profile, over all tokens, is another."""
    name = "heavy" if kurtosis["raw"] >= HEAVY else "mild"
    times = _times(steps["raw"])
    text = f"The input has a {name} tail" + (
        f": the largest value is {times} times the median" if times else ""
    )
    done = [step for step in steps if step in _MADE]
    if done:
        now = "heavy" if kurtosis[done[-1]] >= HEAVY else "mild"
        left = _times(steps[done[-1]])
        text += (
            f"; after {' and '.join(_MADE[step] for step in done)} it is {f'{left} times' if left else now}"
        )
    return text + "."


_MADE = {"rotated": "rotation", "smoothed": "smoothing"}


def _times(histogram: Histogram) -> str:
    """The largest magnitude in medians, or "" where the median is zero."""
    typical = histogram.quantile(0.5)
    return _short(histogram.quantile(1.0) / typical) if typical > 0 else ""


def _rounding(facts: Mapping[str, Any], settings: LayerSettings) -> str:
    if facts["grid"] is None:
        return ""
    levels, wasted = len(facts["grid"]), facts["wasted_levels"]
    share = "a token" if settings.activation_granularity == "token" else "the tensor"
    clipped = facts["clipped_fraction"]
    text = f"Of {levels} levels {share} leaves {wasted} unused" if wasted else f"All {levels} levels are used"
    return f"{text}; {_short(100 * clipped)} % of the values are clipped." if clipped else f"{text}."


def _errors(facts: Mapping[str, Any], settings: LayerSettings) -> str:
    parts = []
    if settings.weights < FULL_PRECISION:
        parts.append(f"{_short(100 * facts['weight_error'])} % of the weight")
    if facts["output_error"] is not None:
        parts.append(f"{_short(100 * facts['output_error'])} % of the output")
    return f"Rounding costs {' and '.join(parts)}." if parts else ""


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.2g}"

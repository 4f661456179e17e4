"""What dragging the clip line answers at once: places on the histogram's axis, and the error each predicts."""

from __future__ import annotations

from typing import Any

import numpy as np

from quantlab.figures import symlog
from quantlab.figures.stepped import Stepped, is_weight


def clip_slider(view: Stepped, linear: float) -> dict[str, Any] | None:
    """The curve clip -> error as plain lists for a page, and which setting gets there; None without a range.

    All ranges of the tensor are clipped to one share of what they are now, the line showing the widest of them.

    Args:
        view: The input of a layer, or its weight.
        linear: Width of the linear part of the axis (``layout.meta.x.symlog`` of the histogram).

    Returns:
        ``share``, ``high``, ``low`` (places on the axis), ``value`` (the upper end in units of the data), ``error``
        (relative), all [n]; ``now`` and ``best``, indices; ``measured``; ``kept`` [n] or None; ``each``: a range a row;
        ``weights``: not inputs; ``setting``.
    """
    curve = view.clip
    if curve is None or view.clip_high is None or view.clip_low is None:
        return None
    high = view.clip_high if view.clip_high > 0 else -view.clip_low
    places = symlog.to_axis(curve.shares * view.clip_high, linear)
    return {
        "share": _rounded(curve.shares),
        "value": _rounded(curve.shares * high),
        "high": _rounded(places),
        "low": _rounded(symlog.to_axis(curve.shares * view.clip_low, linear)),
        "error": _rounded(curve.errors),
        "now": int(np.abs(curve.shares - 1).argmin()),
        "best": curve.best,
        "measured": float(f"{curve.measured:.4g}"),
        "kept": None if curve.kept is None else [round(float(share), 7) for share in curve.kept],
        "each": curve.scales > 1,
        "weights": is_weight(view),
        "setting": clip_setting(view),
    }


def clip_setting(view: Stepped) -> dict[str, Any]:
    """How the settings can clip there.

    Returns:
        ``how``: "percentile" (the share of values kept becomes the percentile; ``changes`` beside it), "search" (a
        search finds the best clip of every range; ``changes``) or "words"; ``words``: what a person should know.
    """
    settings, one = view.settings, view.clip is not None and view.clip.kept is not None
    if is_weight(view):
        if one:
            words = "Sets range search to percentile."
            return {"how": "percentile", "changes": {"range_search": "percentile"}, "words": words}
        words = "Every channel has a range of its own; a ternary search finds the best clip of each."
        return {"how": "search", "changes": {"range_search": "ternary"}, "words": words}
    if one:
        fixed = {} if settings.static else {"activation_mode": "static"}
        words = "Sets range search to percentile" + (", and a range fixed by calibration." if fixed else ".")
        return {"how": "percentile", "changes": {"range_search": "percentile", **fixed}, "words": words}
    if settings.activation_granularity == "tensor":
        words = "A range with a zero point is clipped by a ternary search, fixed by calibration."
        return {
            "how": "search",
            "changes": {"range_search": "ternary", "activation_mode": "static"},
            "words": words,
        }
    words = "No setting clips a token's own range; learning does: reconstruction block, under more …"
    return {"how": "words", "changes": {}, "words": words}


def _rounded(values: Any) -> list[float]:
    return [float(f"{float(value):.5g}") for value in values]

"""Where a measured forward pass goes by kind of work, as words and widths of bars. It measures nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from quantlab.figures.readable import duration, short

if TYPE_CHECKING:
    from quantlab.engine.measurement import Measurement

WORDS = {
    "linears": (
        "linear layers",
        "Products of inputs and weights; a weight that has to be unpacked first, too",
    ),
    "rounding": ("rounding", "Smoothing, rotating and rounding the inputs of linear layers"),
    "attention": (
        "attention",
        "Softmax of queries and keys, times the values; its linear layers stand above",
    ),
    "norms": ("norms", "Of every block, and of queries and keys where a network has them"),
    "convolutions": ("convolutions", "Of patches at the entry, and of maps in the heads"),
    "heads": (
        "rest of heads",
        "What heads do between their layers: resizing maps, sums, activation functions",
    ),
    "rest": (
        "rest",
        "What belongs to none: sums, gains and activation functions of blocks, copies of tensors",
    ),
}
"""Kind of work (of `quantlab.engine.spent`) to what people call it, and what it is."""


def spent(measured: Measurement | None) -> dict[str, Any]:
    """Both passes by kind of work; empty where that was not timed.

    Returns:
        ``columns``: "as executed" and "full precision", each with its time in words and its width, 1 for the longer.
        ``rows``: a kind each, with ``label``, ``help`` and for each column its share, 0 to 1, and its time in words.
    """
    if measured is None or not measured.kinds or not measured.full_kinds:
        return {}
    passes = {"as executed": (measured.seconds, measured.kinds)}
    passes["full precision"] = (measured.full_seconds, measured.full_kinds)
    longest = max(seconds for seconds, _ in passes.values())
    return {
        "columns": [
            {"label": label, "told": " ".join(duration(seconds)), "width": round(seconds / longest, 4)}
            for label, (seconds, _) in passes.items()
        ],
        "rows": [
            {
                "kind": kind,
                "label": label,
                "help": told,
                "cells": [_cell(kind, *one) for one in passes.values()],
            }
            for kind, (label, told) in WORDS.items()
            if any(kinds.get(kind, 0.0) > 0 for _, kinds in passes.values())
        ],
    }


def _cell(kind: str, seconds: float, kinds: Mapping[str, float]) -> dict[str, Any]:
    """Shares are of the passes in which kinds were timed, times of the median pass: a busy machine slows either."""
    share = kinds.get(kind, 0.0) / sum(kinds.values())
    return {
        "share": round(share, 4),
        "told": f"{short(1e3 * share * seconds, 2)} ms",
        "part": f"{short(100 * share, 2)} %",
    }

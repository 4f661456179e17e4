"""Mixed precision by sensitivity: which blocks are too fragile to be quantized. How that is measured is elsewhere."""

from __future__ import annotations

from collections.abc import Mapping

ROBUST = "proj"
"""Kind of the layer that is quantized in a fragile block too: the projection behind attention."""


def fragile_blocks(sensitivity: Mapping[str, float], share: float) -> tuple[str, ...]:
    """The most sensitive blocks, the worst first: ``share`` of all, to the nearest whole number and at least one.

    The paper keeps 4 of 48 (frame blocks 14, 17 and 23 and global block 23 of VGGT-1B), found by quantizing one block
    at a time; a share makes that a rule for any depth (our reading).

    Args:
        sensitivity: Block to what its quantization alone does to the result; NaN counts as the worst.
        share: 0 keeps none.

    Source:
        QVGGT (arXiv:2605.31124), sensitivity analysis and mixed precision.
    """
    if share <= 0 or not sensitivity:
        return ()
    count = min(len(sensitivity), max(1, round(share * len(sensitivity))))
    # Sorting is stable: of equal blocks the first is the more fragile one, whatever the machine.
    return tuple(sorted(sensitivity, key=lambda block: _rank(sensitivity[block]))[:count])


def stays_quantized(kind: str) -> bool:
    """Whether a layer of this kind is quantized in a fragile block too: only the attention's projection is."""
    return kind == ROBUST


def _rank(value: float) -> float:
    return float("-inf") if value != value else -value  # noqa: PLR0124 - NaN differs from itself

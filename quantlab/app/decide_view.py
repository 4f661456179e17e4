"""What a person looks at on the tab "Decide". It holds no result."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deciding:
    """Which part is open ("front", "layers", "differences"), the bits of the bars, both sides of the differences.

    A side is "now", "state:3" (of the history) or "point:5" (of the search). A budget is in "MB" or in "ms".
    """

    shows: str = "front"
    bits: int = 4
    left: str = "state:0"
    right: str = "now"
    unit: str = "MB"

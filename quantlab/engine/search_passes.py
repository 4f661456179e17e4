"""How many passes a search makes, and how long one takes: so how long all will, and what share each stage is.

A pass is one scene through one recipe. Nothing is run here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quantlab.engine.execution import Run
    from quantlab.engine.scan import Ask

ALONE = 0.7
"""What a pass with one layer rounded takes, as a share of a whole recipe's: blocks before the layer are replayed, heads
and the comparison of clouds are not. Measured on ``mini``; with more blocks it is less, but single layers are nearly
all of the work then."""
CHECKS = 8
"""Assignments drawn at random for the check of the sum."""
VERIFIED = 8
"""Points of the front that are really run."""
KEPT = 64
"""Recent passes whose time is remembered."""


@dataclass(frozen=True, slots=True)
class Passes:
    """The passes of a scan, or of a whole search.

    Attributes:
        single: With a single layer rounded.
        checks: Of the check that single layers add up.
        stages: Of whole recipes after the scan: the best by the sum, equal bits, the recipe in force, the front, nearly
            equal bits, changes that are tried.
    """

    single: int
    checks: int
    stages: tuple[int, ...] = ()

    @property
    def whole(self) -> int:
        """Those of whole recipes, the check's among them."""
        return self.checks + sum(self.stages)

    @property
    def scan(self) -> tuple[float, int]:
        """What single layers and their check take, in passes of a whole recipe, as ``stages`` are."""
        return ALONE * self.single, self.checks

    def seconds(self, each: float) -> float:
        """What all of it takes where a pass of a whole recipe takes ``each``."""
        return each * (ALONE * self.single + self.whole)


def scan_passes(now: Mapping[str, int], ask: Ask) -> Passes:
    """The passes of a scan of layers whose bits are ``now`` these; one option of each is what stands already."""
    trials = sum(len({*ask.options, bits}) - 1 for bits in now.values())
    return Passes(ask.scenes * trials, ask.scenes * CHECKS)


def search_passes(now: Mapping[str, int], ask: Ask, *, tries: int, verify: int, costly: bool) -> Passes:
    """The passes of a search, its scan's included.

    Args:
        now: Layers that vary to their bits.
        ask: The scan.
        tries: Changes that are tried.
        verify: Scenes that a whole recipe is run on.
        costly: Whether a whole recipe learns, so that few are run.
    """
    equal = len(ask.options) - 1
    recipes = (1, 1, 1, 0, 1, 0) if costly else (1, equal, 1, VERIFIED, 1, tries)
    alone = scan_passes(now, ask)
    return Passes(alone.single, alone.checks, tuple(verify * count for count in recipes))


class Pace:
    """How long a pass of a lab takes: the median of those in which no block was replayed.

    The first is left out once there are others: it pays for what is only done once.
    """

    def __init__(self) -> None:
        self._seconds: tuple[float, ...] = ()

    def noted(self, run: Run) -> Run:
        """The same run, its time remembered if it is one."""
        if not run.replayed:
            self._seconds = (*self._seconds, run.seconds)[-KEPT:]
        return run

    @property
    def seconds(self) -> float | None:
        """Of one pass; None before there was one."""
        later = self._seconds[1:] or self._seconds
        return median(later) if later else None

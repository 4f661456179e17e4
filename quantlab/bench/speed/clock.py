"""Times several things against each other on a busy machine: round robin, medians, ratios round by round.

It knows no networks. A ratio is the median over rounds of the ratio within a round, so that a load from outside, which
falls on neighbours alike, cancels.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Run = Callable[[], object]
LEAST, MOST = 1, 60
"""Rounds, at least and at most."""


@dataclass(frozen=True, slots=True)
class Clock:
    """Where time is read: seconds of processor time of this process, and seconds on the wall."""

    cpu: Callable[[], float] = time.process_time
    wall: Callable[[], float] = time.perf_counter


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of every round, in order; empty where it could not run, for a ``reason``."""

    cpu: tuple[float, ...] = ()
    wall: tuple[float, ...] = ()
    reason: str = ""

    def seconds(self, *, wall: bool = False) -> float | None:
        """The median, of processor time unless ``wall``; None where nothing was measured."""
        samples = self.wall if wall else self.cpu
        return statistics.median(samples) if samples else None

    def spread(self, *, wall: bool = False) -> float:
        """How far apart the rounds are: half of what lies between their quartiles, as a share of the median."""
        samples = self.wall if wall else self.cpu
        if len(samples) < 2:
            return 0.0
        low, middle, high = statistics.quantiles(samples, n=4, method="inclusive")
        return (high - low) / 2 / middle if middle > 0 else 0.0

    def faster_than(self, other: Timing, *, wall: bool = False) -> float | None:
        """How many times faster this is than ``other``; None where either was not measured."""
        mine, theirs = (self.wall, other.wall) if wall else (self.cpu, other.cpu)
        pairs = [b / a for a, b in zip(mine, theirs, strict=False) if a > 0]
        return statistics.median(pairs) if pairs else None


def interleave(
    tasks: Mapping[str, Run], *, seconds: float, warm: bool = True, clock: Clock | None = None
) -> dict[str, Timing]:
    """Run all tasks in turn, over and over, until a round more would take longer than what is left of ``seconds``.

    A task that raises is left out from then on, and what it raised is its reason.

    Args:
        tasks: Name to what is timed.
        seconds: On the wall, for all of them together, the warm-up apart. One round is run in any case.
        warm: Run each once before, uncounted.
        clock: Another than the system's.
    """
    clock = clock or Clock()
    left = dict(tasks)
    reasons: dict[str, str] = {}
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in tasks}
    if warm:
        for name in list(left):
            _once(name, left, reasons, clock)
    begun = clock.wall()
    for done in range(1, MOST + 1):
        order = list(left)
        shift = done % max(1, len(order))
        for name in order[shift:] + order[:shift]:  # nobody always follows the same neighbour
            sample = _once(name, left, reasons, clock)
            if sample is not None:
                samples[name].append(sample)
        spent = clock.wall() - begun
        if not left or (done >= LEAST and spent + spent / done > seconds):
            break
    return {name: _timing(samples[name], reasons.get(name, "")) for name in tasks}


def _once(
    name: str, left: dict[str, Run], reasons: dict[str, str], clock: Clock
) -> tuple[float, float] | None:
    cpu, wall = clock.cpu(), clock.wall()
    try:
        left[name]()
    except Exception as error:  # noqa: BLE001 -- one that fails must not cost the others their figures
        reasons[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"
        del left[name]
        return None
    return clock.cpu() - cpu, clock.wall() - wall


def _timing(samples: list[tuple[float, float]], reason: str) -> Timing:
    if reason:
        return Timing(reason=reason)
    return Timing(tuple(cpu for cpu, _ in samples), tuple(wall for _, wall in samples))

"""What a layer costs in time at each number of bits, read off measured executions. It chooses nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from quantlab.engine.bit_rules import with_bits
from quantlab.engine.measurement import Measurement
from quantlab.engine.recipe import Recipe
from quantlab.engine.scan import Ask, simplified, without_fragile
from quantlab.engine.search_record import Sensitivity
from quantlab.engine.settings import FULL_PRECISION
from quantlab.jobs import Job, part
from quantlab.models.structure import Structure

STORED = (4, 8)
"""Bits that codes are stored in; fewer bits take the time of the next of them."""
MICRO = 1e6
Clock = Callable[..., Measurement]
"""``clock(recipe=..., job=...)`` executes a recipe and times it, as ``Lab.measure`` does."""


@dataclass(frozen=True, slots=True)
class Prices:
    """Microseconds of one forward pass; those of single layers add up.

    Attributes:
        layers: Layer to bits to what it takes.
        fixed: What everything else takes.
    """

    layers: Mapping[str, Mapping[int, int]]
    fixed: int

    def instead(self, found: Sensitivity) -> Sensitivity:
        """The record with these microseconds where its bytes were: what is searched by size is searched by time."""
        return replace(found, bytes=self.layers, fixed_bytes=self.fixed)

    def seconds(self, bits: Mapping[str, int]) -> float:
        """What a choice of bits takes."""
        return (self.fixed + sum(self.layers[name][value] for name, value in bits.items())) / MICRO


def measured_prices(
    clock: Clock, structure: Structure, recipe: Recipe, found: Sensitivity, ask: Ask, job: Job | None
) -> Prices:
    """Execute the recipe with all its layers at 4 and at 8 bits, and read off what each layer takes.

    Nothing is learned for it, because a kernel's time does not depend on the values that it multiplies.

    Args:
        clock: Times a recipe.
        structure: Of the network.
        recipe: Whose layers vary.
        found: Which layers those are, and their options.
        ask: What varies in them.
        job: Follows and stops it.
    """
    plain = without_fragile(simplified(recipe)[0])
    timed: dict[int, Measurement] = {}
    for index, bits in enumerate(STORED):
        uniform = dict.fromkeys(found.bytes, bits)
        trial = with_bits(plain, structure, uniform, vary=ask.vary)
        timed[bits] = clock(recipe=trial, job=part(job, index, len(STORED)))
    last = timed[STORED[-1]]
    layers = {
        name: {bits: max(1, round(MICRO * _seconds(name, bits, timed))) for bits in own}
        for name, own in found.bytes.items()
    }
    rest = last.seconds - sum(last.layers.get(name, 0.0) for name in layers)
    return Prices(layers, max(0, round(MICRO * rest)))


def _seconds(name: str, bits: int, timed: Mapping[int, Measurement]) -> float:
    """What a layer took; one that the scene never reaches takes nothing."""
    if bits >= FULL_PRECISION:
        return timed[STORED[-1]].full_layers.get(name, 0.0)
    return timed[next(stored for stored in STORED if bits <= stored)].layers.get(name, 0.0)

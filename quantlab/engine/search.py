"""The best bits for every layer within a size: predicted from a scan, then really run and improved.

It measures nothing itself and draws nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf, isfinite

from quantlab.engine.additive import front, lowered, optimum, spread
from quantlab.engine.bit_rules import weight_bits, with_bits
from quantlab.engine.budget import (
    asked_microseconds,
    budget_bytes,
    budget_microseconds,
    check_budget,
    is_latency,
)
from quantlab.engine.plan import plan
from quantlab.engine.prices import MICRO, Clock, Prices, measured_prices
from quantlab.engine.recipe import Recipe
from quantlab.engine.refine import refined
from quantlab.engine.scan import Ask, scan, simplified, unmeasured, without_fragile
from quantlab.engine.search_passes import VERIFIED, search_passes
from quantlab.engine.search_record import Candidate, Measured, Search, Sensitivity
from quantlab.engine.settings import FULL_PRECISION
from quantlab.engine.trials import Trials
from quantlab.errors import RecipeError
from quantlab.jobs import Job, between, divided, part, step

VERIFY = 8
"""Scenes on which recipes are run, more than single layers: what is best of many by luck on few is not on others."""
SHOWN = 32
"""Points of the front at most."""
TRIES = 24
"""Changes that are tried to improve the result."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked of a search.

    Attributes:
        budget: As in `budget_bytes`.
        ask: The scan it rests on.
        tries: How many changes of the result are really run to improve it.
        seed: Of the order in which they are tried.
        verify: How many calibration scenes a whole recipe is run on.

    Raises:
        RecipeError: No size, or a count that is none.
    """

    budget: int | str | None = None
    ask: Ask = field(default_factory=Ask)
    tries: int = TRIES
    seed: int = 0
    verify: int = VERIFY

    def __post_init__(self) -> None:
        check_budget(self.budget)
        if type(self.tries) is not int or self.tries < 0:
            raise RecipeError(f"{self.tries!r} tries cannot be made", place="tries", remedy="Give 0 or more.")


def search(
    trials: Trials, recipe: Recipe, wish: Wish, job: Job | None = None, *, clock: Clock | None = None
) -> Search:
    """Find the bits with the smallest error within the budget, and the front around it.

    The recipe's method and all its other settings stay. The exact optimum of the sum over layers, points along the
    front, and the same bits everywhere are really run on the calibration scenes; then single changes are tried from
    the best of them. What is chosen is the best that was run and fits, so never worse there than equal bits.

    Where the budget is a time, ``clock`` measures what layers take, and in the end what the result takes.

    Raises:
        RecipeError: A budget that cannot be kept, or nothing to search.
        JobCancelledError: The job was cancelled.
    """
    begun = time.perf_counter()
    prices, budget = _limit(trials, recipe, wish, clock, between(job, 0.0, 0.1))
    stages = _stages(trials, recipe, wish, between(job, 0.1, 1.0) if prices else job)
    scanning, optimal, equal, standing, fronting, nearly, changing = stages
    found = scan(trials, recipe, wish.ask, scanning)
    field_ = _Field(trials, recipe, found, budget, wish.verify, prices)
    best = field_.run(field_.at(field_.optimum(budget)), "the best by the sum", optimal)
    uniform = tuple(field_.uniform(equal))
    current = field_.run(field_.current(), "the recipe in force", standing)
    front = field_.front(best, fronting)
    near = field_.near_uniform()
    front = front if near is None else (*front, field_.run(near, "nearly equal bits", nearly))
    fits = [one for one in (best, *uniform, current, *front) if field_.cost(one) <= budget and one.verified]
    best = min(fits, key=lambda one: (one.verified or _NEVER).drift)
    best = field_.improved(best, wish, changing)
    best, noise = (best, 0.0) if prices is None or clock is None else _timed(best, clock)
    front = tuple(sorted((*front, *((best,) if best.kind == "refined" else ())), key=lambda one: one.bytes))
    return Search(
        sensitivity=found,
        budget=budget if prices is None else best.bytes,
        chosen=best,
        candidates=front,
        uniform=uniform,
        current=current,
        tried=field_.tried,
        seconds=time.perf_counter() - begun,
        budget_seconds=None if prices is None else budget / MICRO,
        asked_seconds=None if prices is None else asked_microseconds(str(wish.budget)) / MICRO,
        spread_seconds=noise,
    )


def _limit(
    trials: Trials, recipe: Recipe, wish: Wish, clock: Clock | None, job: Job | None
) -> tuple[Prices | None, int]:
    """What layers cost in time, where the budget is one, and the budget in microseconds; else None and bytes."""
    plain = unmeasured(trials, recipe, wish.ask)
    if not is_latency(wish.budget) or clock is None:
        return None, budget_bytes(wish.budget, plain)
    prices = measured_prices(clock, trials.structure, recipe, plain, wish.ask, job)
    return prices, budget_microseconds(str(wish.budget), prices.instead(plain))


def _stages(trials: Trials, recipe: Recipe, wish: Wish, job: Job | None) -> tuple[Job | None, ...]:
    """The job's slices for the scan and for each of `Passes.stages`, as wide as they take time."""
    ask = replace(wish.ask, scenes=len(trials.scenes(wish.ask.scenes)))
    asked = search_passes(
        weight_bits(recipe, trials.structure),
        ask,
        tries=wish.tries,
        verify=max(ask.scenes, len(trials.scenes(wish.verify))),
        costly=bool(simplified(recipe)[1]),
    )
    return divided(job, sum(asked.scan), *asked.stages)


def _timed(best: Candidate, clock: Clock) -> tuple[Candidate, float]:
    """The candidate with what it really takes, and how many seconds its passes differ by."""
    taken = clock(recipe=best.recipe)
    return replace(best, timed=taken.seconds), taken.slowest - taken.fastest


_NEVER = Measured(inf, inf)


class _Field:
    """Candidates of one scan: built, sized, and run."""

    def __init__(
        self,
        trials: Trials,
        recipe: Recipe,
        found: Sensitivity,
        budget: int,
        verify: int,
        prices: Prices | None = None,
    ) -> None:
        self._verify, self._prices = max(verify, len(found.scenes)), prices
        self._found = found if prices is None else prices.instead(found)
        self._trials, self._recipe, self._budget = trials, recipe, budget
        # A method that learns from the whole network takes minutes for each recipe: little of it is run then.
        self._costly = bool(found.simplified)
        self.tried = 0

    def at(self, bits: Mapping[str, int], kind: str = "front", label: str = "") -> Candidate:
        """The candidate with these bits; its size is that of the plan."""
        chosen = self._recipe if kind == "current" else self._with(bits)
        size = plan(self._trials.structure, chosen).bytes
        label = label or f"{size / 1e6:.2f} MB"
        seconds = None if self._prices is None else self._prices.seconds(bits)
        return Candidate(
            chosen, dict(bits), size, self._found.predict(bits), None, kind, label, seconds=seconds
        )

    def cost(self, candidate: Candidate) -> int:
        """What the budget limits: bytes, or microseconds."""
        return candidate.bytes if self._prices is None else self._size(candidate.bits)

    def _size(self, bits: Mapping[str, int]) -> int:
        if self._prices is not None:
            return self._found.size(bits)
        return plan(self._trials.structure, self._with(bits)).bytes

    def _with(self, bits: Mapping[str, int]) -> Recipe:
        """The recipe with these bits, which say it all: no block is kept besides for being fragile."""
        recipe = without_fragile(self._recipe)
        return with_bits(recipe, self._trials.structure, bits, vary=self._found.vary)

    def run(self, candidate: Candidate, text: str, job: Job | None = None) -> Candidate:
        """The candidate with what was measured."""
        step(job, 0, 1, f"running {text}")
        self.tried += 1
        measured = self._trials.measure(candidate.recipe, self._verify, job, text=text)
        return replace(candidate, verified=measured)

    def near_uniform(self) -> Candidate | None:
        """Equal bits a little too large, with the layers lowered that the sum says matter least; None if none is."""
        larger = [
            bits for bits in self._found.bits if self._found.size(self._found.uniform(bits)) > self._budget
        ]
        if not larger:
            return None
        start = self._found.uniform(min(larger))
        bits = lowered(self._found, start, self._budget - self._found.fixed_bytes)
        return None if bits is None else self.at(bits)

    def optimum(self, budget: int) -> dict[str, int]:
        """The exact optimum of the sum over layers within the budget.

        The sum takes corrections of branches for what they weigh now; where other bits bring more, it gets less room.
        """
        room, excess, found = budget - self._found.fixed_bytes, 1, None
        while excess > 0:
            found = optimum(self._found, room)
            if found is None:
                raise RecipeError(
                    "no choice of bits that gives finite numbers is so small",
                    place="budget",
                    remedy="Ask for more bytes, or take a method that stands fewer bits.",
                )
            excess = self._size(found) - budget
            room -= excess
        return found or {}

    def uniform(self, job: Job | None) -> Iterator[Candidate]:
        """The same bits everywhere, below full precision."""
        common = [bits for bits in self._found.bits if bits < FULL_PRECISION]
        for index, bits in enumerate(common):
            one = self.at(self._found.uniform(bits), "uniform", f"{bits} bits")
            run = not self._costly or bits == self._nearest(common)
            section = part(job, index, len(common))
            yield self.run(one, f"{bits} bits everywhere", section) if run else one

    def _nearest(self, common: list[int]) -> int:
        """The most bits that fit the budget, or the fewest there are."""
        fit = [bits for bits in common if self._found.size(self._found.uniform(bits)) <= self._budget]
        return max(fit, default=min(common))

    def current(self) -> Candidate:
        """The recipe that the search began from."""
        return self.at(self._found.now, "current", "in force")

    def front(self, best: Candidate, job: Job | None) -> tuple[Candidate, ...]:
        """Points of the front from small to large, with the optimum of the budget; some of them run."""
        chosen = [self.at(bits) for bits in front(self._found, SHOWN)]
        chosen = [one for one in chosen if one.bytes != best.bytes]
        picked = set() if self._costly else {id(one) for one in spread(chosen, VERIFIED)}
        done: list[Candidate] = [best]
        for index, one in enumerate(chosen):
            section = part(job, index, len(chosen))
            done.append(self.run(one, f"the front at {one.label}", section) if id(one) in picked else one)
        return tuple(sorted(done, key=lambda one: one.bytes))

    def improved(self, best: Candidate, wish: Wish, job: Job | None) -> Candidate:
        """The best after changes were tried; the same one where none helped."""
        if self._costly or not wish.tries or best.verified is None or not isfinite(best.verified.drift):
            return best

        def error(bits: Mapping[str, int], text: str, section: Job | None) -> Sequence[float]:
            if self._size(bits) > self._budget:
                return (inf,)
            self.tried += 1
            return self._trials.measure(self._with(bits), self._verify, section, text=text).scenes

        room = self._budget - self._found.fixed_bytes
        bits = refined(best.bits, self._found, room, error, tries=wish.tries, seed=wish.seed, job=job)
        if bits == best.bits:
            return best
        return self.run(self.at(bits, "refined"), "the result")

"""Improving a choice of bits by changes that are really run, one after another. It knows no network and no recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from quantlab.engine.additive import TINY
from quantlab.engine.search_record import Sensitivity
from quantlab.jobs import Job, part, step

WIDTH = 12
"""Of the changes that look best, so many are drawn from."""

MOST = 3
"""Layers that may go down to make room for one."""

Error = Callable[[Mapping[str, int], str, Job | None], Sequence[float]]
"""``error(bits, text, job)`` runs a choice and answers its true error on each scene."""


def refined(
    bits: Mapping[str, int],
    found: Sensitivity,
    room: int,
    error: Error,
    *,
    tries: int,
    seed: int,
    job: Job | None = None,
) -> dict[str, int]:
    """The best choice met on a walk of single changes: one layer up, or one up and as few as needed down.

    Changes are tried in the order in which the sum over layers promises most, somewhat shuffled; each is run, and
    kept where the true error falls by more than its standard error over the scenes: of many changes, some look better
    by luck on a few scenes, and are not on others. Equal seeds walk alike on any machine.

    Args:
        bits: Where to start.
        found: What layers weigh and promise.
        room: Bytes for the layers that vary.
        error: Runs a choice.
        tries: How many changes are run.
        seed: Of the shuffling.
        job: Progress and cancellation.
    """
    random, best = np.random.default_rng(seed), dict(bits)
    lowest, tried = error(best, "the start", None), {_key(best)}
    for index in range(tries):
        untried = (one for one in _ranked(best, found, room) if _key(one) not in tried)
        waiting = list(islice(untried, WIDTH))
        if not waiting:
            break
        # The first is the likeliest, those behind it half as likely each.
        one = waiting[min(int(random.geometric(0.5)) - 1, len(waiting) - 1)]
        tried.add(_key(one))
        text = f"trying changes, {np.mean(lowest):.3%} so far"
        step(job, index, tries, text)
        truth = error(one, text, part(job, index, tries))
        if _surely_less(truth, lowest):
            best, lowest = one, truth
    return best


def _surely_less(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether the mean over scenes is less by more than the standard error of the difference."""
    change = np.asarray(one, np.float64) - np.asarray(other, np.float64)
    if not np.isfinite(change).all():
        return False
    doubt = change.std(ddof=1) / np.sqrt(len(change)) if len(change) > 1 else 0.0
    return bool(change.mean() < -doubt)


def _ranked(bits: Mapping[str, int], found: Sensitivity, room: int) -> Iterator[dict[str, int]]:
    """All changes that fit, by what the sum over layers promises."""
    spare = room - (found.size(bits) - found.fixed_bytes)
    weights = 0.5 / np.sqrt(np.maximum(found.summed(bits), TINY))
    moves = []
    for name, value in bits.items():
        own, sizes = found.points[name], found.bytes[name]
        for other in _neighbours(found, name, value):
            if np.isfinite(own[other]).all():
                loss = float(weights @ (own[other] - own[value]))
                moves.append(_Move(name, other, sizes[other] - sizes[value], loss))
    changes = sorted(_changes(moves, spare), key=lambda change: sum(move.loss for move in change))
    for change in changes:
        yield {**bits, **{move.name: move.bits for move in change}}


class _Move(NamedTuple):
    """One layer at its next option: what that costs in bytes and, by the sum, in error."""

    name: str
    bits: int
    cost: int
    loss: float


def _changes(moves: Sequence[_Move], spare: int) -> Iterator[tuple[_Move, ...]]:
    """One layer up where there is room, or one up and others down until there is."""
    up = [move for move in moves if move.cost > 0]
    down = sorted((move for move in moves if move.cost < 0), key=lambda move: move.loss / -move.cost)
    for one in up:
        if one.cost <= spare:
            yield (one,)
        for first in down:
            change, need = [one, first], one.cost + first.cost - spare
            for other in down:  # the cheapest that make the rest of the room
                if need <= 0 or len(change) > MOST:
                    break
                if other is not first:
                    change.append(other)
                    need += other.cost
            if need <= 0 and len({move.name for move in change}) == len(change):
                yield tuple(change)


def _neighbours(found: Sensitivity, name: str, value: int) -> list[int]:
    """The next option with fewer bits and the next with more."""
    options = sorted(found.points[name])
    place = options.index(value)
    return options[max(0, place - 1) : place] + options[place + 1 : place + 2]


def _key(bits: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(bits.values())

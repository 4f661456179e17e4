"""What a person types as a budget: bytes of the packed network, or the time of a forward pass. It searches nothing."""

from __future__ import annotations

import re

from quantlab.engine.search_record import Sensitivity
from quantlab.errors import RecipeError

UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
TIMES = {"s": 10**6, "ms": 10**3, "us": 1, "µs": 1}
"""In microseconds."""
OR_FASTEST = " or fastest"
"""Behind a time: where it cannot be reached, the fastest choice is taken."""
EIGHT = 8


def budget_bytes(budget: int | str | None, scan: Sensitivity) -> int:
    """The budget in bytes.

    Args:
        budget: Bytes, "10 MB" (both of the whole network, as `Plan.bytes` counts), or "50%" of what the layers whose
            bits vary weigh at 8 bits, the rest on top. None: what the recipe weighs now.
        scan: Which layers vary, and what they weigh.

    Raises:
        RecipeError: A latency, nothing that can be read, or less than the fewest bits weigh.
    """
    wanted = scan.size(scan.now) if budget is None else _asked(budget, scan)
    smallest = scan.size({name: min(own, key=own.__getitem__) for name, own in scan.bytes.items()})
    if wanted < smallest:
        raise RecipeError(
            f"the smallest recipe has {_megabytes(smallest)}, of which {_megabytes(scan.fixed_bytes)} are not"
            f" quantized; {_megabytes(wanted)} cannot be reached",
            place="budget",
            remedy=f"Ask for {_megabytes(smallest)} or more, or quantize more layers (scope 'all').",
        )
    return wanted


def is_latency(budget: object) -> bool:
    """Whether a budget is a time."""
    return isinstance(budget, str) and _number_and_unit(budget)[1] in TIMES


def budget_microseconds(budget: str, priced: Sensitivity) -> int:
    """A time such as "30 ms" in microseconds.

    Args:
        budget: As a person types it. "30 ms or fastest" is never too short: then it is what the fastest choice takes.
        priced: Which layers vary, with microseconds where bytes were.

    Raises:
        RecipeError: Less than the fastest choice takes.
    """
    wanted = asked_microseconds(budget)
    fastest = priced.size({name: min(own, key=own.__getitem__) for name, own in priced.bytes.items()})
    if budget.endswith(OR_FASTEST):
        return max(wanted, fastest)
    if wanted < fastest:
        raise RecipeError(
            f"the fastest choice of bits takes {_milliseconds(fastest)} on this machine, of which"
            f" {_milliseconds(priced.fixed_bytes)} are not in layers whose bits vary",
            place="budget",
            remedy=f"Ask for {_milliseconds(fastest)} or more, or for '{budget} or fastest'.",
        )
    return wanted


def asked_microseconds(budget: str) -> int:
    """The time that a budget names, whether or not it can be reached.

    Raises:
        RecipeError: It is neither size nor time.
    """
    value, unit = _number_and_unit(budget)
    return round(value * TIMES[unit])


def check_budget(budget: object) -> None:
    """Refuse what is no budget before anything is measured.

    Raises:
        RecipeError: As in `budget_bytes`.
    """
    if budget is not None:
        _number_and_unit(budget)


def _asked(budget: int | str, scan: Sensitivity) -> int:
    value, unit = _number_and_unit(budget)
    if unit in TIMES:
        raise RecipeError("a time is no size", place="budget", remedy="Give a size, as '50%' or '10 MB'.")
    if unit != "%":
        return int(value * UNITS[unit])
    eight = sum(own[EIGHT] if EIGHT in own else max(own.values()) for own in scan.bytes.values())
    return scan.fixed_bytes + int(value / 100 * eight)


def _number_and_unit(budget: object) -> tuple[float, str]:
    if type(budget) is int and budget >= 0:
        return budget, "b"
    typed = budget.removesuffix(OR_FASTEST) if isinstance(budget, str) else ""
    found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Zµ%]*)\s*", typed)
    unit = found[2].lower() if found else ""
    if not found or unit not in (TIMES if typed != budget else (*TIMES, *UNITS, "%")):
        raise RecipeError(
            f"{str(budget)[:40]!r} is no size and no time",
            place="budget",
            remedy="Give bytes, '10 MB', '50%' of the size at 8 bits, or '30 ms' a forward pass.",
        )
    return float(found[1]), unit


def _milliseconds(micro: int) -> str:
    """Microseconds as milliseconds, rounded up in the second decimal, so that what is offered is enough."""
    return f"{-(-micro // 10) / 100:.2f} ms"


def _megabytes(count: int) -> str:
    """Bytes as megabytes, rounded up in the third decimal, so that what is offered is enough."""
    return f"{-(-count // 1000) / 1000:.3f} MB"

"""What the parts of a record read back must be, so that no table breaks on them later. It reads no files."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any

from quantlab.bench.speed.plan import PROFILE, Group

Kind = Callable[[Any], bool]
MEMORY = ("disk", "weights", "anonymous", "peak", "imported")
"""Bytes that a row of the memory table has."""


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _whole(value: Any) -> bool:
    return type(value) is int


def _number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_text, value))


def _numbers(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_number, value.values()))


def _or_none(kind: Kind) -> Kind:
    return lambda value: value is None or kind(value)


MADE: Mapping[str, Kind] = {
    **dict.fromkeys(("date", "command", "processor", "python"), _text),
    "instructions": _texts,
    "versions": lambda value: isinstance(value, dict) and all(map(_text, value.values())),
    "cores": _or_none(_whole),
    "load": _or_none(_number),
}
"""What every record has."""
FACTS: Mapping[str, Kind] = {
    **dict.fromkeys(("kernels", "attentions", "shares"), _numbers),
    **dict.fromkeys(("attention", "arithmetic"), _or_none(_text)),
}
"""What a line may have, besides bytes and seconds."""
GROUP: Mapping[str, Kind] = {
    **dict.fromkeys(("shapes", "level", "part", "device"), _text),
    **dict.fromkeys(("size", "threads", "depth"), _whole),
}


def sound(group: Group, facts: Iterable[Mapping[str, Any]], made: Mapping[str, Any]) -> bool:
    """Whether a record with these parts can be shown: each is what it should be, and none lacks what its table needs.

    Raises:
        LookupError: Something is not there at all.
        OverflowError: A whole number is beyond all floating-point ones.
    """
    told = [line for line in facts if line]
    return (
        all(kind(asdict(group)[name]) for name, kind in GROUP.items())
        and all(kind(made[name]) for name, kind in MADE.items())
        and _text(made.get("host", ""))
        and all(_fact(name, value) for line in told for name, value in line.items())
        and (group.level != "memory" or all(map(_remembers, told)))
        and (group.level != PROFILE or len({tuple(line["shares"]) for line in told}) <= 1)
    )


def rounds(values: Any) -> tuple[float, ...]:
    """The rounds of a timing.

    Raises:
        TypeError: One is no number of seconds.
    """
    if not isinstance(values, list) or not all(_number(value) and value >= 0 for value in values):
        raise TypeError("these are no seconds")
    return tuple(map(float, values))


def _fact(name: str, value: Any) -> bool:
    return _number(value) if name.endswith(("_bytes", "_seconds")) else FACTS.get(name, _known)(value)


def _known(_: Any) -> bool:
    """What no table shows may be anything."""
    return True


def _remembers(line: Mapping[str, Any]) -> bool:
    """Whether a row of the memory table has all its cells, and a size that others can be a share of."""
    named = (*(f"{name}_bytes" for name in MEMORY), "load_seconds", "forward_seconds")
    return all(name in line for name in named) and line["disk_bytes"] > 0

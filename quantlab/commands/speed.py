"""`quantlab bench speed`: time what is not timed yet, and write the tables. It times nothing itself."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from quantlab.commands.console import say
from quantlab.errors import JobCancelledError, RecipeError

if TYPE_CHECKING:
    from quantlab.bench.speed.run import Request

RESULTS = Path("benchmarks/results/speed")
NOBODY = "none"
FRAMES = {"cpu": "2,4", "cuda": "2,8,16"}
"""Pictures of a whole forward, where nothing else is said."""


@dataclass(frozen=True, slots=True)
class SpeedChoice:
    """What was typed; comma-separated texts, None for all.

    Attributes:
        shapes: Of the network.
        levels: What is timed: linears, blocks, whole forwards, and memory.
        frames: Pictures of a whole forward; None for those of the device's goals.
        threads: Of arithmetic.
        rows: Beginnings of the names of variants.
        peers: Other libraries; "none" for none.
        depth: Blocks of a network that is cut; 0: all.
        device: "cpu" or "cuda".
        out: Folder of records and results.
        quick, fresh, render, profile: As the options say.
    """

    shapes: str = "vggt-1b"
    levels: str | None = None
    frames: str | None = None
    threads: str = "1,2"
    rows: str | None = None
    peers: str | None = None
    depth: int = 0
    device: str = "cpu"
    out: Path = RESULTS
    quick: bool = False
    fresh: bool = False
    render: bool = False
    profile: bool = False


def speed(choice: SpeedChoice, typed: Sequence[str]) -> None:
    """Measure what is missing, then write and print the tables of this machine.

    Raises:
        RecipeError: Something that was asked for does not exist.
        StorageError: The folder cannot be written, or holds nothing to show.
        DeviceError: There is no GPU, or none that this torch can use.
        JobCancelledError: Interrupted; the same command goes on where it was.
    """
    from quantlab.bench.speed.machine import described, slug
    from quantlab.bench.speed.render import render
    from quantlab.bench.speed.run import run

    request = _request(choice, shlex.join(typed))
    try:
        machine = slug(described(choice.device)) if choice.render else run(request, tell=say)
    except KeyboardInterrupt:
        raise JobCancelledError(
            "interrupted; what was measured is kept",
            place=str(choice.out),
            remedy="Give the same command again to go on.",
        ) from None
    paths = render(choice.out, machine, say)
    for path in paths:
        say(f"written: {path}")
    print(paths[0].read_text(encoding="utf-8"))  # noqa: T201 -- the result


def _request(choice: SpeedChoice, command: str) -> Request:
    from quantlab.bench.speed.contenders import PEERS, offered
    from quantlab.bench.speed.plan import DEVICES, LEVELS, PROFILE, groups
    from quantlab.bench.speed.run import Request

    _require_device(choice.device)
    peers = None if choice.peers is None else [name for name in _listed(choice.peers) if name != NOBODY]
    for name in peers or ():
        if name not in PEERS:
            raise RecipeError(
                f"there is no peer {name[:40]!r}",
                place="--peers",
                remedy=f"Choose from: {', '.join((*PEERS, NOBODY))}.",
            )
    found = groups(
        choice.shapes,
        levels=(
            *(_listed(choice.levels) or [level for level in DEVICES[choice.device] if level in LEVELS]),
            *([PROFILE] if choice.profile else []),
        ),
        frames=_counts(choice.frames or FRAMES[choice.device], "--frames"),
        threads=_counts(choice.threads, "--threads"),
        depth=choice.depth,
        device=choice.device,
    )
    rows = tuple(_listed(choice.rows))
    for row in rows:
        if not any(contender.name.startswith(row) for contender in offered(choice.device)):
            raise RecipeError(
                f"no variant's name begins with {row[:40]!r}",
                place="--rows",
                remedy=f"Choose from: {', '.join(dict.fromkeys(one.name for one in offered(choice.device)))}.",
            )
    chosen = None if peers is None else tuple(peers)
    return Request(tuple(found), choice.out, rows, chosen, choice.quick, choice.fresh, command)


def _require_device(name: str) -> None:
    """Say at once what could only fail in every process."""
    if name not in FRAMES:
        raise RecipeError(
            f"there is no bench for the device {name[:40]!r}",
            place="--device",
            remedy=f"Choose from: {', '.join(FRAMES)}.",
        )
    if name != "cpu":
        from quantlab.models.zoo import device_of

        device_of(name)


def _counts(text: str, place: str) -> list[int]:
    parts = _listed(text)
    if not parts or not all(part.isdecimal() and 1 <= int(part) <= 256 for part in parts):
        raise RecipeError(
            f"{text[:40]!r} is no list of numbers", place=place, remedy="Write numbers from 1 on, as 1,2."
        )
    return [int(part) for part in parts]


def _listed(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]

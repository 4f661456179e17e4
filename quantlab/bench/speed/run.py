"""A run: which groups there are, which are measured already, and a process for each of the others. It times nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from quantlab.bench.run import duration
from quantlab.bench.speed.child import Order
from quantlab.bench.speed.clock import Timing
from quantlab.bench.speed.contenders import peer_of
from quantlab.bench.speed.machine import described, made, slug
from quantlab.bench.speed.plan import PROFILE, Group
from quantlab.bench.speed.records import Line, Record, path_of, read, write

Tell = Callable[[str], None]
SECONDS = {"linear": 6.0, "block": 25.0, "forward": 150.0, "memory": 0.0, PROFILE: 0.0}
"""Of measuring, by level; a round more is begun only where it fits."""
QUICK = 0.15
"""Of those seconds, when it must be quick."""
SMALL = 0.05
"""Likewise, for networks that are no more than an example."""
LIMIT = 1800.0
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for.

    Attributes:
        groups: In order.
        folder: Of records and results.
        rows: Beginnings of the names of contenders; empty: all.
        peers: Libraries that take part; None: all.
        quick: Fewer rounds.
        fresh: Measure again what was measured.
        command: As it was typed.
    """

    groups: tuple[Group, ...]
    folder: Path
    rows: tuple[str, ...] = ()
    peers: tuple[str, ...] | None = None
    quick: bool = False
    fresh: bool = False
    command: str = ""

    def order(self, group: Group) -> Order:
        """What a process is told to measure."""
        seconds = SECONDS[group.level] * (QUICK if self.quick else 1.0)
        seconds = seconds if group.shapes == "vggt-1b" else SMALL * seconds
        path = path_of(self.folder, slug(described(group.device)), group)
        return Order(group, self.rows, self.peers, seconds, self.command, path)


def run(request: Request, tell: Tell = lambda _: None) -> str:
    """Measure every group that is not measured yet, and answer the machine's name among the results.

    A run that was killed goes on where it was: each group is a file of its own, written whole or not at all. A group
    that was made by other settings or another version of the kernels is measured again.

    Raises:
        StorageError: The folder cannot be written.
    """
    orders = [request.order(group) for group in request.groups]
    todo = [order for order in orders if request.fresh or not _known(order)]
    tell(f"{len(orders)} groups, {len(orders) - len(todo)} of them measured before")
    done = 0
    for bundle in together(todo):
        begun = time.perf_counter()
        records = measured(bundle)
        took = duration(time.perf_counter() - begun)
        for record in records:
            done += 1
            missing = sum(bool(line.timing.reason) for line in record.lines)
            ways = f"{len(record.lines) - missing} of {len(record.lines)} ways"
            tell(f"[{done}/{len(todo)}] {record.group}: {ways}; {took} for {len(records)}")
    return slug(described(request.groups[0].device))


def together(orders: Iterable[Order]) -> list[list[Order]]:
    """Orders for one process each: those that run the same whole network on as many threads share one."""
    found: dict[object, list[Order]] = {}
    for order in orders:
        group = order.group
        key = (group.shapes, group.depth, group.threads, group.device) if group.whole else group
        found.setdefault(key, []).append(order)
    return list(found.values())


def measured(orders: Sequence[Order]) -> list[Record]:
    """Measure groups in a process of their own.

    Where a process with peers dies it is tried again without them, and what happened is their reason; where it dies
    without them, it is everybody's.
    """
    for order in orders:
        order.path.unlink(missing_ok=True)
    ended = _process(orders)
    left = [order for order in orders if read(order.path) is None]
    if any(peer_of(contender) for order in left for contender in order.contenders):
        crashed = f"the process with all peers in it {ended}"
        ended = _process([replace(order, crashed=crashed) for order in left])
    for order in orders:
        if read(order.path) is None:
            why = Timing(reason=f"the process {ended}")
            lines = tuple(Line(contender.name, why) for contender in order.contenders)
            write(
                Record(
                    order.group,
                    order.digest,
                    lines,
                    made(order.command, order.group.threads, order.group.device),
                ),
                order.path,
            )
    return [record for order in orders if (record := read(order.path)) is not None]


def _process(orders: Sequence[Order]) -> str:
    """How it ended, if badly: as "died of signal 11"."""
    environment = os.environ | dict.fromkeys(THREADS, str(orders[0].group.threads))
    command = [sys.executable, "-m", "quantlab.bench.speed.child", *(order.to_json() for order in orders)]
    try:
        with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE) as child:  # noqa: S603 -- ourselves
            try:
                ended = child.wait(LIMIT)
            finally:
                child.kill()
    except subprocess.TimeoutExpired:
        return f"took longer than {duration(LIMIT)}"
    if ended < 0:
        return f"died of signal {-ended}"
    return f"ended with {ended}" if ended else ""


def _known(order: Order) -> bool:
    found = read(order.path)
    if found is None or found.digest != order.digest:
        return False
    return any(not line.timing.reason for line in found.lines)

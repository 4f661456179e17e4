"""Measures groups in this process, and writes their files. Which groups there are, and their order, is run.py's matter.

python -m quantlab.bench.speed.child '{"group": {...}, ...}' ...
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantlab.bench.speed.clock import Clock, Run, Timing, interleave
from quantlab.bench.speed.contenders import Contender, contenders, peer_of
from quantlab.bench.speed.machine import made
from quantlab.bench.speed.plan import PROFILE, Group
from quantlab.bench.speed.records import Line, Record, digest, write
from quantlab.errors import QuantLabError

if TYPE_CHECKING:
    from quantlab.bench.speed.ours import Garage

Maker = Callable[[Contender], tuple[Run, dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Order:
    """What a process is to measure.

    Attributes:
        group: That.
        rows: Beginnings of the names of contenders; empty: all.
        peers: Libraries that take part; None: all.
        seconds: Of measuring.
        command: As it was typed.
        path: Of the file.
        crashed: How a process with peers ended before: they are left out then, for this reason.
    """

    group: Group
    rows: tuple[str, ...]
    peers: tuple[str, ...] | None
    seconds: float
    command: str
    path: Path
    crashed: str = ""

    @property
    def contenders(self) -> list[Contender]:
        """Those that take part."""
        return contenders(self.group, rows=self.rows, peers=self.peers)

    @property
    def digest(self) -> str:
        """Of what is asked for."""
        return digest(self.group, self.contenders, self.seconds)

    def to_json(self) -> str:
        """One line of text, for another process."""
        return json.dumps({**asdict(self), "path": str(self.path)})

    @classmethod
    def from_json(cls, text: str) -> Order:
        """What `to_json` wrote."""
        data = json.loads(text)
        data |= {"group": Group(**data["group"]), "rows": tuple(data["rows"]), "path": Path(data["path"])}
        return cls(**{**data, "peers": None if data["peers"] is None else tuple(data["peers"])})


def measure(order: Order, make: Maker, *, clock: Clock | None = None) -> Record:
    """Make all contenders, time those that can be made by turns, and keep the reasons of the others.

    A whole network was run on a small picture when it was made, so that its first round counts: it may be the only one.
    """
    runs: dict[str, Run] = {}
    reasons: dict[str, str] = {}
    facts: dict[str, dict[str, Any]] = {}
    for contender in order.contenders:
        if order.crashed and peer_of(contender):
            reasons[contender.name] = order.crashed
            continue
        begun = time.perf_counter()
        try:
            run, told = make(contender)
            runs[contender.name] = run
            facts[contender.name] = {**told, "made_in_seconds": round(time.perf_counter() - begun, 2)}
        except QuantLabError as error:
            reasons[contender.name] = str(error)
        except Exception as error:  # noqa: BLE001 -- one that cannot be built must not cost the others their figures
            traceback.print_exc()
            reasons[contender.name] = f"{type(error).__name__}: {str(error)[:200]}"
    timed = interleave(runs, seconds=order.seconds, warm=order.group.level != "forward", clock=clock)
    timed |= {name: Timing(reason=reason) for name, reason in reasons.items()}
    lines = _lines(order.contenders, timed, facts)
    return Record(
        order.group, order.digest, lines, made(order.command, order.group.threads, order.group.device)
    )


def _lines(
    asked: Sequence[Contender], timed: dict[str, Timing], facts: dict[str, dict[str, Any]]
) -> tuple[Line, ...]:
    return tuple(Line(c.name, timed[c.name], facts.get(c.name, {})) for c in asked)


def main(texts: Sequence[str]) -> None:
    """Measure what the texts order, one after the other; whole networks are made once for all of them."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logging.getLogger("quantlab").setLevel(logging.ERROR)  # why a kernel is not taken stands in the records
    garage = None
    for order in map(Order.from_json, texts):
        garage = _measured(order, garage)


def _measured(order: Order, garage: Garage | None) -> Garage | None:
    """Write the record of an order; the garage of the one before serves again where both run a whole network."""
    if order.group.level == "memory":
        from quantlab.bench.speed.memory import measure_memory

        write(measure_memory(order), order.path)
        return None
    import torch

    from quantlab.bench.speed.gpu import clock_of
    from quantlab.bench.speed.ours import Garage
    from quantlab.bench.speed.subject import Subject

    torch.set_num_threads(order.group.threads)
    if garage is None:
        garage = Garage(
            Subject(order.group),
            tell=lambda line: print(line, file=sys.stderr, flush=True),  # noqa: T201 -- a run takes long
        )
    else:
        garage.subject.look_at(order.group)
    if order.group.level == PROFILE:
        from quantlab.bench.speed.profile import profiled

        write(profiled(order, garage), order.path)
    else:
        write(measure(order, garage.make, clock=clock_of(order.group.device)), order.path)
    return garage


def _end_with_parent() -> None:
    """Leave when the parent is gone, however it went: its end of the line is closed then."""
    os.read(0, 1)  # not by sys.stdin, whose lock would hold up the end of this process
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])

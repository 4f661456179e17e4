"""Records made by hand, for tests of tables; and a run that measures by a stand-in."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantlab.bench import pool
from quantlab.bench.cells import Cell, Measured, record, write
from quantlab.bench.protocol import FULL, Bits, Extent, Protocol
from quantlab.bench.rows import chosen, full_precision, rows
from quantlab.bench.run import Request

W4A4 = Bits(4, 4)
MADE = {"date": "2026-11-20T10:00:00+00:00", "command": "quantlab bench accuracy", "threads": 1, "cores": 2}


def make(method="rtn", bits=W4A4, seed=0, *, drift=(0.01, 0.03), reason="", model="mini", **metrics):
    """A record whose rooms have these drifts, and camera scores that fall with them."""
    row = full_precision() if method == "full_precision" else rows()[method]
    protocol = Protocol(rooms=len(drift), icp_rooms=1)
    cell = Cell(model, method, bits, seed, row.recipe(bits, seed).to_dict(), protocol, "weights")
    if reason:
        return record(cell, seconds=1.0, made=MADE, reason=reason)
    per_room = {f"auc{degrees}": [0.95 - value for value in drift] for degrees in (30, 15, 5, 3)}
    per_room |= {
        "abs_rel": list(drift),
        "drift": list(drift),
        "accuracy": [drift[0], *[None] * (len(drift) - 1)],
    }
    measured = Measured(
        metrics={"calibration_seconds": 1.5, "packed_bytes": 10_000_000, "tre": 0.01, **metrics},
        rooms=per_room,
        names=tuple(f"room held-out 7.{index}" for index in range(len(drift))),
    )
    return record(cell, seconds=2.0, made=MADE, measured=measured)


@pytest.fixture
def made():
    return make


@pytest.fixture
def whole():
    """Full precision on two rooms."""
    return make("full_precision", FULL, drift=(0.0, 0.0))


@pytest.fixture
def stand_in(monkeypatch):
    """Cells measured by `make` instead of a network; the list of what was measured."""
    measured: list[Cell] = []

    class StandIn:
        def do(self, task, job=None):
            measured.append(task.cell)
            found = make(task.cell.method, task.cell.bits, task.cell.seed)
            done = record(task.cell, seconds=2.0, made=MADE, measured=found.measured)
            write(done, task.cell.path(task.folder))
            return done

    monkeypatch.setattr(pool, "Worker", StandIn)
    return measured


@pytest.fixture
def ask(tmp_path: Path):
    """A request for two methods at W4A4, in one process."""

    def ask(methods=("rtn", "quarot"), *, rooms=2, seeds=2, source="mini", columns=(W4A4,)):
        extent = Extent(Protocol(rooms=rooms, icp_rooms=0), headline_rooms=1, seeds=seeds, columns=columns)
        return Request([source], chosen(methods), extent, tmp_path)

    return ask

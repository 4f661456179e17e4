"""Runs with a stand-in for the network: what is measured, what is reused, what is told; and processes that die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from quantlab.bench import cells, pool, rows
from quantlab.bench.cells import Cell, record
from quantlab.bench.protocol import Bits, Protocol
from quantlab.bench.render import render
from quantlab.bench.run import duration, run
from quantlab.bench.work import Task
from quantlab.errors import JobCancelledError, RecipeError, StorageError
from quantlab.jobs import Job

W4A4 = Bits(4, 4)


def test_every_method_seed_and_full_precision_are_measured_once(ask, stand_in):
    assert run(ask()) == ["mini"]
    assert [(cell.method, cell.seed) for cell in stand_in] == [
        ("full_precision", 0),
        ("rtn", 0),
        ("rtn", 1),
        ("quarot", 0),
        ("quarot", 1),
    ]


def test_a_second_run_measures_nothing_and_says_so(ask, stand_in):
    run(ask())
    stand_in.clear()
    said = []
    run(ask(), tell=said.append)
    assert stand_in == []
    assert said == ["5 cells, 5 of them measured before"]


def test_a_lost_cell_alone_is_measured_again(ask, stand_in, tmp_path):
    run(ask())
    lost = stand_in[3].path(tmp_path)
    lost.unlink()
    stand_in.clear()
    run(ask())
    assert [(cell.method, cell.seed) for cell in stand_in] == [("quarot", 0)]
    assert lost.exists()


def test_a_changed_recipe_is_not_reused_and_that_is_said(ask, stand_in, monkeypatch):
    run(ask())
    stand_in.clear()
    request = ask()
    changed = [
        replace(row, changes={"range_search": "grid"} if row.name == "rtn" else {}) for row in request.methods
    ]
    said = []
    run(replace(request, methods=changed), tell=said.append)
    assert [(cell.method, cell.seed) for cell in stand_in] == [("rtn", 0), ("rtn", 1)]
    assert sum("other settings" in line for line in said) == 2


def test_other_rooms_are_another_measurement(ask, stand_in):
    run(ask())
    stand_in.clear()
    run(ask(rooms=3))
    assert len(stand_in) == 5


def test_a_refusal_is_a_failed_cell_with_its_reason_and_in_the_table(ask, stand_in, monkeypatch, tmp_path):
    def refuse(row, bits, seed):
        if row.name == "quarot":
            raise RecipeError("static activations per token do not exist")
        return real(row, bits, seed)

    real = rows.Row.recipe
    monkeypatch.setattr(rows.Row, "recipe", refuse)
    run(ask())
    assert {cell.method for cell in stand_in} == {"full_precision", "rtn"}
    failed = [found for found in cells.every(tmp_path, "mini") if found.state == "failed"]
    assert [(found.method, found.seed) for found in failed] == [("quarot", 0), ("quarot", 1)]
    text = render(tmp_path, "mini")[0].read_text()
    assert "static activations per token do not exist" in text


def test_a_failed_cell_is_tried_again(ask, stand_in, tmp_path):
    run(ask())
    cell = stand_in[1]
    cells.write(record(cell, seconds=1.0, made={}, reason="NumericError: x"), cell.path(tmp_path))
    stand_in.clear()
    said = []
    run(ask(), tell=said.append)
    assert [found.method for found in stand_in] == ["rtn"]
    assert any("failed before (NumericError: x)" in line for line in said)


def test_a_cancelled_run_keeps_what_is_finished(ask, stand_in):
    job = Job(lambda job: job.cancel() if job.progress.done == 2 else None)
    with pytest.raises(JobCancelledError):
        run(ask(), job=job)
    assert len(stand_in) == 2
    stand_in.clear()
    run(ask())
    assert len(stand_in) == 3


def test_the_time_left_is_told_from_what_cells_took(ask, stand_in):
    said = []
    run(ask(), tell=said.append)
    assert "about 8 s left" in said[1]  # four cells of two seconds
    assert "about 0 s left" in said[-1]
    assert [duration(seconds) for seconds in (45, 720, 11_100)] == ["45 s", "12 min", "3 h 05 min"]


def test_without_cells_there_is_nothing_to_render(tmp_path):
    with pytest.raises(StorageError):
        render(tmp_path, "mini")


def test_a_process_that_is_killed_costs_its_cell_and_is_replaced(tmp_path):
    cell = Cell("mini", "rtn", W4A4, 0, rows.rows()["rtn"].recipe(W4A4, 0).to_dict(), Protocol(), "x")
    hand = pool._Hand(1, *pool._start(1))
    try:
        first = hand.process.pid
        hand.task = Task(cell, "mini", tmp_path)
        os.kill(first, signal.SIGKILL)
        found = hand.take()
        assert "signal 9" in found.reason
        assert cells.read(cell.path(tmp_path)).state == "failed"
        assert hand.process.pid != first
        assert hand.process.is_alive()
    finally:
        hand.end()


def test_a_busy_worker_ends_with_the_run_that_started_it_even_if_that_is_killed(tmp_path):
    """It would go on for hours, and write cells into a folder that another run works on."""
    command = [sys.executable, "-c", BUSY, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        worker = int(parent.stdout.readline())
        time.sleep(3)
        assert alive(worker)
        parent.kill()
    begun = time.monotonic()
    while alive(worker) and time.monotonic() - begun < 10:
        time.sleep(0.05)
    assert not alive(worker)


BUSY = """
import sys, time
from pathlib import Path
from quantlab.bench import pool
from quantlab.bench.cells import Cell
from quantlab.bench.protocol import Bits, Protocol
from quantlab.bench.rows import rows
from quantlab.bench.work import Task

bits = Bits(4, 4)
process, line = pool._start(1)
recipe = rows()["fgq"].recipe(bits, 0).to_dict()
line.send(Task(Cell("mini", "fgq", bits, 0, recipe, Protocol(), "x"), "mini", Path(sys.argv[1])))
print(process.pid, flush=True)
time.sleep(60)
"""
"""A run whose one worker learns for a good while."""


def alive(pid: int) -> bool:
    """Whether a process runs (one that ended and was not waited for does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False

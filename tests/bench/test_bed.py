"""One network measured for real, on very few rooms: which rooms, how cold, and that a killed run goes on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import quantlab as ql
from quantlab.assets import asset
from quantlab.bench import cells
from quantlab.bench.bed import Bed
from quantlab.bench.protocol import Bits, Protocol
from quantlab.bench.render import render
from quantlab.bench.rows import full_precision, rows
from quantlab.engine import calibrate
from quantlab.engine.watch import anonymous_bytes, watched

W4A4 = Bits(4, 4)
TWO = Protocol(rooms=2, icp_rooms=1)


@pytest.fixture(scope="module")
def bed():
    return Bed("mini", views=4, seed=7)


@pytest.fixture(scope="module")
def smooth(bed):
    return bed.measure(rows()["smoothquant"].recipe(W4A4, 0), TWO)


def test_a_cell_says_what_the_lab_says_of_the_same_rooms(smooth):
    recipe = ql.Recipe.preset("smoothquant")
    lab = ql.Lab(ql.load_model("mini"), evaluation=ql.rooms(2, views=4, seed=7), recipe=recipe)
    found = lab.evaluate()
    assert np.mean(smooth.rooms["drift"]) == pytest.approx(found.full_precision.point_error, rel=1e-6)
    for name in ("auc30", "auc15", "auc5", "auc3", "abs_rel"):
        assert np.mean(smooth.rooms[name]) == pytest.approx(getattr(found.ground_truth, name), rel=1e-6)
    inside = [
        tre for name, tre in lab.diagnose().branches.items() if "_blocks." in name and "patch" not in name
    ]
    assert smooth.metrics["tre"] == pytest.approx(np.mean(inside), rel=1e-6)
    assert smooth.metrics["packed_bytes"] == found.packed_bytes


def test_only_held_out_rooms_judge_and_only_calibration_rooms_calibrate(smooth):
    assert smooth.names == ("room held-out 7.0", "room held-out 7.1")
    assert smooth.calibrated_on
    assert all(name.startswith("room calibration ") for name in smooth.calibrated_on)


def test_a_model_that_knows_no_rooms_is_not_calibrated_on_what_judges_it(tmp_path):
    copy = tmp_path / "unknown.safetensors"
    shutil.copy(asset("mini.safetensors"), copy)
    lab = Bed(str(copy), views=4, seed=7)._lab(rows()["smoothquant"].recipe(W4A4, 0))
    assert {scene.split for scene in lab.calibration} == {"calibration"}


def test_the_first_room_alone_is_scored_as_a_cloud(smooth):
    assert smooth.rooms["accuracy"][0] > 0
    assert smooth.rooms["accuracy"][1] is None


def test_full_precision_does_not_drift_from_itself(bed):
    found = bed.measure(full_precision().recipe(Bits(16, 16), 0), Protocol(rooms=1, icp_rooms=0))
    assert found.rooms["drift"] == [0.0]
    assert found.metrics["tre"] is None


def test_calibration_is_cold_each_time(bed, monkeypatch):
    passes = []
    real = calibrate.observe
    monkeypatch.setattr(calibrate, "observe", lambda *a, **k: passes.append(1) or real(*a, **k))
    for _ in range(2):
        bed.measure(rows()["smoothquant"].recipe(W4A4, 0), Protocol(rooms=1, icp_rooms=0))
    assert len(passes) == 2


@pytest.mark.skipif(anonymous_bytes() is None, reason="this system does not tell its anonymous memory")
def test_the_watch_sees_memory_that_is_gone_when_it_ends():
    size = 64 << 20
    with watched() as memory:
        block = np.ones(size, dtype=np.uint8)
        while memory.added < size:
            time.sleep(0.005)
        del block
    assert size <= memory.added < 2 * size


def test_a_run_that_was_killed_goes_on_and_ends_in_tables(tmp_path):
    """Killed after its first cells, started again: what was finished stays untouched, nothing is half written."""
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "quantlab.cli",
        "bench",
        "accuracy",
        "--model",
        "mini",
        "--out",
        str(out),
    ]
    command += ["--methods", "rtn,quarot", "--bits", "W8A8", "--rooms", "1", "--headline-rooms", "1"]
    command += ["--icp-rooms", "0", "--workers", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    first = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    done = wait_for(out, first)
    first.send_signal(signal.SIGKILL)
    first.wait()
    before = {path: path.stat().st_mtime_ns for path in done}
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    assert "of them measured before" in again.stderr
    assert "0 of them measured before" not in again.stderr
    assert {path: path.stat().st_mtime_ns for path in done} == before
    states = {found.method: found.state for found in cells.every(out, "mini")}
    assert states == {"full_precision": "done", "rtn": "done", "quarot": "done"}
    assert {path.name for path in render(out, "mini")} == {"mini.md", "mini.csv", "mini.svg"}
    assert not list(out.rglob(".*"))


def wait_for(out: Path, process: subprocess.Popen[bytes]) -> list[Path]:
    """The finished cells, once there is one; the process still runs."""
    for _ in range(1200):
        found = sorted(out.glob("cells/mini/*/*/*.json"))
        if found:
            return found
        assert process.poll() is None, "the run ended without a cell"
        time.sleep(0.05)
    pytest.fail("no cell within a minute")
